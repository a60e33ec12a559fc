"""Gaussian expectations in one and two dimensions, right for kinks and for very steep functions.

Gauss-Hermite assumes one polynomial over the whole line: a kink costs it all but three digits,
and a function much steeper than the Gaussian is missed. Here the line is cut at the function's own
break points and at fixed places of the Gaussian, with a 20-point Gauss-Legendre rule between each
two: accurate to about 1e-15, whatever the standard deviation.

>>> from scipy.special import erf
>>> inside = expectation(lambda x: np.abs(x) < 1, std=0.3, breaks=(-1, 1))
>>> abs(float(inside / erf(1 / np.sqrt(2 * 0.09))) - 1) < 1e-14
True
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from study.core.activations import Activation, Array
from study.tools.checks import bad

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)

# In standard deviations. Beyond 10 a polynomial of degree 4 has less than 1e-18 of its moment.
_LADDER = np.array([-10.0, -6.5, -4.0, -2.0, 0.0, 2.0, 4.0, 6.5, 10.0])

_BLOCK = 256  # standard deviations at once: a few MB of nodes
_MOST_PANELS = 2000

# From values at the nodes to the last three Legendre coefficients: small if phi' is resolved.
_TAIL = (_WEIGHTS[:, None] * np.polynomial.legendre.legvander(_NODES, 19) * (np.arange(20) + 0.5))[
    :, -3:
]


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
        kinks = sorted(named.union(jumps))
        nodes, _ = panels(np.array(cuts))
        slopes = row.derivative(nodes)
        pieces = np.split(slopes, np.searchsorted(nodes, kinks))
        if all(np.ptp(piece) <= 1e-12 * row.max_slope for piece in pieces):
            return BreakPoints(np.array(kinks), np.array(kinks))  # piecewise linear
        # The activations of the table are straight from 32 on, but for those that decay as 1 / z.
        far = np.array(_doubling(64.0, 25))
        turning = np.abs(row.derivative(far) - row.derivative(far / 2)) > 1e-12 * row.max_slope
        breaks, _ = _refined(row, {*kinks, *_doubling(1.0, 6)})
    return BreakPoints(np.append(breaks, far[turning]), np.array(kinks))


def _doubling(first: float, count: int) -> list[float]:
    return [sign * first * 2.0**k for k in range(count) for sign in (-1, 1)]


def _refined(row: Activation, cuts: Iterable[float]) -> tuple[list[float], list[float]]:
    """The cuts, with more of them where 20 nodes do not do for phi', and the places of jumps."""
    cuts = sorted(cuts)
    jumps = []
    pending = list(itertools.pairwise(cuts))
    while pending:
        low, high = pending.pop()
        nodes, _ = panels(np.array([low, high]))
        tail = row.derivative(nodes) @ _TAIL
        if np.abs(tail).max() <= 1e-9 * row.max_slope:
            continue
        middle = low + 0.4871 * (high - low)
        if high - low <= 1e-13 * max(1.0, abs(low)):
            jumps.append(middle)
            continue
        cuts.append(middle)
        pending += [(low, middle), (middle, high)]
        if len(cuts) > _MOST_PANELS:
            raise bad("activation", row.name, f"what bends fewer than {_MOST_PANELS} times")
    return sorted(cuts), jumps


def panels(cuts: Array) -> tuple[Array, Array]:
    """Nodes and weights of the 20-point rule between each two neighbours along the last axis."""
    half = np.diff(cuts)[..., None] / 2
    nodes = (cuts[..., :-1, None] + half) + half * _NODES
    weights = half * _WEIGHTS
    shape = (*cuts.shape[:-1], -1)
    return nodes.reshape(shape), weights.reshape(shape)


def gaussian_nodes(mean: Array, std: Array, breaks: Array) -> tuple[Array, Array]:
    """Nodes x and probability weights of N(mean, std^2), along a new last axis."""
    mean = np.asarray(mean)[..., None]
    std = np.asarray(std)[..., None]
    with np.errstate(over="ignore"):  # a break point infinitely far away is clipped to the end
        cuts = (breaks - mean) / np.maximum(std, np.finfo(float).tiny)
    cuts = np.clip(cuts, _LADDER[0], _LADDER[-1])
    ladder = np.broadcast_to(_LADDER, (*cuts.shape[:-1], _LADDER.size))
    cuts = np.sort(np.concatenate([cuts, ladder], axis=-1), axis=-1)
    z, weights = panels(cuts)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return mean + std * z, weights * density


def expectation(
    f: Callable[[Array], Array], std: float | Array, breaks: Sequence[float] = (0.0,)
) -> Array:
    """E f(x) for x normal of mean 0, in the shape of ``std``, which may be 0.

    f takes and returns arrays, elementwise, and grows no faster than the fourth power; between two
    neighbours of ``breaks`` it must look like a polynomial.

    >>> expectation(lambda x: np.maximum(x, 0) ** 2, std=np.array([1.0, 2.0])).round(12)
    array([0.5, 2. ])
    """
    std = np.asarray(std, float)
    breaks = np.asarray(breaks, float)
    means = []
    with np.errstate(under="ignore"):  # tails that are 0 beside the bulk
        for part in np.array_split(std.ravel(), 1 + std.size // _BLOCK):
            x, weights = gaussian_nodes(np.zeros_like(part), part, breaks)
            means.append(np.sum(weights * f(x), axis=-1))
    return np.concatenate(means).reshape(std.shape)


def pair_expectation(
    f: Callable[[Array, Array], Array],
    std: float,
    gap: float,
    breaks: Sequence[float] = (0.0,),
    kinks: Sequence[float] = (0.0,),
) -> float:
    """E f(u1, u2) for centred normals of one standard deviation and correlation 1 - gap.

    u2 is integrated first, given u1. What is left is smooth but, next to a kink, on the length
    std sqrt(1 - c^2) only; the outer panels close in on it, so c -> 1 costs no accuracy.

    >>> relu = lambda x: np.maximum(x, 0)           # arc-cosine kernel (Cho and Saul 2009)
    >>> round(2 * np.pi * pair_expectation(lambda u, v: relu(u) * relu(v), std=1.0, gap=1.0), 12)
    1.0
    """
    c = 1 - gap
    spread = std * math.sqrt(gap * (2 - gap))
    # Below |c| = 0.1 the spread is that of the outer Gaussian, and its own ladder is enough.
    steep = math.copysign(max(abs(c), 0.1), c)
    closing_in = np.add.outer(np.asarray(kinks, float), spread * _LADDER) / steep
    cuts = np.concatenate([breaks, closing_in.ravel()])
    with np.errstate(under="ignore"):
        u1, outer = gaussian_nodes(0.0, std, cuts)
        full = outer > 1e-30  # most cuts coincide: empty panels
        u1 = u1[full]
        u2, inner = gaussian_nodes(c * u1, np.full_like(u1, spread), np.asarray(breaks, float))
        given_u1 = np.sum(inner * f(u1[:, None], u2), axis=-1)
        return float(np.sum(outer[full] * given_u1))
