"""How many decades a gradient gains on its way down, layer by layer."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from study.core.activations import Activation, Array
from study.theory.finite_width import backward_law, exact_slopes
from study.theory.maps import ActivationLike, row_of, trajectory


def gradient_decades(
    activation: ActivationLike, sigma_w: float, depth: int, width: int, down: Sequence[int]
) -> Array:
    """log10 of ||dC/dr^(depth - d)|| / ||dC/dr^(depth)||, norms not squared, for each d of `down`.

    ReLU and linear: the median of the exact law at this width (`finite_width`). Any other: infinite
    width, an input of unit mean square, its own chi in each layer (`maps`). No bias.

    >>> gradient_decades("relu", 2**0.5, 1000, 100, [100, 1000]).round(2)
    array([-0.55, -5.52])
    """
    row = row_of(activation)
    down = np.asarray(down)
    if exact_slopes(row):
        medians = [_unit_median(row, int(layers), width) for layers in down]
        return np.array(medians) + down * math.log10(sigma_w)
    chi = trajectory(row, sigma_w, 0.0, depth).chi
    return np.cumsum(0.5 * np.log10(chi[::-1]))[down - 1]


def derivative_decades(
    activation: ActivationLike, sigma_w: float, sigma_b: float, depth: int
) -> Array:
    """log10 of what the derivative does to the norm in each layer, k = 0, ..., depth - 1.

    1/2 log10 E phi'^2 at infinite width, from an input of unit mean square. The weights' own factor
    is sigma_w.

    >>> derivative_decades("relu", 2**0.5, 0.0, 3).round(4)
    array([-0.1505, -0.1505, -0.1505])
    """
    chi = trajectory(activation, sigma_w, sigma_b, depth).chi
    return 0.5 * np.log10(chi / sigma_w**2)


@functools.cache
def _unit_median(row: Activation, depth: int, width: int) -> float:
    """Of the exact law, for sigma_w = 1: log10 of the median norm."""
    law = backward_law([width] * (depth + 1), row, sigma_w=1.0)
    return law.median / 2 / math.log(10)
