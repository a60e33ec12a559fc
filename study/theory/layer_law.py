"""The exact law of what one ReLU layer of n units does to a squared norm, at any width.

With Gaussian weights, row i of the layer adds (w_i . v)^2 if it is active. Flipping the sign of
w_i swaps active and inactive and leaves the square alone, so the activity is a fair coin,
independent of the squares and of all that came before (Hanin and Nica 2018). Hence, relative to
its mean at the critical scale, the factor is one of

    masked      2 chi^2_B / n          ReLU, Gaussian weights
    spherical   2 Beta(B/2, (n-B)/2)   ReLU, orthogonal weights; the mask of a random direction
    plain       chi^2_n / n            no activation, Gaussian weights

with B ~ Binomial(n, 1/2), here given B > 0: a layer with no active unit is dead, and its log is
-inf. Since masked = spherical * plain with independent factors, whatever is additive for
independent variables (cumulants, the log of E X^t) needs two of the three only. Natural logs.

>>> mean, variance, _ = masked_cumulants(100)         # about -5/(2n) and 5/n
>>> round(mean, 9), round(variance, 9)
(-0.025420886, 0.051939992)
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

from study.core.activations import Array

# B outside ten standard deviations of its mean has less than 1e-22 of the probability.
_REACH = 5.0

# Coefficients of 1 / x^(2k+1) in ln Gamma and of 1 / x^(2k) in the digamma function.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_DIGAMMA = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760)
_LARGE = 16.0  # from here on the six terms are exact to rounding


@lru_cache(maxsize=64)
def active_units(n: int) -> tuple[Array, Array]:
    """The values of B ~ Binomial(n, 1/2), B > 0, and their probabilities.

    Built by the ratios (n - k) / (k + 1) outwards from the middle: log-factorials of a million
    carry errors of 1e-9, this keeps 1e-13.
    """
    middle = (n + 1) // 2
    steps = np.arange(middle, min(n, middle + math.ceil(_REACH * math.sqrt(n)) + 1), dtype=float)
    upper = np.cumprod(np.concatenate([[1.0], (n - steps) / (steps + 1)]))
    units = np.arange(middle, middle + upper.size, dtype=float)
    lower = slice(1 - n % 2, None)  # an even n has one middle, shared by both halves
    units = np.concatenate([(n - units)[lower][::-1], units])
    weights = np.concatenate([upper[lower][::-1], upper])
    alive = units > 0
    return units[alive], weights[alive] / weights[alive].sum()


def digamma_excess(x: Array | float) -> Array:
    """psi(x) - ln x, about -1 / (2 x), to full relative accuracy."""
    x = np.asarray(x, float)
    large = np.maximum(x, _LARGE)
    series = np.polynomial.polynomial.polyval(large**-2, (0.0, *_DIGAMMA))
    return np.where(x < _LARGE, special.digamma(x) - np.log(x), series - 0.5 / large)


@lru_cache(maxsize=1024)
def masked_cumulants(n: int) -> tuple[float, float, float]:
    """First three cumulants of ln(2 chi^2_B / n) given B > 0.

    Relative errors below 1e-13 for n up to 10^6. For large n they are
    -5/(2n) - 49/(12 n^2), 5/n + 37/(2 n^2) and -31/n^2: the skewness is negative.
    """
    units, p = active_units(n)
    mean = np.log1p((2 * units - n) / n) + digamma_excess(units / 2)  # of ln X, given B
    variance, third = special.polygamma(1, units / 2), special.polygamma(2, units / 2)
    first = float(p @ mean)
    centred = mean - first
    second = float(p @ (variance + centred**2))
    return first, second, float(p @ (third + 3 * centred * variance + centred**3))


@lru_cache(maxsize=1024)
def plain_cumulants(n: int) -> tuple[float, float, float]:
    """First three cumulants of ln(chi^2_n / n): -1/n, 2/n and -4/n^2 to leading order."""
    return (
        float(digamma_excess(n / 2)),
        float(special.polygamma(1, n / 2)),
        float(special.polygamma(2, n / 2)),
    )


def spherical_cumulants(n: int) -> tuple[float, float, float]:
    """First three cumulants of ln(2 Beta(B/2, (n-B)/2)) given B > 0: -3/(2n), 3/n, ..."""
    pairs = zip(masked_cumulants(n), plain_cumulants(n), strict=True)
    return tuple(masked - plain for masked, plain in pairs)


def log_gamma_ratio(x: Array, t: Array) -> Array:
    """ln Gamma(x + t) - ln Gamma(x) - t ln x for x > 0 and real or complex t, broadcast.

    Large x by the difference of Stirling's series, which does not cancel.
    """
    x, t = np.broadcast_arrays(np.asarray(x, float), t)
    out = np.empty(x.shape, np.result_type(t, float))
    small = x < _LARGE
    a, s = x[small], t[small]
    out[small] = special.loggamma(a + s) - special.gammaln(a) - s * np.log(a)
    a, s = x[~small], t[~small]

    def tail(y: Array) -> Array:
        return np.polynomial.polynomial.polyval(y**-2, _STIRLING) / y

    out[~small] = (a + s - 0.5) * special.log1p(s / a) - s + (tail(a + s) - tail(a))
    return out


def log_plain_moment(n: int, t: Array) -> Array:
    """ln E (chi^2_n / n)^t, shape of t; for imaginary t the log of the characteristic function."""
    return log_gamma_ratio(n / 2, t)


def log_spherical_moment(n: int, t: Array) -> Array:
    """ln E (2 Beta(B/2, (n-B)/2))^t given B > 0; real parts of t above -1/2."""
    units, p = active_units(n)
    t = np.asarray(t)
    terms = log_gamma_ratio(units / 2, t[..., None]) - log_gamma_ratio(n / 2, t)[..., None]
    with np.errstate(under="ignore"):
        total = np.sum(p * np.exp(terms + t[..., None] * np.log(2 * units / n)), axis=-1)
    return np.log(total)


def draw_units(n: int, size: int, rng: np.random.Generator) -> Array:
    """``size`` draws of B ~ Binomial(n, 1/2), B > 0."""
    units = rng.binomial(n, 0.5, size)
    while not units.all():
        dead = units == 0
        units[dead] = rng.binomial(n, 0.5, int(dead.sum()))
    return units


def draw_log_spherical(n: int, size: int, rng: np.random.Generator) -> Array:
    """Draws of ln(2 Beta(B/2, (n-B)/2)) given B > 0."""
    units = draw_units(n, size, rng)
    active, silent = rng.standard_gamma(units / 2), rng.standard_gamma((n - units) / 2)
    return np.log(2 * active / (active + silent))


def draw_log_plain(n: int, size: int, rng: np.random.Generator) -> Array:
    """Draws of ln(chi^2_n / n)."""
    return np.log(rng.standard_gamma(n / 2, size) * 2 / n)
