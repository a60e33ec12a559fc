"""Compiled passes over rows of numbers, each of which NumPy would need several for."""

import math
import multiprocessing
import sys

import numba
import numpy as np
from numba.core import event


class _Announcement(event.Listener):
    """Says once why a first call takes seconds: kernels that no cache has are compiled."""

    said = multiprocessing.parent_process() is not None  # workers leave it to who started them

    def on_start(self, compilation: event.Event) -> None:
        ours = str(compilation.data["dispatcher"].py_func.__module__).startswith("study.")
        if ours and not self.said:
            self.said = True
            print(
                "study: compiling kernels for this processor; the next run has them",
                file=sys.stderr,
            )

    def on_end(self, compilation: event.Event) -> None:
        """Nothing more is said."""


event.register("numba:compile", _Announcement())


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def sum_of_squares(row):
    """In float64, and partial sums, one a lane: to call BLAS's dot would take longer."""
    total = 0.0
    for i in range(len(row)):  # over an iterator it would not be vectorised
        x = np.float64(row[i])
        total += x * x
    return total


@numba.njit(cache=True, nogil=True)
def squares_within(x, low, high, squares):
    """Sum of squares of each row of x, and whether all lie from low to high (a NaN does not)."""
    rows = x.reshape(-1, x.shape[-1])
    within = True
    for i in range(len(rows)):
        square = sum_of_squares(rows[i])
        squares.flat[i] = square
        within &= low <= square <= high
    return within


@numba.njit(cache=True, nogil=True)
def square(W):
    """The sum of all squares of a matrix."""
    total = 0.0
    for i in range(len(W)):
        total += sum_of_squares(W[i])
    return total


@numba.njit(cache=True, nogil=True)
def gated(dr, slopes, trunk, thresholds, low, high, delta, squares, active):
    """Equation (1), delta = dr * slopes, and what there is to see of it.

    Networks lead; row j of dr belongs to network trunk[j] of the slopes. Returns delta, the sums of
    squares of its rows and whether all of them lie from low to high; ``active`` takes the share of
    each network's slopes that exceed its threshold.
    """
    within = True
    for j in range(len(dr)):
        network = trunk[j]
        threshold = slopes.dtype.type(thresholds[network])
        count = 0
        for b in range(dr.shape[1]):
            row = delta[j, b]
            for i in range(len(row)):
                slope = slopes[network, b, i]
                row[i] = dr[j, b, i] * slope
                count += slope > threshold
            squares[j, b] = sum_of_squares(row)  # while the row is in the cache
            within &= low <= squares[j, b] <= high
        active[network] = count / slopes[network].size
    return within


@numba.njit(cache=True, nogil=True)
def beside_largest(x, exponent, size):
    """x at its true size beside the largest example's, whose own is then about 1, and that scale.

    Example b of network j is x[j, b] 2^exponent[j, b]; what is known of its size, ``size``, is
    brought to the same scale. What underflows is nothing to the largest.
    """
    scaled = np.empty_like(x)
    top = np.zeros(len(x), np.int64)
    for j in range(len(x)):
        alive = [exponent[j, b] + math.frexp(s)[1] for b, s in enumerate(size[j]) if s > 0]
        top[j] = max(alive) if alive else 0
        for b in range(x.shape[1]):
            shift = exponent[j, b] - top[j] if size[j, b] > 0 else 0
            power = x.dtype.type(math.ldexp(1.0, min(max(shift, -2000), 2000)))
            scaled[j, b] = x[j, b] * power
            size[j, b] *= power
    return scaled, top
