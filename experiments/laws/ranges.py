"""Laws of float ranges: the depth at which a gradient's norm leaves the numbers of float32.

Counted in layers from the output, where the norm is 1, on networks deep enough; between two layers
the logarithm is interpolated. A random walk with drift comes to a distance b after b / drift steps
in the mean (Wald), to one step of drift or noise: that is the tolerance.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from experiments.laws.chains import gains
from experiments.laws.law import OFF, Finding, law, mean_of
from study import theory
from study.core.network import Network
from study.theory.fluctuations import drift_and_spread

WIDTH = 256
_FLOAT32 = np.finfo(np.float32)
SMALLEST, LARGEST = 2 * math.log(_FLOAT32.tiny), 2 * math.log(_FLOAT32.max)
"""ln of the squares of the ends of the normal numbers."""


def _leaves(
    more: int, activation: str, sigma_w: float, depth: int, drift: float, noise: float
) -> Finding:
    """Depths at which networks leave the range; drift and noise are per layer, of ln G."""
    end = LARGEST if drift > 0 else SMALLEST
    values = gains(Network(activation, depth=depth, width=WIDTH, sigma_w=sigma_w), 30 * more)
    found = np.empty(len(values))
    for i, layers in enumerate(values[:, ::-1]):
        walk = np.concatenate([[0.0], layers.cumsum()])
        beyond = walk > end if drift > 0 else walk < end
        k = int(beyond.argmax())
        found[i] = k - (walk[k] - end) / (walk[k] - walk[k - 1]) if beyond[k] else math.inf
    expected = end / drift
    tolerance = 1 + noise / abs(drift)
    return mean_of(found, expected, OFF * expected, tolerance)


def _settled(more: int, activation: str, sigma_w: float, depth: int) -> Finding:
    """Where q is settled but for layers near the input that are not reached."""
    a, c = drift_and_spread(activation, sigma_w)
    drift = math.log(theory.mean_field(activation, sigma_w).chi) - a / WIDTH
    return _leaves(more, activation, sigma_w, depth, drift, math.sqrt(c / WIDTH))


@law(
    "summary law",
    "Sigmoid at Xavier's scale leaves float32's normal numbers within about 60 layers",
    "sigmoid, sigma_w = 1, width 256; depth at which the norm is below 1.18e-38; tolerance 1 layer "
    "and a step's noise",
    "5 % off",
)
def sigmoid_leaves_float32(more: int) -> Finding:
    return _settled(more, "sigmoid", 1.0, 80)


@law(
    "summary law",
    "at sigma_w = 4 it takes three times as many",
    "sigmoid, sigma_w = 4, width 256; depth at which the norm is below 1.18e-38; tolerance 1 layer "
    "and a step's noise",
    "5 % off",
)
def wide_sigmoid_leaves_float32(more: int) -> Finding:
    return _settled(more, "sigmoid", 4.0, 230)


@law(
    "summary law",
    "tanh at sigma_w = 2 leaves them upwards within 600 layers",
    "tanh, sigma_w = 2, width 256; depth at which the norm is above 3.4e38; tolerance 1 layer and "
    "a step's noise",
    "5 % off",
    "tanh's gradients vanish",
)
def tanh_leaves_float32(more: int) -> Finding:
    return _settled(more, "tanh", 2.0, 700)


@law(
    "summary law",
    "ReLU at Xavier's scale vanishes below float32 within about 250 layers, for its scale alone",
    "ReLU, sigma_w = 1, width 256; depth at which the norm is below 1.18e-38; tolerance 1 layer "
    "and a step's noise",
    "the depth of a sigmoid network of that scale",
    "ReLU's gradients do not vanish",
)
def relu_leaves_float32(more: int) -> Finding:
    layer = theory.finite_width.forward_law([WIDTH] * 2, sigma_w=1.0)
    found = _leaves(more, "relu", 1.0, 300, layer.mean, math.sqrt(layer.variance))
    wrong = SMALLEST / math.log(theory.mean_field("sigmoid", 1.0).chi)
    return replace(found, wrong=wrong)
