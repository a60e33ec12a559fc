"""Laws of convolutions along a circle of positions: Xiao et al. 2018.

Positions are rows that one matrix meets, taps x channels by channels: none is formed.
"""

from collections.abc import Callable

import numpy as np

from experiments.laws.law import Law
from experiments.laws.mean_field import SETTLED
from experiments.laws.walks import (
    HE,
    Weights,
    gradients,
    input_gradient,
    log_chi,
    log_square,
    side_by_side,
)
from study.core.blocks import Circular

TAPS = 3


def _layers(weights: Weights, n: int, depth: int, activation: str, sigma_w: float) -> list:
    return [Circular(weights(TAPS * n, n, sigma_w), activation, TAPS) for _ in range(depth)]


DEPTH = 30
POSITIONS = 8


def _rate(activation: str, sigma_w: float) -> Callable:
    """ln of the factor of the squared gradient at all positions together, per layer."""

    def measure(n: int, seeds: range) -> np.ndarray:
        def of_some(weights: Weights) -> np.ndarray:
            layers = _layers(weights, n, DEPTH, activation, sigma_w)
            r, dr = weights.normal(POSITIONS, n), weights.normal(POSITIONS, n)
            logs = [log_square(below) for below in gradients(layers, r, dr)]
            settled = logs[DEPTH - 1 - SETTLED]
            return (settled - log_square(dr)) / (DEPTH - SETTLED)

        return side_by_side("convolutions", TAPS * POSITIONS * n, seeds, of_some)

    return measure


FIELD_DEPTH = 6
CIRCLE = FIELD_DEPTH * (TAPS - 1) + 1
"""As many positions as the gradient at one of them reaches: none is reached on two ways."""


def _spread(n: int, seeds: range) -> np.ndarray:
    """Sum of distance^2 ||dC/dr^(0)||^2 over positions, of a gradient of norm 1 at one of them."""
    away = np.arange(CIRCLE) - CIRCLE // 2

    def of_some(weights: Weights) -> np.ndarray:
        layers = _layers(weights, n, FIELD_DEPTH, "relu", HE)
        u = weights.normal(n)
        dr = np.zeros((len(u), CIRCLE, n))
        dr[:, CIRCLE // 2] = u / np.linalg.norm(u, axis=-1, keepdims=True)
        below = input_gradient(layers, weights.normal(CIRCLE, n), dr)
        return np.sum(below**2, axis=-1) @ away**2

    return side_by_side("receptive field", TAPS * CIRCLE * n, seeds, of_some)


LAWS = {
    "convolution chaos": Law(
        measure=_rate("tanh", 2.0),
        sizes=(64, 128, 256),
        networks=60,
        limit=log_chi("tanh", 2.0),
    ),
    "receptive field": Law(
        measure=_spread,
        sizes=(16, 32, 64),
        networks=1000,
        exact=lambda n: FIELD_DEPTH * (TAPS**2 - 1) / 12,
    ),
}
