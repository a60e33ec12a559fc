"""Laws of infinite width: Glorot, Poole, Schoenholz, Klambauer, Philipp; which activation vanishes.

Slopes of ln of the squared gradient per layer, once q has settled. Their tolerance is that of a
finite width n: 8/n, a bound on the drift a/n of the summary law (a is 1.8 for critical tanh, 6.7
for critical sigmoid).
"""

from __future__ import annotations

import math

import numpy as np

from study import gaussian, theory
from study.activations import activation as activation_row
from study.laws.chains import gains, signals
from study.laws.law import OFF, Finding, every, law, mean_of
from study.network import Network

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
) -> Finding:
    """ln chi against the mean of ln G per layer; the wrong number is 5 % off unless given."""
    net = Network(activation, depth=depth, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)
    values = gains(net, 60 * more)[:, SETTLED:].mean(axis=1)
    expected = math.log(theory.mean_field(activation, sigma_w, sigma_b).chi)
    wrong = OFF * expected if wrong is None else wrong
    return mean_of(values, expected, wrong, tolerance=8 / WIDTH)


def _glorot(more: int, activation: str, wrong: float) -> Finding:
    sigma_w = 3**-0.5
    net = Network(activation, depth=30, width=256, sigma_w=sigma_w, weights="uniform")
    values = gains(net, 20 * more)[:, SETTLED:].mean(axis=1)
    expected = math.log(theory.mean_field(activation, sigma_w).chi)
    return mean_of(values, expected, wrong, tolerance=4 / 256)


@law(
    "Glorot & Bengio 2010",
    "Weights U[-1/sqrt n, 1/sqrt n] divide the squared gradient of a tanh network by 3 per layer",
    "tanh, uniform, sigma_w^2 = 1/3, width 256, depth 30; slope of ln G; tolerance 4/n",
    "5 % off",
)
def usual_tanh(more: int) -> Finding:
    return _glorot(more, "tanh", OFF * math.log(theory.mean_field("tanh", 3**-0.5).chi))


@law(
    "Glorot & Bengio 2010",
    "and that of a sigmoid network by 50: sigma_w^2 E s'^2",
    "sigmoid, uniform, sigma_w^2 = 1/3, width 256, depth 30; slope of ln G; tolerance 4/n",
    "sigma_w^2 s'(0)^2 = 1/48",
    "sigmoid takes a quarter per layer",
)
def usual_sigmoid(more: int) -> Finding:
    return _glorot(more, "sigmoid", math.log(theory.gradient_factor("sigmoid", 0.0, 3**-0.5)))


@law(
    "Schoenholz et al. 2017",
    "Sigmoid at sigma_w = 4 vanishes by chi per layer",
    "sigmoid, sigma_w = 4, width 1024, depth 60; slope of ln G; tolerance 8/n",
    "5 % off",
)
def sigmoid_vanishes(more: int) -> Finding:
    return _slope(more, "sigmoid", 4.0)


@law(
    "Schoenholz et al. 2017",
    "Sigmoid explodes at large weights: chi > 1 from sigma_w = 10.149 on",
    "sigmoid, sigma_w = 16, width 1024, depth 60; slope of ln G; tolerance 8/n",
    "5 % off",
    "sigmoid's gradients always vanish",
)
def sigmoid_explodes(more: int) -> Finding:
    return _slope(more, "sigmoid", 16.0)


@law(
    "Poole et al. 2016",
    "Tanh is chaotic above sigma_w = 1: the gradient explodes by chi",
    "tanh, sigma_w = 2, width 1024, depth 60; slope of ln G; tolerance 8/n",
    "5 % off",
)
def tanh_chaos(more: int) -> Finding:
    return _slope(more, "tanh", 2.0)


@law(
    "Schoenholz et al. 2017",
    "On the critical line chi = 1: neither vanishing nor exploding",
    "tanh, sigma_b^2 = 0.05, critical sigma_w, width 1024, depth 60; slope of ln G; tolerance 8/n",
    "ln chi at a sigma_w 5 % larger",
)
def tanh_critical(more: int) -> Finding:
    sigma_b = 0.05**0.5
    critical = theory.critical_sigma_w("tanh", sigma_b)
    wrong = math.log(theory.mean_field("tanh", OFF * critical, sigma_b).chi)
    return _slope(more, "tanh", critical, wrong, sigma_b)


@law(
    "Poole et al. 2016",
    "Lengths converge to the fixed point q* of the variance map",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 2.5, width 1024, layers 10 to 60; mean square of r; "
    "tolerance 5/n, relative",
    "5 % off",
)
def fixed_point(more: int) -> Finding:
    sigma_w, sigma_b = 2.5**0.5, 0.05**0.5
    net = Network("tanh", depth=60, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)
    q = theory.mean_field("tanh", sigma_w, sigma_b).q_star
    expected = (q - sigma_b**2) / sigma_w**2
    values = np.exp(signals(net, 60 * more)[:, SETTLED:]).mean(axis=1) / WIDTH
    return mean_of(values, expected, OFF * expected, tolerance=5 / WIDTH * expected)


def _pairs(seeds: int, sigma_w: float, sigma_b: float, c_0: float, layers: int) -> np.ndarray:
    """1 - c of two inputs' pre-activations in tanh networks, a row a seed, a column a layer.

    Given the layer below, the two pre-activations of a unit are normal with the covariance of the
    two signals: no matrix is needed.
    """
    row, gaps = activation_row("tanh"), np.empty((seeds, layers))
    q = theory.mean_field("tanh", sigma_w, sigma_b).q_star
    for seed in range(seeds):
        key = gaussian.key(seed, "pairs")
        g = gaussian.normal(key, 0, (2, WIDTH))
        z = math.sqrt(q) * np.stack([g[0], c_0 * g[0] + math.sqrt(1 - c_0**2) * g[1]])
        for k in range(layers):
            # Half the sum and half the difference: keeps the digits of 1 - c.
            r = row.phi(z)
            s, d = (r[0] + r[1]) / 2, (r[0] - r[1]) / 2
            ss, dd, sd = np.vdot(s, s), np.vdot(d, d), np.vdot(s, d)
            g = gaussian.normal(key, k + 1, (3, WIDTH))
            along = sigma_w * math.sqrt(ss / WIDTH) * g[0]
            d = sd / ss * along + sigma_w * math.sqrt((dd - sd**2 / ss) / WIDTH) * g[1]
            s = along + sigma_b * g[2]
            z = np.stack([s + d, s - d])
            size = np.sqrt((z**2).sum(axis=1))
            # |u - v|^2 = 2 (1 - c) for unit vectors, where |z1 - z2| = 2 |d|.
            apart = 4 * np.vdot(d, d) - (size[0] - size[1]) ** 2
            gaps[seed, k] = apart / (2 * size[0] * size[1])
    return gaps


@law(
    "Schoenholz et al. 2017",
    "In the ordered phase 1 - c of two inputs falls by e every xi_c layers; 6 xi_c is trainable",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 1.2, width 1024; slope of ln(1 - c), layers 10 to 60; "
    "tolerance 8/n",
    "the depth scale 15 % longer",
)
def depth_scale(more: int) -> Finding:
    sigma_w, sigma_b = 1.2**0.5, 0.05**0.5
    gaps = np.log(_pairs(60 * more, sigma_w, sigma_b, 0.5, 60))
    expected = -1 / theory.mean_field("tanh", sigma_w, sigma_b).xi_c
    return mean_of((gaps[:, 59] - gaps[:, 9]) / 50, expected, expected / 1.15, tolerance=8 / WIDTH)


@law(
    "Poole et al. 2016",
    "In the chaotic phase the correlation of two inputs tends to c* < 1",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 4, width 1024; mean of c, layers 50 to 200; tolerance 8/n",
    "c* = 1, as in the ordered phase",
)
def chaos_decorrelates(more: int) -> Finding:
    gaps = _pairs(60 * more, 2.0, 0.05**0.5, 0.9, 200)
    expected = theory.mean_field("tanh", 2.0, 0.05**0.5).c_star
    return mean_of(1 - gaps[:, 50:].mean(axis=1), expected, 1.0, tolerance=8 / WIDTH)


@law(
    "Schoenholz et al. 2017",
    "Critical tanh without bias: the gradient falls as a power law, sum ln chi along q -> 1/(2l)",
    "tanh, sigma_w = 1, width 1024, layers 10 to 100; mean of ln G; tolerance 2 L/n",
    "that at a sigma_w 5 % larger",
    "tanh's gradients vanish exponentially",
)
def power_law(more: int) -> Finding:
    values = gains(Network("tanh", depth=100, width=WIDTH, sigma_w=1.0), 60 * more)
    expected, wrong = (
        float(np.log(theory.trajectory("tanh", sigma_w, 0.0, 100).chi[SETTLED:]).sum())
        for sigma_w in (1.0, OFF)
    )
    return mean_of(values[:, SETTLED:].sum(axis=1), expected, wrong, tolerance=200 / WIDTH)


@law(
    "Klambauer et al. 2017",
    "SELU keeps its signal and explodes its gradient: chi = 1.0716 at the fixed point",
    "SELU, sigma_w = 1, width 1024, depth 60; slope of ln G; tolerance 8/n",
    "0, no explosion",
    "self-normalising networks do not explode",
)
def selu_explodes(more: int) -> Finding:
    return _slope(more, "selu", 1.0, 0.0)


@law(
    "Klambauer et al. 2017",
    "SELU's signal is self-normalising: q* = 1",
    "SELU, sigma_w = 1, width 1024, layers 10 to 60; mean square of r; tolerance 20/n",
    "5 % off",
)
def selu_signal(more: int) -> Finding:
    net = Network("selu", depth=60, width=WIDTH, sigma_w=1.0)
    expected = theory.mean_field("selu", 1.0).q_star
    values = np.exp(signals(net, 60 * more)[:, SETTLED:]).mean(axis=1) / WIDTH
    return mean_of(values, expected, expected * OFF, tolerance=20 / WIDTH)


@law(
    "summary law",
    "GELU at He's scale vanishes by 1/2 per layer: q -> 0, where GELU is x/2",
    "GELU, sigma_w^2 = 2, width 1024, layers 40 to 80; slope of ln G; tolerance 8/n",
    "0, as for ReLU",
    "He initialisation suits GELU",
)
def gelu_vanishes(more: int) -> Finding:
    values = gains(Network("gelu", depth=80, width=WIDTH, sigma_w=2**0.5), 60 * more)
    expected = math.log(theory.mean_field("gelu", 2**0.5).chi)
    wrong = math.log(theory.mean_field("relu", 2**0.5).chi)
    return mean_of(values[:, 40:].mean(axis=1), expected, wrong, tolerance=8 / WIDTH)


def _scale_coefficient(net: Network, seeds: int) -> np.ndarray:
    """Growth per layer of ln(||dC/dr^(k)|| ||r^(k)||), towards the input; norms, not squared."""
    lengths = signals(net, seeds)
    change = gains(net, seeds)[:, SETTLED + 1 :].sum(axis=1)
    change -= lengths[:, -1] - lengths[:, SETTLED]
    return change / (2 * (net.depth - SETTLED - 1))


@law(
    "Philipp et al. 2017",
    "The gradient scale coefficient grows by sqrt chi per layer wherever q is settled",
    "tanh, sigma_w = 2, width 1024, depth 60; slope of its ln; tolerance 4/n",
    "5 % off",
)
def scale_coefficient(more: int) -> Finding:
    net = Network("tanh", depth=60, width=WIDTH, sigma_w=2.0)
    expected = math.log(theory.mean_field("tanh", 2.0).chi) / 2
    return mean_of(
        _scale_coefficient(net, 60 * more), expected, OFF * expected, tolerance=4 / WIDTH
    )


@law(
    "Philipp et al. 2017",
    "ReLU's gradient scale coefficient is the same at every sigma_w: scale-free",
    "ReLU, sigma_w = 1 and 2 on the same draws, width 128, depth 50; difference of the slopes",
    "half of ln chi",
    "ReLU explodes at sigma_w = 2",
)
def relu_scale_coefficient(more: int) -> Finding:
    one, two = (
        _scale_coefficient(Network("relu", depth=50, width=128, sigma_w=sigma_w), 60 * more)
        for sigma_w in (1.0, 2.0)
    )
    wrong = math.log(theory.mean_field("relu", 2.0).chi) / 2
    return every(two - one, 0.0, wrong, tolerance=1e-12)
