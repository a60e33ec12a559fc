"""How many decades a gradient gains on its way down, layer by layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from study.core.activations import Array
from study.theory.finite_width import backward_law
from study.theory.maps import trajectory


def gradient_decades(
    activation: str, sigma_w: float, depth: int, width: int, down: Sequence[int]
) -> Array:
    """log10 of ||dC/dr^(depth - d)|| / ||dC/dr^(depth)||, norms not squared, for each d of `down`.

    ReLU and linear: the median of the exact law at this width (see `finite_width`). Any other
    activation: an infinitely wide network from an input of unit mean square, its own chi in each
    layer (see `maps`); at finite width the typical norm leaves that as exp(-a d / width).

    Parameters
    ----------
    activation : name in the table `study.core.activations`
    sigma_w : standard deviation of the weights, Var W = sigma_w^2 / fan_in; no bias
    depth, width : weight matrices, all Gaussian; units in every layer
    down : numbers of layers below the output, from 1 to depth

    Examples
    --------
    >>> gradient_decades("relu", 2**0.5, 1000, 100, [100, 1000]).round(2)
    array([-0.55, -5.52])
    >>> gradient_decades("sigmoid", 1.0, 1000, 100, [100, 1000]).round(1)
    array([ -62.7, -627. ])
    """
    if activation in ("relu", "linear"):
        gain = math.log10(sigma_w)
        return np.array([_unit_median(activation, d, width) + d * gain for d in down])
    chi = trajectory(activation, sigma_w, 0.0, depth).chi
    return np.cumsum(0.5 * np.log10(chi[::-1]))[np.asarray(down) - 1]


def derivative_decades(activation: str, sigma_w: float, sigma_b: float, depth: int) -> Array:
    """log10 of what the derivative does to the norm in each layer, k = 0, ..., depth - 1.

    1/2 log10 E phi'^2 at infinite width, at the variance that the pre-activations of the layer
    have, from an input of unit mean square. The weights' own factor is sigma_w.

    Examples
    --------
    >>> derivative_decades("relu", 2**0.5, 0.0, 3).round(4)
    array([-0.1505, -0.1505, -0.1505])
    """
    chi = trajectory(activation, sigma_w, sigma_b, depth).chi
    return 0.5 * np.log10(chi / sigma_w**2)


@functools.cache
def _unit_median(activation: str, depth: int, width: int) -> float:
    """Of the exact law, for sigma_w = 1: log10 of the median norm."""
    law = backward_law([width] * (depth + 1), activation, sigma_w=1.0)
    return law.median / 2 / math.log(10)
