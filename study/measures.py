"""What is recorded along a pass: norms of every layer, and the tidy frame they become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.scaled import Array, Exponent, log10, log10_ratio, norm, status, total


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
