"""Layers on numbers: dense, convolutional, normalised, residual, attention.

    Dense         r -> phi(r W + b)
    Circular      r -> phi([r_(p-1), r_p, r_(p+1)] W + b) at each position p of a circle
    Normalised    r -> phi(norm(r W)),   norm(z) = (z - mean z) / std z
    LayerNorm     r -> gain norm(r), over the units
    Residual      r -> r + branch(r)
    Attention     (q, k, v) -> softmax(scale q k') v, the batch being the tokens of one text

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
    """r -> phi(norm(scale r W)), over the axis `BATCH` or `UNITS`.

    With ``frozen`` the statistics count as constants on the way back.
    """

    def __init__(
        self,
        W: Array,
        activation: str | Activation | Callable,
        axis: int,
        frozen: bool = False,
        scale: float | None = None,
        epsilon: float = 0.0,
    ):
        super().__init__(W, activation, scale=scale)
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


class LayerNorm:
    """r -> gain norm(r) over the units; the gain is (units,), 1 at initialisation."""

    def __init__(self, gain: Array | float = 1.0):
        self.gain = gain

    def up(self, r: Array) -> Normal:
        return normalise(r, UNITS)

    def phi(self, z: Normal) -> Array:
        return self.gain * z.x

    def slope(self, z: Normal) -> int:
        return 1

    def down(self, delta: Array, r: Array, z: Normal) -> Array:
        return before_norm(self.gain * delta, z, UNITS)


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


class Mix(NamedTuple):
    """P = identity 1 + attention A - centre 1 1'/tokens, which mixes the values.

    The last two shape attention so that it needs no skip connection (Noci et al. 2023, eq. 9; He &
    Hofmann 2024, eq. 6).
    """

    identity: float = 0.0
    attention: float = 1.0
    centre: float = 0.0


SOFTMAX = Mix()
"""Attention as it is."""


class Attended(NamedTuple):
    """Queries, keys less their mean over the tokens, values, and A; (..., heads, tokens, .)."""

    q: Array
    k: Array
    v: Array
    A: Array


class Attention:
    """(q, k, v) -> P v in each head, A = softmax(scale q k') (Vaswani et al. 2017, eq. 1).

    r is (..., tokens, 3 units), the queries, the keys and the values of all heads side by side;
    what comes out is (..., tokens, units). It has no weights: a `Linear` before makes r, one after
    it joins the heads. Every token attends to all. ``scale`` is by default 1 / sqrt(units of a
    head); with 0 all tokens get the same attention.
    """

    def __init__(self, heads: int, scale: float | None = None, mix: Mix = SOFTMAX):
        self.heads = heads
        self.scale = scale
        self.mix = mix

    def up(self, r: Array) -> Attended:
        q, k, v = (self._split(part) for part in np.split(r, 3, axis=-1))
        # What all keys have in common changes no attention, but would drown what tells them apart.
        k = k - k.mean(axis=-2, keepdims=True)
        logits = self._factor(q) * q @ k.mT
        A = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return Attended(q, k, v, A / A.sum(axis=-1, keepdims=True))

    def phi(self, z: Attended) -> Array:
        return self._joined(self._mixing(z.A) @ z.v)

    def slope(self, z: Attended) -> int:
        return 1

    def down(self, delta: Array, r: Array, z: Attended) -> Array:
        delta = self._split(delta)
        apart = z.v - z.v.mean(axis=-2, keepdims=True)
        dA = self.mix.attention * delta @ apart.mT
        dlogits = z.A * (dA - (z.A * dA).sum(axis=-1, keepdims=True))
        dlogits *= self._factor(z.q)
        parts = dlogits @ z.k, dlogits.mT @ z.q, self._mixing(z.A).mT @ delta
        return np.concatenate([self._joined(part) for part in parts], axis=-1)

    def _mixing(self, A: Array) -> Array:
        tokens = A.shape[-1]
        identity, attention, centre = self.mix
        return identity * np.eye(tokens) + attention * A - centre / tokens

    def _factor(self, q: Array) -> float:
        return q.shape[-1] ** -0.5 if self.scale is None else self.scale

    def _split(self, r: Array) -> Array:
        """(..., tokens, units) -> (..., heads, tokens, units of a head)."""
        return r.reshape(*r.shape[:-1], self.heads, -1).swapaxes(-2, -3)

    def _joined(self, r: Array) -> Array:
        r = r.swapaxes(-2, -3)
        return r.reshape(*r.shape[:-2], -1)


def _row(kind):
    """A row of the table, or another arithmetic's form of one."""
    return kind if hasattr(kind, "derivative") else activation(kind)


def _product(r: Numbers, W: Numbers) -> Numbers:
    """r W as one matrix product, however many axes lead."""
    if len(r.shape) <= len(W.shape):
        return r @ W
    # NumPy would take one small product for each leading index.
    return (r.reshape(-1, r.shape[-1]) @ W).reshape(*r.shape[:-1], W.shape[-1])
