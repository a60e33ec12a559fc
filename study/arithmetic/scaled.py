"""Numbers outside the float range: a mantissa times a power of two, one exponent an example.

A `Scaled` holds row vectors whose true value is ``mantissa * 2**exponent``. Only powers of
two are ever taken out, so as long as a plain run stays in range the mantissas are its bits and the
norms are its norms; beyond, they go on where it prints 0, inf or NaN. A true zero keeps mantissa 0.

>>> import numpy as np
>>> x = settle(np.array([[3e-200, 4e-200]]), 0)                 # their squares underflow
>>> mantissa, exponent = norm(x.squares, x.exponent)
>>> round(log10(mantissa, exponent).item(), 6)
-199.30103
"""

import math
from typing import Self

import numpy as np

from study.arithmetic.kernels import square, squares_within
from study.tools import Array

# int64 array, one an example, or the int 0 where nothing has been rescaled (the usual case).
Exponent = Array | int


class Scaled:
    """Row vectors ``mantissa * 2**exponent``, shapes ``(..., units)`` and ``(...)``.

    ``squares``, (...), are the sums of squares of the mantissa's rows (float64), where they
    are known: what `settle` returns is in range and knows them.
    """

    __slots__ = ("exponent", "mantissa", "squares")

    def __init__(self, mantissa: Array, exponent: Exponent, squares: Array | None = None):
        self.mantissa = mantissa
        self.exponent = exponent
        self.squares = squares

    def __getitem__(self, index) -> Self:
        """The examples selected by ``index`` on the leading axes."""
        squares = None if self.squares is None else self.squares[index]
        if isinstance(self.exponent, int):
            return Scaled(self.mantissa[index], 0, squares)
        exponent = self.exponent[index]
        return Scaled(self.mantissa[index], exponent if exponent.any() else 0, squares)


# Sums of squares may wander this far before their vector is rescaled: squares of a product with a
# weight matrix of Frobenius norm within MATRIX_RANGE, and products of two of them, fit the format.
SQUARE_RANGE = {
    np.dtype(np.float32): (2.0**-50, 2.0**50),
    np.dtype(np.float64): (2.0**-500, 2.0**500),
}
MATRIX_RANGE = {
    np.dtype(np.float32): (2.0**-30, 2.0**30),
    np.dtype(np.float64): (2.0**-200, 2.0**200),
}
# Whoever is beyond this is near an end.
SETTLED = {dtype: (low**0.75, high**0.75) for dtype, (low, high) in SQUARE_RANGE.items()}
LOG10_2 = math.log10(2)
# Powers of two in the range of float64, far beyond float32's; their products with it, too.
POWERS = 850


def sum_of_squares(mantissa: Array) -> Array:
    """Sum of squares over the last axis, float64."""
    s = np.empty(mantissa.shape[:-1])
    squares_within(np.ascontiguousarray(mantissa), 0, math.inf, s)
    return s


def settle(mantissa: Array, exponent: Exponent) -> Scaled:
    """Bring each vector towards the other end of the range by a power of two, if it nears one.

    Norms drift one way in layer after layer, and there they have most room for it. Where none is
    near an end, the mantissa is the very array that was given.
    """
    s = np.empty(mantissa.shape[:-1])  # compiled: NumPy would take a pass each
    if squares_within(np.ascontiguousarray(mantissa), *SETTLED[mantissa.dtype], s):
        return Scaled(mantissa, exponent, s)
    # Once one nears an end, bring in all that are on their way, so that many networks side by side
    # stop for this together.
    low, high = SQUARE_RANGE[mantissa.dtype]
    far = ~((low**0.25 <= s) & (s <= high**0.25))
    exponent = spread(exponent, s.shape).copy()
    mantissa = mantissa.copy()
    rows, shift = normalised(mantissa[far])  # powers of two alone, so that no bit is lost
    across = np.where(s[far] < 1, 1, -1) * int(math.log2(high) / 4)
    rows = ldexp(rows, across[..., None])
    mantissa[far] = rows
    exponent[far] += shift - across
    exponent[far & ~mantissa.any(axis=-1)] = 0  # a true zero has no size
    s[far] = sum_of_squares(rows)
    return Scaled(mantissa, exponent if exponent.any() else 0, s)


def settle_matrix(W: Array) -> tuple[Array, int, float]:
    """W as ``matrix * 2**exponent`` with the matrix in range, and the matrix's sum of squares."""
    low, high = MATRIX_RANGE[W.dtype]
    s = square(W)
    if low**2 <= s <= high**2:
        return W, 0, s
    _, e = np.frexp(np.abs(W).max())  # the largest entry decides; what underflows is nothing to it
    W = ldexp(W, -int(e))
    return W, int(e), square(W)


def spread(exponent: Exponent, shape: tuple[int, ...]) -> Array:
    """The exponents as an array of that shape, to read."""
    return np.broadcast_to(np.asarray(exponent, np.int64), shape)


def largest(exponent: Array, among: Array, axis: int = -1, keepdims: bool = False) -> Array:
    """The largest exponent among those marked; 0 where none is."""
    top = np.where(among, exponent, np.iinfo(np.int64).min).max(axis=axis, keepdims=keepdims)
    return np.where(among.any(axis=axis, keepdims=keepdims), top, 0)


def joined(parts: list[Scaled]) -> Scaled:
    """The parts one after another on the leading axis."""
    mantissa = np.concatenate([x.mantissa for x in parts])
    squares = np.concatenate([x.squares for x in parts])
    if all(isinstance(x.exponent, int) for x in parts):
        return Scaled(mantissa, 0, squares)
    exponents = np.concatenate([spread(x.exponent, x.squares.shape) for x in parts])
    return Scaled(mantissa, exponents, squares)


def normalised(rows: Array) -> tuple[Array, Array]:
    """Rows with largest magnitude in [1/2, 1), and the exponents taken out (0 for a zero row)."""
    _, shift = np.frexp(np.abs(rows).max(axis=-1))
    shift = shift.astype(np.int64)
    return ldexp(rows, -shift[..., None]), shift


def ldexp(x: Array, exponent: Array | int) -> Array:
    """x * 2**exponent for exponents of any size (C's takes an int, and float32 loses wide ones)."""
    exponent = np.clip(exponent, -4000, 4000).astype(np.int32)
    # A power a row is several times faster, and exact: float64 holds float32's products with it.
    if x.dtype == np.float32 and exponent.size < x.size:
        power = np.ldexp(1.0, np.clip(exponent, -POWERS, POWERS))
        return (x * power).astype(np.float32)
    return np.ldexp(x, exponent)


def product(x: Array, m: Array, k: Array) -> tuple[Array, Array]:
    """Elementwise ``x * m * 2**k`` as rows with an exponent each: nothing underflows on the way."""
    x, j = np.frexp(x)  # magnitudes in [1/2, 1), whose product cannot underflow
    p, i = np.frexp(x * m)
    e = k + j + i
    top = largest(e, p != 0)
    return ldexp(p, e - top[..., None]), top


def add(x: Scaled, v: Array) -> Scaled:
    """x + v for an ordinary array v that broadcasts against the mantissa."""
    ordinary = _ordinary(v)
    if isinstance(x.exponent, int) and ordinary:
        return Scaled(x.mantissa + v, 0)
    v = np.broadcast_to(v, x.mantissa.shape)
    v, at = (v, np.zeros(v.shape[:-1], np.int64)) if ordinary else normalised(v)
    e = np.where(v.any(axis=-1), np.maximum(x.exponent, at), x.exponent)
    total = ldexp(x.mantissa, (x.exponent - e)[..., None]) + ldexp(v, (at - e)[..., None])
    return Scaled(total, e if e.any() else 0)


def _ordinary(v: Array) -> bool:
    low, high = SQUARE_RANGE[v.dtype]
    size = np.abs(v).max(axis=-1)
    return bool(np.all((size == 0) | ((low**0.5 <= size) & (size <= high**0.5))))


def total(s: Array, exponent: Exponent, axis: int = -1) -> tuple[Array, Array]:
    """Sum of ``s * 4**exponent`` over an axis, as a pair of the same kind."""
    s, power = np.frexp(s)
    power = 2 * np.asarray(exponent, np.int64) + power
    top = (largest(power, s > 0, axis, keepdims=True) + 1) // 2
    # A part 2^-1000 below the largest adds nothing; further below ldexp would only underflow.
    parts = ldexp(s, np.maximum(power - 2 * top, -1000))
    return parts.sum(axis=axis), top.squeeze(axis)


def norm(s: Array, exponent: Exponent) -> tuple[Array, Array]:
    """The square root of ``s * 4**exponent`` as (mantissa 0 or in [1, 2), exponent)."""
    m, k = np.frexp(np.sqrt(s))
    return 2 * m, np.where(m > 0, exponent + k.astype(np.int64) - 1, 0)  # frexp's m is in [1/2, 1)


def log10(mantissa: Array, exponent: Array) -> Array:
    """Base-10 logarithm of ``mantissa * 2**exponent``; -inf for a true zero, only for it.

    Within the float64 range it is the logarithm of the number itself, so that norms near 1 keep
    their relative accuracy.
    """
    near = np.abs(exponent) < 1000
    with np.errstate(divide="ignore"):
        direct = np.log10(ldexp(mantissa, np.where(near, exponent, 0)))
    return np.where(near, direct, direct + exponent * LOG10_2)


def log10_ratio(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    """log10 of a / b for two norms; NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return log10(a[0] / b[0], np.where(a[0] > 0, a[1] - b[1], 0))


def status(mantissa: Array, exponent: Array) -> Array:
    """What a plain float32 or float64 run would have seen of ``mantissa * 2**exponent``.

    The normal ranges decide: below them a float keeps fewer and fewer bits, then none.

    >>> status(np.array([1.0, 0.0, 1.5]), np.array([-126, 0, -2000]))
    array(['ok', 'dead', 'float64_underflow'], dtype=object)
    """
    largest_float32 = 2 * (1 - 2.0**-24)
    beyond = (exponent > 127) | ((exponent == 127) & (mantissa > largest_float32))
    kinds = {
        "dead": mantissa == 0,
        "float64_overflow": exponent > 1023,
        "float64_underflow": exponent < np.finfo(np.float64).minexp,
        "float32_overflow": beyond,
        "float32_underflow": exponent < np.finfo(np.float32).minexp,
    }
    names = np.array(["ok", *kinds], object)
    return names[np.select([*kinds.values()], range(1, 6), 0)]
