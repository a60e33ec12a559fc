"""Drift and spread at finite width: against exact laws, derivatives and explicit networks."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study import theory
from study.core.activations import activation
from study.theory import finite_width, moments
from study.theory.fluctuations import drift_and_spread, fluctuations, independent_layers


@pytest.mark.parametrize("sigma_w", [0.5, 2**0.5, 3.0])
@pytest.mark.parametrize("name", ["relu", "linear"])
def test_scale_free_networks_have_their_exact_law(name, sigma_w):
    n, depth = 10**7, 40
    exact = finite_width.backward_law([n] * (depth + 1), name, sigma_w=sigma_w)
    law = fluctuations(name, sigma_w, depth=depth).gain(n)
    assert_allclose(law.log_chi, exact.log_expectation, rtol=1e-12, atol=1e-12)
    shift = exact.mean - exact.log_expectation
    assert_allclose(law.mean - law.log_chi, shift, rtol=1e-4)
    assert_allclose(law.variance, exact.variance, rtol=1e-5)


def test_leaky_relu_with_and_without_bias():
    drift, spread = moments.drift_and_spread("leaky_relu")
    law = fluctuations("leaky_relu", 1.0, depth=30).gain(1)
    assert_allclose((law.log_chi - law.mean, law.variance), (30 * drift, 30 * spread), rtol=1e-10)
    # A bias moves q, but chi does not depend on it: independent layers, spread e.
    assert_allclose(drift_and_spread("leaky_relu", 1.0, 0.5).spread, spread, rtol=1e-10)


def test_derivatives_of_the_maps():
    """lambda, F'', kappa and kappa_2 against differences of ln V and ln chi by ln q."""
    for name, sigma_w, sigma_b in (("tanh", 1.5, 0.2), ("selu", 1.1, 0.0), ("gelu", 2.0, 0.3)):
        found = fluctuations(name, sigma_w, sigma_b, depth=3)
        step = 1e-4
        for k, q in enumerate(found.q):
            around = q * np.exp(step * np.array([-1.0, 0.0, 1.0]))
            for f, first, second in (
                (theory.variance_map(name, around, sigma_w, sigma_b), "slope", "curvature"),
                (theory.gradient_factor(name, around, sigma_w), "kappa", "kappa_2"),
            ):
                low, middle, high = np.log(f)
                at = found.layers
                assert_allclose(getattr(at, first)[k], (high - low) / (2 * step), atol=1e-7)
                difference = (high - 2 * middle + low) / step**2
                assert_allclose(getattr(at, second)[k], difference, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b", "kurtosis"),
    [("tanh", 1.5, 0.0, 3.0), ("sigmoid", 4.0, 0.0, 1.8), ("selu", 1.0, 0.1, 3.0)],
)
def test_constants_are_what_one_more_layer_adds(name, sigma_w, sigma_b, kurtosis):
    laws = [
        fluctuations(name, sigma_w, sigma_b, depth=depth, kurtosis=kurtosis).gain(1)
        for depth in (150, 151)
    ]
    shifts = [law.mean - law.log_chi for law in laws]
    drift, spread = drift_and_spread(name, sigma_w, sigma_b, kurtosis)
    assert_allclose(shifts[0] - shifts[1], drift, rtol=1e-9)
    assert_allclose(laws[1].variance - laws[0].variance, spread, rtol=1e-9)


def test_layers_can_be_left_out():
    found = fluctuations("tanh", 1.5, 0.2, depth=40)
    whole, upper = found.gain(100), found.gain(100, first=1)
    assert upper.layers == 39
    assert_allclose(whole.log_chi - upper.log_chi, found.layers.log_chi[0])
    assert whole.variance > upper.variance


def explicit(name, sigma_w, sigma_b, depth, n, count, law="normal"):
    """ln G and ln q of the last layer of explicit networks, walked side by side."""
    rng, row = np.random.default_rng([depth, n, count]), activation(name)
    draw = {
        "normal": lambda shape: rng.standard_normal(shape, np.float32),
        "signs": lambda shape: np.float32(2) * rng.integers(0, 2, shape, np.int8) - np.float32(1),
    }
    gains, lengths = [], []
    for _ in range(0, count, 100):
        r, walked = rng.standard_normal((100, 1, n), np.float32), []
        for _ in range(depth):
            W = draw[law]((100, n, n)) * np.float32(sigma_w / math.sqrt(n))
            log_q = np.log(sigma_w**2 * np.vecdot(r, r) / n + sigma_b**2)
            z = r @ W + np.float32(sigma_b) * rng.standard_normal((100, 1, n), np.float32)
            walked.append((W, row.derivative(z)))
            r = row.phi(z)
        dr = rng.standard_normal((100, 1, n), np.float32)
        dr /= np.sqrt(np.vecdot(dr, dr))[..., None]
        for W, slope in reversed(walked):
            dr = (dr * slope) @ W.mT
        gains.append(np.log(np.vecdot(dr, dr), dtype=float)[:, 0])
        lengths.append(log_q[:, 0])
    return np.concatenate(gains), np.concatenate(lengths).astype(float)


def within(sample, exact, slack, sigmas=4.0):
    return abs(np.mean(sample) - exact) < sigmas * np.std(sample) / math.sqrt(len(sample)) + slack


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_b"), [("tanh", 1.5, 0.3), ("sigmoid", 4.0, 0.0), ("selu", 1.0, 0.0)]
)
def test_explicit_networks(name, sigma_w, sigma_b):
    depth, n = 12, 48
    log_g, log_q = explicit(name, sigma_w, sigma_b, depth, n, 3000)
    found = fluctuations(name, sigma_w, sigma_b, depth=depth)
    law = found.gain(n)
    assert within(log_g, law.mean, law.mean_error)
    assert within((log_g - log_g.mean()) ** 2, law.variance, law.variance_error)
    assert not within(log_g, law.log_chi, law.mean_error)  # the mean field
    shift, variance = found.length_shift[-1] / n, found.length_variance[-1] / n
    assert within(log_q, math.log(found.q[-1]) + shift, variance**2)
    assert within((log_q - log_q.mean()) ** 2, variance, 3 * variance**2)


def test_control_independent_layers_are_refuted():
    """SELU's lengths settle slowly: its spread is half more than that of independent layers."""
    depth, n = 24, 32
    log_g, _ = explicit("selu", 1.0, 0.0, depth, n, 3000)
    law = fluctuations("selu", 1.0, depth=depth).gain(n)
    squares = (log_g - log_g.mean()) ** 2
    assert within(squares, law.variance, law.variance_error)
    baseline = independent_layers("selu", 1.0).spread * depth / n
    assert not within(squares, baseline, 2.5 * baseline**2 / depth)


def test_kurtosis_of_the_weights():
    """Weights of +-1, kurtosis 1: no atoms in z, as the inputs are normal."""
    depth, n = 30, 64
    log_g, _ = explicit("sigmoid", 4.0, 0.0, depth, n, 3000, "signs")
    signs, normal = (
        fluctuations("sigmoid", 4.0, depth=depth, kurtosis=kurtosis).gain(n)
        for kurtosis in (1.0, 3.0)
    )
    assert within(log_g, signs.mean, signs.mean_error / 2, sigmas=3)
    assert not within(log_g, normal.mean, normal.mean_error / 2, sigmas=3)  # the control


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fluctuations("tanh", 0.0, depth=3), "sigma_w = 0.0; allowed: .*from 1e-100"),
        (lambda: fluctuations("tanh", 1.0, depth=0), "depth = 0; allowed: an integer"),
        (lambda: fluctuations("tanh", 1.0, depth=3, kurtosis=0.5), "kurtosis = 0.5; allowed"),
        (lambda: fluctuations("tanh", 1.0, depth=3).gain(5, first=3), "first = 3; .*from 0 to 2"),
        (lambda: drift_and_spread("tanh", 0.8), "q_star = 0.0; allowed: a fixed point"),
        (lambda: drift_and_spread("relu", 2**0.5), "q_star = 2.0.*; allowed: a fixed point"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
