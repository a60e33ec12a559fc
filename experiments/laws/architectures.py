"""Laws of shaped activations, convolutions and recurrent cells: Martens, Zhang; Xiao, Luo; Chen.

Positions are rows that one matrix, of taps x channels by channels, meets. Where mean-field theory
has a cell's weights drawn anew at each step, no matrix is formed either; tied ones are matrices.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.laws.finite_width import kind, mean
from experiments.laws.law import OFF, Law
from experiments.laws.mean_field import WIDE, gaps
from experiments.laws.walks import (
    HE,
    Weights,
    first_order,
    gradients,
    input_gradient,
    log_chi,
    log_square,
    side_by_side,
)
from study import theory
from study.core.activations import Activation
from study.core.backprop import Layer
from study.core.blocks import Dense, Linear
from study.engines.cells import GRU, LSTM, Minimal
from study.engines.convolution import Circular
from study.theory.recurrent import gru_factor, lstm_factor, minimal_factor
from study.theory.shaped import dks, tat, tat_leaky_relu

# --- Activations that are shaped for a depth -----------------------------------------------------

DEPTH = 50


def _shaped_gradient(row: Activation) -> Law:
    """The mean of ln G through 20 layers."""
    of = kind(row, 20, 1.0)
    law = first_order(of(1))
    return Law(
        measure=mean(of),
        sizes=(512, 1024, 2048),
        networks=150,
        limit=law.log_chi,
        offset=law.mean - law.log_chi,
        off=OFF,
    )


def _shaped_correlation(row: Activation, c_0: float) -> Law:
    """The mean correlation that two inputs have after `DEPTH` layers."""
    c = c_0
    for _ in range(DEPTH):
        c = float(theory.correlation_map(row, c, 1.0, 1.0))
    return Law(
        measure=lambda n, seeds: 1 - gaps(n, seeds, 1.0, c_0, DEPTH, row, 0.0)[:, -1],
        sizes=WIDE,
        networks=100,
        limit=c,
    )


# --- Convolutions along a circle of positions ----------------------------------------------------

TAPS = 3
FIELD_DEPTH = 6
# As many positions as the gradient at one of them reaches: none is reached on two ways.
CIRCLE = FIELD_DEPTH * (TAPS - 1) + 1


def _convolutions(weights: Weights, n: int, depth: int, activation: str, sigma_w: float) -> list:
    return [Circular(weights(TAPS * n, n, sigma_w), activation, TAPS) for _ in range(depth)]


def _convolved(n: int, seeds: range) -> np.ndarray:
    """ln of the factor of the squared gradient at 8 positions together, per layer from 30 to 10."""

    def of_some(weights: Weights) -> np.ndarray:
        layers = _convolutions(weights, n, 30, "tanh", 2.0)
        return _per_layer(layers, weights.normal(8, n), weights.normal(8, n), 10, 30)

    return side_by_side("convolutions", TAPS * 8 * n, seeds, of_some)


def _per_layer(
    layers: Sequence[Layer], r: np.ndarray, dr: np.ndarray, bottom: int, top: int
) -> np.ndarray:
    """ln of what the squared gradient gains per layer from r^(top) down to r^(bottom)."""
    logs = [log_square(dr), *(log_square(below) for below in gradients(layers, r, dr))][::-1]
    return (logs[bottom] - logs[top]) / (top - bottom)


def _spread(n: int, seeds: range) -> np.ndarray:
    """Sum of distance^2 ||dC/dr^(0)||^2 over positions, of a gradient of norm 1 at one of them."""
    away = np.arange(CIRCLE) - CIRCLE // 2

    def of_some(weights: Weights) -> np.ndarray:
        layers = _convolutions(weights, n, FIELD_DEPTH, "relu", HE)
        u = weights.normal(n)
        dr = np.zeros((len(u), CIRCLE, n))
        dr[:, CIRCLE // 2] = u / np.linalg.norm(u, axis=-1, keepdims=True)
        below = input_gradient(layers, weights.normal(CIRCLE, n), dr)
        return np.sum(below**2, axis=-1) @ away**2

    return side_by_side("receptive field", TAPS * CIRCLE * n, seeds, of_some)


# --- Recurrent cells -----------------------------------------------------------------------------

# What the inputs of a step add to a pre-activation: normals of variance 1.
Draw = Callable[[], np.ndarray]


def _tanh(matrices: list, inputs: Draw) -> Layer:
    return Dense(matrices[0], "tanh", b=inputs())


def _minimal(matrices: list, inputs: Draw) -> Layer:
    return Minimal(Dense(matrices[0], "sigmoid", b=inputs()), inputs())


def _gru(matrices: list, inputs: Draw) -> Layer:
    gates = [Dense(W, "sigmoid", b=inputs()) for W in matrices[:2]]
    return GRU([*gates, Linear(matrices[2])], inputs())


def _lstm(matrices: list, inputs: Draw) -> Layer:
    kinds = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    pairs = zip(matrices, kinds, strict=True)
    return LSTM([Dense(W, kind, b=inputs()) for W, kind in pairs])


GATES = {_tanh: 1, _minimal: 1, _gru: 3, _lstm: 4}


def _plain_factor(sigma_w: float) -> float:
    return theory.mean_field("tanh", sigma_w, 1.0).chi


def _recurrent(
    cell: Callable, factor: Callable, sigma_w: float, networks: int, tied: bool, differs: bool
) -> Law:
    """ln of the factor of the squared gradient, per step from 32 to 12 of 40."""
    gates = range(GATES[cell])

    def measure(n: int, seeds: range) -> np.ndarray:
        def of_some(weights: Weights) -> np.ndarray:
            def inputs() -> np.ndarray:
                return weights.normal(1, n)

            def drawn() -> list:
                return [weights(n, n, sigma_w) for _ in gates]

            scale = sigma_w / math.sqrt(n)
            kept = [scale * weights.normal(n, n) for _ in gates if tied]
            layers = [cell(kept or drawn(), inputs) for _ in range(40)]
            units = 2 * n if cell is _lstm else n
            return _per_layer(layers, weights.normal(1, units), weights.normal(1, units), 12, 32)

        size = n * n if tied else n
        return side_by_side("recurrent", GATES[cell] * size, seeds, of_some)

    return Law(
        measure=measure,
        sizes=(64, 128, 256) if tied else WIDE,
        networks=networks,
        limit=math.log(factor(sigma_w)),
        differs=differs,
    )


def _untied(cell: Callable, factor: Callable, networks: int) -> Law:
    return _recurrent(cell, factor, 2.0, networks, tied=False, differs=False)


def _tied(cell: Callable, factor: Callable, networks: int) -> Law:
    return _recurrent(cell, factor, 2.0, networks, tied=True, differs=True)


LAWS = {
    "shaped tanh gradient": _shaped_gradient(dks("tanh", 20)),
    "shaped tanh correlation": _shaped_correlation(dks("tanh", DEPTH), 0.8),
    "tailored gelu gradient": _shaped_gradient(tat("gelu", 20)),
    "tailored leaky relu": _shaped_correlation(tat_leaky_relu(DEPTH), 0.0),
    "convolution chaos": Law(
        measure=_convolved, sizes=(64, 128, 256), networks=60, limit=log_chi("tanh", 2.0)
    ),
    "receptive field": Law(
        measure=_spread,
        sizes=(16, 32, 64),
        networks=1000,
        exact=lambda n: FIELD_DEPTH * (TAPS**2 - 1) / 12,
    ),
    "tied tanh": _recurrent(_tanh, _plain_factor, 1.0, 100, tied=True, differs=False),
    "minimal rnn": _untied(_minimal, minimal_factor, 100),
    "tied minimal rnn": _tied(_minimal, minimal_factor, 100),
    "gru": _untied(_gru, gru_factor, 60),
    "tied gru": _tied(_gru, gru_factor, 30),
    "lstm": _untied(_lstm, lstm_factor, 60),
    "tied lstm": _tied(_lstm, lstm_factor, 30),
}
