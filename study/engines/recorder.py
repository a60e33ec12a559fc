"""What is recorded along a pass: norms of every layer, and the columns of the frame they become."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from study.arithmetic import scaled
from study.arithmetic.activations import EVERY, Activations, Slopes
from study.arithmetic.kernels import beside_largest, square
from study.arithmetic.scaled import Exponent, Scaled
from study.core.backprop import BackStep
from study.tools import Array


@dataclass
class Squares:
    """Sums of squares ``squares * 4**exponent``, one a (layer, network, example)."""

    squares: Array
    exponent: Exponent

    @classmethod
    def zeros(cls, *shape: int) -> Self:
        return cls(np.zeros(shape), np.zeros(shape, np.int64))

    def put(self, index, x: Scaled | Self) -> None:
        self.squares[index] = x.squares
        self.exponent[index] = x.exponent

    def __getitem__(self, index) -> Self:
        return Squares(self.squares[index], self.exponent[index])

    def norms(self) -> tuple[Array, Array]:
        """Frobenius norms over the examples: (mantissa, exponent), one a (layer, network)."""
        return scaled.norm(*scaled.total(self.squares, self.exponent))


class Output(NamedTuple):
    """Of trunks, where networks end: r, and the share of active units."""

    r: Scaled
    active: Array


class Recorder:
    """The record of one pass, layers leading.

    ``signal[k]`` is of r^(k) and ``upstream[k]`` of dC/dr^(k), k = 0 .. depth; ``delta[k]`` is of
    dC/dz^(k+1) and ``gradient[k]`` of dC/dW^(k), k = 0 .. depth - 1. Networks that differ only in
    depth share a forward pass, their trunk: ``signal`` and ``active`` have one entry for it.
    """

    def __init__(self, depth: int, networks: int, batch: int, trunks: int):
        self.batch = batch
        self.signal = Squares.zeros(depth + 1, trunks, batch)
        self.upstream = Squares.zeros(depth + 1, networks, batch)
        self.delta = Squares.zeros(depth, networks, batch)
        # Of one example it is an outer product.
        self.gradient = Squares.zeros(depth if batch > 1 else 0, networks, 1)
        self.active = np.zeros((depth, trunks))  # share of units with phi'(z) > 0.01 of its maximum

    def put(self, k: int, step: BackStep, trunk: Array | slice) -> None:
        """Take in layer k of the networks that have come so far, on their trunks."""
        networks = slice(len(step.delta.mantissa))
        self.signal.put(k, step.r)
        self.delta.put((k, networks), step.delta)
        self.upstream.put((k, networks), step.dr)
        if self.batch > 1:
            # To pick all networks would cost as much as a small pass.
            r = step.r if trunk is EVERY else step.r[trunk]
            self.gradient.put((k, networks, 0), gradient_square(r, step.delta))

    def columns(
        self,
        layers: Array,
        networks: Array,
        trunks: Array,
        log10_weight_norm: Array,
        output: Output | None = None,
    ) -> dict[str, Array]:
        """The frame's columns of some layers, each (layers, networks).

        ``trunks`` are those of ``networks``; ``log10_weight_norm``, (layers, networks), is NaN
        where the engine has no matrix; ``output`` is of these networks, where their last layer, the
        last of ``layers``, has fewer units than their trunk's.
        """
        here = np.ix_(layers, networks)
        above = np.ix_(layers + 1, networks)
        delta_squares = self.delta[here]
        delta = delta_squares.norms()
        upstream = self.upstream[above].norms()
        downstream = self.upstream[here].norms()
        signal = self.signal[np.ix_(layers + 1, trunks)]
        active = self.active[np.ix_(layers, trunks)]
        if output is not None:
            signal.put(-1, output.r[trunks])
            active[-1] = output.active[trunks]
        if self.batch > 1:
            gradient = self.gradient[here].norms()
        else:  # an outer product
            r = self.signal[np.ix_(layers, trunks)]
            exponent = r.exponent + delta_squares.exponent
            gradient = Squares(r.squares * delta_squares.squares, exponent).norms()
        return {
            "layer": np.broadcast_to(layers[:, None], delta[0].shape),
            "grad_norm_mantissa": gradient[0],
            "grad_norm_exponent": gradient[1],
            "log10_grad_norm": scaled.log10(*gradient),
            "log10_delta_norm": scaled.log10(*delta),
            "log10_upstream_norm": scaled.log10(*upstream),
            "log10_signal_norm": scaled.log10(*signal.norms()),
            "log10_weight_norm": log10_weight_norm,
            "log10_derivative_factor": scaled.log10_ratio(delta, upstream),
            "log10_weight_factor": scaled.log10_ratio(downstream, delta),
            "active_fraction": active,
            "status": scaled.status(*gradient),
        }


class RecordedLayer:
    """Layer k of the networks of a pass; see `study.core.backprop.Layer`.

    How it multiplies is its weights' affair: ``weights.up(k, r)`` is r W^(k) + b^(k),
    ``weights.down(k, delta, r)`` delta W^(k)', in range. ``weights.trunk`` is the network of the
    forward pass that each row of the backward pass belongs to.
    """

    def __init__(self, k: int, weights: Any, activations: Activations, record: Recorder):
        self.k = k
        self.weights = weights
        self.activations = activations
        self.active = record.active[k]

    def up(self, r: Scaled) -> Scaled:
        return self.weights.up(self.k, r)

    def phi(self, z: Scaled) -> Scaled:
        return self.activations.phi(z)

    def slope(self, z: Scaled) -> Slopes:
        return Slopes(self.activations, z, self.weights.trunk, self.active)

    def down(self, delta: Scaled, r: Scaled, z: Scaled) -> Scaled:
        return self.weights.down(self.k, delta, r)


# The Gram form of the gradient's norm is left where (sum of the examples' norms)^2 exceeds this
# many times batch x its square: independent examples sit at 1, and the error grows in proportion.
CANCELLATION = 4


def gradient_square(r: Scaled, delta: Scaled) -> Squares:
    """Squared Frobenius norm of r' delta.

    Shapes: (..., batch, units) for r and delta, (...) for the result. Never forms the matrix while
    the batch is below half the width, where that costs more: the norm is the sum over pairs of
    examples of (delta delta') * (r r'). Where the examples' gradients cancel, that sum loses what
    they cancel: it is then taken in float64, or, where that is not enough or the format's own, the
    product is formed after all.
    """
    batch = r.mantissa.shape[-2]
    d = delta.mantissa
    exponent = r.exponent + delta.exponent
    size = np.sqrt(r.squares * delta.squares)  # of each example's gradient
    top = 0
    if not isinstance(exponent, int):
        d, top = beside_largest(d, exponent, size)
    if 2 * batch > min(r.mantissa.shape[-1], d.shape[-1]):
        return Squares(_of_products(r.mantissa, d), top)
    s = _over_pairs(r.mantissa, d)
    size = size.sum(axis=-1) ** 2 / batch
    explicit = size > CANCELLATION * s  # the examples' gradients cancel
    if d.dtype == np.float32 and explicit.any():
        # Float64 sums lose nothing of what is left.
        s[explicit] = _over_pairs(*(x[explicit].astype(np.float64) for x in (r.mantissa, d)))
        explicit = size > CANCELLATION * 2**20 * s
    if explicit.any():
        s[explicit] = _of_products(r.mantissa[explicit], d[explicit])
    return Squares(s, top)


def _of_products(r: Array, d: Array) -> Array:
    """Squared Frobenius norms of the products r' d, one a network."""
    return np.array([square(x.T @ y) for x, y in zip(r, d, strict=True)])


def _over_pairs(r: Array, d: Array) -> Array:
    """|sum over examples b of r_b' d_b|^2, as the sum over pairs of (r r') * (d d')."""
    pairs = (*r.shape[:-2], -1)
    gram_r = (r @ r.mT).reshape(pairs)
    gram_d = (d @ d.mT).reshape(pairs)
    return np.vecdot(gram_r, gram_d).astype(np.float64, copy=False)
