"""`anatomy`: its measures against plain NumPy and closed forms; verdicts on synthetic frames."""

import functools
import itertools

import numpy as np
import pytest
from verdicts import changed, committed

import study
from experiments import anatomy
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


def test_images_are_compared_seed_by_seed():
    """What seeds share drops out: a spread that would hide the difference were it not paired."""
    tables = committed("anatomy")
    shared = changed(tables, "networks: log10_weight = log10_weight + 0.5 * sin(seed)")
    off = [anatomy.images_beyond_random(each) for each in (tables, shared)]
    assert off[1].high == pytest.approx(off[0].high, rel=1e-9)
