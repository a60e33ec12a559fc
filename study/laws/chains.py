"""What the laws about plain chains are measured on: `study.profile`, as natural logarithms."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd

from study.engines import profile
from study.network import Network

SQUARE = 2 * math.log(10)
"""ln of a squared norm, over log10 of the norm."""


@lru_cache(maxsize=4)
def _profile(net: Network, seeds: int) -> pd.DataFrame:
    """Neighbouring laws are about the same networks."""
    return profile(net, seeds=range(seeds))


def _layers(net: Network, seeds: int, values: pd.Series) -> np.ndarray:
    return values.to_numpy().reshape(seeds, net.depth)


def gains(net: Network, seeds: int) -> np.ndarray:
    """ln (||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2): a row a seed, a column a layer."""
    df = _profile(net, seeds)
    step = df["log10_derivative_factor"] + df["log10_weight_factor"]
    return SQUARE * _layers(net, seeds, step)


def signals(net: Network, seeds: int) -> np.ndarray:
    """ln ||r^(k+1)||^2."""
    return SQUARE * _layers(net, seeds, _profile(net, seeds)["log10_signal_norm"])


def weight_gradients(net: Network, seeds: int) -> np.ndarray:
    """ln ||dC/dW^(k)||_F^2."""
    return SQUARE * _layers(net, seeds, _profile(net, seeds)["log10_grad_norm"])


def dead(net: Network, seeds: int) -> int:
    """How many of the networks have gradients that are truly zero."""
    df = _profile(net, seeds)
    return int((df["status"][df["layer"] == 0] == "dead").sum())
