"""Blocks beyond a plain layer: normalisation over batch or units, and residual branches.

A :class:`Block` is one layer, or one residual branch, forward and backward, on arrays (...,
batch, units):

    layer              r -> phi(norm(sigma_w r W))
    residual block     r -> r + alpha sigma_v phi(norm(sigma_w r W)) V

where norm is nothing, batch normalisation, x = (z - mean z) / std z over the batch, of each unit,
or layer normalisation, the same over the units, of each example. The statistics of a normalisation
depend on z, and so are differentiated, too: with x and std as above and <.> their mean over the
same axis,

    dC/dz = (dC/dx - <dC/dx> - x <x dC/dx>) / std            (Ioffe and Szegedy 2015, section 3)

There is no epsilon: a unit that is the same for the whole batch is an error, not a zero.

Gradients are rescaled by powers of two on their way down and do not leave the float range. Signals
are not: undamped ReLU branches double the squared signal, and leave it after 2,000 blocks.

>>> z = np.array([[1.0, 2.0], [3.0, 8.0]])
>>> x, std = normalise(z, BATCH)
>>> x.tolist(), std.tolist()
([[-1.0, -1.0], [1.0, 1.0]], [[1.0, 3.0]])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from study.arithmetic.scaled import LOG10_2, ldexp
from study.core.activations import Array
from study.core.activations import activation as activation_row

BATCH, UNITS = -2, -1
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


class Trace(NamedTuple):
    """What a block's backward pass needs of its forward pass."""

    slope: Array
    """phi'(x)."""
    x: Array | None
    """The normalised pre-activations; None without normalisation."""
    std: Array | None


@dataclass(frozen=True)
class Block:
    """A kind of block; see the module.

    Parameters
    ----------
    activation : str
        A row of the table.
    axis : `BATCH`, `UNITS` or None
        What is normalised over; None: nothing is.
    residual : bool
        Whether the block is a branch beside a skip connection, with a second matrix.
    sigma_w, sigma_v : float
        Factors of the first matrix and of the second.
    frozen : bool
        Take the statistics of a normalisation for constants on the way back.
    """

    activation: str = "relu"
    axis: int | None = None
    residual: bool = False
    sigma_w: float = 1.0
    sigma_v: float = 1.0
    frozen: bool = False

    def forward(
        self,
        r: Array,
        W: Array,
        V: Array | None = None,
        alpha: float | Array = 1.0,
        slope: Array | None = None,
    ) -> tuple[Array, Trace]:
        """The block's output, and its trace; ``slope`` stands in for phi' if it is given."""
        row = activation_row(self.activation)
        x, std = _times(r, W) * r.dtype.type(self.sigma_w), None
        if self.axis is not None:
            x, std = normalise(x, self.axis)
        slope = row.derivative(x) if slope is None else slope
        trace = Trace(slope, None if std is None else x, std)
        if not self.residual:
            return row.phi(x), trace
        return r + self._weight(alpha, r) * _times(row.phi(x), V), trace

    def backward(
        self,
        dr: Array,
        trace: Trace,
        W: Array,
        V: Array | None = None,
        alpha: float | Array = 1.0,
    ) -> Array:
        """dC/dr before the block, from dC/dr behind it."""
        down = self._weight(alpha, dr) * _times(dr, V.T) if self.residual else dr
        down = _times(self.before_weights(down, trace), W.T) * dr.dtype.type(self.sigma_w)
        return dr + down if self.residual else down

    def before_weights(self, dx: Array, trace: Trace) -> Array:
        """dC/d(sigma_w r W), from dC/dphi."""
        dx = dx * trace.slope
        if self.axis is None:
            return dx
        if self.frozen:
            return dx / trace.std
        return normalise_backward(trace.x, trace.std, dx, self.axis)

    def _weight(self, alpha: float | Array, like: Array) -> Array:
        return np.asarray(alpha * self.sigma_v, like.dtype)


def _times(r: Array, W: Array) -> Array:
    """r W as one matrix product, however many axes lead."""
    return (r.reshape(-1, r.shape[-1]) @ W).reshape(*r.shape[:-1], W.shape[1])


class Gradients(NamedTuple):
    """dC/dr^(0) of several networks, ``mantissa * 2**exponent``."""

    mantissa: Array
    """(networks, batch, units)."""
    exponent: Array
    """(networks,), int64."""

    def log10_norms(self) -> Array:
        """Base-10 logarithm of each network's Frobenius norm; -inf for a true zero."""
        rows = self.mantissa.reshape(len(self.mantissa), -1).astype(np.float64)
        with np.errstate(divide="ignore"):
            return 0.5 * np.log10(np.vecdot(rows, rows)) + self.exponent * LOG10_2


def input_gradients(
    block: Block,
    weights: Callable[[int], Array],
    depths: Sequence[int],
    inputs: Array,
    cotangent: Array,
    scales: Array | None = None,
    slopes: Callable[[int], Array] | None = None,
) -> Gradients:
    """dC/dr^(0) of networks that walk through the same blocks, each to a depth of its own.

    Parameters
    ----------
    block : Block
        Of which all consist.
    weights : callable
        k -> the k-th matrix, (n, n). Layer l = 0, 1, ... takes the l-th, residual block l those of
        2 l and 2 l + 1. Each is asked for twice, once on the way up and once on the way down.
    depths : sequence of int
        Numbers of blocks, one a network, none larger than the one before.
    inputs, cotangent : (batch, n) arrays
        r^(0), and dC/dr^(depth), of every network.
    scales : (networks, largest depth) array, optional
        alpha of each residual block; 1 if not given.
    slopes : callable, optional
        l -> the slopes (batch, n) that block l has instead of phi'.

    Examples
    --------
    Undamped residual branches double the squared gradient, a block:

    >>> draw = np.random.default_rng(0).standard_normal((60, 200, 200)) / 200**0.5
    >>> r, dr = np.random.default_rng(1).standard_normal((2, 1, 200))
    >>> block = Block("relu", residual=True, sigma_w=2**0.5)
    >>> found = input_gradients(block, draw.__getitem__, [30, 10], r, dr).log10_norms()
    >>> bool(abs(found[0] - found[1] - 20 * np.log10(2) / 2) < 0.2)
    True
    """
    depths = np.asarray(depths)
    if np.any(np.diff(depths) > 0) or depths[-1] < 1:
        raise ValueError(f"depths = {depths}; allowed: at least 1, none above the one before")
    ones = np.ones((len(depths), depths[0]))
    scales = (ones if scales is None else np.asarray(scales))[..., None, None]

    def matrices(k: int) -> tuple[Array, ...]:
        return (weights(2 * k), weights(2 * k + 1)) if block.residual else (weights(k), None)

    r = np.repeat(inputs[None], len(depths), axis=0)
    traces = []
    for k in range(depths[0]):
        alive = int(np.sum(depths > k))
        slope = None if slopes is None else slopes(k)
        r, trace = block.forward(r[:alive], *matrices(k), scales[:alive, k], slope)
        traces.append(trace)
    dr, exponent = cotangent[None][:0], np.zeros(len(depths), np.int64)
    for k in reversed(range(depths[0])):
        new = int(np.sum(depths > k)) - len(dr)
        dr = np.concatenate([dr, np.repeat(cotangent[None], new, axis=0)])
        dr = block.backward(dr, traces.pop(), *matrices(k), scales[: len(dr), k])
        dr, shift = _rescaled(dr)
        exponent[: len(dr)] += shift
    return Gradients(dr, exponent)


def log10_decays(
    block: Block,
    weights: Callable[[int], Array],
    scales: Sequence[Array],
    inputs: Array,
    cotangent: Array,
) -> Array:
    """log10 of ||dC/dr^(0)|| / ||dC/dr^(L)|| of networks side by side, Frobenius norms.

    Parameters
    ----------
    block, weights, inputs, cotangent
        As in :func:`input_gradients`.
    scales : sequence of (L,) arrays
        One a network, in any order: the branch scales of its L blocks. Where there are no
        branches, only their number counts.

    Examples
    --------
    >>> W, dr = np.full((1, 1), 0.1), np.ones((1, 1))
    >>> log10_decays(Block("linear"), lambda _: W, [np.ones(2), np.ones(500)], dr, dr).round(9)
    array([  -2., -500.])
    """
    depths = np.array([len(own) for own in scales])
    order = np.argsort(-depths, kind="stable")
    padded = np.ones((len(scales), depths.max()))
    for row, j in zip(padded, order, strict=True):
        row[: depths[j]] = scales[j]
    found = np.empty(len(scales))
    found[order] = input_gradients(
        block, weights, depths[order], inputs, cotangent, padded
    ).log10_norms()
    return found - 0.5 * math.log10(np.vdot(cotangent, cotangent))


def gradient_overlaps(
    block: Block,
    weights: Callable[[int], Array],
    depths: Sequence[int],
    inputs: Array,
    cotangents: Array,
    slopes: Callable[[int], Array] | None = None,
) -> tuple[Array, Array]:
    """Mean <g_i, g_j> of the gradients at two different inputs, and mean ||g_i||^2, by network.

    Parameters
    ----------
    block, weights, depths, slopes
        As in :func:`input_gradients`; a batch there is inputs times cotangents, cotangent by
        cotangent. A batch normalisation takes it for its batch.
    inputs : (count, n) array
    cotangents : (m, n) array
        Each is the same for all inputs.

    Returns
    -------
    two (networks,) arrays
        Over pairs of inputs and over cotangents; squared norms.

    Examples
    --------
    A linear network has one gradient, whatever its input:

    >>> W, x, u = np.random.default_rng(0).standard_normal((3, 5, 5))
    >>> covariance, variance = gradient_overlaps(Block("linear"), lambda _: W, [3, 1], x[:4], u)
    >>> bool(np.allclose(covariance, variance))
    True
    """
    count, m = len(inputs), len(cotangents)
    x, dr = np.tile(inputs, (m, 1)), np.repeat(cotangents, count, axis=0)
    found = input_gradients(block, weights, depths, x, dr, slopes=slopes)
    g = found.mantissa.astype(np.float64).reshape(len(depths), m, count, -1)
    own = np.sum(g**2, axis=(1, 2, 3)) / (m * count)
    together = np.sum(np.sum(g, axis=2) ** 2, axis=(1, 2)) / (m * count)
    scale = np.ldexp(1.0, 2 * found.exponent)
    return scale * (together - own) / (count - 1), scale * own


def _rescaled(dr: Array) -> tuple[Array, Array]:
    """Each network's array with its largest magnitude in [1/2, 1), and the exponents taken out."""
    _, shift = np.frexp(np.abs(dr).max(axis=(-2, -1)))
    shift = shift.astype(np.int64)
    with np.errstate(under="ignore"):
        return ldexp(dr, -shift[:, None, None]), shift


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
    block = Block(activation, axis)
    r, traces = inputs, []
    for W in weights:
        r, trace = block.forward(r, W)
        traces.append(trace)
    dr = cotangent
    logs = [log_square(dr)]
    for W, trace in zip(reversed(weights), reversed(traces), strict=True):
        dr = block.backward(dr, trace, W)
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
    block = Block(activation, residual=True)
    r, traces, signals = inputs, [], [log_square(inputs)]
    for (W, V), alpha in zip(branches, scales, strict=True):
        r, trace = block.forward(r, W, V, alpha)
        traces.append((trace, W, V, alpha))
        signals.append(log_square(r))
    dr = cotangent
    logs = [log_square(dr)]
    for trace in reversed(traces):
        dr = block.backward(dr, *trace)
        logs.append(log_square(dr))
    return np.array(logs[::-1]), np.array(signals)


def all_gradients(
    block: Block, weights: Sequence[Array], inputs: Array, cotangent: Array
) -> list[Array]:
    """dC/dr^(0), then dC/dW^(k) of each layer, then dC/dr^(L): layers without skip connection.

    Parameters
    ----------
    block : Block
        Not residual.
    weights : sequence of (n_k, n_(k+1)) arrays
    inputs : (batch, n_0) array
    cotangent : (batch, n_L) array
        dC/dr^(L).

    Notes
    -----
    Nothing is rescaled here: for networks whose gradients stay in the float range.
    """
    r, passed = inputs, []
    for W in weights:
        above, trace = block.forward(r, W)
        passed.append((r, trace, W))
        r = above
    dr, found = cotangent, [cotangent]
    for r, trace, W in reversed(passed):
        delta = block.before_weights(dr, trace)
        found.append(block.sigma_w * r.T @ delta)
        dr = block.backward(dr, trace, W)
    return [dr, *found[:0:-1], cotangent]


def log_square(x: Array) -> float:
    """ln of the squared Frobenius norm."""
    return math.log(np.vdot(x, x))


def clipped(gradients: Sequence[Array], limit: float) -> list[Array]:
    """All gradients times min(1, limit / their common norm): clipping (Pascanu et al. 2013).

    >>> [g.tolist() for g in clipped([np.array([3.0]), np.array([0.0, 4.0])], 1.0)]
    [[0.6000000000000001], [0.0, 0.8]]
    """
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients))
    return [g * min(1.0, limit / norm) for g in gradients]
