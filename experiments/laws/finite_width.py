"""Laws of finite width: Hanin and Nica, Hanin and Rolnick, He, Lu, Glorot; Euler; summary law.

The theory is exact for scale-free activations, at any widths and depth: tolerances are 0 but where
the text says so. For others it is of first order in 1/n, with what the next order may add as
tolerance: `Gain.mean_error` and `Gain.variance_error`.
"""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np

from experiments.laws.law import OFF, Finding, mean_of, median_of, share_of, variance_of
from experiments.laws.walks import (
    BIAS,
    HE,
    chains,
    exact_law,
    first_order,
    input_gradient,
    log_chi,
    log_gains,
    log_squares,
    over_seeds,
)
from study import theory
from study.core.blocks import Dense
from study.core.network import Network
from study.sampling import gaussian
from study.theory.finite_width import (
    NormLaw,
    backward_law,
    born_dead,
    forward_law,
    weight_gradient_law,
)
from study.theory.fluctuations import drift_and_spread, independent_layers
from study.theory.moments import KURTOSIS, kurtosis_shift
from study.theory.moments import drift_and_spread as scale_free

JUDGES = {"mean": mean_of, "median": median_of, "variance": variance_of}
"""Of what the theory's law and the sample have each."""

# --- Equal widths --------------------------------------------------------------------------------

NARROW = Network("relu", 100, 32, HE)
LONG = Network("relu", 1000, 100, HE)
XAVIER_RELU = Network("relu", 60, 256, 1.0)
LINEAR = Network("linear", 100, 64, 1.0)
ORTHOGONAL = Network("relu", 100, 64, HE, weights="orthogonal")


def _gain(
    moment: str, net: Network, networks: int, factor: int, wrong: float, scale: float = 1.0
) -> Finding:
    """A moment of ln G times a scale, and that of its exact law."""
    logs = scale * log_gains(net, networks * factor)
    expected = getattr(exact_law(net), moment) * scale ** (2 if moment == "variance" else 1)
    return JUDGES[moment](logs, expected, wrong)


def _length(moment: str, factor: int, wrong: float) -> Finding:
    """Of ln of the growth of the squared length through 50 layers."""
    signals = chains(Network("relu", 51, 100, HE), 500 * factor).signals
    expected = getattr(forward_law([100] * 51), moment)
    return JUDGES[moment](signals[:, -1] - signals[:, 0], expected, wrong)


def _born_dead(factor: int) -> Finding:
    count = 1000 * factor
    dead = int(chains(Network("relu", depth=20, width=5), count).dead.sum())
    return share_of(dead, count, born_dead([5] * 20), born_dead([5] * 14))


@over_seeds
def _uniform_gains(seed: int, networks: int, n: int, depth: int) -> np.ndarray:
    """ln G of He-ReLU networks with uniform weights, walked side by side."""
    key = gaussian.key(seed, "uniform weights")
    r, dr = gaussian.normal(key, 0, (2, networks, 1, n), np.float32)
    scale = np.float32(HE / math.sqrt(n))
    layers = [
        Dense(gaussian.uniform(key, k + 1, (networks, n, n), np.float32) * scale, "relu")
        for k in range(depth)
    ]
    below = input_gradient(layers, r, dr)
    return np.log(np.vecdot(below, below) / np.vecdot(dr, dr), dtype=float)[:, 0]


def _uniform_weights(factor: int) -> Finding:
    normal = backward_law([32] * 51).mean
    shift = kurtosis_shift([32] * 51, "relu", KURTOSIS["uniform"]).mean
    logs = _uniform_gains(40 * factor, 200, 32, 50).ravel()
    return mean_of(logs, normal + shift, normal, tolerance=0.1 * shift)


# --- Unequal widths ------------------------------------------------------------------------------

BOTTLENECKS = (100,) + ((100,) * 9 + (10,)) * 5
ALTERNATING = (25,) + (100, 25) * 25
TAPERING = (512, 256, 128, 64, 32, 16)
NARROWING = math.log(TAPERING[0] / TAPERING[-1])

# Var W = 2 / (n_in + n_out) is sigma_w^2 / n_in with this, as each layer halves the width.
XAVIER = math.sqrt(2 * TAPERING[0] / (TAPERING[0] + TAPERING[1]))


@over_seeds
def _growth(
    seed: int, widths: tuple[int, ...], activation: str, sigma_w: float
) -> tuple[float, float]:
    """ln of the growth of the squared gradient down, and of the squared signal up."""
    key = gaussian.key(seed, "unequal widths")
    layers = [
        Dense(gaussian.normal(key, k, shape) * (sigma_w / math.sqrt(shape[0])), activation)
        for k, shape in enumerate(itertools.pairwise(widths))
    ]
    r = gaussian.normal(key, len(widths), (1, widths[0]))
    dr = gaussian.normal(key, len(widths) + 1, (1, widths[-1]))
    gradients, signals = log_squares(layers, r, dr)
    return gradients[0] - gradients[-1], signals[-1] - signals[0]


def _unequal(moment: str, widths: tuple[int, ...], factor: int) -> Finding:
    """A moment of ln G; wrong: as many layers, all of the arithmetic mean width."""
    down = _growth(400 * factor, widths, "relu", HE)[:, 0]
    alive = down[np.isfinite(down)]  # the theory does not speak of those that are born dead
    alike = [widths[0]] + [round(np.mean(widths[1:]))] * (len(widths) - 1)
    expected = getattr(backward_law(widths), moment)
    return JUDGES[moment](alive, expected, getattr(backward_law(alike), moment))


def _compromise(column: int, exact: NormLaw, per_unit: float, factor: int) -> Finding:
    """Of mean squares, not of lengths; wrong: they keep their size."""
    values = _growth(200 * factor, TAPERING, "linear", XAVIER)[:, column]
    wrong = exact.mean - exact.log_expectation
    return mean_of(values + per_unit, exact.mean + per_unit, wrong)


# --- The summary law, ln G = L ln chi + N(-a L/n, c L/n), of every kind of activation -------------

N_OVER_L = 128 / 100
RELU_LAW = scale_free("relu")


TANH_CRITICAL = Network("tanh", 100, 128, theory.critical_sigma_w("tanh", BIAS), BIAS)
TANH_CHAOTIC = Network("tanh", 100, 128, 1.5)
SELU = Network("selu", 100, 128, 1.0)
SIGMOID = Network("sigmoid", 100, 128, 4.0)
SIGMOID_CRITICAL = Network("sigmoid", 100, 128, theory.critical_sigma_w("sigmoid"))


def _drift(net: Network, factor: int, wrong: float | None = None) -> Finding:
    """a: n/L of what the mean of ln G is short of the sum of ln chi; wrong: c/2."""
    exact = first_order(net)
    values = (exact.log_chi - log_gains(net, 2500 * factor)) * N_OVER_L
    expected = (exact.log_chi - exact.mean) * N_OVER_L
    if wrong is None:
        wrong = drift_and_spread(net.activation, net.sigma_w, net.sigma_b).spread / 2
    return mean_of(values, expected, wrong, exact.mean_error * N_OVER_L)


def _spread(net: Network, factor: int, wrong: float | None = None) -> Finding:
    """c: n/L of the variance of ln G; wrong: that of independent layers."""
    exact = first_order(net)
    values = log_gains(net, 2500 * factor) * math.sqrt(N_OVER_L)
    if wrong is None:
        wrong = independent_layers(net.activation, net.sigma_w, net.sigma_b).spread
    return variance_of(values, exact.variance * N_OVER_L, wrong, exact.variance_error * N_OVER_L)


# --- Where weight gradients vanish ---------------------------------------------------------------

# In a bias-free homogeneous network <W, dC/dW> is the same for every layer (Euler), so the first
# layer's gradient says nothing that the last one's does not. A saturating activation whose q has
# settled is not homogeneous: its weight gradients fall or grow by chi per layer towards the input.


def _vanishes_uniformly(factor: int) -> Finding:
    norms = chains(Network("relu", 50, 128, 1.0), 100 * factor).weight_gradients
    first = weight_gradient_law([128] * 51, 1, sigma_w=1.0).mean
    last = weight_gradient_law([128] * 51, 48, sigma_w=1.0).mean
    return mean_of((norms[:, 48] - norms[:, 1]) / 47, (last - first) / 47, -log_chi("relu", 1.0))


def _towards_input(net: Network, factor: int) -> Finding:
    """Slope of ln ||dC/dW^(k)||^2 by k, from layer 10 to the last but one."""
    logs = chains(net, 60 * factor).weight_gradients
    slopes = (logs[:, -2] - logs[:, 10]) / (net.depth - 12)
    return mean_of(slopes, -log_chi(net.activation, net.sigma_w), tolerance=8 / net.width)


MEASURES = {
    "log gradient mean": partial(
        _gain, "mean", NARROW, 1500, wrong=exact_law(replace(NARROW, width=64)).mean
    ),
    "log gradient variance": partial(
        _gain,
        "variance",
        NARROW,
        1500,
        wrong=exact_law(replace(NARROW, weights="orthogonal")).variance,
    ),
    "typical gradient vanishes": partial(
        _gain, "median", LONG, 150, wrong=1000 * log_chi("relu", HE)
    ),
    "xavier halves": partial(
        _gain, "mean", XAVIER_RELU, 100, wrong=OFF * log_chi("relu", 1.0), scale=1 / 60
    ),
    "typical length falls": partial(_length, "median", wrong=50 * log_chi("relu", HE)),
    "lengths spread": partial(
        _length, "variance", wrong=forward_law([100] * 51, "linear", sigma_w=1.0).variance
    ),
    "born dead": _born_dead,
    "relu vanishes uniformly": _vanishes_uniformly,
    "uniform weights": _uniform_weights,
    "sum of reciprocal widths": partial(_unequal, "mean", BOTTLENECKS),
    "bottlenecks spread": partial(_unequal, "variance", BOTTLENECKS),
    "equal beta drift": partial(_unequal, "mean", ALTERNATING),
    "equal beta spread": partial(_unequal, "variance", ALTERNATING),
    "compromise forward": partial(
        _compromise, 1, forward_law(TAPERING, "linear", sigma_w=XAVIER), NARROWING
    ),
    "compromise backward": partial(
        _compromise, 0, backward_law(TAPERING, "linear", sigma_w=XAVIER), -NARROWING
    ),
    "spread linear": partial(_gain, "variance", LINEAR, 1000, wrong=RELU_LAW.spread, scale=0.8),
    "spread orthogonal relu": partial(
        _gain, "variance", ORTHOGONAL, 500, wrong=RELU_LAW.spread, scale=0.8
    ),
    "drift orthogonal relu": partial(
        _gain, "mean", ORTHOGONAL, 500, wrong=RELU_LAW.drift, scale=-0.64
    ),
    "drift tanh critical": partial(_drift, TANH_CRITICAL, wrong=RELU_LAW.drift),
    "spread tanh critical": partial(_spread, TANH_CRITICAL),
    "drift tanh chaotic": partial(_drift, TANH_CHAOTIC),
    "spread tanh chaotic": partial(_spread, TANH_CHAOTIC),
    "drift selu": partial(_drift, SELU),
    "spread selu": partial(_spread, SELU),
    "drift sigmoid": partial(_drift, SIGMOID, wrong=scale_free("linear").drift),
    "drift sigmoid critical": partial(_drift, SIGMOID_CRITICAL, wrong=RELU_LAW.drift),
    "spread sigmoid critical": partial(_spread, SIGMOID_CRITICAL, wrong=RELU_LAW.spread),
    "sigmoid vanishes towards input": partial(_towards_input, Network("sigmoid", 40, 256, 1.0)),
    "tanh explodes towards input": partial(_towards_input, Network("tanh", 60, 1024, 2.0)),
}
