"""Profiles of many networks in few rows: which layers stand for all, the seeds' middle, the theory.

The gradient at the output is a random unit vector, the input has entries of unit mean square, and
there is no bias.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from study.activations import Array
from study.theory.finite_width import weight_gradient_law
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


def expected_norms(
    activation: str, sigma_w: float, depth: int, width: int, weights: str, layers: Sequence[int]
) -> Array:
    """log10 of the ‖dC/dW^(layer)‖ that theory expects, for each of ``layers``; no free offset.

    ReLU and linear: the median of the exact law at this width (`theory.finite_width`). Any other
    activation: an infinitely wide network, the variance and chi of each layer by exact recursion
    (`theory.weight_gradient`), whose weights may be Gaussian or orthogonal; the typical norm in a
    network of finite width leaves that as exp(-a depth / width).

    Parameters
    ----------
    activation : name in the table `study.activations`
    sigma_w : standard deviation of the weights, Var W = sigma_w^2 / fan_in
    depth, width : weight matrices; units in every layer
    weights : "gaussian" or "orthogonal"
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
    """Of the exact law, for sigma_w = 1 and an input of norm 1: log10 of the median norm."""
    law = weight_gradient_law([width] * (depth + 1), layer, activation, weights, sigma_w=1.0)
    return law.median / 2 / math.log(10)
