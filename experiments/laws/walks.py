"""What laws are measured on: chains by `study.profile`, other layers by the core's two passes.

Natural logarithms of squared norms throughout; a row a network.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.laws.law import Measure
from study import theory
from study.core.backprop import backward, forward
from study.core.network import Network
from study.engines.drawn import Drawn
from study.engines.profile import profile
from study.sampling import gaussian
from study.statistics.summaries import gains
from study.theory.finite_width import NormLaw, backward_law
from study.theory.fluctuations import KURTOSIS, Gain, fluctuations

HE = math.sqrt(2)  # He's sigma_w, at which a ReLU network has chi = 1

BIAS = 0.05**0.5  # the sigma_b of tanh networks that have biases

SQUARE = 2 * math.log(10)  # ln of a squared norm, over log10 of the norm

_ROWS = 2**18  # of a frame: what one call of `profile` may hold
_NUMBERS = 2**19  # signals of one layer that are walked together


class Chains(NamedTuple):
    """Natural logarithms of squared norms, a row a seed, a column a layer."""

    gains: np.ndarray  # ln (||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2)
    signals: np.ndarray  # ln ||r^(k+1)||^2
    weight_gradients: np.ndarray  # ln ||dC/dW^(k)||_F^2


def chains(net: Network, seeds: range) -> Chains:
    """Networks of a kind, each walked by one example."""
    size = max(1, _ROWS // net.depth)
    parts = []
    for start in range(0, len(seeds), size):
        frame = profile(net, seeds=seeds[start : start + size])
        columns = (
            frame["log10_derivative_factor"] + frame["log10_weight_factor"],
            frame["log10_signal_norm"],
            frame["log10_grad_norm"],
        )
        parts.append([SQUARE * column.to_numpy().reshape(-1, net.depth) for column in columns])
    return Chains(*map(np.concatenate, zip(*parts, strict=True)))


def log_gains(net: Network, seeds: range) -> np.ndarray:
    """ln G of each network alive: its squared gradient at the input over that at the output."""
    ends = profile(net, seeds=seeds, layers=2)  # the layers between would take longer than to walk
    return alive(SQUARE * gains(ends).log10_gain.to_numpy())


def alive(logs: np.ndarray) -> np.ndarray:
    """Without networks that are born dead, as a narrow ReLU network may be: theory is of others."""
    return logs[np.isfinite(logs)]


def log_chi(activation: str, sigma_w: float, sigma_b: float = 0.0) -> float:
    """ln of the mean field's factor of the squared gradient, per layer."""
    return math.log(theory.mean_field(activation, sigma_w, sigma_b).chi)


def exact_law(net: Network) -> NormLaw:
    """The law of ln G where the activation is scale-free, at any width."""
    widths = [net.width] * (net.depth + 1)
    return backward_law(widths, net.activation, net.weights, net.sigma_w)


def first_order(net: Network, first: int = 0) -> Gain:
    """Mean and variance of ln G down to r^(first) at width 1: less log_chi, n times those at n."""
    scales = (net.activation, net.sigma_w, net.sigma_b)
    return fluctuations(*scales, depth=net.depth, kurtosis=KURTOSIS[net.weights]).gain(1, first)


# --- Other layers, of weights that are drawn as they are met -------------------------------------


class Weights:
    """Matrices of many networks side by side, the next draw at each call; in float32, as chains."""

    def __init__(self, key: int, networks: int):
        self.key = key
        self.networks = networks
        self.count = 0

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal numbers of each network."""
        self.count += 1
        return gaussian.normal(self.key, 2 * self.count, (self.networks, *shape), np.float32)

    def ends(self, *shape: int) -> tuple[np.ndarray, np.ndarray]:
        """An input and a cotangent of each network."""
        return self.normal(*shape), self.normal(*shape)

    def __call__(self, n_in: int, n_out: int, scale: float = 1.0) -> Drawn:
        """W of each network, entries N(0, scale^2 / n_in)."""
        self.count += 1
        return Drawn(self.key, self.count, (self.networks, n_in, n_out), scale)


Walk = Callable[[Weights, int], np.ndarray]  # a size's value of each network of a block


def side_by_side(name: str, numbers: Callable[[int], int]) -> Callable[[Walk], Measure]:
    """A measure, of what walks a block of networks; ``numbers`` of each, of a layer, by size."""

    def measured(walk: Walk) -> Measure:
        def measure(size: int, seeds: range) -> np.ndarray:
            block = max(1, _NUMBERS // numbers(size))
            parts = []
            for start in range(0, len(seeds), block):
                some = seeds[start : start + block]
                weights = Weights(gaussian.key(some.start, name), len(some))
                parts.append(walk(weights, size))
            return np.concatenate(parts)

        return measure

    return measured


def log_square(x: np.ndarray) -> np.ndarray:
    """ln of each network's squared Frobenius norm."""
    with np.errstate(divide="ignore"):  # networks that are born dead: -inf
        return np.log(np.sum(x**2, axis=(-2, -1)))


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of mean square 1."""
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True))


def input_gradient(layers: Sequence, r: np.ndarray, dr: np.ndarray) -> np.ndarray:
    """dC/dr^(0), from r^(0) and dC/dr^(depth)."""
    trace, _ = forward(layers, r)
    for step in backward(trace, dr):  # one at a time: a list of them would fill the memory
        below = step.dr
    return below


def growths(layers: Sequence, r: np.ndarray, dr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln of what the squared gradient gains on its way down, and the squared signal up."""
    trace, top = forward(layers, r)
    for step in backward(trace, dr):
        below = step.dr
    return log_square(below) - log_square(dr), log_square(top) - log_square(r)


def log_gradients(layers: Sequence, r: np.ndarray, dr: np.ndarray) -> np.ndarray:
    """ln ||dC/dr^(k)||^2, k = 0, ..., depth, a row a k."""
    trace, _ = forward(layers, r)
    below = [log_square(step.dr) for step in backward(trace, dr)]
    return np.array([*below[::-1], log_square(dr)])
