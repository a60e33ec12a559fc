"""Witnesses: the gradient entry by entry, by three ways that share no derivative with the core.

The core records norms. Here every entry of every dC/dW^(k) is found, of small networks, from

- the three equations as they are written, on plain floats (`equations`);
- complex steps, dC/dW = Im C(W + ih) / h + O(h^2): nothing cancels, so h may be 2^-100 and the
  result is right to rounding (Squire & Trapp 1998);
- central differences, (C(W + h) - C(W - h)) / 2h: truncation of order h^2 and rounding of order
  u / h, u the unit roundoff, so that u^(2/3) is what they can reach, at h = u^(1/3).

The last two know phi alone, by its textbook formula, never phi'. Each entry costs a forward pass of
its own, so a network of P weights takes P times as long as one pass: keep it narrow.
C is the batch mean of 1/2 |r - y|^2, weights are (n_in, n_out), examples are rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from study.core.activations import LEAKY_SLOPE, SELU_ALPHA, SELU_LAMBDA, Array
from study.core.activations import activation as activation_row

UNIT_ROUNDOFF = 2.0**-53
COMPLEX_STEP, CENTRAL_STEP = 2.0**-100, UNIT_ROUNDOFF ** (1 / 3)


def _soft_exponential(z: Array, alpha: float) -> Array:
    return np.where(z.real >= 0, z, alpha * np.expm1(np.where(z.real >= 0, 0, z)))


# Analytic off the kinks, so that they take complex numbers; the real part picks the side.
TEXTBOOK = {
    "relu": lambda z: np.where(z.real >= 0, z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "linear": lambda z: z,
    "leaky_relu": lambda z: np.where(z.real >= 0, z, LEAKY_SLOPE * z),
    "selu": lambda z: SELU_LAMBDA * _soft_exponential(z, SELU_ALPHA),
    "elu": lambda z: _soft_exponential(z, 1.0),
    "gelu": lambda z: z * (1 + special.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "hard_tanh": lambda z: np.where(z.real >= 1, 1, np.where(z.real >= -1, z, -1)),
    "erf": lambda z: special.erf(math.sqrt(math.pi) / 2 * z),
}


def equations(
    weights: Sequence[Array], x: Array, y: Array, activation: str, kink: float = 1.0
) -> list[Array]:
    """dC/dW^(k) for every k by equations (1) to (3) of `study.engines.explicit`, on plain floats.

    One neuron in closed form, dC/dW = (ReLU(Wx) - y) Step(Wx) x, at x = 3, W = 2, y = 1:

    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> equations([W], x, y, "relu")
    [array([[15.]])]
    """
    row = activation_row(activation)
    r, z = [x], []
    for W in weights:
        z.append(r[-1] @ W)
        r.append(row.phi(z[-1]))
    dr, gradients = (r[-1] - y) / len(y), []
    for k in reversed(range(len(weights))):
        delta = dr * row.derivative(z[k], kink)  # (1)
        dr = delta @ weights[k].T  # (2)
        gradients.append(r[k].T @ delta)  # (3)
    return gradients[::-1]


def complex_step(
    weights: Sequence[Array], x: Array, y: Array, activation: str, step: float = COMPLEX_STEP
) -> list[Array]:
    """dC/dW^(k) for every k by complex steps; on a kink, the slope to its right.

    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> complex_step([W], x, y, "relu")
    [array([[15.]])]
    """
    with np.errstate(under="ignore"):  # step^2 vanishes beside 1, as it should
        return [
            _costs(weights, k, z, y, activation)[0][0].imag / step
            for k, z in _moved(weights, x, activation, np.array([1j * step]))
        ]


def central_difference(
    weights: Sequence[Array], x: Array, y: Array, activation: str, step: float = CENTRAL_STEP
) -> list[Array]:
    """dC/dW^(k) for every k by central differences; NaN where the step takes a z across a kink.

    >>> W, x, y = np.array([[2.0]]), np.array([[3.0]]), np.array([[1.0]])
    >>> central_difference([W], x, y, "relu", step=2.0**-10)
    [array([[15.]])]
    """
    gradients = []
    for k, z in _moved(weights, x, activation, np.array([step, -step])):
        with np.errstate(under="ignore"):
            costs, sides = _costs(weights, k, z, y, activation)
        crossed = (sides[0] != sides[1]).any(axis=-1)
        gradients.append(np.where(crossed, np.nan, (costs[0] - costs[1]) / (2 * step)))
    return gradients


def relative_error(found: Sequence[Array], true: Sequence[Array]) -> float:
    """Frobenius norm of ``found - true`` beside that of ``true``, NaN entries of found left out.

    0 where they are equal, infinite where only ``true`` is 0; NaN if no entry of found is known.

    >>> relative_error([np.array([3.0, np.nan])], [np.array([4.0, 7.0])])
    0.25
    """
    found, true = (np.concatenate([np.ravel(part) for part in parts]) for parts in (found, true))
    known = ~np.isnan(found)
    if not known.any():
        return math.nan
    off, size = (float(np.linalg.norm(v)) for v in (found[known] - true[known], true[known]))
    if off == 0:
        return 0.0
    return off / size if size > 0 else math.inf


def _moved(weights: Sequence[Array], x: Array, activation: str, steps: Array):
    """For each layer k: z^(k+1), (steps, n_in, n_out, batch, n_out), each weight moved alone."""
    r = x
    for k, W in enumerate(weights):
        z = r @ W
        by = r.T[:, None, :, None] * np.eye(W.shape[1])[:, None, :]  # W_ij moves z_j alone, by r_i
        yield k, z + steps[:, None, None, None, None] * by
        r = TEXTBOOK[activation](z)


def _costs(weights: Sequence[Array], k: int, z: Array, y: Array, activation: str) -> tuple:
    """The cost, given z^(k+1); and on which sides of the kinks all later z are (last axis)."""
    # ELU's second derivative jumps at 0
    bends = np.array((0.0,) if activation == "elu" else activation_row(activation).kinks)
    sides = []
    for W in [*weights[k + 1 :], None]:
        side = z.real[..., None] >= bends
        sides.append(side.reshape(*z.shape[:3], z[0, 0, 0].size * len(bends)))
        r = TEXTBOOK[activation](z)
        if W is not None:
            z = r @ W
    costs = 0.5 * ((r - y) ** 2).sum(axis=(-1, -2)) / len(y)
    return costs, np.concatenate(sides, axis=-1)
