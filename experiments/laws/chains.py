"""What the laws about plain chains are measured on: `study.profile`, as natural logarithms."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments.laws.law import seeds
from study.core.network import Network
from study.engines.profile import profile

SQUARE = 2 * math.log(10)
"""ln of a squared norm, over log10 of the norm."""

_ROWS = 2**18  # of a frame


class Chains(NamedTuple):
    """Logarithms of squares, a row a seed, a column a layer."""

    gains: np.ndarray
    signals: np.ndarray
    weight_gradients: np.ndarray
    dead: np.ndarray


@lru_cache(maxsize=2)
def _measured(net: Network, count: int) -> Chains:
    """Neighbouring laws are about the same networks."""
    size, parts = max(1, _ROWS // net.depth), []
    for start in range(0, count, size):
        block = seeds(count)[start : start + size]
        df = profile(net, seeds=block)
        step = df["log10_derivative_factor"] + df["log10_weight_factor"]
        logs = (step, df["log10_signal_norm"], df["log10_grad_norm"])
        layers = [SQUARE * values.to_numpy().reshape(len(block), net.depth) for values in logs]
        parts.append((*layers, (df["status"][df["layer"] == 0] == "dead").to_numpy()))
    return Chains(*map(np.concatenate, zip(*parts, strict=True)))


def gains(net: Network, count: int) -> np.ndarray:
    """ln (||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2): a row a seed, a column a layer."""
    return _measured(net, count).gains


def signals(net: Network, count: int) -> np.ndarray:
    """ln ||r^(k+1)||^2."""
    return _measured(net, count).signals


def weight_gradients(net: Network, count: int) -> np.ndarray:
    """ln ||dC/dW^(k)||_F^2."""
    return _measured(net, count).weight_gradients


def dead(net: Network, count: int) -> int:
    """How many of the networks have gradients that are truly zero."""
    return int(_measured(net, count).dead.sum())
