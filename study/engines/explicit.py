"""The three equations of backpropagation, on any number of networks side by side.

For layer k with outputs r^(k+1) = phi(z^(k+1)), z^(k+1) = r^(k) W^(k) + b^(k) and a cost C,

    (1)  dC/dz^(k+1) = dC/dr^(k+1) * phi'(z^(k+1))     the only place where phi' enters
    (2)  dC/dr^(k)   = dC/dz^(k+1) W^(k)'
    (3)  dC/dW^(k)   = r^(k)' dC/dz^(k+1)

(Rumelhart, Hinton & Williams 1986, batched by rows.) In the code ``r, z, W, b`` are
these, ``dr`` is dC/dr^(k) and ``delta`` is dC/dz^(k+1). Signals have shape (networks, batch,
units). Each row carries a power-of-two exponent (see ``scaled``), so no norm leaves the range at
any depth, while in range every number is, bit for bit, what plain backpropagation gives.

What multiplies by W^(k) is left to a ``Linear``, so explicit weights, weights drawn on the fly and
weights that exist only in law go through the same equations. Layers are run a few ahead before
their norms are looked at, which keeps small networks fast: from the first layer whose norm has
left the range on, they are run again, rescaled.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from study.arithmetic.nonlinearity import Block, active_fraction, derivative, phi, rescued, revived
from study.arithmetic.scaled import (
    Array,
    Scaled,
    add,
    foreseen,
    inside,
    log10,
    norm,
    settle,
    settle_matrix,
    shifted,
    stacked,
    sum_of_squares,
)
from study.checks import array, bad, items, one_of, real
from study.core.activations import activation as activation_row
from study.core.network import DTYPES
from study.engines.measures import Measures, frame, gradient_square
from study.sampling import gaussian


class Pace:
    """How many layers are run before their norms are looked at."""

    def __init__(self) -> None:
        self.layers = 1
        self.longest = 1
        """The most layers that were run at once, since norms last left the range unforeseen."""

    def learn(
        self, asked: int, done: int, start: Array, end: Array, settled: Array, dtype: np.dtype
    ) -> None:
        """Go on from ``settled`` as far as norms will stay in range, if they go on as they did.

        No leap from a few layers, which foretell little: at most twice the longest run so far.
        """
        self.longest = max(self.longest, done) if done == asked else done
        ahead = foreseen(start, end, done, settled, dtype)
        self.layers = max(1, min(2 * self.longest, ahead))


class Linear(Protocol):
    """Multiplies by W^(k), and by its transpose, up to the power of two ``exponent(k)``."""

    most: int
    """How many layers may be run before their norms are looked at, at most."""
    pace: Pace
    """How many are; `forward` and `backward` tell it how norms drift."""

    def forward(self, k: int, r: Array, out: Array) -> None: ...
    def backward(self, k: int, delta: Array, out: Array) -> None: ...
    def exponent(self, k: int) -> int: ...
    def bias(self, k: int) -> Array | None: ...
    def width(self, k: int) -> int:
        """The number of units of r^(k)."""


class Explicit:
    """Weights that are given: matrices (n_k, n_{k+1}) of one network."""

    most = 32

    def __init__(self, weights: list[Array], biases: list[Array] | None):
        self.pace = Pace()
        self.weights, self.biases = list(weights), biases
        self.exponents = [0] * len(weights)
        self.squares = np.full(len(weights), np.nan)

    def forward(self, k: int, r: Array, out: Array) -> None:
        if np.isnan(self.squares[k]):
            self._admit(k)
        np.matmul(r[0], self.weights[k], out=out[0])

    def _admit(self, k: int) -> None:
        """Check, measure and scale W^(k), just before its first use finds it in the cache."""
        W, self.exponents[k], self.squares[k] = settle_matrix(self.weights[k])
        if not np.isfinite(self.squares[k]):
            array(f"weights[{k}]", self.weights[k], 2, W.dtype)  # names the entry
        self.weights[k] = W

    def backward(self, k: int, delta: Array, out: Array) -> None:
        np.matmul(delta[0], self.weights[k].T, out=out[0])

    def exponent(self, k: int) -> int:
        return self.exponents[k]

    def bias(self, k: int) -> Array | None:
        return None if self.biases is None else self.biases[k]

    def width(self, k: int) -> int:
        return self.weights[0].shape[0] if k == 0 else self.weights[k - 1].shape[1]

    def log10_norms(self) -> Array:
        return log10(*norm(self.squares, np.array(self.exponents)))


STRETCH_BYTES = 2**20
"""Signals of the layers run ahead take about this much, to stay in the cache."""


class Stretch(NamedTuple):
    """Consecutive layers of one shape, from ``first``: their r^(k) and z^(k+1), layers leading."""

    first: int
    r: Scaled
    z: Scaled


def forward(
    linear: Linear, r: Scaled, blocks: list[Block], layers: range, measures: Measures
) -> tuple[list[Stretch], Scaled]:
    """Walk up through layers that share an activation; records the norms of every r^(k+1)."""
    trace, k = [], layers.start
    most = max(1, min(linear.most, STRETCH_BYTES // r.mantissa.nbytes))
    s_start = sum_of_squares(r.mantissa)
    while k < layers.stop:
        n_in, n_out = linear.width(k), linear.width(k + 1)
        count = 1
        ahead = min(linear.pace.layers, most, layers.stop - k)
        while count < ahead and n_in == n_out == linear.width(k + count + 1):
            count += 1
        shape, dtype = r.mantissa.shape[:-1], r.mantissa.dtype
        z = np.empty((count, *shape, n_out), dtype)
        # r^(k), r^(k+1), ...: one array while the shape stays
        rs = np.empty((count + 1 if n_in == n_out else count, *shape, n_in), dtype)
        rs[0] = x = r.mantissa
        out = rs[1:] if n_in == n_out else np.empty((1, *shape, n_out), dtype)
        e_r, e_z = [r.exponent], []
        for j in range(count):
            linear.forward(k + j, x, z[j])
            zj = Scaled(z[j], shifted(e_r[j], linear.exponent(k + j), shape))
            if (b := linear.bias(k + j)) is not None:
                zj = add(zj, b)
                z[j] = zj.mantissa
            e_z.append(zj.exponent)
            e_r.append(phi(zj, blocks, out[j]))
            x = out[j]
        s = sum_of_squares(out)
        held = inside(s, dtype)
        done = count if held is True else 1 + int(np.argmin(held.all(axis=(1, 2))))
        trace.append(
            Stretch(
                k,
                Scaled(rs[:done], stacked(e_r[:done], shape)),
                Scaled(z[:done], stacked(e_z[:done], shape)),
            )
        )
        measures.signal.put(slice(k + 1, k + done), s[: done - 1], stacked(e_r[1:done], shape))
        r, s_last = settle(out[done - 1], e_r[done])
        if held is not True:
            zj = Scaled(z[done - 1], e_z[done - 1])
            r, s_last = revived(r, s_last, zj, blocks)
        measures.signal.put(k + done, s_last, r.exponent)
        linear.pace.learn(count, done, s_start, s[done - 1], s_last, dtype)
        s_start = s_last
        k += done
    return trace, r


def backward(
    linear: Linear,
    stretch: Stretch,
    dr: Scaled,
    blocks: list[Block],
    measures: Measures,
    trunk: Array | slice = slice(None),
) -> Scaled:
    """Equations (1) to (3), down a stretch; records its norms and returns dC/dr^(first).

    ``trunk[j]`` is the network of the forward pass that row j of ``dr`` belongs to: networks that
    differ only in depth share one forward pass.
    """
    first, top = stretch.first, len(stretch.z.mantissa)
    slopes = derivative(stretch.z, blocks)
    measures.active[first : first + top] = active_fraction(slopes, blocks)
    shape, dtype = dr.mantissa.shape[:-1], dr.mantissa.dtype
    n_in, n_out = linear.width(first), linear.width(first + 1)
    networks = slice(shape[0])
    s_start = sum_of_squares(dr.mantissa)
    while top > 0:
        count = min(linear.pace.layers, linear.most, top)
        start = top - count
        delta, down = (np.empty((count, *shape, n), dtype) for n in (n_out, n_in))
        e_delta, e_down = [0] * count, [0] * count
        x, e = dr
        for j in reversed(range(count)):
            np.multiply(x, slopes[start + j][trunk], out=delta[j])
            linear.backward(first + start + j, delta[j], down[j])
            e_delta[j] = e
            e_down[j] = e = shifted(e, linear.exponent(first + start + j), shape)
            x = down[j]
        s_delta, s_down = sum_of_squares(delta), sum_of_squares(down)
        held = inside(s_delta, dtype), inside(s_down, dtype)
        low = 0
        if not (held[0] is True and held[1] is True):
            fine = np.logical_and(*held).reshape(count, -1).all(axis=1)
            low = count - 1 - int(np.argmin(fine[::-1]))
            k = first + start + low
            at, at_s = settle(delta[low], e_delta[low])
            if inside(s_delta[low], dtype) is not True:
                above = dr if low == count - 1 else Scaled(down[low + 1], e_down[low + 1])
                z = stretch.z[start + low][trunk]
                at, at_s = rescued(at, at_s, slopes[start + low][trunk], z, above, blocks, trunk)
                linear.backward(k, at.mantissa, down[low])
                e_down[low] = shifted(at.exponent, linear.exponent(k), shape)
                delta[low], e_delta[low], s_delta[low] = at.mantissa, at.exponent, at_s
        s_end = s_down[low].copy()
        dr, s_down[low] = settle(down[low], e_down[low])
        linear.pace.learn(count, count - low, s_start, s_end, s_down[low], dtype)
        s_start = s_down[low]
        e_down[low] = dr.exponent
        rows = slice(start + low, top)
        layers = slice(first + rows.start, first + rows.stop)
        delta = Scaled(delta[low:], stacked(e_delta[low:], shape))
        measures.delta.put((layers, networks), s_delta[low:], delta.exponent)
        measures.upstream.put((layers, networks), s_down[low:], stacked(e_down[low:], shape))
        r, s_r = stretch.r[rows][:, trunk], measures.signal.s[layers][:, trunk]
        s_grad, e_grad = gradient_square(r, s_r, delta, s_delta[low:])
        measures.gradient.put((layers, networks, 0), s_grad, e_grad)
        top -= count - low
    return dr


def backpropagate(
    weights: Sequence[Array],
    inputs: Array,
    activation: str | Sequence[str] = "relu",
    biases: Sequence[Array] | None = None,
    targets: Array | None = None,
    cotangent: Array | None = None,
    kink: float = 1.0,
    dtype: str | None = None,
) -> pd.DataFrame:
    """Gradient norms, layer by layer, of a network whose weights are given.

    Parameters
    ----------
    weights : sequence of (n_k, n_{k+1}) arrays
        W^(0), W^(1), ...; rectangular layers must chain.
    inputs : (batch, n_0) array
    activation : str or one str a layer
    biases : sequence of (n_{k+1},) arrays, optional
    targets : (batch, n_depth) array, optional
        The cost is the batch mean of 1/2 |r - y|^2.
    cotangent : (batch, n_depth) array, optional
        dC/dr at the output, as given. Without targets and cotangent it is a random direction of
        Frobenius norm 1, the same at every call.
    kink : float
        phi' at a kink is (1 - kink) * left + kink * right slope.
    dtype : "float32" or "float64", optional
        Default: float32 if all weights are, else float64.

    Returns
    -------
    pandas.DataFrame
        One row a layer; the columns of `study.records.PROFILE_COLUMNS` from ``layer`` on. Norms
        are Frobenius norms (not squared), over the batch; logarithms are base 10.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.

    Notes
    -----
    Given the stored forward pass, each norm is right to 4 x depth x unit roundoff (of one layer
    alone, to 6) unless it is ill-conditioned, so that rounding a weight or a z to the format moves
    it further: sums that cancel in a narrow network, examples whose gradients cancel one another, z
    next to a zero of gelu' or silu'. What lies 2^-126 (float32) or 2^-1022 below the largest of its
    row or matrix is taken for 0. phi' below exp(-2^52) is given as that, a bound.

    Examples
    --------
    One neuron in closed form: dC/dW = (ReLU(Wx) - y) Step(Wx) x, at x = 3, W = 2, y = 1:

    >>> df = backpropagate([[[2.0]]], [[3.0]], targets=[[1.0]])
    >>> float(df.grad_norm_mantissa[0] * 2.0 ** df.grad_norm_exponent[0])     # (6 - 1) 1 3
    15.0
    >>> [float(round(10 ** backpropagate([[[0.0]]], [[3.0]], targets=[[1.0]],
    ...                                  kink=k).log10_grad_norm[0], 12)) for k in (0, 0.5, 1)]
    [0.0, 1.5, 3.0]
    """
    weights = items("weights", weights, "a sequence of matrices")
    if not weights:
        raise ValueError("weights has length 0; allowed: at least one matrix")
    if dtype is None:
        single = all(getattr(W, "dtype", None) == np.float32 for W in weights)
        dtype = "float32" if single else "float64"
    dt = np.dtype(one_of("dtype", dtype, DTYPES))
    depth = len(weights)
    kink = real("kink", kink, 0, 1)
    wanted = f"one name, or one a layer ({depth})"
    one = isinstance(activation, str)
    names = [activation] * depth if one else items("activation", activation, wanted)
    if len(names) != depth:
        raise bad("activation", f"{len(names)} names", wanted)
    runs, k = [], 0
    for row, same in itertools.groupby(names, key=activation_row):
        count = len(list(same))
        runs.append((range(k, k + count), [Block(slice(0, 1), row, kink)]))
        k += count
    x = array("inputs", inputs, 2, dt)
    weights = _chained(weights, x.shape[1], dt)
    widths = [W.shape[1] for W in weights]
    if biases is not None:
        biases = items("biases", biases, f"one vector a layer ({depth})")
        if len(biases) != depth:
            raise bad("biases", f"{len(biases)} vectors", f"one a layer ({depth})")
        biases = [array(f"biases[{k}]", b, 1, dt) for k, b in enumerate(biases)]
        for k, b in enumerate(biases):
            if len(b) != widths[k]:
                raise bad(f"biases[{k}]", f"{len(b)} units", f"{widths[k]}, as W^({k}) has")
    output = (len(x), widths[-1])
    if targets is not None and cotangent is not None:
        raise bad("cotangent", "given together with targets", "one of the two")
    target, cotangent = (
        None if value is None else array(field, value, 2, dt)
        for field, value in (("targets", targets), ("cotangent", cotangent))
    )
    for field, value in (("targets", target), ("cotangent", cotangent)):
        if value is not None and value.shape != output:
            raise ValueError(f"{field} has shape {value.shape}; allowed: {output}, the output's")
    if target is None and cotangent is None:
        cotangent = unit_cotangent(gaussian.key("backpropagate"), output, dt)

    measures = Measures.empty(depth, 1, len(x))
    # What overflows in the layers run ahead is dropped.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        linear = Explicit(weights, biases)
        r, s = settle(x[None], 0)
        measures.signal.put(0, s, r.exponent)
        trace = []
        for layers, blocks in runs:
            stretches, r = forward(linear, r, blocks, layers, measures)
            trace += [(stretch, blocks) for stretch in stretches]
        dr = Scaled(cotangent[None], 0) if target is None else cost_gradient(r, target)
        dr, s = settle(*dr)
        measures.upstream.put(depth, s, dr.exponent)
        for stretch, blocks in reversed(trace):
            dr = backward(linear, stretch, dr, blocks, measures)
    return frame(measures.columns(linear.log10_norms()[:, None]))


def cost_gradient(r: Scaled, y: Array) -> Scaled:
    """dC/dr at the output for C = the batch mean of 1/2 |r - y|^2."""
    difference = add(r, -y)
    return Scaled(difference.mantissa / y.dtype.type(y.shape[-2]), difference.exponent)


def unit_cotangent(key: Array, shape: tuple[int, int], dtype: np.dtype) -> Array:
    """A random direction of Frobenius norm 1, from the counters of ``key``."""
    c = gaussian.normal(key, 0, shape, np.float64)
    return (c / np.linalg.norm(c)).astype(dtype)


def _chained(weights: Sequence, n_in: int, dtype: np.dtype) -> list[Array]:
    """The matrices in ``dtype``, if they chain from ``n_in``; `Explicit` checks their entries."""
    chained = []
    for k, W in enumerate(weights):
        if not (isinstance(W, np.ndarray) and W.dtype == dtype and W.ndim == 2 and W.size):
            W = array(f"weights[{k}]", W, 2, dtype)
        if W.shape[0] != n_in:
            raise ValueError(f"weights[{k}] has shape {W.shape}; allowed: ({n_in}, n), to chain")
        chained.append(np.ascontiguousarray(W))
        n_in = W.shape[1]
    return chained
