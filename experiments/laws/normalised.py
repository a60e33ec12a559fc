"""Laws of batch and layer normalisation: Yang, and Philipp's coefficient in normalised networks.

Networks r -> phi(norm(r W)) of 16 layers without skip connections; what is measured is per layer,
between r^(4) and r^(14), away from both ends. The theory is that of infinite width. Tolerances
hold the finite width's shift, relative, as it was found on other seeds: with batch normalisation
from -0.2 B/n (linear, B = 8) to 0.06 B/n (smooth activations), with layer normalisation 1/n.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments.laws.law import Finding, every, mean_of, seeds
from experiments.laws.walks import log_chi, log_squares
from study.core.blocks import BATCH, UNITS, Normalised
from study.sampling import gaussian
from study.theory.normalisation import batch_norm_factor, layer_norm_factor, linear_batch_factor

LAYERS = 16
TOP = 14
BOTTOM = 4


class Kind(NamedTuple):
    """Networks of one kind, and how many in the quick preset."""

    activation: str
    batch: int = 16
    n: int = 256
    axis: int = BATCH
    networks: int = 60


LARGE = Kind("relu", batch=64, n=512, networks=20)
LAYER_RELU = Kind("relu", n=128, axis=UNITS, networks=160)
LAYER_TANH = Kind("tanh", n=128, axis=UNITS, networks=80)


def _changes(seed: int, kind: Kind, sigma_w: float = 1.0) -> tuple[float, float]:
    """ln of the gradient's squared change from r^(14) to r^(4), and of the signal's, back."""
    key = gaussian.key(seed, "normalised")
    scale = sigma_w / math.sqrt(kind.n)
    weights = [scale * gaussian.normal(key, k, (kind.n, kind.n)) for k in range(LAYERS)]
    layers = [Normalised(W, kind.activation, kind.axis) for W in weights]
    r, dr = gaussian.normal(key, LAYERS, (2, kind.batch, kind.n))
    gradients, signals = log_squares(layers, r, dr)
    return gradients[BOTTOM] - gradients[TOP], signals[TOP] - signals[BOTTOM]


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def _logs(kind: Kind, factor: int) -> np.ndarray:
    """Both changes, (2, networks)."""
    return np.transpose([_changes(seed, kind) for seed in seeds(kind.networks * factor)])


def _factor(kind: Kind, factor: int, expected: float, wrong: float | None = None) -> Finding:
    """Factor per layer of the squared gradient, going back."""
    gradient, _ = _logs(kind, factor)
    relative = 0.2 * kind.batch / kind.n if kind.axis == BATCH else 2 / kind.n
    return mean_of(np.exp(gradient / (TOP - BOTTOM)), expected, wrong, relative=relative)


def _coefficient(kind: Kind, factor: int, squared: float) -> Finding:
    """Factor per layer of ||dC/dr|| ||r||, going back; norms, not squared."""
    gradient, signal = _logs(kind, factor)
    values = np.exp((gradient - signal) / (2 * (TOP - BOTTOM)))
    relative = 0.1 * kind.batch / kind.n if kind.axis == BATCH else 1 / kind.n
    return mean_of(values, math.sqrt(squared), relative=relative)


def _batch_norm(factor: int, activation: str, wrong: float | None = None) -> Finding:
    return _factor(Kind(activation), factor, batch_norm_factor(activation, 16), wrong)


def _scale(factor: int) -> Finding:
    differences = []
    for seed in seeds(5 * factor):
        small, _ = _changes(seed, Kind("relu", n=64), sigma_w=1.0)
        large, _ = _changes(seed, Kind("relu", n=64), sigma_w=3.0)
        differences.append(large - small)
    wrong = (TOP - BOTTOM) * (log_chi("relu", 3.0) - log_chi("relu", 1.0))
    return every(differences, 0.0, wrong, tolerance=1e-10)


MEASURES = {
    "batch norm relu": lambda factor: _factor(LARGE, factor, batch_norm_factor("relu", 64)),
    "batch norm coefficient": lambda factor: _coefficient(
        LARGE, factor, batch_norm_factor("relu", 64)
    ),
    "batch norm small batch": lambda factor: _batch_norm(factor, "relu", batch_norm_factor("relu")),
    "batch norm linear": lambda factor: _factor(
        Kind("linear", batch=8), factor, linear_batch_factor(8)
    ),
    "batch norm tanh": lambda factor: _batch_norm(factor, "tanh"),
    "batch norm sigmoid": lambda factor: _batch_norm(factor, "sigmoid", linear_batch_factor(16)),
    "batch norm selu": lambda factor: _batch_norm(factor, "selu"),
    "batch norm scale": _scale,
    "layer norm relu": lambda factor: _factor(LAYER_RELU, factor, layer_norm_factor("relu")),
    "layer norm coefficient relu": lambda factor: _coefficient(
        LAYER_RELU, factor, layer_norm_factor("relu")
    ),
    "layer norm tanh": lambda factor: _factor(LAYER_TANH, factor, layer_norm_factor("tanh")),
    "layer norm coefficient tanh": lambda factor: _coefficient(
        LAYER_TANH, factor, layer_norm_factor("tanh")
    ),
}
