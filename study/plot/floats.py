"""The normal ranges of number formats, in decades."""

import math

import numpy as np


def decades(name: str) -> tuple[float, float]:
    """log10 of the smallest and the largest normal number of a format, as NumPy names it.

    >>> [round(end, 2) for end in decades("float16")]
    [-4.21, 4.82]
    """
    limits = np.finfo(name)
    return math.log10(limits.smallest_normal), math.log10(limits.max)


FLOAT32_DECADES = decades("float32")
