"""The exact law of what one ReLU layer of n units does to a squared norm, at any width.

Flipping the sign of a row w_i swaps active and inactive and leaves (w_i . v)^2 alone, so activity
is a fair coin, independent of all else (Hanin and Nica 2018). Relative to its mean at the critical
scale, the factor is one of

    masked      2 chi^2_B / n          ReLU, Gaussian weights
    spherical   2 Beta(B/2, (n-B)/2)   ReLU, orthogonal weights; the mask of a random direction
    plain       chi^2_n / n            no activation, Gaussian weights

with B ~ Binomial(n, 1/2), given B > 0: otherwise the layer is dead. Since masked = spherical *
plain with independent factors, two know the third where logarithms add. Natural logarithms.

>>> masked_cumulants(100).round(9)                  # about -5/(2n) and 5/n
array([-0.02542089,  0.05193999])
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import scipy

from study.core.activations import Array
from study.tools.checks import bad, integer, items

# Coefficients of 1 / x^(2k+1) in ln Gamma and of 1 / x^(2k) in the digamma function.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_DIGAMMA = (0.0, -1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760)
_LARGE = 16.0  # from here on the six terms are exact to rounding


def checked_widths(value: Sequence[int], at_least: int = 2) -> tuple[int, ...]:
    """Numbers of units n_0, ..., n_L, the input's first."""
    widths = items("widths", value, "a sequence of integers")
    if len(widths) < at_least:
        raise bad("widths", tuple(widths), f"at least {at_least} of them")
    return tuple(integer(f"widths[{k}]", n, 1) for k, n in enumerate(widths))


@lru_cache(maxsize=64)
def active_units(n: int) -> tuple[Array, Array]:
    """The values of B ~ Binomial(n, 1/2), B > 0, and their probabilities, to 1e-13."""
    # Outside ten standard deviations of its mean is less than 1e-22 of the probability. By ratios:
    # log-factorials of a million carry errors of 1e-9.
    least = max(0, n // 2 - math.ceil(5 * math.sqrt(n)) - 1)
    units = np.arange(least, n - least + 1.0)
    weights = np.cumprod(np.append(1.0, (n - units[:-1]) / (units[:-1] + 1)))
    weights += weights[::-1]
    alive = units > 0
    return units[alive], weights[alive] / weights[alive].sum()


def digamma_excess(x: Array | float) -> Array:
    """psi(x) - ln x, about -1 / (2 x), to full relative accuracy."""
    x = np.asarray(x, float)
    large = np.maximum(x, _LARGE)
    series = np.polynomial.polynomial.polyval(large**-2, _DIGAMMA) - 0.5 / large
    return np.where(x < _LARGE, scipy.special.digamma(x) - np.log(x), series)


@lru_cache(maxsize=1024)
def masked_cumulants(n: int) -> Array:
    """Mean and variance of ln(2 chi^2_B / n) given B > 0, to 1e-13 for n up to 10^6.

    For large n they are -5/(2n) - 49/(12 n^2) and 5/n + 37/(2 n^2).
    """
    units, p = active_units(n)
    mean = np.log1p((2 * units - n) / n) + digamma_excess(units / 2)  # of ln X, given B
    variance = scipy.special.polygamma(1, units / 2)
    return np.array([p @ mean, p @ (variance + (mean - p @ mean) ** 2)])


@lru_cache(maxsize=1024)
def plain_cumulants(n: int) -> Array:
    """Mean and variance of ln(chi^2_n / n): -1/n and 2/n to leading order."""
    return np.array([digamma_excess(n / 2), scipy.special.polygamma(1, n / 2)])


def spherical_cumulants(n: int) -> Array:
    """Mean and variance of ln(2 Beta(B/2, (n-B)/2)) given B > 0: -3/(2n), 3/n, ..."""
    return masked_cumulants(n) - plain_cumulants(n)


def log_gamma_ratio(x: Array, t: Array) -> Array:
    """ln Gamma(x + t) - ln Gamma(x) - t ln x for x > 0 and real or complex t, broadcast.

    Large x by the difference of Stirling's series, which does not cancel.
    """
    small = np.minimum(x, _LARGE)
    large = np.maximum(x, _LARGE)

    def remainder(y: Array) -> Array:
        return np.polynomial.polynomial.polyval(y**-2, _STIRLING) / y

    series = (large + t - 0.5) * scipy.special.log1p(t / large) - t
    series = series + (remainder(large + t) - remainder(large))
    direct = scipy.special.loggamma(small + t) - scipy.special.gammaln(small) - t * np.log(small)
    return np.where(x < _LARGE, direct, series)


def log_plain_moment(n: int, t: Array) -> Array:
    """ln E (chi^2_n / n)^t, shape of t; for imaginary t the log of the characteristic function."""
    return log_gamma_ratio(n / 2, t)


def log_spherical_moment(n: int, t: Array) -> Array:
    """ln E (2 Beta(B/2, (n-B)/2))^t given B > 0; real parts of t above -1/2."""
    units, p = active_units(n)
    t = np.asarray(t)[..., None]
    terms = log_gamma_ratio(units / 2, t) - log_gamma_ratio(n / 2, t)
    with np.errstate(under="ignore"):
        powers = np.exp(terms + t * np.log(2 * units / n))
        return np.log(np.sum(p * powers, axis=-1))
