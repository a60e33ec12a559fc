"""Normalisation, residual branches, shattered gradients and dying: theory against networks."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study.core.activations import TABLE
from study.theory import blocks, finite_width, maps


def test_printed_factors_of_normalisation():
    for name, batch_norm, layer_norm in (
        ("relu", 1.46694, 1.0),
        ("tanh", 1.17781, 1.17781),
        ("selu", 1.07157, 1.07157),
        ("sigmoid", 1.03359, None),
        ("linear", 1.0, 1.0),
    ):
        assert blocks.batch_norm_factor(name) == pytest.approx(batch_norm, abs=5e-6)
        if layer_norm is not None:
            assert blocks.layer_norm_factor(name) == pytest.approx(layer_norm, abs=5e-6)
    exact = math.pi / (math.pi - 1)
    assert_allclose(blocks.batch_norm_factor("relu"), exact, rtol=1e-13)


def relu_batch_factor(b):
    """By the arc-cosine kernels: relu is homogeneous, so the sphere will do as a Gaussian."""
    c = -1 / (b - 1)
    angle = math.acos(c)
    overlap, kernel = 1 - angle / math.pi, (math.sin(angle) + (math.pi - angle) * c) / math.pi
    trace = (b - 2) / 2 + 1 / (2 * b) + (b - 1) / (2 * b) * overlap
    projected = 0.5 - (1 + (b - 1) * kernel) / (2 * b)
    return b / ((b - 1) * (b - 3)) * (trace - projected) / (0.5 - 0.5 * kernel)


@pytest.mark.parametrize("batch", [4, 5, 8, 64, 10_000])
def test_batch_factors_in_closed_form(batch):
    linear = blocks.batch_norm_factor("linear", batch)
    assert_allclose(linear, (batch - 2) / (batch - 3), rtol=1e-13)
    relu = blocks.batch_norm_factor("relu", batch)
    assert_allclose(relu, relu_batch_factor(batch), rtol=1e-12)
    guess = blocks.batch_norm_factor("relu") * (batch - 2) / (batch - 3)
    assert abs(guess / relu - 1) < (0.06 if batch < 8 else 0.016)


@pytest.mark.parametrize("name", TABLE)
def test_large_batches_tend_to_the_infinite_one(name):
    infinite = blocks.batch_norm_factor(name)
    errors = [blocks.batch_norm_factor(name, b) / infinite - 1 for b in (500, 1000, 10**5)]
    assert 0 < errors[1] < 2 / 1000
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    assert errors[2] < 2e-5


def test_schedules_in_closed_form():
    for depth in (1, 50, 10_000):
        exact = {
            "undamped": depth * math.log(2),
            "1/sqrt(L)": depth * math.log1p(1 / depth),
            "1/sqrt(l)": math.log(depth + 1),
            "1/L": depth * math.log1p(depth**-2),
            "zero": 0.0,
        }
        for schedule, value in exact.items():
            signal, gradient = blocks.growth(blocks.branch_scales(schedule, depth))
            assert_allclose((signal[-1], gradient[-1]), value, rtol=1e-12, atol=1e-15)
    # prod (1 + 1 / l^2) = sinh(pi) / pi
    _, gradient = blocks.growth(blocks.branch_scales("1/l", 10_000))
    assert_allclose(gradient[-1], math.log(math.sinh(math.pi) / math.pi) - 1e-4, atol=1e-8)
    assert set(exact) | {"1/l"} == set(blocks.SCHEDULES)


def test_erf_recursion_needs_no_quadrature():
    scales, p, log_gradient = blocks.branch_scales("1/sqrt(l)", 30), 1.0, 0.0
    for alpha in scales:
        t = math.pi * 1.44 * p / 2
        p += alpha**2 * 0.81 * 2 / math.pi * math.asin(t / (1 + t))
        log_gradient += math.log1p(alpha**2 * 0.81 * 1.44 / math.sqrt(1 + 2 * t))
    growth = blocks.growth(scales, "erf", 1.2, 0.9)
    assert_allclose((growth[0][-1], growth[1][-1]), (math.log(p), log_gradient), rtol=1e-12)


def test_growth_survives_the_float_range():
    scales = blocks.branch_scales("undamped", 3000)
    signal, gradient = blocks.growth(scales, "gelu", 2.0)
    assert signal[-1] == math.inf
    assert_allclose(gradient[-1] - gradient[-2], math.log(3), rtol=1e-12)
    relu = blocks.growth(blocks.branch_scales("undamped", 10_000))
    assert_allclose(relu.log_signal[-1], 10_000 * math.log(2), rtol=1e-12)


def test_independent_shattering_in_closed_form():
    iid = blocks.independent_shattering
    assert_allclose(iid(8).covariance, 0.5 ** np.arange(1, 9), rtol=1e-14)
    net = iid(8, blocks.branch_scales("undamped", 8))
    assert_allclose(net.covariance[[1, 3, 7]], (2.25, 5.0625, 25.62890625), rtol=1e-13)
    assert_allclose(np.exp(net.log_variance), 2.0 ** np.arange(1, 9), rtol=1e-13)
    assert_allclose(net.correlation, 0.75 ** np.arange(1, 9), rtol=1e-13)


def test_shattering_follows_the_correlation_map():
    """Against the general quadrature of `maps`, and far beyond the float range."""
    c, log_covariance = 0.3, 0.0
    at = blocks.shattering(30, c_0=0.3)
    for k in range(30):
        log_covariance += math.log1p(-math.acos(c) / math.pi)
        assert_allclose(at.log_covariance[k], log_covariance, rtol=1e-9)
        c = float(maps.correlation_map("relu", c, 2.0, 2**0.5))
    assert blocks.shattering(50, c_0=1.0).log_covariance[-1] == 0
    assert blocks.shattering(2, c_0=-1.0).log_covariance[0] == -math.inf
    deep = blocks.independent_shattering(5000)
    assert deep.covariance[-1] == 0
    assert_allclose(deep.log_covariance[-1], -5000 * math.log(2), rtol=1e-13)


def test_printed_probabilities_of_death():
    for n, depth, value in ((16, 10_000, "0.1415"), (20, 10_000, "0.0095"), (3, 19, "0.9209")):
        assert f"{finite_width.born_dead([n] * depth):.4f}" == value
    assert_allclose(finite_width.born_dead([200] * 1000), 1000 * 2.0**-200, rtol=1e-12)
    assert finite_width.born_dead([10**6]) == 0
