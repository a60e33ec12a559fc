"""Layers on scaled numbers: what multiplies by the weights is left to an engine's `Weights`."""

from __future__ import annotations

from typing import Protocol

from study.arithmetic.activations import Activations, Slopes
from study.arithmetic.scaled import Scaled
from study.engines.recorder import Recorder
from study.tools import Array


class Weights(Protocol):
    """W^(k) of every layer k: given, drawn, or known by its action alone."""

    trunk: Array | slice
    """The network of the forward pass that each row of the backward pass belongs to."""

    def up(self, k: int, r: Scaled) -> Scaled:
        """r W^(k) + b^(k)."""

    def down(self, k: int, delta: Scaled, r: Scaled) -> Scaled:
        """delta W^(k)', in range."""


class WeightedLayer:
    """Layer k of the networks of a pass; see `study.core.backprop.Layer`."""

    def __init__(self, k: int, weights: Weights, activations: Activations, record: Recorder):
        self.k = k
        self.weights = weights
        self.activations = activations
        self.record = record

    def up(self, r: Scaled) -> Scaled:
        return self.weights.up(self.k, r)

    def phi(self, z: Scaled) -> Scaled:
        return self.activations.phi(z)

    def slope(self, z: Scaled) -> Slopes:
        slopes = self.activations.slopes(z, self.weights.trunk)
        self.record.active[self.k] = self.activations.active_fraction(slopes.of_trunks)
        return slopes

    def down(self, delta: Scaled, r: Scaled, z: Scaled) -> Scaled:
        return self.weights.down(self.k, delta, r)
