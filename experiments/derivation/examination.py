"""The three equations cross-examined: against their witnesses, and with phi' exchanged.

How far the equations may be from a witness is known: a sum of n products is right to n u and phi
to a few u, forwards and backwards, in the equations and in the witness, as if the weights were
moved by that. The layers' errors add up, or grow as the network's condition has it (`rounding`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

import study
from experiments.derivation import witness
from experiments.derivation.witness import UNIT_ROUNDOFF, relative_error
from study.core.activations import Activation, Array, activation
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
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


def equations(
    weights: Sequence[Array], x: Array, y: Array, name: str, kink: float = 1.0
) -> list[Array]:
    """dC/dW^(k) for every k by the three equations, on plain floats."""
    trace, r = forward([Dense(W, name, kink=kink) for W in weights], x)
    steps = backward(trace, (r - y) / len(y))
    return [weight_gradient(step.r, step.delta) for step in steps][::-1]


def against_witnesses(
    weights: Sequence[Array],
    x: Array,
    y: Array,
    name: str,
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
    ours = equations(weights, x, y, name)
    steps = witness.complex_step(weights, x, y, name, complex_step)
    differences = witness.central_difference(weights, x, y, name, central_step)
    df = study.backpropagate(weights, x, name, targets=y)
    norms = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    true_norms = [np.linalg.norm(true) for true in steps]
    return {
        "error_complex": worst_layer(ours, steps),
        "error_norm": worst_layer(norms, true_norms),
        "error_difference": relative_error(differences, ours),
        "error_difference_first": relative_error(differences[:1], ours[:1]),
        "excluded": float(np.isnan(differences).mean()),
        "condition": _condition(weights, x, y, name, ours),
        "cost_over_gradient": _cost_over_gradient(weights, x, y, name, ours),
    }


def worst_layer(found: Sequence[Array], true: Sequence[Array]) -> float:
    """The largest relative error of any layer."""
    return max(relative_error([f], [t]) for f, t in zip(found, true, strict=True))


def _condition(
    weights: Sequence[Array], x: Array, y: Array, name: str, ours: Sequence[Array]
) -> float:
    key = gaussian.key("move")
    moved = [W * (1 + MOVE * gaussian.normal(key, k, W.shape)) for k, W in enumerate(weights)]
    return worst_layer(equations(moved, x, y, name), ours) / MOVE


def _cost_over_gradient(
    weights: Sequence[Array], x: Array, y: Array, name: str, ours: Sequence[Array]
) -> float:
    _, r = forward([Dense(W, name) for W in weights], x)
    size = np.linalg.norm(ours)
    return float(((r - y) ** 2).sum() / (2 * len(x)) / size) if size else np.inf


def rounding(width: int, depth, condition):
    """The relative error that rounding may cause: 4 (width + 4) u max(depth, condition)."""
    return 4 * (width + 4) * UNIT_ROUNDOFF * np.maximum(depth, condition)


def rounding_of_differences(width: int, depth, condition, cost_over_gradient):
    """The same of central differences: that error of the *cost*, divided by h = u^(1/3)."""
    of_cost = rounding(width, depth, condition) * UNIT_ROUNDOFF ** (-1 / 3)
    return of_cost * np.maximum(1, cost_over_gradient)


def with_slopes_exchanged(
    weights: Sequence[Array], x: Array, cotangent: Array, signals: str, codes: Sequence[str]
) -> Iterator[dict]:
    """The backward pass of other activations on the signals r and z of one of them.

    Yields
    ------
    dict with the keys of `EXCHANGED`, for one activation after the other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W, x, dr = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    >>> rows = with_slopes_exchanged([W], x, dr, "sigmoid", ["relu", "tanh"])
    >>> [row["layers_differing"] for row in rows]
    [0, 0]
    """
    theirs = activation(signals)
    trace, _ = forward([Dense(W, theirs) for W in weights], x)

    def norms(row: Activation) -> Array:
        steps = [step._replace(layer=Dense(step.layer.W, row)) for step in trace]
        below = backward(steps, cotangent)
        return np.array([np.linalg.norm(weight_gradient(step.r, step.delta)) for step in below])

    true = norms(theirs)
    for code in codes:
        row = activation(code)
        # Everything of the code but its phi'.
        exchanged = dataclasses.replace(row, prefactor=theirs.prefactor, decay=theirs.decay)
        yield {
            "code": code,
            "layers_differing": int(np.count_nonzero(norms(exchanged) != true)),
            "log10_off": float(np.log10(norms(row)[-1] / true[-1])),
        }
