"""Pullbacks: dC/dr at the input of networks of several depths that walk through the same layers.

Gradients are rescaled by powers of two on their way down and do not leave the float range. Signals
are not: undamped ReLU branches double the squared signal, and leave it after 2,000 blocks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from study.arithmetic.scaled import LOG10_2, settle
from study.core.backprop import Layer, backward, forward
from study.tools import Array


class Gradients(NamedTuple):
    """dC/dr^(0) of several networks, ``mantissa * 2**exponent``."""

    mantissa: Array  # (networks, ..., batch, units)
    exponent: Array  # (networks,), int64

    def log10_norms(self) -> Array:
        """log10 of each network's Frobenius norm; -inf for a true zero."""
        rows = self.mantissa.reshape(len(self.mantissa), -1).astype(np.float64)
        with np.errstate(divide="ignore"):
            return 0.5 * np.log10(np.vecdot(rows, rows)) + self.exponent * LOG10_2


def pullback(
    layer: Callable[[int, int], Layer], depths: Sequence[int], inputs: Array, cotangent: Array
) -> Gradients:
    """dC/dr^(0) of networks that walk through the same layers, each to a depth of its own.

    ``layer(k, count)`` is the k-th layer of the first so many networks, ``depths`` are in falling
    order. ``inputs``, (networks, ..., batch, n), may be (1, ..., batch, n) of all: one pass up then
    serves them as far as their layers are the same. ``cotangent``, (..., batch, n), is
    dC/dr^(depth) of every network.

    >>> from study.core.blocks import Dense
    >>> W, dr = np.full((1, 1), 0.1), np.ones((1, 1))
    >>> pullback(lambda k, count: Dense(W, "linear"), [500, 2], dr[None], dr).log10_norms().round(9)
    array([-500.,   -2.])
    """
    depths = np.asarray(depths)
    if np.any(np.diff(depths) > 0) or depths[-1] < 1:
        raise ValueError(f"depths = {depths}; allowed: at least 1, none above the one before")
    counts = [int(np.sum(depths > k)) for k in range(depths[0])]  # networks that have a layer k
    r = inputs
    trace = []
    for k, count in enumerate(counts):
        steps, r = forward([layer(k, count)], r[:count])
        trace += steps
    cotangents = np.broadcast_to(cotangent, (len(depths), *cotangent.shape))
    dr = cotangents[:0]
    exponent = np.zeros(len(depths), np.int64)
    for count in reversed(counts):
        if len(dr) < count:
            dr = np.concatenate([dr, cotangents[len(dr) : count]])
        (step,) = backward([trace.pop()], dr)
        with np.errstate(under="ignore"):
            rows = settle(step.dr.reshape(count, -1), exponent[:count])
        dr = rows.mantissa.reshape(step.dr.shape)
        exponent[:count] = rows.exponent
    return Gradients(dr, exponent)
