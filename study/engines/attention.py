"""Attention, and layer normalisation with a gain, as layers; a batch is the tokens of one text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from study.core.blocks import UNITS, Normal, before_norm, normalise
from study.tools import Array


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
