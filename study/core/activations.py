"""The table of activations: one row each, with its derivative in a form that cannot be lost.

A row gives the function ``phi`` and its derivative as a product

    phi'(z) = prefactor(z, e) * e,        e = exp(-decay(z)),  decay >= 0,

so that a saturated derivative is known by the exponent it carries, even where ``exp`` itself
underflows. Sigmoid, for one, has decay |z| and prefactor 1 / (1 + e)^2: the textbook s (1 - s) is
exactly 0 from z = 37 in float64, this is right to a few units in the last place everywhere.
Piecewise linear rows have no decay.

At a kink, phi' is ``(1 - kink) * left slope + kink * right slope``: for ReLU, ReLU'(0) = kink.

>>> import numpy as np
>>> row = activation("sigmoid")
>>> float(row.derivative(np.array([40.0]))[0])           # s (1 - s) would print 0
4.248354255291589e-18
>>> m, k = row.scaled_derivative(np.array([1000.0]))     # e^-1000, far below the float64 range
>>> round(float(np.log10(m[0]) + k[0] * np.log10(2)), 6)
-434.294482
>>> activation("relu").derivative(np.array([-1.0, 0.0, 1.0]), kink=0.5)
array([0. , 0.5, 1. ])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from study.checks import nearest

Array = np.ndarray

# ln 2 in two parts (Cody and Waite 1980): k * LN2_HIGH is exact for |k| < 2^21.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10

SELU_ALPHA = 1.6732632423543772848  # Klambauer et al. 2017, appendix 1
SELU_LAMBDA = 1.0507009873554804934
LEAKY_SLOPE = 0.01
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)

FAR = 2.0**50
"""Here every activation has long reached its asymptote; float32 still holds its square."""


@dataclass(frozen=True)
class Activation:
    """One row of the table; the functions take and return arrays of one float dtype."""

    name: str
    phi: Callable[[Array], Array]
    prefactor: Callable[[Array, Array | None, float], Array]
    """(z, e, kink) -> phi'(z) / e, where e = exp(-decay(z)), or None when there is no decay."""
    decay: Callable[[Array], tuple[Array, Array | float]] | None
    """z -> (t, dt) with phi' proportional to exp(-(t + dt)), dt the rounding error of t."""
    slopes_at_zero: tuple[float, float]
    """phi'(0-), phi'(0+)."""
    slopes_at_infinity: tuple[float, float]
    """phi'(-inf), phi'(+inf)."""
    max_slope: float
    """The supremum of |phi'|."""
    kinks: tuple[float, ...] = ()
    """Where phi' jumps."""
    tail: Callable[[Array], Array] | None = None
    """z -> phi(z) / exp(-decay(z)) for z << 0, where phi falls to 0 there."""

    @property
    def scale_free(self) -> bool:
        """Whether phi(a z) = a phi(z) for every a > 0 (ReLU, leaky ReLU, linear)."""
        return self.slopes_at_zero == self.slopes_at_infinity and self.kinks in ((), (0.0,))

    def derivative(self, z: Array, kink: float = 1.0) -> Array:
        """phi'(z), elementwise, relative error of a few units in the last place."""
        if self.decay is None:
            return self.prefactor(z, None, kink)
        t, dt = self.decay(z)
        e = np.exp(-t)
        if dt is not EXACT:
            e -= e * dt
        return self.prefactor(z, e, kink) * e

    @np.errstate(under="ignore")
    def scaled_derivative(self, z: Array, kink: float = 1.0) -> tuple[Array, Array]:
        """phi'(z) as ``mantissa * 2**exponent`` where phi' itself may be below the float range.

        The error stays at a few units in the last place until decay(z) = 2**30, then grows with
        it; from 2**52 on phi' is given as exp(-2**52), a bound.
        """
        if self.decay is None:
            return self.prefactor(z, None, kink), np.zeros(z.shape, np.int64)
        x = z.astype(np.float64)
        e, power, k = self._powers(x)
        return (self.prefactor(x, e, kink) * power).astype(z.dtype), k

    @np.errstate(under="ignore")
    def scaled_tail(self, z: Array) -> tuple[Array, Array]:
        """phi(z) likewise, for z << 0."""
        x = z.astype(np.float64)
        _, power, k = self._powers(x)
        return (self.tail(x) * power).astype(z.dtype), k

    def _powers(self, z: Array) -> tuple[Array, Array, Array]:
        """exp(-decay(z)) as a float, and as ``power * 2**k``."""
        t, dt = self.decay(z)
        dt = np.where(t < 2.0**52, dt, 0)
        t = np.minimum(t, 2.0**52)
        k = np.rint(t / math.log(2))
        # k ln 2 in three exact pieces: the low 20 bits of k apart, so that nothing rounds.
        k_low = np.fmod(k, 2.0**20)
        rest = ((t - (k - k_low) * LN2_HIGH) - k_low * LN2_HIGH) - k * LN2_LOW + dt
        return np.exp(-t), np.exp(-rest), -k.astype(np.int64)


EXACT = 0.0  # the rounding error of a decay that is exact


def _two_product(a: Array | float, b: Array) -> tuple[Array, Array]:
    """a * b and its rounding error, exactly (Dekker 1971), without fused multiply-add."""
    b = np.asarray(b)
    splitter = b.dtype.type(2.0**27 + 1 if b.dtype == np.float64 else 2.0**12 + 1)
    a = np.asarray(a, b.dtype)
    a_high = splitter * a - (splitter * a - a)
    b_high = splitter * b - (splitter * b - b)
    a_low, b_low = a - a_high, b - b_high
    p = a * b
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _square(z: Array, low: float, high: float) -> tuple[Array, Array]:
    z = np.clip(z, low, high)
    return _two_product(z, z)


def _erf_decay(z: Array) -> tuple[Array, Array]:
    # exp(-t) magnifies the rounding of t = pi z^2 / 4 by t: keep it.
    p, dp = _square(z, -FAR, FAR)
    high = z.dtype.type(math.pi / 4)
    low = 3.061616997868383e-17 if z.dtype == np.float64 else math.pi / 4 - float(high)
    t, dt = _two_product(high, p)
    return t, dt + high * dp + z.dtype.type(low) * p


def _steps(z: Array, left: float, right: float, kink: float, at: float = 0.0) -> Array:
    """left below ``at``, right above it, their kink-weighted mean upon it."""
    left, right = z.dtype.type(left), z.dtype.type(right)
    middle = z.dtype.type((1 - kink) * float(left) + kink * float(right))
    if middle == right:
        above = z >= at
        # A cast is several times faster than a choice of two numbers.
        return above.astype(z.dtype) if (left, right) == (0, 1) else np.where(above, right, left)
    return np.where(z > at, right, np.where(z == at, middle, left))


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, z.dtype.type(1), e) / (1 + e)


def _gelu_prefactor(z: Array, e: Array, kink: float) -> Array:
    # Below zero phi' = density(z) * (z + Mills ratio); above, the sum has no cancellation.
    mills = math.sqrt(math.pi / 2) * special.erfcx(np.maximum(-z, 0) * z.dtype.type(0.5**0.5))
    below = z.dtype.type(_INV_SQRT_2PI) * (np.minimum(z, 0) + mills)
    positive = np.minimum(np.maximum(z, 0), 40)  # the density is 0 in every format from 40 on
    above = special.ndtr(positive) + positive * (_INV_SQRT_2PI * np.exp(-0.5 * positive**2))
    return np.where(z < 0, below, above).astype(z.dtype, copy=False)


def _gelu_decay(z: Array) -> tuple[Array, Array]:
    p, dp = _square(z, -FAR, 0)
    return 0.5 * p, 0.5 * dp


def _below_zero(z: Array) -> tuple[Array, float]:
    return np.maximum(-z, 0), EXACT


def _silu_prefactor(z: Array, e: Array, kink: float) -> Array:
    e_abs = np.exp(-np.abs(z))  # e is 1 above zero
    return np.where(z < 0, 1 + e_abs + z, 1 + e_abs + z * e_abs) / np.square(1 + e_abs)


def _soft_exponential(z: Array, scale: float, alpha: float) -> Array:
    negative = z.dtype.type(scale * alpha) * np.expm1(np.minimum(z, 0))
    return np.where(z > 0, z.dtype.type(scale) * z, negative)


TABLE: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation(
            "relu",
            phi=lambda z: np.maximum(z, 0),
            prefactor=lambda z, e, kink: _steps(z, 0, 1, kink),
            decay=None,
            slopes_at_zero=(0.0, 1.0),
            slopes_at_infinity=(0.0, 1.0),
            max_slope=1.0,
            kinks=(0.0,),
        ),
        Activation(
            "sigmoid",
            phi=_sigmoid,
            prefactor=lambda z, e, kink: 1 / (1 + e * (2 + e)),  # rounds less than (1 + e)^2
            decay=lambda z: (np.abs(z), EXACT),
            slopes_at_zero=(0.25, 0.25),
            slopes_at_infinity=(0.0, 0.0),
            max_slope=0.25,
            tail=lambda z: np.ones_like(z),
        ),
        Activation(
            "tanh",
            phi=np.tanh,
            prefactor=lambda z, e, kink: 4 / (1 + e * (2 + e)),
            decay=lambda z: (2 * np.abs(z), EXACT),
            slopes_at_zero=(1.0, 1.0),
            slopes_at_infinity=(0.0, 0.0),
            max_slope=1.0,
        ),
        Activation(
            "linear",
            phi=lambda z: z,
            prefactor=lambda z, e, kink: np.ones_like(z),
            decay=None,
            slopes_at_zero=(1.0, 1.0),
            slopes_at_infinity=(1.0, 1.0),
            max_slope=1.0,
        ),
        Activation(
            "leaky_relu",
            phi=lambda z: np.maximum(z, z.dtype.type(LEAKY_SLOPE) * z),
            prefactor=lambda z, e, kink: _steps(z, LEAKY_SLOPE, 1, kink),
            decay=None,
            slopes_at_zero=(LEAKY_SLOPE, 1.0),
            slopes_at_infinity=(LEAKY_SLOPE, 1.0),
            max_slope=1.0,
            kinks=(0.0,),
        ),
        Activation(
            "selu",
            phi=lambda z: _soft_exponential(z, SELU_LAMBDA, SELU_ALPHA),
            prefactor=lambda z, e, kink: _steps(z, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA, kink),
            decay=_below_zero,
            slopes_at_zero=(SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA),
            slopes_at_infinity=(0.0, SELU_LAMBDA),
            max_slope=SELU_LAMBDA * SELU_ALPHA,
            kinks=(0.0,),
        ),
        Activation(
            "elu",
            phi=lambda z: _soft_exponential(z, 1.0, 1.0),
            prefactor=lambda z, e, kink: np.ones_like(z),
            decay=_below_zero,
            slopes_at_zero=(1.0, 1.0),
            slopes_at_infinity=(0.0, 1.0),
            max_slope=1.0,
        ),
        Activation(
            "gelu",
            phi=lambda z: z * special.ndtr(z),
            prefactor=_gelu_prefactor,
            decay=_gelu_decay,
            slopes_at_zero=(0.5, 0.5),
            slopes_at_infinity=(0.0, 1.0),
            max_slope=1.1289041451851548,  # at z = sqrt 2
            tail=lambda z: 0.5 * z * special.erfcx(-math.sqrt(0.5) * z),
        ),
        Activation(
            "silu",
            phi=lambda z: z * _sigmoid(z),
            prefactor=_silu_prefactor,
            decay=_below_zero,
            slopes_at_zero=(0.5, 0.5),
            slopes_at_infinity=(0.0, 1.0),
            max_slope=1.0998393201288669,  # at z tanh(z / 2) = 2
            tail=lambda z: z,
        ),
        Activation(
            "softplus",
            phi=lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
            prefactor=lambda z, e, kink: 1 / (1 + np.exp(-np.abs(z))),
            decay=_below_zero,
            slopes_at_zero=(0.5, 0.5),
            slopes_at_infinity=(0.0, 1.0),
            max_slope=1.0,
            tail=lambda z: np.ones_like(z),
        ),
        Activation(
            "hard_tanh",
            phi=lambda z: np.clip(z, -1, 1),
            prefactor=lambda z, e, kink: np.where(
                z < 0, _steps(z, 0, 1, kink, at=-1.0), _steps(z, 1, 0, kink, at=1.0)
            ),
            decay=None,
            slopes_at_zero=(1.0, 1.0),
            slopes_at_infinity=(0.0, 0.0),
            max_slope=1.0,
            kinks=(-1.0, 1.0),
        ),
        # erf(sqrt(pi) z / 2), scaled so that its slope at 0 is 1 (Pennington et al. 2018).
        Activation(
            "erf",
            phi=lambda z: special.erf(z.dtype.type(math.sqrt(math.pi) / 2) * z),
            prefactor=lambda z, e, kink: np.ones_like(z),
            decay=_erf_decay,
            slopes_at_zero=(1.0, 1.0),
            slopes_at_infinity=(0.0, 0.0),
            max_slope=1.0,
        ),
    )
}


def activation(name: str) -> Activation:
    """The row of that name; ValueError names the activations there are."""
    try:
        return TABLE[name]
    except (KeyError, TypeError):
        allowed = f"{', '.join(TABLE)}{nearest(name, TABLE)}"
        raise ValueError(f"activation = {name!r}; allowed: {allowed}") from None
