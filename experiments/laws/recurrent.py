"""Laws of recurrent networks: Chen, Gilboa; weights that are tied over the steps, and gates.

What a step back does to ln of the squared gradient. Where weights are drawn anew at each step, as
mean-field theory has it, no matrix is needed; tied ones are matrices.
"""

import math
from collections.abc import Callable

import numpy as np

from experiments.laws.law import Law
from experiments.laws.walks import Weights, gradients, log_square, side_by_side
from study import theory
from study.core.backprop import Layer
from study.core.blocks import Dense, Linear
from study.core.cells import GRU, LSTM, Minimal
from study.theory.recurrent import gru_factor, lstm_factor, minimal_factor

STEPS = 40
TOP = 32
BOTTOM = 12
"""The gradient is followed from r^(TOP) back to r^(BOTTOM): state and gradient have settled."""

Draw = Callable[[], np.ndarray]


def _tanh(matrices: list, inputs: Draw) -> Layer:
    return Dense(matrices[0], "tanh", b=inputs())


def _minimal(matrices: list, inputs: Draw) -> Layer:
    return Minimal(Dense(matrices[0], "sigmoid", b=inputs()), inputs())


def _gru(matrices: list, inputs: Draw) -> Layer:
    update, reset, candidate = matrices
    gates = [Dense(W, "sigmoid", b=inputs()) for W in (update, reset)]
    return GRU([*gates, Linear(candidate)], inputs())


def _lstm(matrices: list, inputs: Draw) -> Layer:
    kinds = ("sigmoid", "sigmoid", "tanh", "sigmoid")
    pairs = zip(matrices, kinds, strict=True)
    return LSTM([Dense(W, kind, b=inputs()) for W, kind in pairs])


GATES = {_tanh: 1, _minimal: 1, _gru: 3, _lstm: 4}


def _rate(cell: Callable, sigma_w: float, tied: bool) -> Callable:
    """ln of the factor of the squared gradient, per step."""

    def measure(n: int, seeds: range) -> np.ndarray:
        def of_some(weights: Weights) -> np.ndarray:
            def inputs() -> np.ndarray:
                return weights.normal(1, n)

            def drawn() -> list:
                return [weights(n, n, sigma_w) for _ in range(GATES[cell])]

            def matrices() -> list:
                scale = sigma_w / math.sqrt(n)
                return [scale * weights.normal(n, n) for _ in range(GATES[cell])]

            kept = matrices() if tied else None
            layers = [cell(kept or drawn(), inputs) for _ in range(STEPS)]
            units = 2 * n if cell is _lstm else n
            r, dr = weights.normal(1, units), weights.normal(1, units)
            logs = [log_square(below) for below in gradients(layers, r, dr)][::-1]
            return (logs[BOTTOM] - logs[TOP]) / (TOP - BOTTOM)

        size = n * n if tied else n
        return side_by_side("recurrent", GATES[cell] * size, seeds, of_some)

    return measure


def _law(cell: Callable, factor: Callable, sigma_w: float, tied: bool = False, **more) -> Law:
    return Law(
        measure=_rate(cell, sigma_w, tied),
        sizes=(64, 128, 256) if tied else (128, 256, 512),
        limit=math.log(factor(sigma_w)),
        **more,
    )


def _plain_factor(sigma_w: float) -> float:
    return theory.mean_field("tanh", sigma_w, 1.0).chi


LAWS = {
    "tied tanh": _law(_tanh, _plain_factor, 1.0, tied=True, networks=100),
    "minimal rnn": _law(_minimal, minimal_factor, 2.0, networks=100),
    "tied minimal rnn": _law(_minimal, minimal_factor, 2.0, tied=True, networks=100, differs=True),
    "gru": _law(_gru, gru_factor, 2.0, networks=60),
    "tied gru": _law(_gru, gru_factor, 2.0, tied=True, networks=30, differs=True),
    "lstm": _law(_lstm, lstm_factor, 2.0, networks=60),
    "tied lstm": _law(_lstm, lstm_factor, 2.0, tied=True, networks=30, differs=True),
}
