"""Laws of the gradient scale coefficient: Philipp, Song and Carbonell.

||dC/dr^(k)|| ||r^(k)||, relative to the output's: exploding gradients, freed of what rescaling the
layers does. Growth of its logarithm per layer; norms, not squared. Expected is half of ln chi, less
the drift of finite width (``theory.fluctuations``); tolerances are what the next order may add.
"""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import gains, signals
from experiments.laws.law import OFF, Finding, every, law, mean_of
from study import theory
from study.core.network import Network
from study.theory.fluctuations import fluctuations

WIDTH, DEPTH = 1024, 60
SETTLED = 10
"""Layers next to the input that are left out."""


def _growth(net: Network, count: int) -> np.ndarray:
    """Growth per layer of ln(||dC/dr^(k)|| ||r^(k)||) towards the input."""
    lengths = signals(net, count)
    change = gains(net, count)[:, SETTLED + 1 :].sum(axis=1)
    change -= lengths[:, -1] - lengths[:, SETTLED]
    return change / (2 * (net.depth - SETTLED - 1))


def _grows(more: int, activation: str, sigma_w: float, off: float = OFF) -> Finding:
    """Where q has settled, lengths stay and the gradient's growth is all there is."""
    values = _growth(Network(activation, depth=DEPTH, width=WIDTH, sigma_w=sigma_w), 60 * more)
    exact = fluctuations(activation, sigma_w, depth=DEPTH).gain(WIDTH, SETTLED + 1)
    per_layer = 1 / (2 * exact.layers)
    expected, wrong = exact.mean * per_layer, (exact.mean + (off - 1) * exact.log_chi) * per_layer
    return mean_of(values, expected, wrong, tolerance=exact.mean_error * per_layer)


@law(
    "Philipp et al. 2017",
    "The gradient scale coefficient grows by sqrt chi per layer wherever q is settled",
    "tanh, sigma_w = 2, width 1024, depth 60; slope of its ln; tolerance: next order",
    "5 % off",
)
def scale_coefficient(more: int) -> Finding:
    return _grows(more, "tanh", 2.0)


@law(
    "Philipp et al. 2017",
    "It falls by sqrt chi in a sigmoid network",
    "sigmoid, sigma_w = 4, width 1024, depth 60; slope of its ln; tolerance: next order",
    "5 % off",
)
def scale_coefficient_sigmoid(more: int) -> Finding:
    return _grows(more, "sigmoid", 4.0)


@law(
    "Philipp et al. 2017",
    "SELU explodes by this measure, too: by 1.035 per layer, 31-fold in 100 layers",
    "SELU, sigma_w = 1, width 1024, depth 60; slope of its ln; tolerance: next order",
    "1, no explosion",
    "self-normalising networks do not explode",
)
def scale_coefficient_selu(more: int) -> Finding:
    return _grows(more, "selu", 1.0, off=0.0)


def _relu(count: int, sigma_w: float) -> np.ndarray:
    return _growth(Network("relu", depth=50, width=128, sigma_w=sigma_w), count)


@law(
    "Philipp et al. 2017",
    "A ReLU network's coefficient does not explode at any sigma_w: only the noise of finite width "
    "moves it",
    "ReLU, sigma_w = 2, width 128, depth 50; slope of its ln",
    "half of ln chi",
    "ReLU explodes at sigma_w = 2",
)
def scale_coefficient_relu(more: int) -> Finding:
    # Backward from the output and forward to it, layers of the same law; without ln chi.
    down = theory.finite_width.backward_law([128] * (50 - SETTLED), sigma_w=2.0).mean
    up = theory.finite_width.forward_law([128] * (50 - SETTLED), sigma_w=2.0).mean
    expected = (down - up) / (2 * (50 - SETTLED - 1))
    wrong = math.log(theory.mean_field("relu", 2.0).chi) / 2
    return mean_of(_relu(60 * more, 2.0), expected, wrong)


@law(
    "Philipp et al. 2017",
    "ReLU's coefficient is the same number at every sigma_w: it is free of scale",
    "ReLU, sigma_w^2 = 1, 2 and 4 on the same draws, width 128, depth 50; largest difference of "
    "the slopes, every network",
    "half of ln chi",
)
def relu_scale_coefficient(more: int) -> Finding:
    slopes = [_relu(60 * more, sigma_w) for sigma_w in (1.0, 2**0.5, 2.0)]
    wrong = math.log(theory.mean_field("relu", 2.0).chi) / 2
    return every(np.ptp(slopes, axis=0), 0.0, wrong, tolerance=1e-12)
