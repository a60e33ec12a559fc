"""`anatomy`: its measures against plain NumPy and closed forms; verdicts on synthetic frames."""

import functools
import itertools

import numpy as np
import pandas as pd
import pytest
from verdicts import named, verdicts

import study
from experiments import anatomy
from study.core.activations import TABLE
from study.theory.gradient_norms import derivative_decades


def test_the_running_sums_are_the_decay_of_the_gradient():
    """Telescoping, against a network profiled on its own (not beyond the critical scale, where it
    is chaotic and rounding tells the two runs apart)."""
    with np.errstate(under="ignore"):
        layers = anatomy.measure("random", 0, [0.5, 1.0])["layers"]
    for name, scale in itertools.product(anatomy.SIGMA_B, (0.5, 1.0)):
        sigma_w = scale * anatomy.CRITICAL[name]
        net = study.Network(name, anatomy.DEPTH, anatomy.WIDTH, sigma_w, anatomy.SIGMA_B[name])
        df = study.profile(net, [0], engine="dense")
        rows = layers[(layers.activation == name) & (layers.scale == scale)]
        rows = rows[rows.layers_passed == anatomy.DEPTH]
        # The unit cotangent's norm is 1: what is left at the input is the norm itself.
        last = df.log10_delta_norm[0] + df.log10_weight_factor[0]
        assert rows.derivative.item() + rows.weights.item() == pytest.approx(last, abs=1e-8)
        np.testing.assert_allclose(rows.derivative, df.log10_derivative_factor.sum(), rtol=1e-8)


@pytest.mark.parametrize("name", anatomy.SIGMA_B)
def test_the_factors_are_those_of_the_equations(name):
    """Two layers by hand, in plain NumPy: what (1) and what (2) do to the norm."""
    rng = np.random.default_rng(0)
    weights, x = [rng.normal(size=(6, 6)) for _ in range(2)], rng.normal(size=(1, 6))
    row, top = TABLE[name], np.full((1, 6), 6**-0.5)
    z = row.phi(x @ weights[0]) @ weights[1]
    delta = top * row.derivative(z)
    dr = delta @ weights[1].T
    df = study.backpropagate(weights, x, name, cotangent=top)
    got = df.log10_derivative_factor[1], df.log10_weight_factor[1]
    expected = np.log10([np.linalg.norm(delta), np.linalg.norm(dr) / np.linalg.norm(delta)])
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0)
    if name == "relu":  # the factor is the root of the share of the square that passes
        share = (top[z > 0] ** 2).sum() / (top**2).sum()
        assert 10 ** (2 * got[0]) == pytest.approx(share, rel=1e-13)


def test_relu_lets_half_through_and_sigmoid_a_sixteenth_at_most():
    for sigma_w in (0.1, 1.0, 20.0):
        relu = derivative_decades("relu", sigma_w, 0.0, 20)
        np.testing.assert_allclose(relu, 0.5 * np.log10(0.5), rtol=1e-12)
        assert (derivative_decades("sigmoid", sigma_w, 0.0, 20) < np.log10(0.25)).all()
    rng = np.random.default_rng(1)
    for sigma in (1e-6, 1.0, 100.0):  # and in networks
        weights = [sigma * rng.normal(size=(3, 3)) for _ in range(5)]
        df = study.backpropagate(weights, rng.normal(size=(2, 3)), "sigmoid")
        assert (df.log10_derivative_factor <= np.log10(0.25) + 1e-15).all()
    assert df.log10_derivative_factor.max() < -1  # saturated


@functools.cache
def lasting(name, sigma_w, bias):
    """What the derivative takes of a layer in theory."""
    return derivative_decades(name, sigma_w, bias, anatomy.DEPTH)[-1]


@pytest.mark.parametrize("name", anatomy.SIGMA_B)
def test_derivative_and_weights_cancel_at_the_critical_scale_and_nowhere_else_in_theory(name):
    for scale in anatomy.SCALES:
        sigma_w = scale * anatomy.CRITICAL[name]
        left = lasting(name, sigma_w, anatomy.SIGMA_B[name]) + np.log10(sigma_w)
        if scale == 1:
            assert abs(left) < 1e-10
        else:
            assert left * np.log(scale) > 0.01


def tables(derivative=None, weight=None, noise=1e-4, unbounded=("relu",), **columns):
    """Two kinds of input, three activations and scales, eight seeds: as theory has it, or not.

    ``derivative`` and ``weight``: from (inputs, scale) to decades a layer, or None; ``unbounded``:
    activations whose signal grows with the weights, too.
    """
    rng, rows, layers, norms = np.random.default_rng(0), [], [], []
    for inputs, (name, bias), scale, seed in itertools.product(
        ("random", "digits"), anatomy.SIGMA_B.items(), anatomy.SCALES, range(8)
    ):
        sigma_w = scale * anatomy.CRITICAL[name]
        d = derivative(inputs, scale) if derivative else lasting(name, sigma_w, bias)
        w = weight(inputs, scale) if weight else np.log10(sigma_w)
        net = {"inputs": inputs, "activation": name, "scale": scale, "sigma_w": sigma_w}
        net |= {"sigma_b": bias, "seed": seed}
        summary = {
            "log10_derivative": d + noise * rng.normal(),
            "log10_weight": w + noise * rng.normal(),
            "log10_derivative_largest": d + 0.01,
            "square_passed": 0.5 + noise * rng.normal(),
            "log10_over_count": noise * rng.normal(),
        }
        rows.append(net | summary | columns)
        for passed in (50, 100):
            sums = {"layers_passed": passed, "derivative": d * passed, "weights": w * passed}
            layers.append(net | sums)
        grown = np.log10(scale) if name in unbounded else 0.0
        for k in (0, 6, 50, 93, 99):
            norm = (100 - k) * (d + w) + k * grown + noise * rng.normal()
            norms.append(net | {"layer": k, "log10_grad_norm": norm})
    frames = {"networks": rows, "layers": layers, "gradient_norms": norms}
    return {name: pd.DataFrame(frame) for name, frame in frames.items()}


SAYINGS = {f"{called}'s derivative alone decides" for called in anatomy.CALLED.values()}
SAYINGS.add("at equal excess ReLU's gradients explode less, by their level")


def test_verdicts_as_theory_has_it_and_all_otherwise():
    """Otherwise: a derivative that takes nothing, and images that change everything."""
    found = verdicts(anatomy.experiment, tables())
    assert named(found, "refuted") == SAYINGS
    assert named(found, "supported") == set(found) - SAYINGS
    growing = tables(
        lambda inputs, scale: 0.1 * scale if inputs == "random" else 0.5,
        lambda *_: 0.2, unbounded=("sigmoid", "tanh"), square_passed=1.0, log10_over_count=0.15,
    )  # fmt: skip
    found = verdicts(anatomy.experiment, growing)
    assert named(found, "supported") == SAYINGS
    assert named(found, "refuted") == set(found) - SAYINGS


def test_noise_leaves_a_claim_open():
    found = verdicts(anatomy.experiment, tables(noise=0.02))
    assert found["both factors are mean field's"] == "inconclusive"


def test_images_are_compared_seed_by_seed():
    """What seeds share drops out: a spread that would hide the difference were it not paired."""
    frames = tables()
    networks = frames["networks"]
    networks["log10_weight"] += 0.5 * np.sin(networks.seed)
    assert anatomy.images_beyond_random(frames).high < 1e-3
    networks.loc[networks.inputs == "digits", "log10_weight"] -= 0.05
    assert anatomy.images_beyond_random(frames).value == pytest.approx(0.05, abs=1e-3)
