"""Transformers at initialisation: gradient norms of every matrix, and how alike the tokens are.

A block is attention, then a perceptron four times as wide, each with a skip connection or without,
and layer normalisation before both (pre-LN), after both (post-LN) or nowhere. The tokens of one
text are the batch. The equations are the core's. Matrices are given, or known by their action
(`Drawn`): exact in law, as each is met once on the way up, whatever mixes the tokens in between.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.arithmetic.scaled import LOG10_2, log10, norm, normalised, status
from study.core.backprop import Layer, Numbers, backward, forward
from study.core.blocks import Dense, Linear, Normal, Residual
from study.engines.attention import SOFTMAX, Attention, LayerNorm, Mix
from study.engines.drawn import Drawn
from study.theory.maps import variance_map
from study.tools import Array
from study.tools.checks import bad, integer, one_of

PLACES = ("pre", "post", "none")  # where layer normalisation stands
# Of a block, in the order in which they are met.
MATRICES = ("query", "key", "value", "output", "hidden", "top")
# What tells tokens apart, over the tokens, is right to a few per cent down to here.
ROUNDING = 64 * float(np.finfo(np.float64).eps)

SMALLEST = 1e-150  # signals whose squares are in the float range


class Weights(NamedTuple):
    """Of a block of n units: arrays, or what can be multiplied as one."""

    attend: Numbers  # (n, 3 n): queries, keys and values
    join: Numbers  # (n, n)
    hidden: Numbers | None = None  # (n, 4 n)
    top: Numbers | None = None  # (4 n, n)


class Met(Dense):
    """A layer that keeps r and dC/dz, which its weight gradient, equation (3), is made of."""

    met: tuple[Numbers, Numbers]

    def down(self, delta: Numbers, r: Numbers, z: Numbers) -> Numbers:
        self.met = r, delta
        return super().down(delta, r, z)


class MetLinear(Linear, Met):
    """`Linear` that does."""


class MetNorm(LayerNorm):
    """A layer normalisation that keeps dC/dgain."""

    gradient: Array

    def down(self, delta: Array, r: Array, z: Normal) -> Array:
        self.gradient = (delta * z.x).sum(axis=-2)
        return super().down(delta, r, z)


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A kind of network; ValueError names a field that is wrong.

    Parameters
    ----------
    blocks, width, heads : the width is a multiple of the heads
    norm : where layer normalisation stands, before each branch ("pre"; once more at the end), after
        each ("post"), or "none"
    residual : whether the branches have skip connections
    mlp : whether there is a perceptron, with this activation
    branch : a factor of what each branch adds
    logits : a factor of q k'; None is 1 / sqrt(units of a head), 0 is uniform attention
    mix : what attention is shaped to
    """

    blocks: int
    width: int = 128
    heads: int = 4
    norm: str = "pre"
    residual: bool = True
    mlp: bool = True
    activation: str = "relu"
    branch: float = 1.0
    logits: float | None = None
    mix: Mix = SOFTMAX

    def __post_init__(self) -> None:
        integer("blocks", self.blocks, 1)
        one_of("norm", self.norm, PLACES)
        if integer("width", self.width, 1) % integer("heads", self.heads, 1):
            raise bad("width", self.width, f"a multiple of heads = {self.heads}")

    def block(self, weights: Weights) -> list[Layer]:
        """The layers of a block."""
        attention = Attention(self.heads, self.logits, self.mix)
        branches = [[MetLinear(weights.attend), attention, MetLinear(weights.join, self.branch)]]
        if self.mlp:
            hidden = Met(weights.hidden, self.activation)
            branches.append([hidden, MetLinear(weights.top, self.branch)])
        layers: list[Layer] = []
        for branch in branches:
            inner = [MetNorm(), *branch] if self.norm == "pre" else branch
            layers += [Residual(inner)] if self.residual else inner
            if self.norm == "post":
                layers.append(MetNorm())
        return layers

    def end(self) -> list[Layer]:
        """The layers after the last block."""
        return [MetNorm()] if self.norm == "pre" else []

    @cached_property  # all blocks have it
    def _top_gain(self) -> float:
        return float(variance_map(self.activation, 1.0, 1.0)) ** -0.5

    def drawn(self, key: Array, k: int, networks: int) -> Weights:
        """Of block k: of standard normal tokens a perceptron makes others of variance 1."""
        n = self.width
        shapes = [(n, 3 * n, 1.0), (n, n, 1.0), (n, 4 * n, 1.0), (4 * n, n, self._top_gain)]
        matrices = [
            Drawn(key, 4 * k + i, (networks, n_in, n_out), scale)
            for i, (n_in, n_out, scale) in enumerate(shapes)
        ]
        return Weights(*matrices) if self.mlp else Weights(*matrices[:2])


@np.errstate(under="ignore")
def gradient_norms(
    net: Transformer,
    weights: Callable[[int], Weights],
    inputs: Array,
    cotangent: Array,
    layers: Sequence[int],
) -> pd.DataFrame:
    """Gradient norms of networks of one kind, side by side: a row a network, block and matrix.

    Parameters
    ----------
    weights : k -> those of block k, of every network
    inputs, cotangent : (networks, tokens, units), the tokens and dC/dr at the output
    layers : the blocks that become rows, rising

    Returns
    -------
    pandas.DataFrame
        ``network``; ``layer``, the block, 0 next to the input; ``matrix``, one of `MATRICES`; of
        the columns of `study.core.columns.LAYER` those of the gradient, ``log10_upstream_norm``,
        of dC/dr at the block's output, and ``log10_signal_norm``, of its input r;
        ``log10_difference`` of ||r - mean over tokens|| / ||r||. From the first block where that
        is below `ROUNDING` it is rounding errors, and so are the gradients of queries and keys:
        they are missing there, their ``status`` "rounding".

    Norms are Frobenius norms, not squared. Gradients do not leave the float range; where signals
    would, ValueError names the block.
    """
    traces = []
    r = inputs
    for k in range(net.blocks):
        trace, r = forward(net.block(weights(k)), r)
        if not np.all((size(r) > SMALLEST) & (size(r) < 1 / SMALLEST)):
            allowed = f"from {SMALLEST:g} to its inverse: normalise, or scale the branches"
            raise bad(f"signal after block {k}", size(r), allowed)
        traces.append(trace)
    apart = np.array([_difference(trace[0].r) for trace in traces])
    is_rounding = np.logical_or.accumulate(apart < ROUNDING)
    dr, exponent = _rescaled(cotangent, 0)
    for step in backward(forward(net.end(), r)[0], dr):
        dr = step.dr
    frames = []
    for k in reversed(range(net.blocks)):
        dr, exponent = _rescaled(dr, exponent)
        upstream = dr
        trace = traces.pop()
        for step in backward(trace, dr):
            dr = step.dr
        if k in layers:
            sizes = np.array(list(_matrix_norms(met(step.layer for step in trace))))
            norms = size(upstream), size(trace[0].r), apart[k], is_rounding[k]
            frames.append(_frame(k, sizes, exponent, *norms))
    return pd.concat(frames[::-1]).sort_values("network", kind="stable", ignore_index=True)


def met(layers: Sequence[Layer]) -> Iterator[Met | MetNorm]:
    """The layers with weights or gains, those of branches among them."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from met(layer.branch)
        elif isinstance(layer, (Met, MetNorm)):
            yield layer


def size(x: Array) -> Array:
    """Frobenius norms, one a network."""
    return np.linalg.norm(x, axis=(-2, -1))


def _rescaled(dr: Array, exponent: Array | int) -> tuple[Array, Array]:
    """The same in the middle of the float range, and the power of two beside it."""
    rows, shift = normalised(dr.reshape(len(dr), -1))
    return rows.reshape(dr.shape), exponent + shift


def _difference(r: Array) -> Array:
    return size(r - r.mean(axis=-2, keepdims=True)) / size(r)


def _matrix_norms(layers: Iterator[Met | MetNorm]) -> Iterator[Array]:
    """||dC/dW|| of each of `MATRICES` that a block has."""
    for layer in layers:
        if isinstance(layer, MetNorm):
            continue
        r, delta = layer.met
        # r = Q' R with orthonormal Q: R' delta is as long as r' delta, but tokens x units.
        root = np.linalg.qr(r.mT, mode="r") * (1.0 if layer.scale is None else layer.scale)
        is_attention = delta.shape[-1] == 3 * r.shape[-1]
        for part in np.split(delta, 3, axis=-1) if is_attention else [delta]:
            yield size(root @ part)


def _frame(
    k: int, sizes: Array, exponent: Array, upstream: Array, signal: Array, apart: Array, lost: Array
) -> pd.DataFrame:
    """The rows of a block; ``sizes`` are (matrices, networks), the others (networks,)."""
    names = np.array(MATRICES[: len(sizes)])[:, None]
    sizes = np.where(lost & np.isin(names, ("query", "key")), np.nan, sizes)
    mantissa, power = norm(sizes**2, exponent)
    with np.errstate(divide="ignore"):
        columns = {
            "network": np.arange(sizes.shape[1]),
            "layer": k,
            "matrix": names,
            "grad_norm_mantissa": mantissa,
            "grad_norm_exponent": power,
            "log10_grad_norm": log10(mantissa, power),
            "log10_upstream_norm": np.log10(upstream) + exponent * LOG10_2,
            "log10_signal_norm": np.log10(signal),
            "log10_difference": np.log10(np.where(lost, np.nan, apart)),
            "status": np.where(np.isnan(sizes), "rounding", status(mantissa, power)),
        }
    return pd.DataFrame(
        {name: np.broadcast_to(values, sizes.shape).ravel() for name, values in columns.items()}
    )
