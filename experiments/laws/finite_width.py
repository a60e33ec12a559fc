"""Laws of finite width: Hanin and Nica, Hanin and Rolnick, He, Lu, Glorot; Euler; summary law.

The theory is exact for scale-free activations, at any widths and depth: tolerances are 0 but where
the text says so. For others it is of first order in 1/n, with what the next order may add as
tolerance: `Gain.mean_error` and `Gain.variance_error`.
"""

import itertools
import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import (
    OFF,
    Finding,
    every,
    mean_of,
    median_of,
    seeds,
    share_of,
    variance_of,
)
from experiments.laws.walks import HE, chains, gaussian_layers, input_gradient, log_chi, log_gains
from study import theory
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
from study.core.network import Network
from study.sampling import gaussian
from study.theory.dying import born_dead
from study.theory.finite_width import backward_law, forward_law, weight_gradient_law
from study.theory.fluctuations import Gain, drift_and_spread, fluctuations, independent_layers
from study.theory.moments import KURTOSIS, kurtosis_shift
from study.theory.norm_law import NormLaw

NARROW = Network("relu", depth=100, width=32, sigma_w=HE)


def _lengths(count: int) -> np.ndarray:
    """ln of the growth of the squared length through 50 layers."""
    signals = chains(Network("relu", depth=51, width=100, sigma_w=HE), count).signals
    return signals[:, -1] - signals[:, 0]


def _born_dead(factor: int) -> Finding:
    count = 1000 * factor
    dead = int(chains(Network("relu", depth=20, width=5), count).dead.sum())
    return share_of(dead, count, born_dead([5] * 20), born_dead([5] * 14))


def _vanishes_uniformly(factor: int) -> Finding:
    norms = chains(Network("relu", depth=50, width=128, sigma_w=1.0), 100 * factor).weight_gradients
    first = weight_gradient_law([128] * 51, 1, sigma_w=1.0).mean
    last = weight_gradient_law([128] * 51, 48, sigma_w=1.0).mean
    return mean_of((norms[:, 48] - norms[:, 1]) / 47, (last - first) / 47, -log_chi("relu", 1.0))


def _uniform_weights(factor: int) -> Finding:
    normal = backward_law([32] * 51).mean
    shift = kurtosis_shift([32] * 51, "relu", KURTOSIS["uniform"]).mean
    logs = np.concatenate([_uniform_gains(seed, 200, 32, 50) for seed in seeds(40 * factor)])
    return mean_of(logs, normal + shift, normal, tolerance=0.1 * shift)


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


# --- Unequal widths ------------------------------------------------------------------------------

BOTTLENECKS = (100,) + ((100,) * 9 + (10,)) * 5
ALTERNATING = (25,) + (100, 25) * 25
TAPERING = (512, 256, 128, 64, 32, 16)
NARROWING = math.log(TAPERING[0] / TAPERING[-1])

# Var W = 2 / (n_in + n_out) is sigma_w^2 / n_in with this, as each layer halves the width.
XAVIER = math.sqrt(2 * TAPERING[0] / (TAPERING[0] + TAPERING[1]))


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def _growth(
    widths: tuple[int, ...], activation: str, sigma_w: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """ln of the growth of the squared gradient down, and of the squared signal up."""
    down = np.empty(count)
    up = np.empty(count)
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "unequal widths")
        layers = [
            Dense(gaussian.normal(key, k, shape) * (sigma_w / math.sqrt(shape[0])), activation)
            for k, shape in enumerate(itertools.pairwise(widths))
        ]
        r = gaussian.normal(key, len(widths), (1, widths[0]))
        dr = gaussian.normal(key, len(widths) + 1, (1, widths[-1]))
        _, top = forward(layers, r)
        below = input_gradient(layers, r, dr)
        with np.errstate(divide="ignore"):  # networks that are born dead: -inf
            down[i] = np.log(np.vdot(below, below) / np.vdot(dr, dr))
            up[i] = np.log(np.vdot(top, top) / np.vdot(r, r))
    return down, up


def _alive(widths: tuple[int, ...], count: int) -> np.ndarray:
    """ln G of the networks that are not born dead, of which the theory speaks."""
    down, _ = _growth(widths, "relu", HE, count)
    return down[np.isfinite(down)]


def _mean_width(widths: tuple[int, ...]) -> list[int]:
    """As many layers, all of the arithmetic mean width."""
    return [widths[0]] + [round(np.mean(widths[1:]))] * (len(widths) - 1)


def _unequal_drift(factor: int, widths: tuple[int, ...]) -> Finding:
    exact = backward_law(widths)
    return mean_of(_alive(widths, 400 * factor), exact.mean, backward_law(_mean_width(widths)).mean)


def _unequal_spread(factor: int, widths: tuple[int, ...]) -> Finding:
    wrong = backward_law(_mean_width(widths)).variance
    return variance_of(_alive(widths, 400 * factor), backward_law(widths).variance, wrong)


def _compromise(values: np.ndarray, exact: NormLaw, per_unit: float) -> Finding:
    """Of mean squares, not of lengths; wrong: they keep their size."""
    wrong = exact.mean - exact.log_expectation
    return mean_of(values + per_unit, exact.mean + per_unit, wrong)


def _compromise_forward(factor: int) -> Finding:
    _, up = _growth(TAPERING, "linear", XAVIER, 200 * factor)
    return _compromise(up, forward_law(TAPERING, "linear", sigma_w=XAVIER), NARROWING)


def _compromise_backward(factor: int) -> Finding:
    down, _ = _growth(TAPERING, "linear", XAVIER, 200 * factor)
    return _compromise(down, backward_law(TAPERING, "linear", sigma_w=XAVIER), -NARROWING)


# --- The summary law, ln G = L ln chi + N(-a L/n, c L/n), of every kind of activation -------------

scale_free = theory.moments.drift_and_spread  # not to be mixed up with that to first order
BIAS = 0.05**0.5
N_OVER_L = 128 / 100

LINEAR = Network("linear", depth=100, width=64, sigma_w=1.0)
ORTHOGONAL = Network("relu", depth=100, width=64, sigma_w=HE, weights="orthogonal")


def _scale_free(net: Network, count: int) -> tuple[np.ndarray, NormLaw]:
    """ln G of each network, and its exact law."""
    exact = backward_law([64] * 101, net.activation, sigma_w=net.sigma_w, weights=net.weights)
    return log_gains(net, count), exact


def _exact_spread(net: Network, count: int) -> Finding:
    logs, exact = _scale_free(net, count)
    return variance_of(0.8 * logs, 0.64 * exact.variance, scale_free("relu").spread)


def _exact_drift(net: Network, count: int) -> Finding:
    logs, exact = _scale_free(net, count)
    return mean_of(-0.64 * logs, -0.64 * exact.mean, scale_free("relu").drift)


def _net(activation: str, sigma_w: float | None = None, sigma_b: float = 0.0) -> Network:
    """At the critical sigma_w if none is given."""
    if sigma_w is None:
        sigma_w = theory.critical_sigma_w(activation, sigma_b)
    return Network(activation, depth=100, width=128, sigma_w=sigma_w, sigma_b=sigma_b)


def _first_order(net: Network, factor: int) -> tuple[np.ndarray, Gain]:
    """ln G of each network, and its law to first order in 1/n."""
    exact = fluctuations(net.activation, net.sigma_w, net.sigma_b, depth=100).gain(128)
    return log_gains(net, 2500 * factor), exact


def _drift(factor: int, net: Network, wrong: float | None = None) -> Finding:
    """a: n/L of what the mean of ln G is short of the sum of ln chi; wrong: c/2."""
    logs, exact = _first_order(net, factor)
    expected = (exact.log_chi - exact.mean) * N_OVER_L
    if wrong is None:
        wrong = drift_and_spread(net.activation, net.sigma_w, net.sigma_b).spread / 2
    return mean_of((exact.log_chi - logs) * N_OVER_L, expected, wrong, exact.mean_error * N_OVER_L)


def _spread(factor: int, net: Network, wrong: float | None = None) -> Finding:
    """c: n/L of the variance of ln G; wrong: that of independent layers."""
    logs, exact = _first_order(net, factor)
    if wrong is None:
        wrong = independent_layers(net.activation, net.sigma_w, net.sigma_b).spread
    values = logs * math.sqrt(N_OVER_L)
    return variance_of(values, exact.variance * N_OVER_L, wrong, exact.variance_error * N_OVER_L)


# --- Where weight gradients vanish ---------------------------------------------------------------

# In a bias-free homogeneous network <W, dC/dW> is the same for every layer (Euler), so the first
# layer's gradient says nothing that the last one's does not. A saturating activation whose q has
# settled is not homogeneous: its weight gradients fall or grow by chi per layer towards the input.


def _euler(factor: int, activation: str, scales: np.ndarray, along: float = 0.0) -> Finding:
    """Layers of width 64 and these sigma_w; the cotangent lies along the output, in part."""
    worst = [_deviation(seed, activation, scales, along) for seed in seeds(5 * factor)]
    return every(worst, 0.0, wrong=OFF - 1, tolerance=1e-11)


def _deviation(seed: int, activation: str, scales: np.ndarray, along: float) -> float:
    """The largest relative deviation of a layer's <W, dC/dW> from dC/dr . r at the output."""
    key = gaussian.key(seed, "euler")
    depth = len(scales)
    layers = gaussian_layers(key, depth, 64, activation, scales)
    trace, r = forward(layers, gaussian.normal(key, depth, (1, 64)))
    # <dC/dr, r> must not nearly cancel.
    dr = gaussian.normal(key, depth + 1, (1, 64)) + along * r / math.sqrt(np.mean(r**2))
    products = [
        np.vdot(step.layer.W, weight_gradient(step.r, step.delta)) for step in backward(trace, dr)
    ]
    return max(abs(product / np.vdot(dr, r) - 1) for product in products)


def _relu_profile(factor: int) -> Finding:
    profiles = []
    for sigma_w in (1.0, 2.0):
        net = Network("relu", depth=50, width=128, sigma_w=sigma_w)
        logs = chains(net, 20 * factor).weight_gradients
        profiles.append(logs[:, 0] - logs[:, -1])
    wrong = 49 * (log_chi("relu", 2.0) - log_chi("relu", 1.0))
    return every(profiles[1] - profiles[0], 0.0, wrong, tolerance=1e-10)


def _towards_input(factor: int, net: Network) -> Finding:
    """Slope of ln ||dC/dW^(k)||^2 by k, from layer 10 to the last but one."""
    logs = chains(net, 60 * factor).weight_gradients
    slopes = (logs[:, -2] - logs[:, 10]) / (net.depth - 12)
    return mean_of(slopes, -log_chi(net.activation, net.sigma_w), tolerance=8 / net.width)


MEASURES = {
    "log gradient mean": lambda factor: mean_of(
        log_gains(NARROW, 1500 * factor),
        backward_law([32] * 101).mean,
        backward_law([64] * 101).mean,
    ),
    "log gradient variance": lambda factor: variance_of(
        log_gains(NARROW, 1500 * factor),
        backward_law([32] * 101).variance,
        backward_law([32] * 101, weights="orthogonal").variance,
    ),
    "typical gradient vanishes": lambda factor: median_of(
        log_gains(Network("relu", depth=1000, width=100, sigma_w=HE), 150 * factor),
        backward_law([100] * 1001).median,
        1000 * log_chi("relu", HE),
    ),
    "xavier halves": lambda factor: mean_of(
        chains(Network("relu", depth=60, width=256, sigma_w=1.0), 100 * factor).gains.mean(1),
        backward_law([256] * 61, sigma_w=1.0).mean / 60,
        OFF * log_chi("relu", 1.0),
    ),
    "typical length falls": lambda factor: median_of(
        _lengths(500 * factor),
        forward_law([100] * 51).median,
        50 * log_chi("relu", HE),
    ),
    "lengths spread": lambda factor: variance_of(
        _lengths(500 * factor),
        forward_law([100] * 51).variance,
        forward_law([100] * 51, "linear", sigma_w=1.0).variance,
    ),
    "born dead": _born_dead,
    "euler identity": lambda factor: _euler(factor, "relu", np.ones(50)),
    "relu vanishes uniformly": _vanishes_uniformly,
    "uniform weights": _uniform_weights,
    "sum of reciprocal widths": lambda factor: _unequal_drift(factor, BOTTLENECKS),
    "bottlenecks spread": lambda factor: _unequal_spread(factor, BOTTLENECKS),
    "equal beta drift": lambda factor: _unequal_drift(factor, ALTERNATING),
    "equal beta spread": lambda factor: _unequal_spread(factor, ALTERNATING),
    "compromise forward": _compromise_forward,
    "compromise backward": _compromise_backward,
    "spread linear": lambda factor: _exact_spread(LINEAR, 1000 * factor),
    "spread orthogonal relu": lambda factor: _exact_spread(ORTHOGONAL, 500 * factor),
    "drift orthogonal relu": lambda factor: _exact_drift(ORTHOGONAL, 500 * factor),
    "drift tanh critical": lambda factor: _drift(
        factor, _net("tanh", None, BIAS), scale_free("relu").drift
    ),
    "spread tanh critical": lambda factor: _spread(factor, _net("tanh", None, BIAS)),
    "drift tanh chaotic": lambda factor: _drift(factor, _net("tanh", 1.5)),
    "spread tanh chaotic": lambda factor: _spread(factor, _net("tanh", 1.5)),
    "drift selu": lambda factor: _drift(factor, _net("selu", 1.0)),
    "spread selu": lambda factor: _spread(factor, _net("selu", 1.0)),
    "drift sigmoid": lambda factor: _drift(
        factor, _net("sigmoid", 4.0), scale_free("linear").drift
    ),
    "drift sigmoid critical": lambda factor: _drift(
        factor, _net("sigmoid"), scale_free("relu").drift
    ),
    "spread sigmoid critical": lambda factor: _spread(
        factor, _net("sigmoid"), scale_free("relu").spread
    ),
    "euler unequal scales": lambda factor: _euler(
        factor, "leaky_relu", np.geomspace(1000, 0.001, 30), along=4
    ),
    "relu profile": _relu_profile,
    "sigmoid vanishes towards input": lambda factor: _towards_input(
        factor, Network("sigmoid", 40, 256, 1.0)
    ),
    "tanh explodes towards input": lambda factor: _towards_input(
        factor, Network("tanh", 60, 1024, 2.0)
    ),
}
