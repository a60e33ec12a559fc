"""Recurrent cells as layers: a step of the state up, and a step of its gradient down.

    Minimal   h -> u h + (1 - u) x              u = s(h W + b)
    GRU       h -> u h + (1 - u) n              n = tanh(b + r (h W)), gates u and r
    LSTM      c -> f c + i g,  h -> o tanh(c)   g = tanh(h W + b), gates f, i and o

(Chen et al. 2018; Cho et al. 2014; Hochreiter & Schmidhuber 1997, with Gers et al. 2000.) Each gate
is a `Dense` layer of the state; what the inputs of the step add to its pre-activation is its b. T
steps are T layers: of the same matrices if weights are tied, of others if they are not. A state is
(..., batch, units), an LSTM's has h and c side by side, (..., batch, 2 units).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from study.core.activations import activation
from study.core.backprop import Layer, Step, backward, forward
from study.core.blocks import Dense
from study.tools import Array

_TANH = activation("tanh")


class Passed(NamedTuple):
    """What a cell did on the way up: each gate's step and value, and the next state."""

    gates: list[tuple[list[Step], Array]]
    after: Array


class Cell:
    """A step of a recurrent network; ``gates`` are layers of the state.

    ``step`` makes the next state of the state and the gates' values. Of dC by the next state
    ``pull`` makes what is left of it past the gates, and dC by each of these values.
    """

    def __init__(self, gates: Sequence[Layer]):
        self.gates = gates

    def up(self, r: Array) -> Passed:
        gates = [forward([gate], self.hidden(r)) for gate in self.gates]
        return Passed(gates, self.step(r, *(value for _, value in gates)))

    def phi(self, z: Passed) -> Array:
        return z.after

    def slope(self, z: Passed) -> int:
        return 1

    def down(self, delta: Array, r: Array, z: Passed) -> Array:
        below, by_gates = self.pull(delta, r, *(value for _, value in z.gates))
        for (trace, _), d in zip(z.gates, by_gates, strict=True):
            (step,) = backward(trace, d)
            self.hidden(below)[...] += step.dr
        return below

    def hidden(self, r: Array) -> Array:
        """What gates see of the state."""
        return r


class Minimal(Cell):
    """h -> u h + (1 - u) x, with x the step's embedded input."""

    def __init__(self, gate: Dense, x: Array):
        super().__init__([gate])
        self.x = x

    def step(self, h: Array, u: Array) -> Array:
        return u * h + (1 - u) * self.x

    def pull(self, delta: Array, h: Array, u: Array) -> tuple[Array, list[Array]]:
        return delta * u, [delta * (h - self.x)]


class GRU(Cell):
    """h -> u h + (1 - u) tanh(b + r y); ``gates`` are the layers of u, r and y = h W."""

    def __init__(self, gates: Sequence[Layer], b: Array):
        super().__init__(gates)
        self.b = b

    def step(self, h: Array, u: Array, r: Array, y: Array) -> Array:
        return u * h + (1 - u) * np.tanh(self.b + r * y)

    def pull(self, delta: Array, h: Array, u: Array, r: Array, y: Array):
        z = self.b + r * y
        d = delta * (1 - u) * _TANH.derivative(z)
        return delta * u, [delta * (h - np.tanh(z)), d * y, d * r]


class LSTM(Cell):
    """(h, c) -> (o tanh(c'), c'), c' = f c + i g; ``gates`` are the layers of i, f, g and o."""

    def hidden(self, r: Array) -> Array:
        return r[..., : r.shape[-1] // 2]

    def step(self, r: Array, i: Array, f: Array, g: Array, o: Array) -> Array:
        c = f * _cell(r) + i * g
        return np.concatenate([o * np.tanh(c), c], axis=-1)

    def pull(self, delta: Array, r: Array, i: Array, f: Array, g: Array, o: Array):
        c = f * _cell(r) + i * g
        dh = self.hidden(delta)
        dc = _cell(delta) + dh * o * _TANH.derivative(c)
        direct = np.concatenate([np.zeros_like(dh), dc * f], axis=-1)
        return direct, [dc * g, dc * _cell(r), dc * i, dh * np.tanh(c)]


def _cell(r: Array) -> Array:
    return r[..., r.shape[-1] // 2 :]
