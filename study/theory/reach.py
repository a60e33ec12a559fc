"""How deep a plain run carries the gradient of the first weights before its format loses it."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np

from study.theory.finite_width import forward_law
from study.theory.maps import trajectory
from study.theory.mean_field import mean_field


@functools.cache
def lost_depth(
    activation: str, sigma_w: float, width: int, smallest: float, largest: float, deepest: int
) -> float:
    """The least depth at which all of dC/dW^(0) is 0 or something is not finite.

    There the largest entry of dC/dz^(1) rounds to 0, or times x exceeds the range, or z^(depth)
    does (which only ReLU lets grow). Mean field, layer by layer where chi changes on the way; to
    ReLU's chi the exact law adds the drift of a layer of finite width (see `finite_width`).

    Parameters
    ----------
    activation : relu, or one whose output is bounded
    sigma_w : standard deviation of the weights, Var W = sigma_w^2 / fan_in; no bias
    width : units in every layer
    smallest, largest : positive numbers of the format, with subnormals
    deepest : depths looked at

    Returns
    -------
    float, layers; inf where none up to `deepest` is lost. For one standard normal input and a
    random cotangent of norm 1.

    Examples
    --------
    float32 and sigmoid, whose gradient falls by 0.627 decades a layer, and at its critical scale:

    >>> lost_depth("sigmoid", 1.0, 64, smallest=2.0**-149, largest=2.0**128, deepest=1000)
    72.0
    >>> lost_depth("sigmoid", 10.149264, 64, smallest=2.0**-149, largest=2.0**128, deepest=1000)
    inf
    """
    if activation == "relu":
        layers = np.arange(deepest)  # above the first
        rate = math.log2(mean_field(activation, sigma_w).chi)
        rate += forward_law([width, width]).mean / math.log(2)
        z = math.log2(sigma_w) + layers * rate / 2
        delta = (layers + 1) * rate / 2 - math.log2(sigma_w)
    else:
        chi = trajectory(activation, sigma_w, 0.0, deepest).chi
        z, delta = np.zeros(deepest), np.log2(chi).cumsum() / 2 - math.log2(sigma_w)
    live = width // 2 if activation == "relu" else width
    delta += math.log2(largest_of(live) / live**0.5)
    entry = np.maximum(delta, z) + math.log2(largest_of(width))
    gone = (delta <= math.log2(smallest) - 1) | (entry > math.log2(largest))
    return float(np.argmax(gone) + 1) if gone.any() else math.inf


def largest_of(count: int) -> float:
    """The median of the largest magnitude among so many independent standard normal numbers.

    Examples
    --------
    >>> round(largest_of(1), 3), round(largest_of(64), 2)
    (0.674, 2.55)
    """
    return NormalDist().inv_cdf((1 + 0.5 ** (1 / count)) / 2)
