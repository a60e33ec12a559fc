"""The three equations of backpropagation, over any kind of number.

For layer k with outputs r^(k+1) = phi(z^(k+1)), z^(k+1) = r^(k) W^(k) + b^(k) and a cost C,

    (1)  dC/dz^(k+1) = dC/dr^(k+1) * phi'(z^(k+1))     the only place where phi' enters
    (2)  dC/dr^(k)   = dC/dz^(k+1) W^(k)'
    (3)  dC/dW^(k)   = r^(k)' dC/dz^(k+1)

(Rumelhart, Hinton & Williams 1986, batched by rows). In the code ``r, z, W, b`` are these, ``dr``
is dC/dr and ``delta`` is dC/dz. How a layer multiplies by its weights is its own affair, and so is
with which numbers: plain arrays, complex ones, numbers with an exponent, rounded numbers. All that
is measured of a network, norms, factors, identities, is taken from what `backward` yields.

One neuron in closed form, dC/dW = (ReLU(Wx) - y) Step(Wx) x, at x = 3, W = 2, y = 1:

>>> import numpy as np
>>> from study.core.blocks import Dense
>>> x, W, y = np.array([[3.0]]), np.array([[2.0]]), np.array([[1.0]])
>>> trace, r = forward([Dense(W, "relu")], x)
>>> [weight_gradient(r, delta) for _, r, _, delta, _ in backward(trace, r - y)]
[array([[15.]])]
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

Numbers = Any  # (..., batch, units), of a kind that can be multiplied


class Layer(Protocol):
    """r -> phi(up(r)), and the way back."""

    def up(self, r: Numbers) -> Numbers:
        """z, what phi is applied to."""

    def phi(self, z: Numbers) -> Numbers:
        """The layer's output."""

    def slope(self, z: Numbers) -> Numbers:
        """phi'(z)."""

    def down(self, delta: Numbers, r: Numbers, z: Numbers) -> Numbers:
        """dC/dr, given dC/dz; normalisation needs z, the matrix-free engine r."""


class Step(NamedTuple):
    """A layer on the way up: its input and what its phi is applied to."""

    layer: Layer
    r: Numbers
    z: Numbers


class BackStep(NamedTuple):
    """A layer on the way down."""

    layer: Layer
    r: Numbers
    z: Numbers
    delta: Numbers  # dC/dz
    dr: Numbers  # dC/dr of the layer's input


def forward(layers: Iterable[Layer], r: Numbers) -> tuple[list[Step], Numbers]:
    """Every step from the input up, and the output."""
    trace = []
    for layer in layers:
        z = layer.up(r)
        trace.append(Step(layer, r, z))
        r = layer.phi(z)
    return trace, r


def backward(trace: Sequence[Step], dr: Numbers) -> Iterator[BackStep]:
    """Every step from the output down, given dC/dr of the output."""
    for layer, r, z in reversed(trace):
        delta = dr * layer.slope(z)  # (1)
        dr = layer.down(delta, r, z)  # (2)
        yield BackStep(layer, r, z, delta, dr)


def weight_gradient(r: Numbers, delta: Numbers) -> Numbers:
    """dC/dW."""
    return r.mT @ delta  # (3)
