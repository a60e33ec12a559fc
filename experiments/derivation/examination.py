"""The three equations cross-examined: against their witnesses, and with phi' exchanged.

How far the equations may be from a witness is known: a sum of n products is right to n u and phi
to a few u, forwards and backwards, in the equations and in the witness, as if the weights were
moved by that. The layers' errors add up, or grow as the network's condition has it (`rounding`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.derivation import witness
from experiments.derivation.witness import UNIT_ROUNDOFF, relative_error
from study.arithmetic.nonlinearity import Block
from study.arithmetic.scaled import Scaled, log10_ratio, settle
from study.core.activations import TABLE, Array
from study.engines import explicit
from study.engines.measures import Measures
from study.sampling import gaussian

ERRORS = {
    "error_complex": "equations (1) to (3) against complex steps (of 2^-100, but for log2_step): "
    "relative error of dC/dW^(k) in the Frobenius norm, worst layer [1]",
    "error_norm": "the same of the recorded norms [1]",
    "error_difference": "equations against central differences (of 2^(-53/3), but for log2_step), "
    "all layers as one vector [1]",
    "error_difference_first": "the same of dC/dW^(0) alone [1]",
    "excluded": "share of weights whose central difference crosses a kink, left out [1]",
    "condition": "relative change of dC/dW^(k), worst layer, beside that of the weights, moved at "
    "random [1]",
    "cost_over_gradient": "C beside the norm of its gradient, all layers as one vector [1]",
}
"""What `against_witnesses` returns."""

EXCHANGED = {
    "code": "activation whose backward pass is run on them [-]",
    "layers_differing": "layers whose gradient norm is not bit for bit that of the signals' own "
    "network when phi' alone is replaced by theirs in the code [layers]",
    "log10_off": "‖dC/dW^(0)‖ by the code as it is, beside that of the signals' network [log10]",
}
"""What `with_slopes_exchanged` yields, of the network whose signals are given."""

MOVE = 2.0**-30
"""By how much weights are moved, relatively, to find a network's condition."""


def against_witnesses(
    weights: Sequence[Array],
    x: Array,
    y: Array,
    activation: str,
    complex_step: float = witness.COMPLEX_STEP,
    central_step: float = witness.CENTRAL_STEP,
) -> dict[str, float]:
    """Relative errors of the equations, and of the recorded norms, and what they depend on.

    Returns
    -------
    dict with the keys of `ERRORS`, which says what they mean.

    Examples
    --------
    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> against_witnesses([W], x, y, "relu")["error_complex"] < 2.0**-52
    True
    """
    ours = witness.equations(weights, x, y, activation)
    steps = witness.complex_step(weights, x, y, activation, complex_step)
    differences = witness.central_difference(weights, x, y, activation, central_step)
    df = explicit.backpropagate(weights, x, activation, targets=y)
    norms = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    layers = list(zip(ours, norms, steps, strict=True))
    return {
        "error_complex": max(relative_error([g], [t]) for g, _, t in layers),
        "error_norm": max(relative_error([n], [np.linalg.norm(t)]) for _, n, t in layers),
        "error_difference": relative_error(differences, ours),
        "error_difference_first": relative_error(differences[:1], ours[:1]),
        "excluded": float(np.isnan(differences).mean()),
        "condition": _condition(weights, x, y, activation, ours),
        "cost_over_gradient": _cost_over_gradient(weights, x, y, activation, ours),
    }


def _condition(weights, x, y, activation, ours) -> float:
    key = gaussian.key("move")
    moved = [W * (1 + MOVE * gaussian.normal(key, k, W.shape)) for k, W in enumerate(weights)]
    moved = witness.equations(moved, x, y, activation)
    return max(relative_error([m], [g]) for m, g in zip(moved, ours, strict=True)) / MOVE


def _cost_over_gradient(weights, x, y, activation, ours) -> float:
    r, size = x, np.linalg.norm(ours)
    for W in weights:
        r = TABLE[activation].phi(r @ W)
    return float(((r - y) ** 2).sum() / (2 * len(x)) / size) if size else np.inf


def rounding(width: int, depth, condition):
    """The relative error that rounding may cause: 4 (width + 4) u max(depth, condition)."""
    return 4 * (width + 4) * UNIT_ROUNDOFF * np.maximum(depth, condition)


def rounding_of_differences(width: int, depth, condition, cost_over_gradient):
    """The same of central differences: that error of the *cost*, divided by h = u^(1/3)."""
    of_cost = rounding(width, depth, condition) * UNIT_ROUNDOFF ** (-1 / 3)
    return of_cost * np.maximum(1, cost_over_gradient)


def with_slopes_exchanged(
    weights: Sequence[Array], x: Array, cotangent: Array, signals: str
) -> Iterator[dict]:
    """The backward pass of each activation on the signals r and z of one of them.

    Yields
    ------
    dict with the keys of `EXCHANGED`, for one activation after the other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W, x, dr = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    >>> {row["layers_differing"] for row in with_slopes_exchanged([W], x, dr, "sigmoid")}
    {0}
    """
    theirs, depth = TABLE[signals], len(weights)
    linear, record = explicit.Explicit(weights, None), Measures.empty(depth, 1, len(x))
    r, s = settle(x[None], 0)
    record.signal.put(0, s, 0)
    trace, _ = explicit.forward(linear, r, [Block(slice(0, 1), theirs, 1.0)], range(depth), record)

    def gradient(row) -> tuple:
        dr = Scaled(cotangent[None], 0)
        for stretch in reversed(trace):
            dr = explicit.backward(linear, stretch, dr, [Block(slice(0, 1), row, 1.0)], record)
        return record.gradient.norms()

    true = gradient(theirs)
    for code, row in TABLE.items():
        one = dataclasses.replace(row, prefactor=theirs.prefactor, decay=theirs.decay)
        differing = int(np.not_equal(gradient(one), true).any(axis=0).sum())
        off = float(log10_ratio(gradient(row), true)[0, 0])
        yield {"code": code, "layers_differing": differing, "log10_off": off}
