"""Profiles of many networks in few rows: layers that stand for all, the seeds' middle, the theory.

The gradient at the output is a random unit vector, the input has entries of unit mean square, and
there is no bias.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from study.core.activations import Array
from study.statistics.claims import Estimate
from study.theory.finite_width import weight_gradient_law
from study.theory.moments import KURTOSIS, kurtosis_shift
from study.theory.weight_gradient import log10_norms


def shown_layers(depth: int, near: int) -> Array:
    """Layers that stand for all: ``near`` log-spaced distances from either end, and both ends.

    Examples
    --------
    >>> shown_layers(1000, 4)
    array([  0,   1,   8,  63, 500, 936, 991, 998, 999])
    >>> shown_layers(3, 4)
    array([0, 1, 2])
    """
    away = np.geomspace(1, max(depth // 2, 1), near).round().astype(int)
    ends = np.concatenate([[0], away, depth - 1 - away[:-1], [depth - 1]])  # one in the middle
    return np.unique(ends[(ends >= 0) & (ends < depth)])


def middle(values: Array) -> tuple[Array, Array, Array]:
    """The median over seeds, and the ends of their middle 80 %: a tenth is left out at either end.

    Parameters
    ----------
    values : (seeds, ...) array; -inf is allowed

    Returns
    -------
    median, low, high : arrays of shape (...)

    Examples
    --------
    >>> [float(end) for end in middle(np.arange(1.0, 21.0))]
    [10.5, 3.0, 18.0]
    """
    ordered = np.sort(values, axis=0)
    n = len(ordered)
    left = n // 10
    # Between two true zeros there is no mean of logarithms to take.
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    median = np.where(low == high, low, 0.5 * (np.where(low == high, 0.0, low) + high))
    return median, ordered[left], ordered[n - 1 - left]


def told_apart(one: Array, other: Array) -> Estimate:
    """How well a value tells two laws of weights apart: (2 P - 1)^2, the mean over networks.

    P is the chance that a network of the first law has the larger value; who guesses by the value
    which of two is which, is right with the larger of P and 1 - P. The estimate is a mean of
    products of two comparisons that share no seed. So it has no bias: where the laws do alike its
    mean is 0, whatever they do and whatever two networks of a seed have in common. Networks may
    depend on one another.

    Parameters
    ----------
    one, other : (seeds, networks) arrays, at least 5 seeds, the same in both; -inf is allowed

    Returns
    -------
    Estimate, with the 95 % interval of the jackknife over seeds, whose variance is on average too
    large (Efron and Stein 1981)

    Examples
    --------
    >>> seeds = np.arange(6.0)[:, None]
    >>> told_apart(seeds + 10, seeds).value, told_apart(seeds, seeds).value
    (1.0, 0.0)
    """
    from scipy.special import stdtrit  # as slow to import as pandas

    n = len(one)
    larger = (one[:, None] > other).astype(float) - (one[:, None] < other)
    larger[np.arange(n), np.arange(n)] = 0
    found = _square(larger)
    without = [_square(np.delete(np.delete(larger, i, 0), i, 1)) for i in range(n)]
    half = stdtrit(n - 1, 0.975) * np.sqrt((n - 1) * np.var(without))
    return Estimate(found, float(found - half), float(found + half), n)


def _square(larger: Array) -> float:
    """The mean product of two of the comparisons (seeds, seeds, networks), of four seeds."""
    n = len(larger)
    both = larger + larger.swapaxes(0, 1)
    # All products, less those with a seed in common: counted once for either of the seeds.
    total = both.sum((0, 1)) ** 2 / 4 - (both.sum(0) ** 2).sum(0) + (both**2).sum((0, 1)) / 2
    return float(total.mean() / (n * (n - 1) * (n - 2) * (n - 3)))


def expected_norms(
    activation: str, sigma_w: float, depth: int, width: int, weights: str, layers: Sequence[int]
) -> Array:
    """log10 of the ‖dC/dW^(layer)‖ that theory expects, for each of ``layers``; no free offset.

    ReLU and linear: the median of the exact law at this width (`theory.finite_width`) for Gaussian
    and orthogonal weights; for uniform ones that of Gaussian weights, moved by what their kurtosis
    adds to the mean of the logarithm (`theory.moments.kurtosis_shift`), of order depth / width^2
    and right to a relative order 1 / width. Any other activation: an infinitely wide network, the
    variance and chi of each layer by exact recursion (`theory.weight_gradient`), the same for all
    laws of weights; the typical norm in a network of finite width leaves that as
    exp(-a depth / width).

    Parameters
    ----------
    activation : name in the table `study.core.activations`
    sigma_w : standard deviation of the weights, Var W = sigma_w^2 / fan_in
    depth, width : weight matrices; units in every layer
    weights : "gaussian", "uniform" or "orthogonal"
    layers : k of W^(k), from 0 to depth - 1

    Examples
    --------
    >>> expected_norms("relu", 2**0.5, 100, 64, "gaussian", [0, 99]).round(2)
    array([-0.11, -0.11])
    >>> expected_norms("sigmoid", 1.0, 1000, 64, "gaussian", [0, 999]).round(2)
    array([-6.2614e+02, -1.0000e-02])
    """
    if activation in ("relu", "linear"):
        gain = (depth - 1) * math.log10(sigma_w) + 0.5 * math.log10(width)
        return np.array([_unit_median(activation, depth, width, weights, k) for k in layers]) + gain
    return log10_norms(activation, sigma_w, 0.0, depth, width, layers)


@functools.cache
def _unit_median(activation: str, depth: int, width: int, weights: str, layer: int) -> float:
    """For sigma_w = 1 and an input of norm 1: log10 of the median norm."""
    known = "gaussian" if weights == "uniform" else weights
    law = weight_gradient_law([width] * (depth + 1), layer, activation, known, sigma_w=1.0)
    log_square = law.median
    if weights == "uniform":  # of the layers beneath W^(layer) and of those above it
        for layers in (layer, depth - 1 - layer):
            log_square += _kurtosis_shift(activation, layers, width)
    return log_square / 2 / math.log(10)


def _kurtosis_shift(activation: str, layers: int, width: int) -> float:
    """What uniform weights add to the mean of ln of a squared norm's factor over some layers."""
    if not layers:
        return 0.0
    return kurtosis_shift([width] * (layers + 1), activation, KURTOSIS["uniform"]).mean
