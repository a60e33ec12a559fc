"""The norms of gradients that theory expects, layer by layer, and where a number format loses them.

For one input and square layers. Three independent factors make the norm of dC/dW^(k): the signal
that comes up to r^(k), what the derivative leaves of a gradient in layer k, and what has become of
that gradient on its way down from the output. Norms are not squared; logarithms are to base 10.
"""

import functools
import math
import statistics
from collections.abc import Sequence

import numpy as np

from study.core.activations import Activation
from study.theory.finite_width import backward_law, exact_slopes, forward_law
from study.theory.fluctuations import KURTOSIS, fluctuations
from study.theory.maps import ActivationLike, Trajectory, positive, row_of, trajectory, variance_map
from study.theory.mean_field import mean_field
from study.tools.elementary import Array

# Below it a float loses digits of q, or of V(q); phi is its own tangent long before.
_LEAST = 2.0**-960


def log10_norms(
    activation: ActivationLike,
    sigma_w: float,
    sigma_b: float,
    depth: int,
    width: int,
    layers: Sequence[int] | Array,
    weights: str | None = None,
) -> Array:
    """The mean of log10 ||dC/dW^(k)|| for each k of `layers`, from 0, next to the input.

    Parameters
    ----------
    sigma_w, sigma_b : Var W = sigma_w^2 / width, sigma_w above 0; Var b = sigma_b^2, which at
        finite width must leave the weights a share of each pre-activation above 10^-12
    depth, width : number of weight matrices; units in every layer
    weights : law of the weights, a key of `study.theory.fluctuations.KURTOSIS`: to first order in
        1 / width; None: infinite width

    The input has standard normal entries, dC/dr at the output is a random unit vector. Networks of
    ReLU vanish uniformly, and at the critical scale by finite width alone:

    >>> log10_norms("relu", 1.0, 0.0, 1000, 100, [0, 999]).round(1)
    array([-149.5, -149.5])
    >>> log10_norms("relu", 2**0.5, 0.0, 1000, 100, [0, 999], "gaussian").round(1)
    array([-4.6, -4.6])
    """
    row = row_of(activation)
    log_sw2 = 2 * math.log(positive("sigma_w", sigma_w))
    layers = np.asarray(layers)
    path = trajectory(row, sigma_w, sigma_b, depth)
    log_signal = np.array([_log_square(row, log_sw2, path, k) for k in layers])
    log_square = math.log(width) + log_signal - log_sw2
    if weights is None:
        log_gain = np.cumsum(np.log(path.chi[::-1]))[::-1]
        return (log_square + log_gain[layers]) / math.log(100)
    law = fluctuations(row, sigma_w, sigma_b, depth=depth, kurtosis=KURTOSIS[weights])
    # ln |r|^2 from ln q, of which the bias is a part that does not fluctuate.
    share = 1.0  # of q, the weights'
    if sigma_b > 0:
        share = np.exp(np.minimum(log_signal + log_sw2 - np.log(law.q[layers]), 0))
    shift = law.length_shift[layers] / share
    shift -= (1 - share) * law.length_variance[layers] / share**2 / 2
    gains = [law.gain(width, int(k)).mean for k in layers]
    return (log_square + shift / width + gains) / math.log(100)


def _log_square(row: Activation, log_sw2: float, path: Trajectory, k: int) -> float:
    """ln of the mean square of r^(k), also where floats hold q no more: there V(q) = chi q."""
    if k == 0:
        return 0.0
    q = path.q[:k]
    last = int(np.flatnonzero((q > _LEAST) & (q < 1 / _LEAST))[-1])
    if last == k - 1:
        return math.log(variance_map(row, q[last], 1.0))
    return math.log(q[last]) + float(np.log(path.chi[last:k]).sum()) - log_sw2


def gradient_decades(
    activation: ActivationLike, sigma_w: float, depth: int, width: int, down: Sequence[int] | Array
) -> Array:
    """log10 of ||dC/dr^(depth - d)|| / ||dC/dr^(depth)|| for each d of `down`. No bias.

    ReLU and linear: the median of the exact law at this width (`finite_width`). Any other: infinite
    width, an input of unit mean square, its own chi in each layer (`maps`).

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


@functools.cache
def _unit_median(row: Activation, depth: int, width: int) -> float:
    """Of the exact law, for sigma_w = 1: log10 of the median norm."""
    return backward_law([width] * (depth + 1), row, sigma_w=1.0).median / math.log(100)


def derivative_decades(
    activation: ActivationLike, sigma_w: float, sigma_b: float, depth: int
) -> Array:
    """log10 of what the derivative does to the norm in each layer, 1/2 log10 E phi'^2.

    At infinite width, from an input of unit mean square. The weights' own factor is sigma_w.

    >>> derivative_decades("relu", 2**0.5, 0.0, 3).round(4)
    array([-0.1505, -0.1505, -0.1505])
    """
    return 0.5 * np.log10(trajectory(activation, sigma_w, sigma_b, depth).chi / sigma_w**2)


@functools.cache
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
    normal input, no bias, and ReLU or an activation whose output is bounded. ``smallest`` and
    ``largest`` are positive numbers of the format, with subnormals.

    >>> lost_depth("sigmoid", 1.0, 64, smallest=2.0**-149, largest=2.0**128, deepest=1000)
    72.0
    """
    row = row_of(activation)
    if exact_slopes(row) == (0, 1):  # ReLU
        rate = math.log2(mean_field(row, sigma_w).chi)
        rate += forward_law([width, width]).mean / math.log(2)
        layers = np.arange(deepest)  # above the first
        log2_z = math.log2(sigma_w) + layers * rate / 2
        log2_delta = (layers + 1) * rate / 2
        active = width // 2
    else:
        log2_z = np.zeros(deepest)
        log2_delta = _log2_growth(row, sigma_w, deepest)
        active = width
    log2_delta = log2_delta + math.log2(largest_of(active) / active**0.5) - math.log2(sigma_w)
    log2_entry = np.maximum(log2_delta, log2_z) + math.log2(largest_of(width))
    lost = (log2_delta <= math.log2(smallest) - 1) | (log2_entry > math.log2(largest))
    return float(np.argmax(lost) + 1) if lost.any() else math.inf


@functools.cache
def _log2_growth(row: Activation, sigma_w: float, layers: int) -> Array:
    """By mean field, of the norm over the first layers; the same for all formats."""
    return np.log2(trajectory(row, sigma_w, 0.0, layers).chi).cumsum() / 2


def largest_of(count: int) -> float:
    """The median of the largest magnitude among so many independent standard normal numbers.

    >>> round(largest_of(1), 3), round(largest_of(64), 2)
    (0.674, 2.55)
    """
    return statistics.NormalDist().inv_cdf((1 + 0.5 ** (1 / count)) / 2)
