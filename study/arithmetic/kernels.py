"""Compiled looks at many numbers at once, where NumPy's calls would cost more than the work."""

from __future__ import annotations

import multiprocessing
import sys

import numba
from numba.core import event


class _Announcement(event.Listener):
    """Says once why a first call takes seconds: kernels that no cache has are compiled."""

    said = multiprocessing.parent_process() is not None  # workers leave it to who started them

    def on_start(self, compilation: event.Event) -> None:
        ours = compilation.data["dispatcher"].py_func.__module__.startswith("study.")
        if ours and not self.said:
            self.said = True
            print(
                "study: compiling kernels for this processor; the next run has them",
                file=sys.stderr,
            )

    def on_end(self, compilation: event.Event) -> None:
        """Nothing more is said."""


event.register("numba:compile", _Announcement())


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
