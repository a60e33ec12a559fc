"""Blocks beyond a plain layer: normalisation over batch or units, and residual branches.

Each block is two functions, forward and backward, on arrays (batch, units). Nothing is rescaled
here (see ``scaled`` for that): for chains of some dozen blocks, in float64.

    batch normalisation    x = (z - mean z) / std z, over the batch, of each unit
    layer normalisation    the same over the units, of each example
    residual block         r -> r + alpha phi(r W) V

The statistics of a normalisation depend on z, and so are differentiated, too: with x and std as
above and <.> their mean over the same axis,

    dC/dz = (dC/dx - <dC/dx> - x <x dC/dx>) / std            (Ioffe and Szegedy 2015, section 3)

There is no epsilon: a unit that is the same for the whole batch is an error, not a zero.

>>> z = np.array([[1.0, 2.0], [3.0, 8.0]])
>>> x, std = normalise(z, BATCH)
>>> x.tolist(), std.tolist()
([[-1.0, -1.0], [1.0, 1.0]], [[1.0, 3.0]])
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from study.activations import Array
from study.activations import activation as activation_row

BATCH, UNITS = 0, 1
"""The axis of batch normalisation, and that of layer normalisation."""


def normalise(z: Array, axis: int) -> tuple[Array, Array]:
    """``z`` less its mean along the axis, over its standard deviation; and that deviation."""
    centred = z - z.mean(axis=axis, keepdims=True)
    std = np.sqrt(np.mean(centred**2, axis=axis, keepdims=True))
    if not np.all(std > 0):
        raise ValueError(f"z does not vary along axis {axis}; allowed: a positive deviation")
    return centred / std, std


def normalise_backward(x: Array, std: Array, dx: Array, axis: int) -> Array:
    """dC/dz, given what :func:`normalise` returned and dC/dx."""
    mean = dx.mean(axis=axis, keepdims=True)
    along = (x * dx).mean(axis=axis, keepdims=True)
    return (dx - mean - x * along) / std


def normalised_gradients(
    activation: str, weights: Sequence[Array], inputs: Array, cotangent: Array, axis: int
) -> Array:
    """ln ||dC/dr^(k)||^2, k = 0, ..., L, of r -> phi(normalise(r W)), Frobenius norms.

    Parameters
    ----------
    activation : str
        A row of the table.
    weights : sequence of (n_k, n_(k+1)) arrays
    inputs : (batch, n_0) array
    cotangent : (batch, n_L) array
        dC/dr^(L).
    axis : int
        `BATCH` or `UNITS`.
    """
    row = activation_row(activation)
    r, trace = inputs, []
    for W in weights:
        x, std = normalise(r @ W, axis)
        trace.append((W, x, std))
        r = row.phi(x)
    dr = cotangent
    logs = [log_square(dr)]
    for W, x, std in reversed(trace):
        dr = normalise_backward(x, std, dr * row.derivative(x), axis) @ W.T
        logs.append(log_square(dr))
    return np.array(logs[::-1])


def residual_gradients(
    activation: str,
    branches: Sequence[tuple[Array, Array]],
    scales: Sequence[float],
    inputs: Array,
    cotangent: Array,
) -> tuple[Array, Array]:
    """ln ||dC/dr^(k)||^2 and ln ||r^(k)||^2, k = 0, ..., L, of r -> r + alpha phi(r W) V.

    Parameters
    ----------
    activation : str
        A row of the table.
    branches : sequence of (W, V)
        W of shape (n, m), V of shape (m, n).
    scales : sequence of float
        alpha, one a block.
    inputs, cotangent : (batch, n) arrays
        r^(0) and dC/dr^(L).
    """
    row = activation_row(activation)
    r, trace, signals = inputs, [], [log_square(inputs)]
    for (W, V), alpha in zip(branches, scales, strict=True):
        z = r @ W
        trace.append((W, V, alpha, z))
        r = r + alpha * (row.phi(z) @ V)
        signals.append(log_square(r))
    dr = cotangent
    logs = [log_square(dr)]
    for W, V, alpha, z in reversed(trace):
        dr = dr + alpha * ((dr @ V.T) * row.derivative(z)) @ W.T
        logs.append(log_square(dr))
    return np.array(logs[::-1]), np.array(signals)


def log_square(x: Array) -> float:
    """ln of the squared Frobenius norm."""
    return math.log(np.vdot(x, x))
