"""The words of the boundary: what a function of the theory refuses, it refuses by name.

Every error is a ValueError that says which argument, the value given, and what is allowed.

>>> count("depth", 0)
Traceback (most recent call last):
ValueError: depth = 0; allowed: an integer, at least 1
>>> widths([64, 64, 0])
Traceback (most recent call last):
ValueError: widths[2] = 0; allowed: an integer, at least 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real


def count(field: str, value: object, low: int = 1) -> int:
    """``value`` as an int, at least ``low``; a bool or 2.0 is none."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{field} = {value!r}; allowed: an integer, at least {low}")
    return int(value)


def number(field: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    """``value`` as a float, finite and from ``low`` to ``high``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not low <= value <= high
        or math.isinf(value)
    ):
        limit = f"{high:g}" if high < math.inf else "any finite one"
        raise ValueError(f"{field} = {value!r}; allowed: a number from {low:g} to {limit}")
    return float(value)


def positive(field: str, value: object, below: float = math.inf) -> float:
    """``value`` as a float strictly between 0 and ``below``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < below:
        raise ValueError(f"{field} = {value!r}; allowed: a number above 0 and below {below:g}")
    return float(value)


def widths(value: Sequence[int], at_least: int = 2) -> tuple[int, ...]:
    """Numbers of units n_0, ..., n_L, the input's first."""
    try:
        value = tuple(value)
    except TypeError:
        raise ValueError(f"widths = {value!r}; allowed: a sequence of integers") from None
    if len(value) < at_least:
        raise ValueError(f"widths = {value!r}; allowed: at least {at_least} of them")
    return tuple(count(f"widths[{k}]", n) for k, n in enumerate(value))
