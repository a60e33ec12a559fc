"""Normalisation, residual branches, shattered gradients and dying: theory against networks."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study.core.activations import TABLE, activation
from study.theory import blocks, finite_width, maps


def within(sample, exact, sigmas=4.0):
    return abs(np.mean(sample) - exact) < sigmas * np.std(sample) / math.sqrt(np.size(sample))


# --- Normalisation -------------------------------------------------------------------------


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
    assert_allclose(linear, blocks.linear_batch_factor(batch), rtol=1e-13)
    relu = blocks.batch_norm_factor("relu", batch)
    assert_allclose(relu, relu_batch_factor(batch), rtol=1e-12)
    guess = blocks.batch_norm_factor("relu") * blocks.linear_batch_factor(batch)
    assert abs(guess / relu - 1) < (0.06 if batch < 8 else 0.016)


@pytest.mark.parametrize("name", TABLE)
def test_large_batches_tend_to_the_infinite_one(name):
    infinite = blocks.batch_norm_factor(name)
    errors = [blocks.batch_norm_factor(name, b) / infinite - 1 for b in (500, 1000, 10**5)]
    assert 0 < errors[1] < 2 / 1000
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)
    assert errors[2] < 2e-5


def normalised_network(name, batch, n, layers, seed, layer_norm=False):
    """Factors of the squared gradient norm of an explicit network, top first."""
    rng, row = np.random.default_rng(seed), activation(name)
    h, tape = rng.standard_normal((batch, n)), []
    axis = 1 if layer_norm else 0
    for _ in range(layers):
        w = rng.standard_normal((n, n)) / math.sqrt(n)
        z = h @ w
        z -= z.mean(axis, keepdims=True)
        scale = np.sqrt(np.mean(z**2, axis, keepdims=True))
        tape.append((w, z / scale, scale))
        h = row.phi(z / scale)
    gradient, factors = rng.standard_normal((batch, n)), []
    for w, z, scale in reversed(tape):
        d = gradient * row.derivative(z)
        d -= d.mean(axis, keepdims=True) + z * np.mean(d * z, axis, keepdims=True)
        below = (d / scale) @ w.T
        factors.append(np.sum(below**2) / np.sum(gradient**2))
        gradient = below
    return factors[3:-3]


@pytest.mark.parametrize(("name", "batch"), [("relu", 6), ("tanh", 12), ("hard_tanh", 8)])
def test_batch_factors_are_those_of_explicit_networks(name, batch):
    factors = np.ravel([normalised_network(name, batch, 300, 13, seed) for seed in range(12)])
    exact = blocks.batch_norm_factor(name, batch)
    assert within(factors, exact)
    assert not within(factors, exact * 1.1)  # the control
    assert not within(factors, blocks.batch_norm_factor(name))  # and the infinite batch


def test_layer_norm_factor_is_that_of_an_explicit_network():
    factors = np.ravel(
        [normalised_network("tanh", 3, 400, 20, seed, layer_norm=True) for seed in range(4)]
    )
    assert abs(factors.mean() - blocks.layer_norm_factor("tanh")) < 0.02
    assert abs(factors.mean() - blocks.batch_norm_factor("relu")) > 0.2


# --- Residual networks ---------------------------------------------------------------------


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


def test_printed_tanh_recursion():
    scales = blocks.branch_scales("undamped", 400)
    signal, gradient = blocks.growth(scales, "tanh", 1.0, 1.0)
    assert_allclose(gradient[[99, 199, 399]], (10.546, 15.169, 21.618), atol=1e-3)
    assert_allclose(np.exp(signal[[99, 199, 399]]), (84.5, 177.4, 367.5), atol=0.1)
    _, half = blocks.growth(scales, "tanh", 1.0, 0.5)
    assert_allclose(half[[99, 199, 399]], (5.05, 7.52, 10.92), atol=0.01)


def test_tanh_grows_as_the_exponential_of_a_square_root():
    _, gradient = blocks.growth(blocks.branch_scales("undamped", 4000), "tanh", 1.5, 0.7)
    rate = (gradient[3999] - gradient[999]) / (4000**0.5 - 1000**0.5)
    assert_allclose(rate, 8 / (3 * (2 * math.pi) ** 0.5) * 1.5 * 0.7, rtol=0.02)


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


def test_growth_is_that_of_explicit_residual_networks():
    n, size, scales = 12, 6000, np.array([1.0, 0.5, 0.8])
    rng = np.random.default_rng(8)
    x = np.ones((size, n))
    u = np.zeros((size, n))
    u[:, 0] = 1
    for alpha in scales:
        w, v = rng.standard_normal((2, size, n, n)) * [[[[(2 / n) ** 0.5]]], [[[(1 / n) ** 0.5]]]]
        z = np.einsum("si,sij->sj", x, w)
        x = x + alpha * np.einsum("si,sij->sj", np.maximum(z, 0), v)
        u = u + alpha * np.einsum("si,sij->sj", np.einsum("si,sij->sj", u, w) * (z > 0), v)
    expected = blocks.growth(scales)
    for squares, log in (
        (np.sum(x**2, 1) / n, expected[0][-1]),
        (np.sum(u**2, 1), expected[1][-1]),
    ):
        assert within(squares, math.exp(log))
        assert not within(squares, 1.1 * math.exp(log))


# --- Shattered gradients -------------------------------------------------------------------


def test_independent_shattering_in_closed_form():
    iid = blocks.independent_shattering
    assert_allclose(iid(8).covariance, 0.5 ** np.arange(1, 9), rtol=1e-14)
    net = iid(8, blocks.branch_scales("undamped", 8))
    assert_allclose(net.covariance[[1, 3, 7]], (2.25, 5.0625, 25.62890625), rtol=1e-13)
    assert_allclose(np.exp(net.log_variance), 2.0 ** np.arange(1, 9), rtol=1e-13)
    assert_allclose(net.correlation, 0.75 ** np.arange(1, 9), rtol=1e-13)


def test_batch_normalised_residual_networks_shatter_as_a_square_root():
    """Variance L + 1, covariance prod (1 + 1 / 2l) = Gamma(L + 3/2) / (Gamma(3/2) L!)."""
    depth = 400
    at = blocks.independent_shattering(depth, blocks.branch_scales("1/sqrt(l)", depth))
    assert_allclose(at.log_variance[-1], math.log(depth + 1), rtol=1e-13)
    exact = math.lgamma(depth + 1.5) - math.lgamma(1.5) - math.lgamma(depth + 1)
    assert_allclose(at.log_covariance[-1], exact, rtol=1e-12)


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


@pytest.mark.parametrize("kind", ["plain", "residual", "independent"])
def test_shattering_is_that_of_explicit_networks(kind):
    n, depth, rng = 200, 4, np.random.default_rng(6)
    scales = blocks.branch_scales("undamped", depth) if kind == "residual" else None
    samples = []
    for _ in range(10):
        x = np.linalg.qr(rng.standard_normal((n, 2)))[0].T
        j = [np.eye(n), np.eye(n)]
        for _ in range(depth):
            w, v = rng.standard_normal((2, n, n)) / math.sqrt(n)
            w *= 2**0.5
            z = x @ w
            masks = z > 0 if kind != "independent" else rng.random((2, n)) < 0.5
            branches = [(j[k] @ w) * masks[k] for k in (0, 1)]
            if kind == "residual":
                x = x + np.maximum(z, 0) @ v
                j = [j[k] + branches[k] @ v for k in (0, 1)]
            else:
                x, j = np.maximum(z, 0), branches
        samples.append(np.sum(j[0] * j[1]) / n)
    if kind == "independent":
        theory = blocks.independent_shattering(depth)
    else:
        theory = blocks.shattering(depth, scales)
    expected = theory.covariance[-1]
    bias = 4 / n * expected  # theory is of infinite width
    assert abs(np.mean(samples) - expected) < 4 * np.std(samples) / 10**0.5 + bias
    other = blocks.independent_shattering(depth, scales).covariance[-1]
    if kind == "independent":
        other = blocks.shattering(depth).covariance[-1]
    assert abs(np.mean(samples) - other) > 4 * np.std(samples) / 10**0.5 + bias  # the control


# --- Dying ---------------------------------------------------------------------------------


def test_printed_probabilities_of_death():
    for n, depth, value in (
        (16, 10_000, "0.1415"),
        (20, 10_000, "0.0095"),
        (3, 19, "0.9209"),
    ):
        assert f"{finite_width.born_dead([n] * depth):.{len(value) - 2}f}" == value
    assert_allclose(finite_width.born_dead([200] * 1000), 1000 * 2.0**-200, rtol=1e-12)
    assert finite_width.born_dead([10**6]) == 0


@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
def test_explicit_networks_die_as_often(sigma_b):
    rng, size, widths = np.random.default_rng(3), 20_000, [3, 2, 4, 3]
    x, dead, n_in = np.ones((size, 2)), np.zeros(size, bool), 2
    for n in widths:
        w = rng.standard_normal((size, n_in, n))
        z = np.einsum("si,sij->sj", x, w) + sigma_b * rng.standard_normal((size, n))
        dead |= ~(z > 0).any(axis=1)
        x, n_in = np.maximum(z, 0), n
    assert within(dead, finite_width.born_dead(widths))
    assert not within(dead, finite_width.born_dead([*widths, 4]))  # the control


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: blocks.batch_norm_factor("relu", 3), r"batch = 3; allowed: .* >= 4"),
        (lambda: blocks.batch_norm_factor("x"), r"activation = 'x'; allowed: relu"),
        (lambda: blocks.layer_norm_factor("x"), r"activation = 'x'; allowed: relu"),
        (lambda: blocks.linear_batch_factor(8.0), r"batch = 8.0; allowed"),
        (lambda: blocks.branch_scales("1/l2", 3), r"schedule = '1/l2'; allowed: undamped"),
        (lambda: blocks.branch_scales("1/l", 0), r"depth = 0; allowed"),
        (lambda: blocks.growth([]), r"scales = \[\]; allowed: one number"),
        (lambda: blocks.growth([np.nan]), r"scales = \[nan\]; allowed"),
        (lambda: blocks.growth([1.0], "x"), r"activation = 'x'; allowed"),
        (lambda: blocks.growth([1.0], sigma_w=-1.0), r"sigma_w = -1.0; allowed"),
        (lambda: blocks.growth([1.0], sigma_v=True), r"sigma_v = True; allowed"),
        (lambda: blocks.shattering(3, [1.0]), r"scales = \[1.0\]; allowed: 3 numbers"),
        (lambda: blocks.shattering(3, c_0=1.5), r"c_0 = 1.5; allowed: .*-1 to 1"),
        (lambda: blocks.independent_shattering(0), r"depth = 0; allowed"),
        (lambda: finite_width.born_dead([]), r"widths = \(\); allowed: at least 1"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
