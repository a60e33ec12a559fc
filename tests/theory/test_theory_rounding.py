"""Exact zeros of dot products by format; normalised branches, against simulation."""

import math

import numpy as np
from numpy.testing import assert_allclose

from study.theory import blocks, rounding


def test_formats_scale_as_their_epsilon():
    half, single, double = (
        rounding.cancellation(20, name) for name in ("float16", "float32", "float64")
    )
    assert_allclose(half / single, 2.0**13, rtol=1e-3)  # but for float16's subnormal numbers
    assert_allclose(single / double, 2.0**29, rtol=1e-9)
    for name, (bits, smallest) in rounding.FORMATS.items():
        if name != "bfloat16":  # NumPy has none
            info = np.finfo(name)
            assert info.nmant + 1 == bits
            assert float(info.smallest_subnormal) == math.ldexp(1, smallest)


def test_normalised_shattering_by_its_recursion():
    """By explicit sampling of the units: variance within the batch, slopes, and their overlap."""
    batch, sigma_v, rng = 8, 1.3, np.random.default_rng(4)
    z = rng.standard_normal((400_000, batch))
    z -= z.mean(axis=1, keepdims=True)
    spread = np.mean(z**2, axis=1, keepdims=True)
    phi = np.maximum(z / np.sqrt(spread), 0)
    added = sigma_v**2 * np.mean((phi - phi.mean(axis=1, keepdims=True)) ** 2) * batch / (batch - 1)
    slopes = (z > 0) / np.sqrt(spread)
    square = sigma_v**2 * np.mean(slopes**2)
    product = sigma_v**2 * np.mean(slopes[:, 0] * slopes[:, 1])
    within, variance, covariance = 1.0, 0.0, 0.0
    at = blocks.normalised_shattering(5, batch, sigma_v)
    for k in range(5):
        variance += math.log1p(square / within)
        covariance += math.log1p(product / within)
        within += added
        assert_allclose(at.log_variance[k], variance, rtol=5e-3)
        assert_allclose(at.log_covariance[k], covariance, rtol=1e-2)
    infinite = blocks.normalised_shattering(200)
    large = blocks.normalised_shattering(200, 10**6)
    assert_allclose(large.log_covariance, infinite.log_covariance, rtol=1e-5)
    assert infinite.log_variance[-1] > 1.2 * math.log(201)  # not that of branches 1 / sqrt(l)
