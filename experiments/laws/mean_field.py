"""Laws of a gradient at infinite width: Glorot, Poole, Schoenholz, Klambauer; who vanishes.

Slopes of ln of the squared gradient per layer, once q has settled: ln chi, less the drift a/n of
a finite width (``theory.fluctuations``). Tolerances are what the next order in 1/n may add.
"""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import gains
from experiments.laws.law import OFF, Finding, law, mean_of
from study import theory
from study.core.network import Network
from study.theory.fluctuations import Gain, fluctuations
from study.theory.moments import KURTOSIS

WIDTH = 1024
SETTLED = 10
"""Layers next to the input that are left out."""


def _slope(
    more: int,
    activation: str,
    sigma_w: float,
    wrong: float | None = None,
    sigma_b: float = 0.0,
    depth: int = 60,
    settled: int = SETTLED,
) -> Finding:
    """The mean of ln G per layer; the wrong number is that with ln chi 5 % off unless given."""
    net = Network(activation, depth=depth, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)
    values = gains(net, 60 * more)[:, settled:].mean(axis=1)
    exact = fluctuations(activation, sigma_w, sigma_b, depth=depth).gain(WIDTH, settled)
    return _per_layer(values, exact, wrong)


def _per_layer(values: np.ndarray, exact: Gain, wrong: float | None) -> Finding:
    expected = exact.mean / exact.layers
    if wrong is None:
        wrong = expected + (OFF - 1) * exact.log_chi / exact.layers
    return mean_of(values, expected, wrong, tolerance=exact.mean_error / exact.layers)


def _glorot(more: int, activation: str, wrong: float | None = None) -> Finding:
    sigma_w = 3**-0.5
    net = Network(activation, depth=30, width=256, sigma_w=sigma_w, weights="uniform")
    values = gains(net, 20 * more)[:, SETTLED:].mean(axis=1)
    exact = fluctuations(activation, sigma_w, depth=30, kurtosis=KURTOSIS["uniform"])
    return _per_layer(values, exact.gain(256, SETTLED), wrong)


@law(
    "Glorot & Bengio 2010",
    "Weights U[-1/sqrt n, 1/sqrt n] divide the squared gradient of a tanh network by 3 per layer",
    "tanh, uniform, sigma_w^2 = 1/3, width 256, depth 30; slope of ln G; tolerance: next order",
    "5 % off",
)
def usual_tanh(more: int) -> Finding:
    return _glorot(more, "tanh")


@law(
    "Glorot & Bengio 2010",
    "The usual uniform weights divide a sigmoid network's squared gradient by 50: sigma_w^2 E s'^2",
    "sigmoid, uniform, sigma_w^2 = 1/3, width 256, depth 30; slope of ln G; tolerance: next order",
    "sigma_w^2 s'(0)^2 = 1/48",
    "sigmoid takes a quarter per layer",
)
def usual_sigmoid(more: int) -> Finding:
    return _glorot(more, "sigmoid", math.log(theory.gradient_factor("sigmoid", 0.0, 3**-0.5)))


@law(
    "Schoenholz et al. 2017",
    "Sigmoid at sigma_w = 4 vanishes by chi per layer",
    "sigmoid, sigma_w = 4, width 1024, depth 60; slope of ln G; tolerance: next order",
    "5 % off",
)
def sigmoid_vanishes(more: int) -> Finding:
    return _slope(more, "sigmoid", 4.0)


@law(
    "Schoenholz et al. 2017",
    "Sigmoid explodes at large weights: chi > 1 from sigma_w = 10.149 on",
    "sigmoid, sigma_w = 16, width 1024, depth 60; slope of ln G; tolerance: next order",
    "5 % off",
    "sigmoid's gradients always vanish",
)
def sigmoid_explodes(more: int) -> Finding:
    return _slope(more, "sigmoid", 16.0)


@law(
    "Poole et al. 2016",
    "Tanh is chaotic above sigma_w = 1: the gradient explodes by chi",
    "tanh, sigma_w = 2, width 1024, depth 60; slope of ln G; tolerance: next order",
    "5 % off",
)
def tanh_chaos(more: int) -> Finding:
    return _slope(more, "tanh", 2.0)


@law(
    "Schoenholz et al. 2017",
    "On the critical line chi = 1: neither vanishing nor exploding",
    "tanh, sigma_b^2 = 0.05, critical sigma_w, width 1024, depth 60; slope of ln G; tolerance: "
    "next order",
    "ln chi at a sigma_w 5 % larger",
)
def tanh_critical(more: int) -> Finding:
    sigma_b = 0.05**0.5
    critical = theory.critical_sigma_w("tanh", sigma_b)
    wrong = math.log(theory.mean_field("tanh", OFF * critical, sigma_b).chi)
    return _slope(more, "tanh", critical, wrong, sigma_b)


@law(
    "Schoenholz et al. 2017",
    "Critical tanh without bias: the gradient falls as a power law, sum ln chi along q -> 1/(2l)",
    "tanh, sigma_w = 1, width 1024, layers 10 to 100; mean of ln G; tolerance: "
    "L/n of the drift, as q walks at random",
    "that at a sigma_w 5 % larger",
    "tanh's gradients vanish exponentially",
)
def power_law(more: int) -> Finding:
    values = gains(Network("tanh", depth=100, width=WIDTH, sigma_w=1.0), 60 * more)
    exact, wrong = (
        fluctuations("tanh", sigma_w, depth=100).gain(WIDTH, SETTLED) for sigma_w in (1.0, OFF)
    )
    tolerance = 100 / WIDTH * (exact.log_chi - exact.mean)
    return mean_of(values[:, SETTLED:].sum(axis=1), exact.mean, wrong.mean, tolerance)


@law(
    "Klambauer et al. 2017",
    "SELU keeps its signal and explodes its gradient: chi = 1.0716 at the fixed point",
    "SELU, sigma_w = 1, width 1024, depth 60; slope of ln G; tolerance: next order",
    "0, no explosion",
    "self-normalising networks do not explode",
)
def selu_explodes(more: int) -> Finding:
    return _slope(more, "selu", 1.0, wrong=math.log(theory.mean_field("linear", 1.0).chi))


@law(
    "summary law",
    "GELU at He's scale vanishes by 1/2 per layer: q -> 0, where GELU is x/2",
    "GELU, sigma_w^2 = 2, width 1024, layers 40 to 80; slope of ln G; tolerance: next order",
    "0, as for ReLU",
    "He initialisation suits GELU",
)
def gelu_vanishes(more: int) -> Finding:
    wrong = math.log(theory.mean_field("relu", 2**0.5).chi)
    return _slope(more, "gelu", 2**0.5, wrong, depth=80, settled=40)
