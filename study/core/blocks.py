"""Layers on numbers: dense, normalised, residual.

    Dense         r -> phi(r W + b)
    Normalised    r -> phi(norm(r W)),   norm(z) = (z - mean z) / std z
    Residual      r -> r + branch(r)

Batch normalisation takes mean and std over the batch, of each unit (Ioffe & Szegedy 2015); layer
normalisation over the units, of each example (Ba et al. 2016). They depend on z, and so are
differentiated, too: with x = norm(z) and <.> the mean over the same axis,

    dC/dz = (dC/dx - <dC/dx> - x <x dC/dx>) / std            (Ioffe & Szegedy 2015, section 3)

Without an ``epsilon``, added to the variance, a unit that is the same for the whole batch is an
error, not a zero.
Arrays are (..., batch, units); W is (n_in, n_out), or a stack of them with as many axes as r.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from study.core.activations import Activation, activation
from study.core.backprop import Layer, Numbers, Step, backward, forward
from study.tools import Array

BATCH = -2  # the axis of batch normalisation
UNITS = -1  # the axis of layer normalisation


class Dense:
    """r -> phi(scale r W + b).

    W is (..., n_in, n_out) and b (..., 1, n_out) or (n_out,); phi' at a kink is
    (1 - kink) * left + kink * right slope; ``scale`` is a factor of r W, of its format.
    """

    def __init__(
        self,
        W: Numbers,
        activation: str | Activation | Callable,
        b: Numbers | None = None,
        kink: float = 1.0,
        scale: float | Array | None = None,
    ):
        self.W = W
        self.b = b
        self.activation = _row(activation)
        self.kink = kink
        self.scale = scale

    def up(self, r: Numbers) -> Numbers:
        z = self._scaled(_product(r, self.W))
        return z if self.b is None else z + self.b

    def phi(self, z: Numbers) -> Numbers:
        return self.activation.phi(z)

    def slope(self, z: Numbers) -> Numbers:
        return self.activation.derivative(z, self.kink)

    def down(self, delta: Numbers, r: Numbers, z: Numbers) -> Numbers:
        return self._scaled(_product(delta, self.W.mT))  # (2), scale being a factor of W

    def _scaled(self, z: Numbers) -> Numbers:
        return z if self.scale is None else z * np.asarray(self.scale, z.dtype)


class Linear(Dense):
    """r -> scale r W, the last matrix of a residual branch."""

    def __init__(self, W: Numbers, scale: float | Array | None = None):
        super().__init__(W, "linear", scale=scale)

    def slope(self, z: Numbers) -> int:
        return 1


class Normal(NamedTuple):
    """Normalised pre-activations, and by what they were divided."""

    x: Array
    std: Array


class Normalised(Dense):
    """r -> phi(norm(r W)), over the axis `BATCH` or `UNITS`.

    With ``frozen`` the statistics count as constants on the way back.
    """

    def __init__(
        self,
        W: Array,
        activation: str | Activation | Callable,
        axis: int,
        frozen: bool = False,
        epsilon: float = 0.0,
    ):
        super().__init__(W, activation)
        self.axis = axis
        self.frozen = frozen
        self.epsilon = epsilon

    def up(self, r: Array) -> Normal:
        return normalise(super().up(r), self.axis, self.epsilon)

    def phi(self, z: Normal) -> Array:
        return self.activation.phi(z.x)

    def slope(self, z: Normal) -> Array:
        return self.activation.derivative(z.x, self.kink)

    def down(self, delta: Array, r: Array, z: Normal) -> Array:
        return super().down(self.before(delta, z), r, z)

    def before(self, delta: Array, z: Normal) -> Array:
        """dC/d(r W), given dC/dx."""
        return delta / z.std if self.frozen else before_norm(delta, z, self.axis)


def normalise(z: Array, axis: int, epsilon: float = 0.0) -> Normal:
    """``z`` less its mean along the axis, over the root of its variance plus ``epsilon``.

    >>> normalise(np.array([[1.0, 2.0], [3.0, 8.0]]), BATCH).x.tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    centred = z - z.mean(axis=axis, keepdims=True)
    std = np.sqrt(np.mean(centred**2, axis=axis, keepdims=True) + epsilon)
    if not epsilon and not np.all(std > 0):
        raise ValueError(f"z does not vary along axis {axis}; allowed: a positive deviation")
    return Normal(centred / std, std)


def before_norm(delta: Array, z: Normal, axis: int) -> Array:
    """dC/dz of what was normalised, given dC/dx."""
    mean = delta.mean(axis=axis, keepdims=True)
    along = (z.x * delta).mean(axis=axis, keepdims=True)
    return (delta - mean - z.x * along) / z.std


class Branch(NamedTuple):
    """What a residual block did on the way up."""

    r: Numbers
    trace: list[Step]
    out: Numbers


class Residual:
    """r -> r + branch(r) (He et al. 2016); the branch is a list of layers."""

    def __init__(self, branch: Sequence[Layer]):
        self.branch = branch

    def up(self, r: Numbers) -> Branch:
        return Branch(r, *forward(self.branch, r))

    def phi(self, z: Branch) -> Numbers:
        return z.r + z.out

    def slope(self, z: Branch) -> int:
        return 1

    def down(self, delta: Numbers, r: Numbers, z: Branch) -> Numbers:
        for step in backward(z.trace, delta):
            below = step.dr
        return delta + below  # the skip's own gradient is 1


def _row(kind):
    """A row of the table, or another arithmetic's form of one."""
    return kind if hasattr(kind, "derivative") else activation(kind)


def _product(r: Numbers, W: Numbers) -> Numbers:
    """r W as one matrix product, however many axes lead."""
    if len(r.shape) <= len(W.shape):
        return r @ W
    # NumPy would take one small product for each leading index.
    return (r.reshape(-1, r.shape[-1]) @ W).reshape(*r.shape[:-1], W.shape[-1])
