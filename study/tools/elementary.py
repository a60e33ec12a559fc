"""Functions that keep their digits where the textbook's lose them: what activations are made of.

They take and return arrays of one float dtype, elementwise. A *prefactor* is phi'(z) / exp(-decay),
so that a saturated derivative keeps its size where ``exp`` itself underflows.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy  # whose special loads at its first use: 0.2 s that ReLU need not wait for

from study.tools import Array

# Here every activation has long reached its asymptote; float32 still holds its square.
FAR = 2.0**50

EXACT = 0.0  # the rounding error of a decay that has none

_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)

# (1 + x) mills(x) in Chebyshev polynomials of (x - 4) / (x + 4), as Shepherd & Laframboise (1981)
# have it of erfcx; found by arbitrary precision. Half the terms are enough in float32.
# fmt: off
_MILLS = (
    1.1670525350882472, -0.16101957671346539, -0.028002821825452975, 0.031674521892392659,
    -0.012103231162345369, 0.0027056129762167095, -0.00029931636202703166, -1.716686526879361e-5,
    1.0178489264109867e-5, -4.8948295700041918e-7, -2.8440065001510478e-7, 3.0766283713811504e-8,
    9.1803786744695372e-9, -1.2756102213808736e-9, -3.6602793761041338e-10, 4.5926359348595205e-11,
    1.7189314687646527e-11, -1.2726833698700694e-12, -8.66808191332e-13, 1.10615572041e-15,
    4.27502107701e-14, 3.79093769226e-15, -1.84741030106e-15, -4.0419094131e-16,
    5.3408543850173578e-17, 2.9414799375900551e-17,
)
# fmt: on


def _two_product(a: Array | float, b: Array) -> tuple[Array, Array]:
    """a * b and its rounding error, exactly (Dekker 1971), without fused multiply-add."""
    splitter = b.dtype.type(2.0**27 + 1 if b.dtype == np.float64 else 2.0**12 + 1)  # half the bits
    a_high = splitter * a - (splitter * a - a)
    b_high = splitter * b - (splitter * b - b)
    a_low = a - a_high
    b_low = b - b_high
    p = a * b  # rounded; what rounding took is found below
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _square(z: Array, low: float, high: float) -> tuple[Array, Array]:
    z = np.clip(z, low, high)
    return _two_product(z, z)


def erf_decay(z: Array) -> tuple[Array, Array]:
    # exp(-t) magnifies the rounding of t = pi z^2 / 4 by t: keep it.
    p, dp = _square(z, -FAR, FAR)
    high = z.dtype.type(math.pi / 4)
    low = 3.061616997868383e-17 if z.dtype == np.float64 else math.pi / 4 - float(high)
    t, dt = _two_product(high, p)
    return t, dt + high * dp + z.dtype.type(low) * p


def steps(z: Array, left: float, right: float, kink: float, at: float = 0.0) -> Array:
    """left below ``at``, right above it, their kink-weighted mean upon it."""
    if (left, right, kink) == (0, 1, 1):
        # A cast is several times faster than a choice of two numbers.
        return (z >= at).astype(z.dtype)
    left = z.dtype.type(left)
    right = z.dtype.type(right)
    middle = z.dtype.type((1 - kink) * float(left) + kink * float(right))
    if middle == right:
        return np.where(z >= at, right, left)
    return np.where(z > at, right, np.where(z == at, middle, left))


def sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, z.dtype.type(1), e) / (1 + e)


def absolute(z: Array) -> tuple[Array, float]:
    return np.abs(z), EXACT


def below_zero(z: Array) -> tuple[Array, float]:
    return np.maximum(-z, 0), EXACT


@functools.cache
def _terms(dtype: np.dtype) -> tuple[list[float], list[float]]:
    """The polynomial that a format is good for: even and odd powers, the highest first."""
    kept = np.abs(_MILLS) > np.finfo(dtype).eps / 32
    terms = np.polynomial.chebyshev.cheb2poly(np.array(_MILLS)[kept])
    return terms[::2][::-1].tolist(), terms[1::2][::-1].tolist()


def mills(x: Array) -> Array:
    """(1 - Phi(x)) / Phi'(x) of a normal law, 0 <= x <= FAR, to 2 units in the last place.

    >>> round(float(mills(np.zeros(1))[0] / math.sqrt(math.pi / 2)), 14)
    1.0
    """
    t = (x - 4) / (x + 4)
    # Even and odd powers apart: two chains of half the length for a processor to work at.
    square = t * t
    even, odd = (_horner(terms, square) for terms in _terms(x.dtype))
    return (even + t * odd) / (1 + x)


def _horner(terms: list[float], x: Array) -> Array:
    total = terms[0] * x + terms[1]
    for term in terms[2:]:
        total = total * x + term
    return total


def _density(z: Array) -> Array:
    """Phi'(z)."""
    p, dp = _square(z, -FAR, FAR)
    e = np.exp(-0.5 * p)
    return _INV_SQRT_2PI * (e - e * (0.5 * dp))


def gelu(z: Array) -> Array:
    x = np.minimum(np.abs(z), FAR)
    beyond = mills(x) * _density(z)  # Phi(-x)
    return z * np.where(z < 0, beyond, 1 - beyond)


def gelu_prefactor(z: Array, e: Array, kink: float) -> Array:
    # Below zero phi' = density(z) * (z + Mills ratio); above, the sum has no cancellation.
    x = np.minimum(np.abs(z), FAR)
    excess = x - mills(x)
    return np.where(z < 0, -_INV_SQRT_2PI * excess, 1 + excess * _density(z))


def gelu_tail(z: Array) -> Array:
    return _INV_SQRT_2PI * z * mills(np.abs(z))


def gelu_decay(z: Array) -> tuple[Array, Array]:
    p, dp = _square(z, -FAR, FAR)
    return np.where(z < 0, 0.5 * p, 0), np.where(z < 0, 0.5 * dp, 0)


def silu_prefactor(z: Array, e: Array, kink: float) -> Array:
    e_abs = np.exp(-np.abs(z))  # e is 1 above zero
    return np.where(z < 0, 1 + e_abs + z, 1 + e_abs + z * e_abs) / np.square(1 + e_abs)


def mish_prefactor(z: Array, e: Array, kink: float) -> Array:
    # phi' = x (4 (z + 1) + 4 x^2 + x^3 + x (4 z + 6)) / (2 x + x^2 + 2)^2, x = e^z (Misra 2019)
    x = np.exp(np.minimum(z, 0))  # above 0 the other form, so that neither overflows
    below = (z + 1 + x**2 + x**3 / 4 + x * (z + 1.5)) / (x + x**2 / 2 + 1) ** 2
    z_above = np.clip(z, 0, 1000)  # the same, both sides of the fraction over x^4
    y = np.exp(-z_above)
    above = 1 + 4 * y + (4 * z_above + 6) * y**2 + 4 * (z_above + 1) * y**3
    above = above / (1 + 2 * y + 2 * y**2) ** 2
    return np.where(z < 0, below, above)


def mish(z: Array) -> Array:
    # tanh(ln(1 + x)) = (x^2 + 2 x) / (x^2 + 2 x + 2)
    x = np.exp(-np.abs(z))
    above = (1 + 2 * x) / (1 + 2 * x + 2 * x**2)
    below = x * (x + 2) / (x * (x + 2) + 2)
    return z * np.where(z >= 0, above, below)


def tanh_gelu(z: Array) -> Array:
    """2 x the argument of tanh in GELU's approximation (Hendrycks & Gimpel 2016)."""
    return math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)


def tanh_gelu_slope(z: Array, e: Array | None, kink: float) -> Array:
    near = np.clip(z, -30, 30)  # beyond, sigmoid's slope is 0 in every format
    y = tanh_gelu(near)
    s = sigmoid(y)
    e_abs = np.exp(-np.abs(y))
    dy = math.sqrt(8 / math.pi) * (1 + 0.134145 * near**2)
    return (s + near * (e_abs / np.square(1 + e_abs)) * dy).astype(z.dtype, copy=False)


def hardswish_slope(z: Array, e: None, kink: float) -> Array:
    left = steps(z, 0, -0.5, kink, at=-3.0)
    right = steps(z, 1.5, 1, kink, at=3.0)
    ends = np.where(z < 0, left, right)
    return np.where(np.abs(z) < 3, (2 * z + 3) / 6, ends).astype(z.dtype, copy=False)


def soft_exponential(z: Array, scale: float, alpha: float, rate: float = 1.0) -> Array:
    negative = z.dtype.type(scale * alpha) * np.expm1(np.minimum(z, 0) / z.dtype.type(rate))
    return np.where(z > 0, z.dtype.type(scale) * z, negative)


class Complex:
    """The functions of a textbook formula, for complex arrays."""

    exp = np.exp
    expm1 = np.expm1
    log1p = np.log1p
    tanh = np.tanh

    @staticmethod
    def erf(z: Array) -> Array:
        """The error function."""
        return scipy.special.erf(z)

    @staticmethod
    def choose(z: Array, at: float, below: Callable, above: Callable) -> Array:
        """below(z) where Re z < at, above(z) elsewhere; neither is asked beyond its side."""
        right = np.real(z) >= at
        return np.where(right, above(np.where(right, z, at)), below(np.where(right, at, z)))


def root(function: Callable[[Any], Any], low: float, high: float, tolerance: float) -> float:
    """Where a continuous function changes its sign between two numbers (Dowell & Jarratt 1971).

    By regula falsi, an end that stays counting half (Illinois). It is here, as scipy.optimize takes
    0.4 s to import, a third of what the first command takes.

    >>> root(lambda x: x * x - 2, 0.0, 2.0, 1e-15) == 2**0.5
    True
    >>> root(lambda x: x * x + 1, 0.0, 2.0, 1e-15)
    Traceback (most recent call last):
    ValueError: no root between 0.0 and 2.0: the function is 1.0 and 5.0
    """
    other, latest = function(low), function(high)
    if other != 0 != latest and (other > 0) == (latest > 0):
        raise ValueError(f"no root between {low} and {high}: the function is {other} and {latest}")
    while latest != 0 and other != 0 and abs(high - low) > tolerance:
        guess = high - latest * (high - low) / (latest - other)
        if not min(low, high) < guess < max(low, high):  # also where an end is infinite
            guess = (low + high) / 2
            if guess in (low, high):
                break
        value = function(guess)
        if (value > 0) == (latest > 0):
            other /= 2  # the end that stays counts half: Illinois
        else:
            low, other = high, latest
        high, latest = guess, value
    return float(low if other == 0 else high)
