"""The experiment on number formats and ReLU'(0): its pieces, and its verdicts both ways."""

import numpy as np
import pandas as pd
import pytest

import study
import study.images
from experiments import precision
from study.claims import verdict
from study.formats import FORMATS, PlainRun

FIRST_UNIT = np.array([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("factor", "name", "lost", "norm_lost"),
    [
        # dC/dW^(0) has one entry, factor^(depth - 1): 2^-25, 2^-134 and 2^-150 round to 0
        (0.5, "float16", 26, 26),
        (0.5, "bfloat16", 135, 76),
        (0.5, "float32", 151, 76),
        (0.5, "float64", np.inf, 539),
        # the output is factor^depth, and the square of dC/dW^(0) is factor^(2 depth - 2)
        (2.0, "float16", 16, 16),
        (2.0, "bfloat16", 128, 65),
        (2.0, "float32", 128, 65),
        (2.0, "float64", np.inf, 513),
    ],
)
def test_the_depth_lost_is_that_of_a_geometric_series(factor, name, lost, norm_lost):
    run = PlainRun([factor * np.eye(2)] * 1000, FIRST_UNIT, "linear", FORMATS[name])
    assert precision._lost(run, FIRST_UNIT) == [lost, norm_lost]


@pytest.mark.parametrize(("activation", "sigma"), [("sigmoid", 1.0), ("sigmoid", 2.0), ("relu", 1)])
@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
def test_the_expected_depth_is_the_range_over_the_rate(activation, sigma, name):
    """Up to where the series starts, a few powers of two; a rate 10 % off is seen."""
    bits = 1 - np.log2(FORMATS[name].smallest)
    drift = 5 / (2 * 64) + 49 / (12 * 64**2) if activation == "relu" else 0  # Hanin and Nica 2018
    rate = (drift / np.log(2) - np.log2(study.theory.mean_field(activation, sigma).chi)) / 2
    found = precision.expected_depth(activation, sigma, name)
    if bits > rate * precision.DEEPEST:
        assert found == np.inf
    else:
        assert abs(found * rate - bits) < 4
        assert abs(found * 1.1 * rate - bits) > 4


def test_at_criticality_theory_expects_no_loss():
    assert precision.expected_depth("tanh", 1.0, "float16") == np.inf
    assert precision.expected_depth("relu", 2**0.5, "float32") == np.inf


def test_the_largest_of_many_normal_numbers():
    draws = np.abs(np.random.default_rng(0).normal(size=(20_000, 64))).max(axis=1)
    np.testing.assert_allclose(np.median(draws), precision._largest_of(64), rtol=0.005)


def test_differences_are_relative_to_the_layers_largest_entry():
    a, b = [np.array([1.0, 2.0]), np.zeros(2)], [np.array([1.0, 4.0]), np.zeros(2)]
    assert precision._apart(a, b) == 0.5
    assert precision._apart(a, a) == 0.0
    with np.errstate(all="raise"):
        tiny = [np.array([5e-324])]
        assert precision._apart(tiny, [np.array([0.0])]) == 1.0


def test_zeros_by_structure_do_what_the_algebra_says():
    """Everything is exact: which gradients can depend on ReLU'(0), and which z are 0."""
    with np.errstate(under="ignore"):
        df = precision.measure("kink", 0, batch=4)["kink"]
    own = df[df.format == "float64"].set_index("situation")
    layer = precision.EXAMPLES * precision.WIDTH
    zeros = {"blank image": 10, "dead layer": 6, "zero-initialised layer": 7}
    for situation, layers in zeros.items():
        assert own.zeros[situation] == layers * layer
    assert (own.zeros[precision.GENERIC] == 0).all()
    assert own.delta_difference[list(zeros)].tolist() == [1, 1, 1]
    assert own.gradient_difference[list(zeros)].tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", FORMATS)
def test_black_pixels_give_no_zero_and_their_weights_learn_nothing(name):
    """z sums the other pixels, too: no tie. The weights of black pixels stay, at any ReLU'(0)."""
    x = study.images.digits().images[:8]
    weights = precision._he(0, "test", [784, 16, 4])
    run = PlainRun(weights, x, "relu", FORMATS[name])
    dark = ~x.any(axis=0)
    assert dark.sum() > 100
    assert precision._zeros(run.z) == 0
    for kink in precision.KINKS:
        dW = run.gradient(0, run.backward(np.ones((8, 4)), kink)[0])
        assert not dW[dark].any()
        assert dW[~dark].any(axis=1).mean() > 0.5


def frames(depth=1.0, norm=0.5, float64=np.inf, bfloat16=0.9, differ=0.0, accuracy=0.0):
    """Synthetic tables of twelve seeds in which every claim can be made true or false."""
    rows = []
    for seed in range(12):
        for activation, sigma in (("sigmoid", 1.0), ("relu", precision.HE)):
            reach = {"float32": 72 * depth, "float64": float64, "bfloat16": 72 * depth * bfloat16}
            for name, lost in reach.items():
                rows.append((activation, sigma, seed, name, lost, lost * norm, 72.0))
    columns = ["activation", "sigma_w", "seed", "format"]
    columns += ["depth_lost", "depth_norm_lost", "expected_depth"]
    kink = pd.DataFrame(
        [(s, f, seed) for s in precision.SITUATIONS for f in FORMATS for seed in range(12)],
        columns=["situation", "format", "seed"],
    ).assign(gradient_difference=differ, delta_difference=differ)
    training = pd.DataFrame(
        [(f, k, seed) for f in FORMATS for k in precision.KINKS for seed in range(12)],
        columns=["format", "kink", "seed"],
    )
    training["accuracy"] = 90 - accuracy * (training.kink == 0.0)
    return {"depth": pd.DataFrame(rows, columns=columns), "kink": kink, "training": training}


def test_each_claim_can_be_supported_and_refuted():
    good = frames()
    bad = frames(depth=1.2, norm=1.0, float64=500.0, bfloat16=0.3, differ=0.5, accuracy=2.0)
    for claim in precision.CLAIMS:
        assert verdict(claim.judge(good), claim.threshold) == "supported", claim.name
        assert verdict(claim.judge(bad), claim.threshold) == "refuted", claim.name


def test_the_networks_that_only_one_format_loses_do_not_count():
    tables = frames()
    own = tables["depth"]
    own.loc[(own.activation == "relu") & (own.format != "float64"), "depth_lost"] = np.inf
    assert precision._bfloat16_reach(tables).value == pytest.approx(0.9)


def test_training_pairs_the_runs():
    with np.errstate(under="ignore"):
        df = precision.measure("training", 0, steps=2)["training"]
    wide = df[df.format == "float64"]
    assert wide.zeros.sum() == 0
    assert np.isinf(wide.step_parted).all()
    assert wide.accuracy.nunique() == 1
    assert np.isinf(df.step_parted[df.kink == 1.0]).all()
