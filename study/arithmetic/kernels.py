"""Compiled looks at many numbers at once, where NumPy's calls would cost more than the work."""

from __future__ import annotations

import numba


@numba.njit(cache=True, nogil=True)
def count_above(x, threshold, counts):
    """How many entries of each x[i] exceed the threshold, into ``counts``."""
    for i in range(x.shape[0]):
        count = 0
        for value in x[i].flat:
            count += value > threshold
        counts[i] = count


@numba.njit(cache=True, nogil=True)
def all_within(s, low, high):
    """Whether every entry lies from ``low`` to ``high``; not if one is NaN."""
    for x in s.flat:  # noqa: SIM110 (a generator would not be compiled)
        if not low <= x <= high:
            return False
    return True
