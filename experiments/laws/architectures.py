"""Laws of shaped activations, convolutions and recurrent cells: Martens, Zhang; Xiao, Luo; Chen.

Positions are rows that one matrix, of taps x channels by channels, meets. Where mean-field theory
has a cell's weights drawn anew at each step, no matrix is formed either; tied ones are matrices.
"""

import math
from collections.abc import Callable

import numpy as np

from experiments.laws.finite_width import kind, mean
from experiments.laws.law import OFF, WIDE, Law
from experiments.laws.mean_field import gaps
from experiments.laws.walks import (
    HE,
    Weights,
    first_order,
    input_gradient,
    log_chi,
    log_gradients,
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
        offset=law.shift,
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


@side_by_side("convolutions", lambda n: TAPS * 8 * n)
def _convolved(weights: Weights, n: int) -> np.ndarray:
    """ln of the factor of the squared gradient at 8 positions together, per layer from 30 to 10."""
    logs = log_gradients(_convolutions(weights, n, 30, "tanh", 2.0), *weights.ends(8, n))
    return (logs[10] - logs[30]) / 20


@side_by_side("receptive field", lambda n: TAPS * CIRCLE * n)
def _spread(weights: Weights, n: int) -> np.ndarray:
    """Sum of distance^2 ||dC/dr^(0)||^2 over positions, of a gradient of norm 1 at one of them."""
    away = np.arange(CIRCLE) - CIRCLE // 2
    layers = _convolutions(weights, n, FIELD_DEPTH, "relu", HE)
    u = weights.normal(n)
    dr = np.zeros((len(u), CIRCLE, n))
    dr[:, CIRCLE // 2] = u / np.linalg.norm(u, axis=-1, keepdims=True)
    below = input_gradient(layers, weights.normal(CIRCLE, n), dr)
    return np.sum(below**2, axis=-1) @ away**2


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


def _recurrent(
    cell: Callable,
    factor: Callable,
    sigma_w: float,
    networks: int,
    tied: bool = False,
    differs: bool = False,
) -> Law:
    """ln of the factor of the squared gradient, per step from 32 to 12 of 40."""
    gates = GATES[cell]

    @side_by_side("recurrent", lambda n: gates * (n * n if tied else n))
    def measure(weights: Weights, n: int) -> np.ndarray:
        def inputs() -> np.ndarray:
            return weights.normal(1, n)

        def drawn() -> list:
            return [weights(n, n, sigma_w) for _ in range(gates)]

        scale = sigma_w / math.sqrt(n)
        kept = [scale * weights.normal(n, n) for _ in range(gates) if tied]
        layers = [cell(kept or drawn(), inputs) for _ in range(40)]
        units = 2 * n if cell is _lstm else n  # its state is h and c
        logs = log_gradients(layers, *weights.ends(1, units))
        return (logs[12] - logs[32]) / 20

    return Law(
        measure=measure,
        sizes=Law.sizes if tied else WIDE,
        networks=networks,
        limit=math.log(factor(sigma_w)),
        differs=differs,
    )


LAWS = {
    "shaped tanh gradient": _shaped_gradient(dks("tanh", 20)),
    "shaped tanh correlation": _shaped_correlation(dks("tanh", DEPTH), 0.8),
    "tailored gelu gradient": _shaped_gradient(tat("gelu", 20)),
    "tailored leaky relu": _shaped_correlation(tat_leaky_relu(DEPTH), 0.0),
    "convolution chaos": Law(measure=_convolved, networks=60, limit=log_chi("tanh", 2.0)),
    "receptive field": Law(
        measure=_spread,
        sizes=(16, 32, 64),
        networks=1000,
        exact=lambda n: FIELD_DEPTH * (TAPS**2 - 1) / 12,
    ),
    "tied tanh": _recurrent(
        _tanh, lambda sigma_w: theory.mean_field("tanh", sigma_w, 1.0).chi, 1.0, 100, tied=True
    ),
    "minimal rnn": _recurrent(_minimal, minimal_factor, 2.0, 100),
    "tied minimal rnn": _recurrent(_minimal, minimal_factor, 2.0, 100, tied=True, differs=True),
    "gru": _recurrent(_gru, gru_factor, 2.0, 60),
    "tied gru": _recurrent(_gru, gru_factor, 2.0, 30, tied=True, differs=True),
    "lstm": _recurrent(_lstm, lstm_factor, 2.0, 60),
    "tied lstm": _recurrent(_lstm, lstm_factor, 2.0, 30, tied=True, differs=True),
}
