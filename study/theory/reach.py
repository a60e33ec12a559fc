"""How deep a plain run carries the gradient of the first weights before its format loses it."""

import functools
import math

import numpy as np
import scipy

from study.core.activations import Activation
from study.theory.finite_width import exact_slopes, forward_law
from study.theory.maps import ActivationLike, row_of, trajectory
from study.theory.mean_field import mean_field


def lost_depth(
    activation: ActivationLike,
    sigma_w: float,
    width: int,
    smallest: float,
    largest: float,
    deepest: int,
) -> float:
    """The least depth at which all of dC/dW^(0) is 0 or something is not finite; inf if none is.

    There the largest entry of dC/dz^(1) rounds to 0, or times x exceeds the range, or z^(depth)
    does. Mean field; to ReLU's chi the exact law adds the drift of finite width. For one standard
    normal input, no bias, and ReLU or an activation whose output is bounded.

    Parameters
    ----------
    smallest, largest : positive numbers of the format, with subnormals
    deepest : depths looked at

    >>> lost_depth("sigmoid", 1.0, 64, smallest=2.0**-149, largest=2.0**128, deepest=1000)
    72.0
    """
    return _lost_depth(row_of(activation), sigma_w, width, smallest, largest, deepest)


@functools.cache
def _lost_depth(
    row: Activation, sigma_w: float, width: int, smallest: float, largest: float, deepest: int
) -> float:
    if exact_slopes(row) == (0, 1):  # ReLU
        rate = math.log2(mean_field(row, sigma_w).chi)
        rate += forward_law([width, width]).mean / math.log(2)
        layers = np.arange(deepest)  # above the first
        log2_z = math.log2(sigma_w) + layers * rate / 2
        log2_delta = (layers + 1) * rate / 2
        active = width // 2
    else:
        chi = trajectory(row, sigma_w, 0.0, deepest).chi
        log2_z = np.zeros(deepest)
        log2_delta = np.log2(chi).cumsum() / 2
        active = width
    log2_delta += math.log2(largest_of(active) / active**0.5) - math.log2(sigma_w)
    log2_entry = np.maximum(log2_delta, log2_z) + math.log2(largest_of(width))
    lost = (log2_delta <= math.log2(smallest) - 1) | (log2_entry > math.log2(largest))
    return float(np.argmax(lost) + 1) if lost.any() else math.inf


def largest_of(count: int) -> float:
    """The median of the largest magnitude among so many independent standard normal numbers.

    >>> round(largest_of(1), 3), round(largest_of(64), 2)
    (0.674, 2.55)
    """
    return float(scipy.special.ndtri((1 + 0.5 ** (1 / count)) / 2))
