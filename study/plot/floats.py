"""The normal ranges of number formats, in decades."""

from __future__ import annotations

import numpy as np


def decades(name: str) -> tuple[float, float]:
    """log10 of the smallest and the largest normal number of a format.

    Parameters
    ----------
    name : as NumPy names it

    >>> [round(end, 2) for end in decades("float16")]
    [-4.21, 4.82]
    """
    limits = np.finfo(name)
    smallest, largest = (np.log10(np.longdouble(v)) for v in (limits.smallest_normal, limits.max))
    return float(smallest), float(largest)


FLOAT16_DECADES, FLOAT32_DECADES, FLOAT64_DECADES = map(decades, ("float16", "float32", "float64"))
