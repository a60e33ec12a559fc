"""Convolution along a circle of positions, as a layer: a dense one of what each position sees."""

from collections.abc import Callable

import numpy as np

from study.core.activations import Activation
from study.core.backprop import Numbers
from study.core.blocks import Dense
from study.tools import Array


class Circular(Dense):
    """A convolution along a circle of positions: r is (..., positions, channels).

    W is (..., taps x channels, n_out), tap by tap: position p sees p - taps // 2 first.
    """

    def __init__(self, W: Numbers, activation: str | Activation | Callable, taps: int, **more):
        super().__init__(W, activation, **more)
        self.offsets = np.arange(taps) - taps // 2

    def up(self, r: Array) -> Array:
        seen = [np.roll(r, -offset, axis=-2) for offset in self.offsets]
        return super().up(np.concatenate(seen, axis=-1))

    def down(self, delta: Array, r: Array, z: Array) -> Array:
        seen = np.split(super().down(delta, r, z), len(self.offsets), axis=-1)
        pairs = zip(self.offsets, seen, strict=True)
        return sum(np.roll(part, offset, axis=-2) for offset, part in pairs)
