"""Spectra of Jacobians, and deep linear networks, against closed forms and random matrices."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study.theory import finite_width, spectra
from study.theory.spectra import spectrum


@pytest.mark.parametrize("depth", [1, 2, 5, 32])
def test_the_edge_of_gaussian_products(depth):
    at = spectrum("linear", depth)
    assert_allclose(at.largest, (depth + 1) ** (depth + 1) / depth**depth, rtol=1e-12)
    assert at.normalised_variance == depth


def test_printed_spectra():
    for name, weights, q, depth, variance, largest in (
        ("linear", "gaussian", 1.0, 32, 32, 88.3),
        ("relu", "gaussian", 1.0, 16, 32, 87.0),
        ("relu", "orthogonal", 1.0, 16, 16, 42.13),
        ("relu", "orthogonal", 1.0, 1, 1, 2),
        ("hard_tanh", "orthogonal", 0.2, 1, 0.0260, 1.026),
        ("hard_tanh", "orthogonal", 0.2, 4, 0.1040, 1.108),
        ("hard_tanh", "orthogonal", 0.2, 16, 0.416, 1.508),
        ("hard_tanh", "orthogonal", 0.2, 64, 1.664, 4.489),
        ("hard_tanh", "gaussian", 0.2, 64, 65.7, None),
        ("erf", "orthogonal", 0.1, 64, 1.911, None),
        ("tanh", "orthogonal", 0.1, 1, 0.0397, None),
        ("tanh", "orthogonal", 1.0, 1, 0.5835, None),
        ("tanh", "orthogonal", 1e-4, 10_000, 7.99e-4, None),
    ):
        at = spectrum(name, depth, weights, q)
        assert at.normalised_variance == pytest.approx(variance, rel=1.5e-3)
        if largest is not None:
            assert at.largest == pytest.approx(largest, rel=1e-3)


def test_erf_variance_in_closed_form():
    """Pennington et al. 2018: mu_1 and mu_2 of erf are powers of 1 + pi q and 1 + 2 pi q."""
    for q in (1e-3, 0.1, 3.0, 40.0):
        t = math.pi * q
        exact = (1 + t) / math.sqrt(1 + 2 * t) - 1
        assert_allclose(spectrum("erf", 1, "orthogonal", q).normalised_variance, exact, rtol=1e-9)


@pytest.mark.parametrize("law", ["gaussian", "orthogonal"])
def test_relu_exponents_add_up_to_volumes(law):
    """The first is half the exact law's mean; k of them are the growth of a volume."""
    n, k = 64, 5
    found, widths = spectra.relu_exponents(n, law), [n, n]
    assert_allclose(found[0], finite_width.forward_law(widths, "relu", law).mean / 2, rtol=1e-12)
    rng, logs = np.random.default_rng(0), []
    for _ in range(4000):
        frame = rng.standard_normal((n, k)) / n**0.5
        frame = np.linalg.qr(frame)[0] if law == "orthogonal" else frame
        kept = 2**0.5 * frame[rng.random(n) < 0.5]
        logs.append(0.5 * np.linalg.slogdet(kept.T @ kept)[1])
    error = np.std(logs) / len(logs) ** 0.5
    assert abs(np.mean(logs) - found[:k].sum()) < 4 * error
    other = spectra.relu_exponents(n, "orthogonal" if law == "gaussian" else "gaussian")
    assert abs(np.mean(logs) - other[:k].sum()) > 4 * error  # the control


def test_scale_of_the_edge_is_that_of_wishart_matrices():
    """Johnstone 2001: (sqrt n + sqrt n)^2 - 1.2065 (2 sqrt n) (2 / sqrt n)^(1/3), over n."""
    n = 10**9
    exact = 4 - 1.2065335745820 * 2 * 2 ** (1 / 3) * n ** (-2 / 3)
    shift = 4 - spectrum("linear", 1).largest_at(n)
    assert_allclose(shift, 4 - exact, rtol=1e-5)


@pytest.mark.parametrize(("name", "depth"), [("linear", 3), ("relu", 2), ("hard_tanh", 3)])
def test_edges_without_fluctuations_of_tracy_and_widom_are_refused(name, depth):
    with pytest.raises(ValueError, match="an atom or a hard edge; allowed: Gaussian"):
        spectrum(name, depth, "orthogonal", 0.2).largest_at(100)
