"""Deep linear networks: the spectrum of a product of matrices, and the time it takes to learn.

A product of L Gaussian matrices has singular values exp(L lambda_k) with known exponents
(Newman 1986): all but one direction are lost as L grows, while orthogonal matrices keep all of
them at every depth (Saxe, McClelland and Ganguli 2013). ReLU leaves out half of the rows of each
matrix, and with them directions of both (`relu_exponents`). Natural logarithms of the NORM here.

>>> spectrum = lyapunov_spectrum(50)
>>> spectrum.exponents[[0, 10, 25, 40, 49]].round(4)
array([-0.0101, -0.1242, -0.3668, -0.8564, -2.5912])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from study.checks import one_of
from study.core.activations import Array
from study.theory import checks, layer_law
from study.theory.quadrature import panels


class LyapunovSpectrum(NamedTuple):
    """Entry k - 1 belongs to the k-th largest of the n singular values."""

    exponents: Array
    """lim (1 / L) ln s_k."""
    variances: Array
    """Of ln(s_k) per layer: after L layers the exponents are known to sqrt(variances / L)."""


def lyapunov_spectrum(n: int, sigma_w: float = 1.0) -> LyapunovSpectrum:
    """Exponents of products of n x n matrices with entries N(0, sigma_w^2 / n), decreasing.

    lambda_k = [psi((n - k + 1) / 2) + ln(2 sigma_w^2 / n)] / 2 (Newman 1986), with variance
    psi'((n - k + 1) / 2) / 4: QR steps whose k-th diagonal entry is a chi of n - k + 1 degrees
    of freedom, independent of all others.
    """
    n = checks.count("n", n)
    sigma_w = checks.positive("sigma_w", sigma_w)
    freedom = np.arange(n, 0, -1) / 2
    exponents = 0.5 * (special.digamma(freedom) + math.log(2 / n)) + math.log(sigma_w)
    return LyapunovSpectrum(exponents, special.polygamma(1, freedom) / 4)


def relu_exponents(n: int, weights: str = "gaussian") -> Array:
    """lim (1 / L) ln s_k, k = 1, ..., n, of ReLU networks of width n at sigma_w = sqrt 2.

    Of those that have k directions left: a layer keeps B of its n rows, B ~ Binomial(n, 1/2), of a
    random frame of k directions. The determinant of what is kept has one factor an exponent, chi^2
    of B - k + 1 degrees of freedom over n or, with orthogonal weights, over chi^2 of n - k + 1.
    Another scale adds ln(sigma_w / sqrt 2).

    Parameters
    ----------
    n : int
        Width of every layer.
    weights : {"gaussian", "orthogonal"}

    Examples
    --------
    >>> relu_exponents(50)[[0, 1, 10]].round(4)
    array([-0.0259, -0.0477, -0.3073])
    """
    n = checks.count("n", n)
    one_of("weights", weights, ("gaussian", "orthogonal"))

    def log_chi2(freedom: Array) -> Array:
        return layer_law.digamma_excess(freedom / 2) + np.log(freedom)

    units, p = layer_law.active_units(n)
    freedom = np.subtract.outer(units, np.arange(n))
    p = np.where(freedom > 0, p[:, None], 0)
    kept = (p * log_chi2(np.maximum(freedom, 1))).sum(axis=0) / p.sum(axis=0)
    lost = log_chi2(n - np.arange(n)) if weights == "orthogonal" else np.log(n)
    return (kept - lost + np.log(2)) / 2


def directions_left(n: int, depth: int, k: int) -> float:
    """Probability that no layer of a ReLU network of width n has fewer than k active units.

    Given that none is dead. Of a ReLU network's singular values, no more than that are not zero.

    >>> directions_left(64, 100, 8) > 0.99 > 0.01 > directions_left(64, 100, 32)
    True
    """
    units, p = layer_law.active_units(n)
    return float(p[units >= k].sum() ** depth)


def learning_time(depth: float, target: float, start: float, end: float) -> float:
    """Gradient descent's steps times eta, at learning rate eta / depth, from start to end.

    A mode u, the product of ``depth`` balanced weights, obeys du/dt = u^(2 - 2/depth) (s - u)
    (Saxe et al. 2013, eq. 15, with time in units of 1 / depth). The time tends to a finite
    limit as depth grows: depth = inf gives (1/s^2) ln[u_f (s - u_0) / (u_0 (s - u_f))] +
    (1/s) (1/u_0 - 1/u_f).

    Parameters
    ----------
    depth : int or inf
        Number of weight matrices.
    target : float
        The singular value s to be learned, positive.
    start, end : float
        Of u, 0 < start <= end < target.

    Examples
    --------
    >>> [round(learning_time(d, 1.0, 0.5, 0.95), 3) for d in (2, 8, 1024, math.inf)]
    [2.944, 3.618, 3.89, 3.892]
    """
    if depth != math.inf:
        depth = checks.count("depth", depth)
    target = checks.positive("target", target)
    end = checks.positive("end", end, below=target)
    start = checks.positive("start", start, below=math.nextafter(end, math.inf))

    # In w = ln(u / (s - u)) the integrand is smooth and the ends are far from its poles.
    low, high = (math.log(u / (target - u)) for u in (start, end))
    w, weights = panels(np.linspace(low, high, 1 + math.ceil(high - low)))
    return float(weights @ (target * special.expit(w)) ** (2 / depth - 1)) / target
