"""`anatomy`: its measures against plain NumPy and closed forms; verdicts on synthetic frames."""

import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import study
from experiments import anatomy
from study.core.activations import TABLE
from study.plot.style import NAMES
from study.statistics.claims import Estimate, verdict
from study.theory.decay import derivative_decades


@pytest.fixture(scope="module")
def measured():
    with np.errstate(under="ignore"):
        return anatomy.measure("random", 0, [0.5, 1.0])


def test_the_running_sums_are_the_decay_of_the_gradient(measured):
    """Telescoping, against a network profiled on its own (not beyond the critical scale, where it
    is chaotic and rounding tells the two runs apart)."""
    layers = measured["layers"]
    for name, scale in itertools.product(anatomy.SIGMA_B, (0.5, 1.0)):
        sigma_w = scale * anatomy.CRITICAL[name]
        net = study.Network(name, anatomy.DEPTH, anatomy.WIDTH, sigma_w, anatomy.SIGMA_B[name])
        df = study.profile(net, [0], engine="dense")
        own = layers[(layers.activation == name) & (layers.scale == scale)]
        own = own[own.layers_passed == anatomy.DEPTH]
        assert len(own) == 1
        # The unit cotangent's norm is 1: what is left at the input is the norm itself.
        last = df.log10_delta_norm[0] + df.log10_weight_factor[0]
        assert own.derivative.item() + own.weights.item() == pytest.approx(last, abs=1e-8)
        np.testing.assert_allclose(own.derivative, df.log10_derivative_factor.sum(), rtol=1e-8)


def test_the_factors_are_those_of_the_equations(measured):
    """Two layers by hand, in plain NumPy: what (1) and what (2) do to the norm."""
    rng = np.random.default_rng(0)
    weights, x = [rng.normal(size=(6, 6)) for _ in range(2)], rng.normal(size=(1, 6))
    for name in anatomy.SIGMA_B:
        row, top = TABLE[name], np.full((1, 6), 6**-0.5)
        z = [x @ weights[0]]
        z.append(row.phi(z[0]) @ weights[1])
        delta = top * row.derivative(z[1])
        dr = delta @ weights[1].T
        df = study.backpropagate(weights, x, name, cotangent=top)
        norm = np.linalg.norm
        got = df.log10_derivative_factor[1], df.log10_weight_factor[1]
        expected = np.log10([norm(delta), norm(dr) / norm(delta)])
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0)
        if name == "relu":  # the factor is the root of the share of the square that passes
            share = (top[z[1] > 0] ** 2).sum() / (top**2).sum()
            assert 10 ** (2 * got[0]) == pytest.approx(share, rel=1e-13)


def test_relu_lets_half_through_and_sigmoid_a_sixteenth_at_most_in_theory():
    for sigma_w in (0.1, 1.0, 20.0):
        np.testing.assert_allclose(
            derivative_decades("relu", sigma_w, 0.0, 20), 0.5 * np.log10(0.5), rtol=1e-12
        )
        assert (derivative_decades("sigmoid", sigma_w, 0.0, 20) < np.log10(0.25)).all()


@pytest.mark.parametrize("name", anatomy.SIGMA_B)
def test_derivative_and_weights_cancel_at_the_critical_scale_and_nowhere_else_in_theory(name):
    bias = anatomy.SIGMA_B[name]
    for scale in anatomy.SCALES:
        sigma_w = scale * anatomy.CRITICAL[name]
        left = derivative_decades(name, sigma_w, bias, anatomy.DEPTH)[-1] + np.log10(sigma_w)
        if scale == 1:
            assert abs(left) < 1e-10
        else:
            assert left * np.log(scale) > 0.01


def test_the_factor_of_sigmoid_is_never_above_a_quarter_whatever_the_weights():
    rng = np.random.default_rng(1)
    for sigma in (1e-6, 1.0, 100.0):
        weights = [sigma * rng.normal(size=(3, 3)) for _ in range(5)]
        df = study.backpropagate(weights, rng.normal(size=(2, 3)), "sigmoid")
        assert (df.log10_derivative_factor <= np.log10(0.25) + 1e-15).all()
    assert df.log10_derivative_factor.max() < -1  # saturated


def tables(derivative=None, weight=None, noise=1e-4, **columns):
    """Two kinds of input, three activations and scales, eight seeds: as theory has it, or not.

    ``derivative`` and ``weight``: from (inputs, activation, scale) to decades a layer, or None.
    """
    rng, rows, layers = np.random.default_rng(0), [], []
    for inputs, (name, bias), scale, seed in itertools.product(
        ("random", "digits"), anatomy.SIGMA_B.items(), anatomy.SCALES, range(8)
    ):
        sigma_w = scale * anatomy.CRITICAL[name]
        d = (
            derivative_decades(name, sigma_w, bias, anatomy.DEPTH)[-1]
            if derivative is None
            else derivative
        )
        w = np.log10(sigma_w) if weight is None else weight
        d, w = (part(inputs, name, scale) if callable(part) else part for part in (d, w))
        own = {"inputs": inputs, "activation": name, "scale": scale, "sigma_w": sigma_w}
        own |= {"sigma_b": bias, "seed": seed}
        summary = {
            "log10_derivative": d + noise * rng.normal(),
            "log10_weight": w + noise * rng.normal(),
            "log10_derivative_largest": d + 0.01,
            "square_passed": 0.5 + noise * rng.normal(),
            "log10_over_count": noise * rng.normal(),
        }
        rows.append(own | summary | columns)
        for passed in (50, 100):
            layers.append(
                own | {"layers_passed": passed, "derivative": d * passed, "weights": w * passed}
            )
    return {"networks": pd.DataFrame(rows), "layers": pd.DataFrame(layers)}


def verdicts(frames, start=""):
    claims = [c for c in anatomy.experiment.claims if c.name.startswith(start)]
    return {c.name: verdict(c.judge(frames), c.threshold) for c in claims}


SAYINGS = {f"{called}'s derivative alone decides" for called in anatomy.CALLED.values()}


def test_verdicts_as_theory_has_it():
    found = verdicts(tables())
    assert {name for name, v in found.items() if v == "refuted"} == SAYINGS
    assert {v for name, v in found.items() if name not in SAYINGS} == {"supported"}


def test_verdicts_can_all_be_otherwise():
    """A derivative that takes nothing, and images that change everything."""

    def growing(inputs, name, scale):
        return 0.1 * scale if inputs == "random" else 0.5

    found = verdicts(tables(growing, lambda *_: 0.2, square_passed=1.0, log10_over_count=0.15))
    assert {name for name, v in found.items() if v == "supported"} == SAYINGS
    assert {v for name, v in found.items() if name not in SAYINGS} == {"refuted"}


def test_one_layer_above_a_quarter_refutes_the_bound():
    frames = tables()
    at = frames["networks"].query("activation == 'sigmoid'").index[3]
    frames["networks"].loc[at, "log10_derivative_largest"] = np.log10(0.2501)
    assert list(verdicts(frames, "sigmoid's derivative takes").values()) == ["refuted"]


def test_noise_leaves_a_claim_open():
    assert list(verdicts(tables(noise=0.02), "both factors").values()) == ["inconclusive"]


def test_images_are_compared_seed_by_seed():
    """What seeds share drops out: a spread that would hide the difference were it not paired."""
    frames = tables()
    networks = frames["networks"]
    networks["log10_weight"] += 0.5 * np.sin(networks.seed)
    claim = next(c for c in anatomy.experiment.claims if c.name.startswith("images"))
    found = claim.judge(frames)
    assert isinstance(found, Estimate)
    assert found.high < 1e-3
    networks.loc[networks.inputs == "digits", "log10_weight"] -= 0.05
    assert claim.judge(frames).value == pytest.approx(0.05, abs=1e-3)


def test_the_figure_says_what_the_tables_say_and_is_the_same_bytes_twice():
    drawn = []
    for frames in (tables(), tables(), tables(weight=lambda *_: 0.0)):
        figure, out = anatomy.figure(frames), io.BytesIO()
        if len(drawn) < 2:
            figure.savefig(out, format="png", metadata={"Software": None})
        titles = [ax.get_title(loc="left") for ax in figure.axes]
        assert all(any(NAMES[name] in title for title in titles) for name in anatomy.SIGMA_B)
        drawn.append((figure.get_suptitle(), out.getvalue()))
        plt.close(figure)
    assert drawn[0] == drawn[1]
    assert "do not" not in drawn[0][0]
    assert "do not" in drawn[2][0]
