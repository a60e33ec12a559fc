"""What laws are measured on: chains by `study.profile`, other layers by the core's two passes.

Natural logarithms of squared norms throughout.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.laws.law import seeds
from study import theory
from study.core.backprop import backward, forward
from study.core.blocks import Dense
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian

HE = math.sqrt(2)
"""He's sigma_w, at which a ReLU network has chi = 1."""

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


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def chains(net: Network, count: int) -> Chains:
    """The first ``count`` networks of a kind, each walked by one example."""
    size = max(1, _ROWS // net.depth)
    parts = [
        by_layer(profile(net, seeds=seeds(count)[start : start + size]), net.depth)
        for start in range(0, count, size)
    ]
    return Chains(*map(np.concatenate, zip(*parts, strict=True)))


def by_layer(frame: pd.DataFrame, depth: int) -> Chains:
    """The natural logarithms in a frame of one network."""

    def squares(logs: pd.Series) -> np.ndarray:
        return SQUARE * logs.to_numpy().reshape(-1, depth)

    return Chains(
        squares(frame["log10_derivative_factor"] + frame["log10_weight_factor"]),
        squares(frame["log10_signal_norm"]),
        squares(frame["log10_grad_norm"]),
        (frame["status"][frame["layer"] == 0] == "dead").to_numpy(),
    )


def log_chi(activation: str, sigma_w: float, sigma_b: float = 0.0) -> float:
    """ln of the mean field's factor of the squared gradient, per layer."""
    return math.log(theory.mean_field(activation, sigma_w, sigma_b).chi)


def log_gains(net: Network, count: int) -> np.ndarray:
    """ln G of each network: its squared gradient at the input over that at the output."""
    return chains(net, count).gains.sum(axis=1)


def log_square(x: np.ndarray) -> float:
    """ln of the squared Frobenius norm."""
    return math.log(np.vdot(x, x))


def gaussian_layers(
    key: int, depth: int, n: int, activation: str, sigma_w: float | Sequence[float] = 1.0
) -> list[Dense]:
    """Square layers of one sigma_w or several, the weights of the k-th being the k-th draw."""
    scales = np.broadcast_to(sigma_w, depth) / math.sqrt(n)
    return [
        Dense(scale * gaussian.normal(key, k, (n, n)), activation) for k, scale in enumerate(scales)
    ]


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
