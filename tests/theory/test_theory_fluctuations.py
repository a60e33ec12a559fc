"""Drift and spread at finite width: against exact laws, derivatives and explicit networks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study import theory
from study.core.activations import LEAKY_SLOPE
from study.theory import finite_width
from study.theory.fluctuations import fluctuations


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
    mu_1, mu_2 = (np.mean(np.array([LEAKY_SLOPE, 1.0]) ** k) for k in (2, 4))
    spread = 3 * mu_2 / mu_1**2 - 1
    law = fluctuations("leaky_relu", 1.0, depth=30).gain(1)
    assert_allclose((law.log_chi - law.mean, law.variance), (15 * spread, 30 * spread), rtol=1e-10)
    # A bias moves q, but chi does not depend on it.
    biased = fluctuations("leaky_relu", 1.0, 0.5, depth=30).gain(1)
    assert_allclose(biased.variance, 30 * spread, rtol=1e-10)


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
