"""Layers of the core that are trained: they keep their arrays from step to step, for speed.

On the way down such a layer leaves its weight gradient, equation (3), in ``gradient`` and, with a
bias, that in ``shift``; a step overwrites what the step before left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numba
import numpy as np

from study.core.activations import TABLE, Activation
from study.core.backprop import Layer
from study.core.blocks import Dense, Linear, Normal, Normalised, Residual
from study.tools import Array


class Learned(Dense):
    """`Dense` on stacks of networks, W (networks, n_in, n_out)."""

    def __init__(
        self,
        W: Array,
        activation: str | Activation | Callable,
        b: Array | None = None,
        kink: float = 1.0,
        scale: float | None = None,
    ):
        super().__init__(W, activation, b, kink, scale)
        row = self.activation
        is_known = TABLE.get(row.name) is row
        self.kernel = PASSING.get(row.name) if is_known else None
        self.phi_into = INTO.get(row.name) if is_known else None
        self.gradient = np.empty_like(W)
        self.shift: Array | None = None
        self.r: Array | None = None
        self.rooms: dict[str, Array] = {}

    def up(self, r: Array) -> Array:
        z = np.matmul(r, self.W, out=self.room("z", r.shape[-2], self.W.shape[-1]))
        if self.scale is not None:
            z *= self.W.dtype.type(self.scale)
        if self.b is not None:
            z += self.b
        return z

    def phi(self, z: Array) -> Array:
        self.r = self.applied(z)
        return self.r

    def applied(self, z: Array) -> Array:
        """phi(z)."""
        if self.phi_into is None:
            return self.activation.phi(z)
        return self.phi_into(z, out=self.room("r", *z.shape[-2:]))

    def slope(self, z: Array) -> Array | Passing:
        return Passing(self.kernel, z, self.r, self.kink) if self.kernel else super().slope(z)

    def down(self, delta: Array, r: Array, z: Array) -> Array | None:
        np.matmul(r.mT, delta, out=self.gradient)  # the core's weight_gradient, in its old place
        if self.b is not None:
            self.shift = delta.sum(axis=-2, keepdims=True)
        if self.scale is not None:
            self.gradient *= self.W.dtype.type(self.scale)
        return self.below(delta)

    def below(self, delta: Array) -> Array | None:
        """dC/dr, given dC/dz."""
        dr = np.matmul(delta, self.W.mT, out=self.room("dr", delta.shape[-2], self.W.shape[-2]))
        if self.scale is not None:
            dr *= self.W.dtype.type(self.scale)
        return dr

    def room(self, name: str, batch: int, units: int) -> Array:
        """The array of that name; a new one where its shape is another than last time."""
        shape = (len(self.W), batch, units)
        if name not in self.rooms or self.rooms[name].shape != shape:
            self.rooms[name] = np.empty(shape, self.W.dtype)
        return self.rooms[name]


class LearnedBottom(Learned):
    """The layer next to the input, whose dC/dr^(0) nobody asks for."""

    def below(self, delta: Array) -> None:
        return None


class LearnedLinear(Linear, Learned):
    """`Linear`, the last matrix of a residual branch."""


class LearnedNormalised(Normalised, Learned):
    """`Normalised`; it has neither gain nor shift of its own."""

    def phi(self, z: Normal) -> Array:
        self.r = self.applied(z.x)
        return self.r

    def slope(self, z: Normal) -> Array | Passing:
        return Passing(self.kernel, z.x, self.r, self.kink) if self.kernel else super().slope(z)


class Passing:
    """phi'(z) as a factor: ``dr * Passing(...)`` is dC/dz, in one pass over the memory."""

    __array_ufunc__ = None  # so that an array leaves the product to us

    def __init__(self, kernel: Callable, z: Array, r: Array, kink: float):
        self.kernel = kernel
        self.z = z
        self.r = r
        self.kink = kink

    def __rmul__(self, dr: Array) -> Array:
        delta = np.empty_like(dr)
        self.kernel(dr.ravel(), self.z.ravel(), self.r.ravel(), dr.dtype.type(self.kink), delta)
        return delta


@numba.njit(cache=True, nogil=True)
def _relu(dr, z, r, kink, delta):
    flat = delta.reshape(-1)
    for i in range(dr.size):
        flat[i] = dr[i] * kink if z[i] == 0 else (dr[i] if z[i] > 0 else 0)


@numba.njit(cache=True, nogil=True)
def _tanh(dr, z, r, kink, delta):
    flat = delta.reshape(-1)
    for i in range(dr.size):
        flat[i] = dr[i] * (1 - r[i] * r[i])


@numba.njit(cache=True, nogil=True)
def _sigmoid(dr, z, r, kink, delta):
    flat = delta.reshape(-1)
    for i in range(dr.size):
        flat[i] = dr[i] * (r[i] * (1 - r[i]))


def _sigmoid_into(z: Array, out: Array) -> Array:
    """1 / (1 + exp(-z)), all in one place; where exp overflows it is 0."""
    np.negative(z, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


# By the name of an activation: phi(z), into an array that is there.
INTO = {"relu": partial(np.maximum, 0), "tanh": np.tanh, "sigmoid": _sigmoid_into}
# By the name of an activation: phi'(z) from z and phi(z), times what comes in.
PASSING = {"relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid}


def learned(layers: Sequence[Layer]) -> Iterator[Learned]:
    """The layers that have weights, from the input up, those of residual branches among them."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from learned(layer.branch)
        else:
            yield layer
