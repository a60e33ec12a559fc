"""Deep linear networks: the spectrum of a product of matrices, and the time it takes to learn.

A product of L Gaussian matrices has singular values exp(L lambda_k) with known exponents
(Newman 1986): all but one direction are lost as L grows, while orthogonal matrices keep all of
them (Saxe, McClelland and Ganguli 2013). Natural logarithms of the NORM here.

>>> lyapunov_spectrum(50).exponents[[0, 10, 25, 40, 49]].round(4)
array([-0.0101, -0.1242, -0.3668, -0.8564, -2.5912])
"""

import math
from typing import NamedTuple

import numpy as np
import scipy

from study.theory.maps import positive
from study.theory.norm_law import active_units, digamma_excess
from study.theory.quadrature import panels
from study.tools.checks import bad, integer, one_of
from study.tools.elementary import Array


class LyapunovSpectrum(NamedTuple):
    """Entry k - 1 belongs to the k-th largest of the n singular values."""

    exponents: Array  # lim (1 / L) ln s_k
    variances: Array  # of ln(s_k) per layer


def lyapunov_spectrum(n: int, sigma_w: float = 1.0) -> LyapunovSpectrum:
    """Of products of n x n matrices with entries N(0, sigma_w^2 / n), decreasing (Newman 1986)."""
    n = integer("n", n, 1)
    log_sigma = math.log(positive("sigma_w", sigma_w))
    half = np.arange(n, 0, -1) / 2
    exponents = 0.5 * (scipy.special.digamma(half) + math.log(2 / n)) + log_sigma
    return LyapunovSpectrum(exponents, scipy.special.polygamma(1, half) / 4)


def relu_exponents(n: int, weights: str = "gaussian") -> Array:
    """lim (1 / L) ln s_k, k = 1, ..., n, of ReLU networks of width n at sigma_w = sqrt 2.

    Of those that have k directions left. ``weights`` are "gaussian" or "orthogonal".

    >>> relu_exponents(50)[[0, 1, 10]].round(4)
    array([-0.0259, -0.0477, -0.3073])
    """
    n = integer("n", n, 1)
    one_of("weights", weights, ("gaussian", "orthogonal"))

    def log_chi2(freedom: Array) -> Array:
        return digamma_excess(freedom / 2) + np.log(freedom)

    units, p = active_units(n)
    freedom = units[:, None] - np.arange(n)
    p = np.where(freedom > 0, p[:, None], 0)
    kept = np.sum(p * log_chi2(np.maximum(freedom, 1)), axis=0) / p.sum(axis=0)
    lost = log_chi2(n - np.arange(n)) if weights == "orthogonal" else np.log(n)
    return (kept - lost + np.log(2)) / 2


def directions_left(n: int, depth: int, k: int) -> float:
    """Probability that no layer of a living ReLU network of width n has fewer than k active units.

    No more of its singular values than that are not zero.

    >>> directions_left(64, 100, 8) > 0.99 > 0.01 > directions_left(64, 100, 32)
    True
    """
    units, p = active_units(n)
    return float(p[units >= k].sum() ** depth)


def learning_time(depth: float, target: float, start: float, end: float) -> float:
    """Gradient descent's steps times eta, at learning rate eta / depth, from start to end.

    A mode u, the product of ``depth`` balanced weights, obeys du/dt = u^(2 - 2/depth) (target - u)
    (Saxe et al. 2013, eq. 15, with time in units of 1 / depth), finite also at depth = inf.

    >>> [round(learning_time(d, 1.0, 0.5, 0.95), 3) for d in (2, 8, 1024, math.inf)]
    [2.944, 3.618, 3.89, 3.892]
    """
    if depth != math.inf:
        depth = integer("depth", depth, 1)
    if not 0 < start <= end < target < math.inf:
        raise bad("start, end, target", (start, end, target), "0 < start <= end < target")
    # In w = ln(u / (s - u)) the integrand is smooth and the ends are far from its poles.
    low = math.log(start / (target - start))
    high = math.log(end / (target - end))
    w, weights = panels(np.linspace(low, high, 1 + math.ceil(high - low)))
    return float(weights @ (target * scipy.special.expit(w)) ** (2 / depth - 1)) / target
