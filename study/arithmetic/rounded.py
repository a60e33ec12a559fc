"""Numbers that are rounded to a format after every operation.

The equations of `study.core.backprop` in plain arithmetic, as people run it: nothing is rescaled,
what leaves the range is 0 or infinite.

The norm that a run prints is 0 long before the gradient is:

>>> from study.core.backprop import backward, forward, weight_gradient
>>> float32 = FORMATS["float32"]
>>> layers = rounded_layers([np.full((2, 2), 1e-9)] * 2, "linear", float32)
>>> trace, _ = forward(layers, Rounded(np.ones((1, 2)), float32))
>>> *_, (_, r, _, delta, _) = backward(trace, Rounded(np.full((1, 2), 1e-16), float32))
>>> dW = weight_gradient(r, delta)
>>> printed_norm(dW), is_lost(dW), f"{dW.value.max():.0e}"
(0.0, False, '2e-25')
"""

from collections.abc import Sequence
from typing import Self

import numpy as np

from study.arithmetic.formats import FORMATS, Format, quietly
from study.core.activations import Activation, activation
from study.core.blocks import Dense
from study.tools import Array

__all__ = ["FORMATS", "Rounded", "RoundedActivation", "is_lost", "printed_norm", "rounded_layers"]


class Rounded:
    """Numbers of a format; they are rounded to it when they are made, and after each operation.

    Compute with them under `quietly`, entered once: around each operation it would take longer.
    """

    def __init__(self, value: Array, number: Format):
        self.value = number.rounded(value)
        self.number = number

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def _held(self, value: Array) -> Self:
        """Numbers that are of the format already: to round a matrix costs as much as a product."""
        held = object.__new__(Rounded)
        held.value = value
        held.number = self.number
        return held

    @property
    def mT(self) -> Self:  # as NumPy calls it
        return self._held(self.value.mT)

    def __matmul__(self, other: Self) -> Self:
        return self._held(self.number.matmul(self.value, other.value))

    def __mul__(self, other: Self | Array | float) -> Self:
        return self._held(self.number.rounded(self.value * getattr(other, "value", other)))

    def __sub__(self, other: Self | Array | float) -> Self:
        return self._held(self.number.rounded(self.value - getattr(other, "value", other)))


class RoundedActivation:
    """An activation on rounded numbers.

    Sigmoid's and tanh's derivatives are taken from their outputs, as frameworks do: s (1 - s) is 0
    as soon as s has rounded to 1.
    """

    def __init__(self, row: Activation):
        self.row = row

    def phi(self, z: Rounded) -> Rounded:
        return Rounded(self.row.phi(z.value), z.number)

    def derivative(self, z: Rounded, kink: float) -> Array:
        if self.row.name == "sigmoid":
            r = self.phi(z).value
            return r * (1 - r)  # exactly 0 as soon as r rounds to 1
        if self.row.name == "tanh":
            r = self.phi(z).value
            return 1 - r * r  # likewise from |r| = 1 on
        return self.row.derivative(z.value, kink)


def rounded_layers(
    weights: Sequence[Array],
    activations: str | Sequence[str],
    number: Format,
    kink: float = 0.0,
) -> list[Dense]:
    """Dense layers in a format, to which the weights are rounded; an activation, or one a layer.

    ``kink`` is as in `study.backpropagate`; frameworks take 0.
    """
    if not isinstance(activations, (list, tuple)):
        activations = [activations] * len(weights)
    return [
        Dense(Rounded(W, number), RoundedActivation(activation(kind)), kink=kink)
        for W, kind in zip(weights, activations, strict=True)
    ]


@quietly
def printed_norm(gradient: Rounded) -> float:
    """The Frobenius norm as a run prints it: the root of the sum of squares, then rounded.

    The sum is in float32 for the 16-bit formats, else in the format, as torch has it; squares
    leave the range of float32 and float64 at half the decades.
    """
    flat = gradient.value.reshape(1, -1)
    return float(gradient.number.rounded(np.sqrt(flat @ flat.T))[0, 0])


def is_lost(gradient: Rounded) -> bool:
    """Whether nothing can be learnt from it: all entries are 0, or one is infinite or NaN."""
    return not (np.isfinite(gradient.value).all() and gradient.value.any())
