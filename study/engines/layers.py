"""Layers on scaled numbers, and what multiplies by their weights."""

from __future__ import annotations

from typing import Protocol

from study.arithmetic.activations import EVERY, Activations, Slopes
from study.arithmetic.scaled import Scaled
from study.engines.recorder import Recorder
from study.tools import Array


class Weights(Protocol):
    """W^(k) of every layer k: drawn, or known by its action alone."""

    trunk: Array | slice
    """The network of the forward pass that each row of the backward pass belongs to."""

    def up(self, k: int, r: Scaled) -> Scaled:
        """r W^(k) + b^(k)."""

    def down(self, k: int, delta: Scaled, r: Scaled) -> Scaled:
        """delta W^(k)', in range."""


class RecordedLayer:
    """Layer k of the networks of a pass; see `study.core.backprop.Layer`."""

    trunk: Array | slice = EVERY

    def __init__(self, k: int, activations: Activations, record: Recorder):
        self.k = k
        self.activations = activations
        self.record = record

    def phi(self, z: Scaled) -> Scaled:
        return self.activations.phi(z)

    def slope(self, z: Scaled) -> Slopes:
        return Slopes(self.activations, z, self.trunk, self.record.active[self.k])


class WeightedLayer(RecordedLayer):
    """A layer of networks that march together."""

    def __init__(self, k: int, weights: Weights, activations: Activations, record: Recorder):
        super().__init__(k, activations, record)
        self.weights = weights

    @property
    def trunk(self) -> Array | slice:
        return self.weights.trunk

    def up(self, r: Scaled) -> Scaled:
        return self.weights.up(self.k, r)

    def down(self, delta: Scaled, r: Scaled, z: Scaled) -> Scaled:
        return self.weights.down(self.k, delta, r)
