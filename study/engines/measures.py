"""What is recorded along a pass: norms of every layer, and the tidy frame they become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.arithmetic.scaled import (
    Array,
    Exponent,
    Scaled,
    largest,
    ldexp,
    log10,
    log10_ratio,
    norm,
    normalised,
    status,
    sum_of_squares,
    total,
)


class Squares:
    """Sums of squares ``s * 4**exponent``, one a (layer, network, example)."""

    def __init__(self, *shape: int):
        self.s = np.zeros(shape)
        self.exponent = np.zeros(shape, np.int64)

    def put(self, index, s: Array, exponent: Exponent) -> None:
        self.s[index] = s
        self.exponent[index] = exponent

    def __getitem__(self, index) -> Squares:
        part = Squares(0)
        part.s, part.exponent = self.s[index].copy(), self.exponent[index].copy()
        return part

    def norms(self) -> tuple[Array, Array]:
        """Frobenius norms over the examples: (mantissa, exponent), one a (layer, network)."""
        return norm(*total(self.s, self.exponent))


@dataclass
class Measures:
    """The record of one pass: squares of shape (layers, networks, examples).

    ``signal[k]`` is of r^(k) and ``upstream[k]`` of dC/dr^(k), k = 0 .. depth; ``delta[k]`` is of
    dC/dz^(k+1) and ``gradient[k]`` of dC/dW^(k), k = 0 .. depth-1. Where networks differ only in
    depth, ``signal`` and ``active`` have one entry for their common forward pass, their trunk.
    """

    signal: Squares
    upstream: Squares
    delta: Squares
    gradient: Squares
    active: Array
    """(depth, trunks) share of units with phi'(z) > 0.01 of its maximum."""

    @classmethod
    def empty(cls, depth: int, networks: int, batch: int, trunks: int | None = None) -> Measures:
        trunks = networks if trunks is None else trunks
        return cls(
            signal=Squares(depth + 1, trunks, batch),
            upstream=Squares(depth + 1, networks, batch),
            delta=Squares(depth, networks, batch),
            gradient=Squares(depth, networks, 1),
            active=np.zeros((depth, trunks)),
        )

    def of(self, networks: Array, trunks: Array, depth: int) -> Measures:
        """The record of some networks, of that depth all, and on those trunks: their own copy."""
        return Measures(
            signal=self.signal[: depth + 1, trunks],
            upstream=self.upstream[: depth + 1, networks],
            delta=self.delta[:depth, networks],
            gradient=self.gradient[:depth, networks],
            active=self.active[:depth, trunks],
        )

    def columns(self, log10_weight_norm: Array) -> dict[str, Array]:
        """The columns of the tidy frame from ``layer`` on, each (depth, networks).

        log10_weight_norm : (depth, networks); NaN where the engine has no weight matrix.
        """
        grad, delta = self.gradient.norms(), self.delta.norms()
        upstream, signal = self.upstream.norms(), self.signal.norms()
        depth, networks = self.active.shape
        above = tuple(part[1:] for part in upstream)
        below = tuple(part[:-1] for part in upstream)
        return {
            "layer": np.broadcast_to(np.arange(depth)[:, None], (depth, networks)),
            "grad_norm_mantissa": grad[0],
            "grad_norm_exponent": grad[1],
            "log10_grad_norm": log10(*grad),
            "log10_delta_norm": log10(*delta),
            "log10_upstream_norm": log10(*above),
            "log10_signal_norm": log10(*(part[1:] for part in signal)),
            "log10_weight_norm": log10_weight_norm,
            "log10_derivative_factor": log10_ratio(delta, above),
            "log10_weight_factor": log10_ratio(below, delta),
            "active_fraction": self.active,
            "status": status(*grad),
        }


def frame(columns: dict[str, Array]) -> pd.DataFrame:
    """The rows of a single network, layer by layer."""
    return pd.DataFrame({name: values[:, 0] for name, values in columns.items()})


CANCELLATION = 4
"""The Gram form of the gradient's norm is left where (sum of the examples' norms)^2 exceeds this
many times batch x its square: independent examples sit at 1, and the error grows in proportion."""


def gradient_square(r: Scaled, s_r: Array, delta: Scaled, s_delta: Array) -> tuple[Array, Exponent]:
    """Squared Frobenius norm of r' delta, (s, exponent) with norm^2 = s 4^exponent.

    Shapes: (..., batch, units) for r and delta, (..., batch) for their sums of squares, (...) for
    the result. Never forms the matrix while the batch is below half the width, where that costs
    more: the norm is the sum over pairs of examples of (delta delta') * (r r'). Where the examples'
    gradients cancel, that sum loses what they cancel: it is then taken in float64, or, where that
    is not enough or the format's own, the product is formed after all.
    """
    batch, d = r.mantissa.shape[-2], delta.mantissa
    exponent = r.exponent + delta.exponent
    plain = isinstance(exponent, int)
    if batch == 1:
        return (s_r * s_delta)[..., 0], exponent if plain else exponent[..., 0]
    alive, size = (s_r > 0) & (s_delta > 0), np.sqrt(s_r * s_delta)
    if plain:
        top, w = 0, 1
    else:
        # Each example at its true size beside the largest.
        top = largest(exponent + np.frexp(size)[1], alive)
        w = ldexp(np.ones(alive.shape, d.dtype), np.where(alive, exponent - top[..., None], 0))
    if 2 * batch > min(r.mantissa.shape[-1], d.shape[-1]):
        s = np.zeros(s_r.shape[:-1])
        explicit = np.ones(s.shape, bool)
    else:
        s = _over_pairs(r.mantissa, d, w)
        size = (size * w).sum(axis=-1) ** 2 / batch
        explicit = size > CANCELLATION * s
        if d.dtype == np.float32 and explicit.any():
            # Float64 sums lose nothing of what is left.
            fine = (x[explicit].astype(np.float64) for x in (r.mantissa, d))
            s[explicit] = _over_pairs(*fine, w if plain else w[explicit])
            explicit = size > CANCELLATION * 2**20 * s
    if explicit.any():
        R, D = r.mantissa[explicit], d[explicit]
        if not plain:
            R, D, top[explicit] = _aligned(R, D, exponent[explicit], alive[explicit])
        s[explicit] = [sum_of_squares(x.T @ y).sum() for x, y in zip(R, D, strict=True)]
    return s, top


def _over_pairs(r: Array, d: Array, w: Array | int) -> Array:
    """|sum over examples b of w_b r_b' d_b|^2, as the sum over pairs of (r r') * (w d d' w)."""
    gram_r, gram_d = _gram(r), _gram(d)
    if not isinstance(w, int):
        gram_d *= w[..., None] * w[..., None, :]
    pairs = (*r.shape[:-2], -1)
    return np.vecdot(gram_r.reshape(pairs), gram_d.reshape(pairs)).astype(np.float64, copy=False)


def _aligned(r: Array, d: Array, exponent: Array, alive: Array) -> tuple[Array, Array, Array]:
    """r, d and one exponent for all examples; what underflows then is nothing to the largest."""
    r, shift_r = normalised(r)
    d, shift_d = normalised(d)
    exponent = exponent + shift_r + shift_d
    top = largest(exponent, alive)
    shift = np.where(alive, exponent - top[..., None], 0)
    return r, d * ldexp(np.ones(shift.shape, d.dtype), shift)[..., None], top


def _gram(x: Array) -> Array:
    """x x', (..., batch, batch)."""
    # Of an array with itself NumPy takes the symmetric product, three times slower when small.
    other = x.copy() if x.shape[-2] <= 32 else x
    return x @ other.swapaxes(-1, -2)
