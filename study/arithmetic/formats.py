"""Number formats: their range, their rounding (to nearest, ties to even, with subnormals), sums.

The 16-bit formats are carried in float32; what exceeds the range is infinite.

- ``float64``, ``float32``: NumPy's arithmetic;
- ``bfloat16``, ``float16``: products and sums in float32, then rounded, as accelerators do;
- ``float16_narrow``: float16 in which a sum is rounded after each of its terms, too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from study.tools import Array

# As people run it: leaving the range is no error.
quietly = np.errstate(over="ignore", under="ignore", invalid="ignore")


@quietly
def to_float16(x: Array) -> Array:
    """Round to the nearest float16, carried in float32."""
    return np.asarray(x).astype(np.float16).astype(np.float32)


@quietly
def to_bfloat16(x: Array) -> Array:
    """Round to the nearest bfloat16, carried in float32: its upper 16 bits.

    >>> to_bfloat16(np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38]))
    array([1.      , 1.015625,      inf], dtype=float32)
    """
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    # Half a unit, less one where the last bit kept is 0; the carry runs on into the exponent.
    kept = (bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, kept.view(np.float32))


@dataclass(frozen=True)
class Format:
    """A number format: its smallest positive (subnormal) and largest numbers, and its rounding."""

    name: str
    smallest: float
    largest: float
    rounded: Callable[[Array], Array]
    is_narrow: bool = False  # whether a sum is rounded after each of its terms

    def matmul(self, a: Array, b: Array) -> Array:
        """A b for matrices in the format, the result in the format."""
        if not self.is_narrow:
            return self.rounded(a @ b)  # accumulated in float32, rounded once
        total = np.zeros((len(a), b.shape[1]), b.dtype)
        for term in range(len(b)):
            # Product, then sum.
            total = self.rounded(total + self.rounded(a[:, term, None] * b[term]))
        return total


def _ieee(name: str, dtype: type, rounded: Callable, is_narrow: bool = False) -> Format:
    limits = np.finfo(dtype)
    return Format(name, float(limits.smallest_subnormal), float(limits.max), rounded, is_narrow)


_STEP = 2.0**-7  # of bfloat16, between 1 and 2; its exponents are those of float32
_SINGLE = np.finfo(np.float32)
FORMATS = {
    number.name: number
    for number in (
        _ieee("float16", np.float16, to_float16),
        Format(
            "bfloat16",
            smallest=_STEP * float(_SINGLE.smallest_normal),
            largest=(2 - _STEP) * 2.0 ** (_SINGLE.maxexp - 1),
            rounded=to_bfloat16,
        ),
        _ieee("float32", np.float32, np.float32),
        _ieee("float64", np.float64, np.float64),
        _ieee("float16_narrow", np.float16, to_float16, is_narrow=True),
    )
}
