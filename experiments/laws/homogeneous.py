"""Laws of where weight gradients vanish: in all layers alike (homogeneous) or towards the input.

In a bias-free homogeneous network <W, dC/dW> is the same for every layer (Euler), so the first
layer's gradient says nothing that the last one's does not. A saturating activation whose q has
settled is not homogeneous: its weight gradients fall or grow by chi per layer towards the input.
"""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import weight_gradients
from experiments.laws.law import OFF, Finding, every, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.sampling import gaussian


@law(
    "Euler; Du, Hu & Lee 2018",
    "<W, dC/dW> is the same for every layer of a bias-free homogeneous network, be the first "
    "layer's weights a million times the last one's",
    "leaky ReLU, sigma_w falling from 1000 to 0.001, width 64, depth 30; largest relative "
    "deviation of any layer's <W, dC/dW> from dC/dr . r at the output, every network",
    "5 % off",
)
def euler_unequal_scales(more: int) -> Finding:
    row, worst = activation_row("leaky_relu"), []
    for seed in seeds(5 * more):
        key = gaussian.key(seed, "euler")
        r, walked = gaussian.normal(key, 30, (1, 64)), []
        for k, sigma_w in enumerate(np.geomspace(1000, 0.001, 30)):
            W = gaussian.normal(key, k, (64, 64)) * sigma_w / 8
            walked.append((W, r, r @ W))
            r = row.phi(walked[-1][2])
        dr, found = gaussian.normal(key, 31, (1, 64)), []
        # A cotangent along the output, in part: <dC/dr, r> must not nearly cancel.
        dr += 4 * r / math.sqrt(np.mean(r**2))
        total = float(np.vdot(dr, r))
        for W, r_k, z in reversed(walked):
            delta = dr * row.derivative(z)
            found.append(abs(float(np.vdot(W, r_k.T @ delta)) / total - 1))
            dr = delta @ W.T
        worst.append(max(found))
    return every(worst, 0.0, wrong=OFF - 1, tolerance=1e-11)


@law(
    "Euler; Hanin 2018",
    "The profile of a ReLU network's weight gradients does not depend on sigma_w: no scale makes "
    "the first layer vanish before the last",
    "ReLU, sigma_w = 1 and 2 on the same draws, width 128, depth 50; difference of ln of the first "
    "over the last layer's squared norm, every network",
    "49 times ln 4, as for dC/dr",
    "the first over the last layer's gradient shows whether a ReLU network vanishes",
)
def relu_profile(more: int) -> Finding:
    one, two = (
        weight_gradients(Network("relu", depth=50, width=128, sigma_w=sigma_w), 20 * more)
        for sigma_w in (1.0, 2.0)
    )
    chi = [theory.mean_field("relu", sigma_w).chi for sigma_w in (1.0, 2.0)]
    wrong = 49 * math.log(chi[1] / chi[0])
    found = (two[:, 0] - two[:, -1]) - (one[:, 0] - one[:, -1])
    return every(found, 0.0, wrong, tolerance=1e-10)


def _towards_input(more: int, activation: str, sigma_w: float, n: int, depth: int) -> Finding:
    """Slope of ln ||dC/dW^(k)||^2 by k, from layer 10 to the last but one."""
    found = weight_gradients(Network(activation, depth=depth, width=n, sigma_w=sigma_w), 60 * more)
    expected = -math.log(theory.mean_field(activation, sigma_w).chi)
    slopes = (found[:, -2] - found[:, 10]) / (depth - 12)
    return mean_of(slopes, expected, OFF * expected, tolerance=8 / n)


@law(
    "Euler; Schoenholz et al. 2017",
    "Weight gradients of a sigmoid network vanish towards the input: ln ||dC/dW||^2 rises by "
    "-ln chi per layer",
    "sigmoid, sigma_w = 1, width 256, layers 10 to 38 of 40; slope; tolerance 8/n",
    "5 % off",
)
def sigmoid_vanishes_towards_input(more: int) -> Finding:
    return _towards_input(more, "sigmoid", 1.0, 256, 40)


@law(
    "Euler; Schoenholz et al. 2017",
    "Weight gradients of a tanh network at large weights explode towards the input, by chi per "
    "layer",
    "tanh, sigma_w = 2, width 1024, layers 10 to 58 of 60; slope of ln ||dC/dW||^2; tolerance 8/n",
    "5 % off",
)
def tanh_explodes_towards_input(more: int) -> Finding:
    return _towards_input(more, "tanh", 2.0, 1024, 60)
