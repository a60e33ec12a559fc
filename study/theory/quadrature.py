"""Gaussian expectations in one and two dimensions, right for kinks and for very steep functions.

Gauss-Hermite assumes one polynomial over the whole line: a kink costs it all but three digits. Here
the line is cut at the function's own break points and at fixed places of the Gaussian, with a
20-point Gauss-Legendre rule between each two: 1e-15, whatever the standard deviation.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from study.core.activations import Activation
from study.tools.checks import bad
from study.tools.elementary import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
# From values at the nodes to the last three Legendre coefficients: small if phi' is resolved.
_LEGENDRE = np.polynomial.legendre.legvander(_NODES, 19) * (np.arange(20) + 0.5)
_TAIL = _WEIGHTS[:, None] * _LEGENDRE[:, -3:]
# In standard deviations. Beyond 10 a polynomial of degree 4 has less than 1e-18 of its moment.
_LADDER = np.array([-10.0, -6.5, -4.0, -2.0, 0.0, 2.0, 4.0, 6.5, 10.0])
_BLOCK = 128  # standard deviations at once: a few MB of nodes
_MOST_PANELS = 2000
_TINY = np.finfo(float).tiny


class BreakPoints(NamedTuple):
    """Where the line is cut for an activation and its derivative."""

    breaks: Array  # between two neighbours both look like polynomials
    kinks: Array  # where a derivative jumps; 0 always, as ELU's second one does there


@functools.lru_cache(maxsize=256)
def break_points(row: Activation) -> BreakPoints:
    """The break points of an activation; kinks that the row does not name are found."""
    named = {0.0, *row.kinks}
    with np.errstate(all="ignore"):  # far out, where no Gaussian will go
        # The ladder has no round numbers: a kink upon a cut would not be seen.
        cuts, jumps = _refined(row, named.union(_doubling(1.0371 / 2**9, 15)))
        kinks = np.array(sorted(named.union(jumps)))
        nodes, _ = panels(cuts)
        pieces = np.split(row.derivative(nodes), np.searchsorted(nodes, kinks))
        if all(np.ptp(piece) <= 1e-12 * row.max_slope for piece in pieces):
            return BreakPoints(kinks, kinks)  # piecewise linear
        # The activations of the table are straight from 32 on, but for those that decay as 1 / z.
        far = np.array(_doubling(64.0, 25))
        turning = np.abs(row.derivative(far) - row.derivative(far / 2)) > 1e-12 * row.max_slope
        breaks, _ = _refined(row, {*kinks, *_doubling(1.0, 6)})
    return BreakPoints(np.append(breaks, far[turning]), kinks)


def _doubling(first: float, count: int) -> list[float]:
    return [sign * first * 2.0**k for k in range(count) for sign in (-1, 1)]


def _refined(row: Activation, cuts: Iterable[float]) -> tuple[Array, list[float]]:
    """The cuts, with more of them where 20 nodes do not do for phi', and the places of jumps."""
    cuts = np.array(sorted(cuts))
    low, high = cuts[:-1], cuts[1:]
    jumps = []
    while low.size:
        nodes, _ = panels(np.stack([low, high], axis=-1))
        tails = np.abs(row.derivative(nodes) @ _TAIL).max(axis=-1)
        rough = ~(tails <= 1e-9 * row.max_slope)
        low, high = low[rough], high[rough]
        middle = low + 0.4871 * (high - low)
        wide = high - low > 1e-13 * np.maximum(1.0, np.abs(low))
        jumps.extend(middle[~wide])
        low, middle, high = low[wide], middle[wide], high[wide]
        cuts = np.append(cuts, middle)
        if len(cuts) > _MOST_PANELS:
            raise bad("activation", row.name, f"what bends fewer than {_MOST_PANELS} times")
        low, high = np.append(low, middle), np.append(middle, high)
    return np.sort(cuts), jumps


def panels(cuts: Array) -> tuple[Array, Array]:
    """Nodes and weights of the 20-point rule between each two neighbours along the last axis."""
    low = cuts[..., :-1, None]
    half = (cuts[..., 1:, None] - low) / 2
    nodes = (low + half) + half * _NODES
    shape = (*cuts.shape[:-1], -1)
    return nodes.reshape(shape), (half * _WEIGHTS).reshape(shape)


def gaussian_nodes(mean: float | Array, std: float | Array, breaks: Array) -> tuple[Array, Array]:
    """Nodes x and probability weights of N(mean, std^2), along a new last axis."""
    mean = np.asarray(mean)[..., None]
    std = np.asarray(std)[..., None]
    with np.errstate(over="ignore"):  # a break point infinitely far away is clipped to the end
        places = (breaks - mean) / np.maximum(std, _TINY)
    cuts = np.empty((*places.shape[:-1], places.shape[-1] + _LADDER.size))
    cuts[..., : _LADDER.size] = _LADDER
    cuts[..., _LADDER.size :] = np.minimum(np.maximum(places, _LADDER[0]), _LADDER[-1])
    cuts.sort()
    z, weights = panels(cuts)
    return mean + std * z, weights * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def expectation(
    f: Callable[[Array], Array], std: float | Array, breaks: Sequence[float] | Array = (0.0,)
) -> Array:
    """E f(x) for x normal of mean 0, in the shape of ``std``, which may be 0.

    f takes an array and returns one of its shape, or several along a new first axis. It grows no
    faster than the eighth power and between neighbours of ``breaks`` must look like a polynomial.

    >>> expectation(lambda x: np.maximum(x, 0) ** 2, std=np.array([1.0, 2.0])).round(12)
    array([0.5, 2. ])
    """
    std = np.asarray(std, float)
    breaks = np.asarray(breaks, float)
    means = []
    with np.errstate(under="ignore"):  # tails that are 0 beside the bulk
        for start in range(0, max(std.size, 1), _BLOCK):
            x, weights = gaussian_nodes(0.0, std.ravel()[start : start + _BLOCK], breaks)
            means.append(np.vecdot(f(x), weights))
    means = np.concatenate(means, axis=-1)
    return means.reshape((*means.shape[:-1], *std.shape))


def pair_mean(f: Callable[[Array, Array], Array], row: Activation, q: float, gap: float) -> float:
    """E f(u1, u2) of two pre-activations of variance q and correlation 1 - gap.

    u2 is integrated first, given u1. What is left is smooth but, next to a kink, on the length
    sqrt(q (1 - c^2)) only; the outer panels close in on it, so c -> 1 costs no accuracy.

    >>> from study.core.activations import activation
    >>> relu = activation("relu")                   # arc-cosine kernel (Cho and Saul 2009)
    >>> round(2 * np.pi * pair_mean(lambda u, v: relu.phi(u) * relu.phi(v), relu, 1.0, 1.0), 12)
    1.0
    """
    breaks, kinks = break_points(row)
    std = math.sqrt(q)
    c = 1 - gap
    spread = std * math.sqrt(gap * (2 - gap))
    # Below |c| = 0.1 the spread is that of the outer Gaussian, and its own ladder is enough.
    steep = math.copysign(max(abs(c), 0.1), c)
    closing_in = np.add.outer(kinks, spread * _LADDER) / steep
    cuts = np.concatenate([breaks, closing_in.ravel()])
    with np.errstate(under="ignore"):
        u1, outer = gaussian_nodes(0.0, std, cuts)
        full = outer > 1e-30  # most cuts coincide: empty panels
        u1 = u1[full]
        u2, inner = gaussian_nodes(c * u1, np.full_like(u1, spread), breaks)
        given_u1 = np.vecdot(f(u1[:, None], u2), inner)
        return float(outer[full] @ given_u1)
