"""Profiles of many networks in few rows: layers that stand for all, the seeds' middle, the theory.

The gradient at the output is a random unit vector, the input has entries of unit mean square, and
there is no bias.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import study
from study.arithmetic import scaled
from study.core.activations import Array
from study.core.network import Network
from study.statistics.claims import Estimate, confidence
from study.theory.finite_width import weight_gradient_law
from study.theory.fluctuations import KURTOSIS, kurtosis_shift
from study.theory.gradient_norms import log10_norms


def middle(values: Array) -> tuple[Array, Array, Array]:
    """The median over seeds, the first axis, and the ends of their middle 80 %, -inf allowed.

    >>> [float(end) for end in middle(np.arange(1.0, 21.0))]
    [10.5, 3.0, 18.0]
    """
    ordered = np.sort(values, axis=0)
    left = len(ordered) // 10
    return np.median(ordered, axis=0), ordered[left], ordered[-1 - left]


def told_apart(ours: Array, theirs: Array) -> Estimate:
    """How well a value tells two laws of weights apart: (2 P - 1)^2, the mean over networks.

    P is the chance that a network of the first law has the larger value; who guesses by the value
    which of two is which, is right with the larger of P and 1 - P. The estimate is a mean of
    products of two comparisons that share no seed. So it has no bias: where the laws do alike its
    mean is 0, whatever they do and whatever two networks of a seed have in common. The interval is
    the jackknife's over seeds, whose variance is on average too large (Efron and Stein 1981).

    Both are (seeds, networks), at least 5 seeds, the same in both; networks may depend on one
    another.

    >>> seeds = np.arange(6.0)[:, None]
    >>> told_apart(seeds + 10, seeds).value, told_apart(seeds, seeds).value
    (1.0, 0.0)
    """
    from scipy.special import stdtrit  # as slow to import as pandas

    n = len(ours)
    larger = (ours[:, None] > theirs).astype(float) - (ours[:, None] < theirs)
    larger[np.arange(n), np.arange(n)] = 0  # networks of one seed have draws in common
    value = _mean_product(larger)
    without = [_mean_product(np.delete(np.delete(larger, i, 0), i, 1)) for i in range(n)]
    half = stdtrit(n - 1, (1 + confidence()) / 2) * np.sqrt((n - 1) * np.var(without))
    return Estimate(value, float(value - half), float(value + half), n)


def _mean_product(larger: Array) -> float:
    """The mean product of two of the comparisons (seeds, seeds, networks), of four seeds."""
    n = len(larger)
    both = larger + larger.swapaxes(0, 1)
    # All products, less those with a seed in common: counted once for either of the seeds.
    total = both.sum((0, 1)) ** 2 / 4 - (both.sum(0) ** 2).sum(0) + (both**2).sum((0, 1)) / 2
    return float(total.mean() / (n * (n - 1) * (n - 2) * (n - 3)))


def profiled(nets: Sequence[Network], seeds: Sequence[int]) -> pd.DataFrame:
    """What `study.profile` gives; a homogeneous activation's networks are walked at one scale.

    There norms of other scales differ by powers of these alone: phi(a z) = a phi(z), no bias.

    >>> df = profiled([Network("relu", 3, 8, sigma_w) for sigma_w in (1.0, 2.0)], [0])
    >>> df.log10_grad_norm.diff(3).dropna().round(6).tolist()      # log10 2^2
    [0.60206, 0.60206, 0.60206]
    """
    walked = [replace(net, sigma_w=1.0) if net.row.scale_free else net for net in nets]
    apart = [*dict.fromkeys(walked)]
    frame = study.profile(apart, seeds)
    counts = [len(seeds) * net.depth for net in apart]
    starts = dict(zip(apart, np.cumsum([0, *counts[:-1]]), strict=True))
    at = [starts[net] + np.arange(len(seeds) * net.depth) for net in walked]
    sigma_w = np.repeat([net.sigma_w for net in nets], [len(rows) for rows in at])
    return _rescaled(frame.iloc[np.concatenate(at)].reset_index(drop=True), sigma_w)


def _rescaled(frame: pd.DataFrame, sigma_w: Array) -> pd.DataFrame:
    """The frame of the same networks with weights of these scales, a row each."""
    log2_ratio = np.log2(sigma_w / frame.sigma_w)
    below = frame.layer + 1  # matrices that the signal has passed
    above = frame.depth - below
    powers = {
        "log10_grad_norm": frame.depth - 1,
        "log10_delta_norm": above,
        "log10_upstream_norm": above,
        "log10_signal_norm": below,
        "log10_weight_norm": 1,
        "log10_weight_factor": 1,
    }
    moved = {
        name: frame[name] + power * log2_ratio * math.log10(2) for name, power in powers.items()
    }
    bits = ((frame.depth - 1) * log2_ratio).to_numpy()
    whole = np.floor(bits).astype(int)
    size = frame.grad_norm_mantissa * np.exp2(bits - whole)
    mantissa, exponent = scaled.norm(size.to_numpy() ** 2, frame.grad_norm_exponent + whole)
    moved |= {"grad_norm_mantissa": mantissa, "grad_norm_exponent": exponent}
    status = scaled.status(mantissa, exponent)
    return frame.assign(sigma_w=sigma_w, status=status, **moved)


def expected_norms(net: Network, layers: Sequence[int]) -> Array:
    """log10 of the ‖dC/dW^(layer)‖ that theory expects, for each of ``layers``; no free offset.

    ReLU and linear: the median of the exact law at this width (`theory.finite_width`) for Gaussian
    and orthogonal weights; for uniform ones moved by what their kurtosis adds to the mean of the
    logarithm (`theory.fluctuations.kurtosis_shift`), of order depth / width^2, right to a relative
    order 1 / width. Any other activation: an infinitely wide network, by exact recursion
    (`theory.gradient_norms`), the same for all laws; a network of finite width leaves that as
    exp(-a depth / width).

    >>> expected_norms(Network("relu", 100, 64, sigma_w=2**0.5), [0, 99]).round(2)
    array([-0.11, -0.11])
    >>> expected_norms(Network("sigmoid", 1000, 64, sigma_w=1.0), [0, 999]).round(2)
    array([-6.2614e+02, -1.0000e-02])
    """
    if net.activation not in ("relu", "linear"):
        unit = _infinite(net.activation, net.sigma_w, net.depth, tuple(layers))
        return 0.5 * math.log10(net.width) + unit
    gain = (net.depth - 1) * math.log10(net.sigma_w) + 0.5 * math.log10(net.width)
    kind = net.activation, net.depth, net.width, net.weights
    return gain + np.array([_unit_median(*kind, layer) for layer in layers])


@functools.cache
def _infinite(activation: str, sigma_w: float, depth: int, layers: tuple[int, ...]) -> Array:
    """But for the root of the width; the same for all laws."""
    return log10_norms(activation, sigma_w, 0.0, depth, 1, layers)


@functools.cache
def _unit_median(activation: str, depth: int, width: int, weights: str, layer: int) -> float:
    """For sigma_w = 1 and an input of norm 1: log10 of the median norm."""
    widths = [width] * (depth + 1)  # units of r^(0), ..., r^(depth)
    if weights != "uniform":
        law = weight_gradient_law(widths, layer, activation, weights, sigma_w=1.0)
        return law.median / 2 / math.log(10)
    log_square = weight_gradient_law(widths, layer, activation, "gaussian", sigma_w=1.0).median
    for layers in (layer, depth - 1 - layer):  # those beneath W^(layer) and those above it
        if layers:
            shift = kurtosis_shift([width] * (layers + 1), activation, KURTOSIS["uniform"])
            log_square += shift.mean
    return log_square / 2 / math.log(10)  # from ln of a square to log10
