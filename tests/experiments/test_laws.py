"""The laws: every law agrees, every wrong number is flagged, false alarms are rare."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments.laws import COLUMNS, LAWS, MEASURES, experiment, law
from experiments.laws.blocks import moved
from experiments.laws.law import (
    FALSE_ALARM,
    FIRST_SEED,
    OFF,
    every,
    mean_of,
    median_of,
    seeds,
    share_of,
    variance_of,
)
from experiments.laws.page import page, summary
from experiments.laws.precision import above_dead
from experiments.laws.walks import chains, input_gradient, log_squares
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import BATCH, Dense, Linear, Normalised, Residual
from study.core.network import Network

CHEAP = (
    "typical length falls",
    "lengths spread",
    "born dead",
    "relu vanishes uniformly",
    "selu explodes",
    "tied weights",
    "undamped gradient",
    "fixup step",
)
"""One of each kind, a second together: they run with the fast tests."""


@pytest.fixture(scope="module")
def frame():
    """The rows of the cheap laws."""
    with np.errstate(all="warn"):
        return pd.concat([experiment.measure(name, 1)["laws"] for name in CHEAP], ignore_index=True)


def test_cheap_laws_agree_and_their_controls_are_flagged(frame):
    assert set(frame.verdict) == {"agrees"}
    assert set(frame.control_verdict) == {"flagged"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LAWS if name not in CHEAP])
def test_law_agrees_and_its_control_is_flagged(name):
    (row,) = experiment.measure(name, 1)["laws"].itertuples()
    assert (row.verdict, row.control_verdict) == ("agrees", "flagged")


# --- Judges, on samples whose law is known -----------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_judges_tell_right_from_wrong(seed):
    """Every judge on a fresh sample, its wrong number 5 % off where the statistic can see that."""
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 1.0, 8000)
    for finding in (
        mean_of(x, 2.0),
        median_of(x, 2.0, 2.0 * OFF),
        variance_of(rng.normal(2.0, 1.0, 40_000), 1.0, OFF),
        share_of(int((rng.random(40_000) < 0.4).sum()), 40_000, 0.4, 0.4 * OFF),
        every(rng.uniform(1.99, 2.01, 20), 2.0, 2.0 * OFF, tolerance=0.02),
    ):
        assert finding.agrees(finding.expected)
        assert not finding.agrees(finding.wrong)


def test_intervals_raise_false_alarms_as_often_as_they_say(monkeypatch):
    """At a level at which false alarms can be counted: 5 %, of 1000 samples."""
    monkeypatch.setattr(law, "FALSE_ALARM", 0.05)
    rng = np.random.default_rng(5)
    alarms = np.zeros(4)
    for _ in range(1000):
        x = rng.normal(0.0, 2.0, 25)
        alarms += [
            not mean_of(x, 0.0).agrees(0.0),
            not variance_of(x, 4.0, 1.0).agrees(4.0),
            not median_of(x, 0.0, 1.0).agrees(0.0),
            not share_of(int((rng.random(100) < 0.1).sum()), 100, 0.1, 1.0).agrees(0.1),
        ]
    exact, conservative = alarms[:2], alarms[2:]
    assert np.all(np.abs(exact - 50) < 28)  # four standard deviations
    assert np.all(conservative < 78)


@pytest.mark.parametrize("by", [{"tolerance": 0.1}, {"relative": 0.1 / 2.1}])
def test_tolerance_widens_the_interval_and_no_more(by):
    x = np.random.default_rng(1).normal(2.0, 0.01, 1000)
    (name, tolerance), *_ = by.items()
    for share, agrees in ((0.5, False), (1.1, True)):
        assert mean_of(x, 2.1, 3.0, **{name: share * tolerance}).agrees(2.1) == agrees


def test_every_network_must_be_within_the_tolerance():
    assert not every([0.0, 5.0], 0.0, 1.0, tolerance=1.0).agrees(0.0)
    assert every([0.0, 0.5], 0.0, 9.0, tolerance=1.0).agrees(0.0)


def test_shares_at_the_ends_have_one_sided_intervals():
    none = share_of(0, 1000, 0.0, 0.5).estimate
    assert none.low == 0 < none.high < 0.02
    whole = share_of(1000, 1000, 1.0, 0.5).estimate
    assert 0.98 < whole.low < 1 == whole.high


# --- The table, its page and its figure --------------------------------------------------------


def test_every_law_is_told_and_measured_on_fresh_seeds(frame):
    assert list(LAWS) == list(MEASURES) == [cell["law"] for cell in experiment.cells("paper")]
    told = {"paper", "statement", "regime", "control"}
    for text in LAWS.values():
        assert told <= set(text) <= told | {"popular_reading"}
    assert list(frame) == list(COLUMNS)
    assert list(seeds(3)) == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert FIRST_SEED >= 10_000
    assert len(LAWS) * FALSE_ALARM < 1e-3  # the family's false alarms


def test_page(frame):
    said, text = page({"laws": frame})
    assert "8 of 8 laws agree, 8 of 8 negative controls are flagged" in said
    assert said.endswith("at most 3.5e-05.")  # seven of the eight are left to chance
    assert said in text
    assert "## Zhang et al. 2019 (Fixup)" in text
    assert "- *skip connections prevent exploding gradients*? De & Smith 2020" in text
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {6}


def test_a_law_that_fails_is_counted_and_refutes_nothing(frame):
    said, text = page({"laws": frame.assign(verdict="disagrees")})
    assert "0 of 8 laws agree" in said
    assert "*skip connections" not in text
    assert "0 of 8 negative controls" in summary(frame.assign(control_verdict="missed"))


def test_the_figure_names_what_is_far_off(frame):
    far = frame.assign(random=True, low=frame.measured - 1, high=frame.measured + 1)
    far = far.assign(expected=far.measured + np.where(far.index == 2, 5.0, 0.1))
    drawn = experiment.figure({"laws": far})
    assert [text.get_text() for text in drawn.axes[1].get_yticklabels()] == [far.law[2]]
    plt.close(drawn)


# --- What papers say that cannot fail: identities and bounds, which are no laws of the table -----


@pytest.fixture
def draws():
    """Weights of twelve square layers of width 32 at sigma_w = 1, an input and a cotangent."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(12, 32, 32)) / math.sqrt(32)
    return weights, *rng.normal(size=(2, 8, 32))


def test_weight_times_gradient_is_the_same_in_every_layer_whatever_the_scales(draws):
    """Euler; Du, Hu & Lee 2018."""
    weights, x, dr = draws
    scales = np.geomspace(1000, 0.001, 12)
    layers = [Dense(scale * W, "leaky_relu") for scale, W in zip(scales, weights, strict=True)]
    trace, r = forward(layers, x)
    dr = dr + 4 * r / np.std(r)  # <dC/dr, r> must not nearly cancel
    products = [
        np.vdot(step.layer.W, weight_gradient(step.r, step.delta)) for step in backward(trace, dr)
    ]
    np.testing.assert_allclose(products, np.vdot(dr, r), rtol=1e-11)


def test_relus_profile_and_coefficient_are_free_of_scale():
    """Of ||dC/dW^(k)|| over layers (Hanin 2018), and of ||dC/dr|| ||r|| (Philipp et al. 2017)."""
    one, two = (chains(Network("relu", 50, 64, sigma_w), 5) for sigma_w in (1.0, 2.0))
    profiles = [np.diff(sample.weight_gradients, axis=1) for sample in (one, two)]
    np.testing.assert_allclose(*profiles, atol=1e-10)
    steps = [np.diff(sample.signals, axis=1) - sample.gains[:, 1:] for sample in (one, two)]
    products = [np.diff(sample.signals, axis=1) + sample.gains[:, 1:] for sample in (one, two)]
    np.testing.assert_allclose(steps[1] - steps[0], 0.0, atol=1e-10)
    assert np.abs(products[1] - products[0]).min() > 2  # the control: both grow with the scale


@pytest.mark.parametrize(("activation", "sigma_w"), [("tanh", 0.45), ("sigmoid", 1.9)])
def test_no_jacobian_exceeds_the_product_of_norms(draws, activation, sigma_w):
    """Pascanu et al. 2013: max |phi'| times the norm of W, layer by layer."""
    weights, x, _ = draws
    layers = [Dense(sigma_w * W, activation) for W in weights]
    J = input_gradient(layers, x[:1], np.eye(32))
    bounds = [layer.activation.max_slope * np.linalg.norm(layer.W, 2) for layer in layers]
    assert np.linalg.norm(J, 2) <= np.prod(bounds) < 1


def test_normalisation_makes_the_scale_of_weights_drop_out(draws):
    """Yang et al. 2019."""
    weights, x, dr = draws
    one, three = (
        log_squares([Normalised(scale * W, "relu", BATCH) for W in weights], x, dr)
        for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose(three, one, rtol=1e-12)


def test_branches_of_zero_leave_the_identity(draws):
    """Bachlechner et al. 2020, ReZero."""
    weights, x, dr = draws
    blocks = [Residual([Dense(W, "relu"), Linear(W, scale=0.0)]) for W in weights]
    np.testing.assert_array_equal(input_gradient(blocks, x, dr), dr)


def test_the_first_step_is_in_proportion():
    """Zhang et al. 2019, Fixup: the output's move over the learning rate."""
    np.testing.assert_allclose(moved(3, 16, 0.25, 2e-6), moved(3, 16, 0.25, 1e-6), rtol=1e-3)


def test_above_a_dead_layer_the_slope_at_zero_decides():
    """Bertoin et al. 2021."""
    assert set(above_dead(5, 0.0)) == {-math.inf}
    assert above_dead(5, 1.0).min() > 0
