"""Deep linear networks: the spectrum of a product of matrices, and the time it takes to learn.

A product of L Gaussian matrices has singular values exp(L lambda_k) with known exponents
(Newman 1986): all but one direction are lost as L grows, while orthogonal matrices keep all of
them at every depth (Saxe, McClelland and Ganguli 2013). Natural logarithms of the NORM here.

>>> spectrum = lyapunov_spectrum(50)
>>> spectrum.exponents[[0, 10, 25, 40, 49]].round(4)
array([-0.0101, -0.1242, -0.3668, -0.8564, -2.5912])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from study.activations import Array
from study.theory import checks
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


def learning_time(depth: float, target: float, start: float, end: float) -> float:
    """Gradient descent's steps times eta, at learning rate eta / depth, from start to end.

    A mode u, the product of ``depth`` balanced weights, obeys du/dt = u^(2 - 2/depth) (s - u)
    (Saxe et al. 2013, eq. 13, with time in units of 1 / depth). The time tends to a finite
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
