"""What laws are measured on: chains by `study.profile`, other layers by the core's two passes.

Natural logarithms of squared norms throughout. Neighbouring laws are often about the same networks,
so samples are kept until the next two are drawn.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments.laws.law import seeds
from study import theory
from study.core.backprop import backward, forward
from study.core.network import Network
from study.engines.profile import profile
from study.theory.finite_width import NormLaw, backward_law
from study.theory.fluctuations import Gain, fluctuations
from study.theory.moments import KURTOSIS

HE = math.sqrt(2)
"""He's sigma_w, at which a ReLU network has chi = 1."""

BIAS = 0.05**0.5
"""The sigma_b of tanh networks that have biases."""

SQUARE = 2 * math.log(10)
"""ln of a squared norm, over log10 of the norm."""

_ROWS = 2**18  # of a frame: what one call of `profile` may hold


class Chains(NamedTuple):
    """Natural logarithms of squared norms, a row a seed, a column a layer."""

    gains: np.ndarray
    """ln (||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2)."""
    signals: np.ndarray
    """ln ||r^(k+1)||^2."""
    weight_gradients: np.ndarray
    """ln ||dC/dW^(k)||_F^2."""
    dead: np.ndarray
    """Whether the gradient is truly zero, a seed."""


@lru_cache(maxsize=2)
def chains(net: Network, count: int) -> Chains:
    """The first ``count`` networks of a kind, each walked by one example."""
    size = max(1, _ROWS // net.depth)
    parts = []
    for start in range(0, count, size):
        frame = profile(net, seeds=seeds(count)[start : start + size])
        columns = (
            frame["log10_derivative_factor"] + frame["log10_weight_factor"],
            frame["log10_signal_norm"],
            frame["log10_grad_norm"],
        )
        norms = [SQUARE * column.to_numpy().reshape(-1, net.depth) for column in columns]
        parts.append((*norms, frame["status"].to_numpy()[:: net.depth] == "dead"))
    return Chains(*map(np.concatenate, zip(*parts, strict=True)))


def log_gains(net: Network, count: int) -> np.ndarray:
    """ln G of each network: its squared gradient at the input over that at the output."""
    return chains(net, count).gains.sum(axis=1)


def log_chi(activation: str, sigma_w: float, sigma_b: float = 0.0) -> float:
    """ln of the mean field's factor of the squared gradient, per layer."""
    return math.log(theory.mean_field(activation, sigma_w, sigma_b).chi)


def exact_law(net: Network) -> NormLaw:
    """The law of ln G where the activation is scale-free, at any width."""
    widths = [net.width] * (net.depth + 1)
    return backward_law(widths, net.activation, net.weights, net.sigma_w)


def first_order(net: Network, first: int = 0) -> Gain:
    """Mean and variance of ln G down to r^(first), to first order in 1/n."""
    scales = (net.activation, net.sigma_w, net.sigma_b)
    kurtosis = KURTOSIS[net.weights]
    return fluctuations(*scales, depth=net.depth, kurtosis=kurtosis).gain(net.width, first)


def over_seeds(of_seed: Callable) -> Callable[..., np.ndarray]:
    """Make a function of a seed one of the number of seeds, whose array has a row a seed."""

    @lru_cache(maxsize=2)
    def of_count(count: int, *args) -> np.ndarray:
        return np.array([of_seed(seed, *args) for seed in seeds(count)])

    return of_count


def log_square(x: np.ndarray) -> float:
    """ln of the squared Frobenius norm."""
    with np.errstate(divide="ignore"):  # networks that are born dead: -inf
        return np.log(np.vdot(x, x))


def log_squares(layers: Sequence, r: np.ndarray, dr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln ||dC/dr^(k)||^2 and ln ||r^(k)||^2, k = 0, ..., depth, from r^(0) and dC/dr^(depth)."""
    trace, top = forward(layers, r)
    signals = [log_square(step.r) for step in trace]
    gradients = [log_square(step.dr) for step in backward(trace, dr)]
    return np.array([*gradients[::-1], log_square(dr)]), np.array([*signals, log_square(top)])


def input_gradient(layers: Sequence, r: np.ndarray, dr: np.ndarray) -> np.ndarray:
    """dC/dr^(0), from r^(0) and dC/dr^(depth)."""
    trace, _ = forward(layers, r)
    for step in backward(trace, dr):
        dr = step.dr
    return dr
