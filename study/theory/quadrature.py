"""Gaussian expectations in one and two dimensions, right for kinks and for very steep functions.

Gauss-Hermite assumes one polynomial over the whole line: a kink costs it all but three digits,
and a function much steeper than the Gaussian is missed altogether. Here the line is cut at the
function's own break points (kinks, and a ladder over the length on which it bends) and at fixed
places of the Gaussian, and each panel has its own 20-point Gauss-Legendre rule. The cuts move
with the mean and the standard deviation, so the accuracy, near 1e-15, does not depend on them.

>>> import numpy as np
>>> from scipy.special import erf
>>> inside = expectation(lambda x: np.abs(x) < 1, std=0.3, breaks=(-1, 1))
>>> abs(float(inside / erf(1 / np.sqrt(2 * 0.09))) - 1) < 1e-14
True
>>> z, w = np.polynomial.hermite_e.hermegauss(64)          # the usual rule, for comparison
>>> abs(float(w @ (np.abs(0.3 * z) < 1) / w.sum() / inside) - 1) > 1e-4
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from study.core.activations import Activation, Array

_UNIT_NODES, _UNIT_WEIGHTS = np.polynomial.legendre.leggauss(20)

# In standard deviations. Beyond 10 a polynomial of degree 4 has less than 1e-18 of its moment.
_LADDER = np.array([-10.0, -6.5, -4.0, -2.0, 0.0, 2.0, 4.0, 6.5, 10.0])

# Every smooth row of the table bends on the length 1, and is straight to rounding beyond 32.
_BENDS = np.outer([-1.0, 1.0], 2.0 ** np.arange(6)).ravel()


def break_points(row: Activation) -> tuple[Array, Array]:
    """The ``breaks`` and ``kinks`` with which an activation and its derivative are integrated.

    Zero is among the kinks: phi' or phi'' may jump there (ELU's second derivative does).

    >>> from study.core.activations import activation
    >>> erf = activation("erf")         # E phi'^4 = 1 / sqrt(1 + 2 pi q), Pennington et al. 2018
    >>> float(expectation(lambda x: erf.derivative(x) ** 4, 2.0, break_points(erf)[0]).round(12))
    0.19561741518
    """
    kinks = np.array((0.0, *row.kinks))
    piecewise_linear = row.decay is None
    return kinks if piecewise_linear else np.concatenate([kinks, _BENDS]), kinks


def panels(cuts: Array) -> tuple[Array, Array]:
    """Nodes and weights of the 20-point rule between each two neighbours along the last axis."""
    half = np.diff(cuts)[..., None] / 2
    nodes, weights = (cuts[..., :-1, None] + half) + half * _UNIT_NODES, half * _UNIT_WEIGHTS
    return nodes.reshape(*cuts.shape[:-1], -1), weights.reshape(*cuts.shape[:-1], -1)


def gaussian_nodes(mean: Array, std: Array, breaks: Array) -> tuple[Array, Array]:
    """Nodes x and probability weights of N(mean, std^2), along a new last axis."""
    with np.errstate(over="ignore"):  # a break point infinitely far away is clipped to the end
        cuts = (breaks - mean[..., None]) / np.maximum(std, np.finfo(float).tiny)[..., None]
    cuts = np.clip(cuts, _LADDER[0], _LADDER[-1])
    ladder = np.broadcast_to(_LADDER, (*cuts.shape[:-1], _LADDER.size))
    cuts = np.sort(np.concatenate([cuts, ladder], axis=-1), axis=-1)
    z, weights = panels(cuts)
    weights = weights * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return mean[..., None] + std[..., None] * z, weights


def expectation(
    f: Callable[[Array], Array],
    std: float | Array,
    breaks: Sequence[float] = (0.0,),
    mean: float | Array = 0.0,
) -> Array:
    """E f(x) for x normal with the given mean and standard deviation.

    Parameters
    ----------
    f : callable
        Takes and returns arrays, elementwise; growing no faster than the fourth power.
    std, mean : float or array
        Broadcast against each other; ``std = 0`` gives ``f(mean)``.
    breaks : sequence of float
        Where f has a kink or a jump, and, if f bends on some length, a ladder over that length:
        between two neighbours f must look like a polynomial. See :func:`break_points`.

    Returns
    -------
    array
        Of the shape that ``std`` and ``mean`` broadcast to.

    Examples
    --------
    >>> expectation(lambda x: np.maximum(x, 0) ** 2, std=np.array([1.0, 2.0])).round(12)
    array([0.5, 2. ])
    """
    mean, std = np.broadcast_arrays(np.asarray(mean, float), np.asarray(std, float))
    with np.errstate(under="ignore"):  # tails that are 0 beside the bulk
        x, weights = gaussian_nodes(mean, std, np.asarray(breaks, float))
        return np.sum(weights * f(x), axis=-1)


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

    Parameters
    ----------
    f : callable
        Takes two arrays that broadcast, of shapes (m, 1) and (m, n).
    std : float
        Of u1 and of u2.
    gap : float
        1 - c, between 0 and 2; given so that c near 1 keeps its digits.
    breaks : sequence of float
        As in :func:`expectation`, for either argument.
    kinks : sequence of float
        Those of the breaks at which f or a derivative of f jumps.

    Examples
    --------
    The arc-cosine kernel (Cho and Saul 2009) of two orthogonal inputs, 1 / (2 pi):

    >>> relu = lambda x: np.maximum(x, 0)
    >>> round(2 * np.pi * pair_expectation(lambda u, v: relu(u) * relu(v), std=1.0, gap=1.0), 12)
    1.0
    """
    c, spread = 1 - gap, std * math.sqrt(gap * (2 - gap))
    # Below |c| = 0.1 the spread is that of the outer Gaussian, and its own ladder is enough.
    steep = math.copysign(max(abs(c), 0.1), c)
    closing_in = (np.add.outer(np.asarray(kinks, float), spread * _LADDER) / steep).ravel()
    with np.errstate(under="ignore"):
        u1, outer = gaussian_nodes(
            np.zeros(()), np.asarray(std), np.concatenate([breaks, closing_in])
        )
        u1, outer = u1[outer > 1e-30], outer[outer > 1e-30]  # most cuts coincide: empty panels
        u2, inner = gaussian_nodes(c * u1, np.full_like(u1, spread), np.asarray(breaks, float))
        return float(np.sum(outer * np.sum(inner * f(u1[:, None], u2), axis=-1)))
