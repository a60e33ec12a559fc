"""Laws of finite width: Hanin and Nica, Hanin and Rolnick, He, Lu; Euler's identity.

The theory is exact here, at any width and depth: tolerances are 0 but where the text says so.
"""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import dead, gains, signals, weight_gradients
from experiments.laws.law import (
    OFF,
    Finding,
    every,
    law,
    mean_of,
    median_of,
    seeds,
    share_of,
    variance_of,
)
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.sampling import gaussian
from study.theory.moments import KURTOSIS

_HE = math.sqrt(2)


@law(
    "Hanin & Nica 2018",
    "The mean of ln G of a He-ReLU network is sum (psi(B/2) + ln(4/n)), averaged over the number "
    "B of active units: about -5L/(2n)",
    "ReLU, sigma_w^2 = 2, width 32, depth 100",
    "that of a network twice as wide, which is about half",
)
def log_gradient_mean(more: int) -> Finding:
    net = Network("relu", depth=100, width=32, sigma_w=_HE)
    expected = theory.finite_width.backward_law([32] * 101).mean
    values = gains(net, 1500 * more).sum(axis=1)
    return mean_of(values, expected, wrong=theory.finite_width.backward_law([64] * 101).mean)


@law(
    "Hanin & Nica 2018",
    "The variance of ln G of a He-ReLU network is sum of E psi'(B/2) + Var psi(B/2): about 5L/n",
    "ReLU, sigma_w^2 = 2, width 32, depth 100",
    "the variance 3L/n of orthogonal weights",
)
def log_gradient_variance(more: int) -> Finding:
    net = Network("relu", depth=100, width=32, sigma_w=_HE)
    expected = theory.finite_width.backward_law([32] * 101).variance
    wrong = theory.finite_width.backward_law([32] * 101, weights="orthogonal").variance
    return variance_of(gains(net, 1500 * more).sum(axis=1), expected, wrong)


@law(
    "Hanin & Nica 2018",
    "The typical He-ReLU gradient vanishes: the median of ln G is about -5L/(2n), though E G = 1",
    "ReLU, sigma_w^2 = 2, width 100, depth 1000 (L = 10 n)",
    "0, the mean-field value at sigma_w^2 = 2",
    "He initialisation keeps gradients at any depth",
)
def typical_gradient_vanishes(more: int) -> Finding:
    net = Network("relu", depth=1000, width=100, sigma_w=_HE)
    expected = theory.finite_width.backward_law([100] * 1001).median
    wrong = 1000 * math.log(theory.mean_field("relu", _HE).chi)
    return median_of(gains(net, 150 * more).sum(axis=1), expected, wrong)


@law(
    "He et al. 2015",
    "At sigma_w^2 = 1 (Xavier) a ReLU layer halves the squared gradient; the mean of ln G per "
    "layer is ln(1/2) less the bias of finite width",
    "ReLU, sigma_w = 1, width 256, depth 60",
    "the mean field's ln(1/2), 5 % off",
)
def xavier_halves(more: int) -> Finding:
    net = Network("relu", depth=60, width=256, sigma_w=1.0)
    expected = theory.finite_width.backward_law([256] * 61, sigma_w=1.0).mean / 60
    wrong = math.log(theory.mean_field("relu", 1.0).chi) * OFF
    return mean_of(gains(net, 100 * more).mean(axis=1), expected, wrong)


@law(
    "Hanin & Rolnick 2018",
    "The median length of a He-ReLU signal falls by about exp(-5L/(2n)), though its mean stays",
    "ReLU, sigma_w^2 = 2, width 100, 50 layers; ln of the squared length",
    "0, the mean field",
    "He initialisation keeps the length of signals",
)
def typical_length_falls(more: int) -> Finding:
    found = signals(Network("relu", depth=51, width=100, sigma_w=_HE), 500 * more)
    expected = theory.finite_width.forward_law([100] * 51).median
    wrong = 50 * math.log(theory.mean_field("relu", _HE).chi)
    return median_of(found[:, -1] - found[:, 0], expected, wrong)


@law(
    "Hanin & Rolnick 2018",
    "Lengths of signals spread by a variance of ln of about 5 sum 1/n",
    "ReLU, sigma_w^2 = 2, width 100, 50 layers",
    "that of a linear network, about 2 sum 1/n",
)
def lengths_spread(more: int) -> Finding:
    found = signals(Network("relu", depth=51, width=100, sigma_w=_HE), 500 * more)
    expected = theory.finite_width.forward_law([100] * 51).variance
    wrong = theory.finite_width.forward_law([100] * 51, "linear", sigma_w=1.0).variance
    return variance_of(found[:, -1] - found[:, 0], expected, wrong)


@law(
    "Lu et al. 2019",
    "A ReLU network is dead for a given input with probability 1 - (1 - 2^-n)^L, whatever sigma_w",
    "ReLU, width 5, depth 20; share of networks whose gradient is truly zero",
    "that of 14 layers: fewer deaths by a quarter",
)
def born_dead(more: int) -> Finding:
    n = 1000 * more
    expected = theory.dying.born_dead([5] * 20)
    wrong = theory.dying.born_dead([5] * 14)
    return share_of(dead(Network("relu", depth=20, width=5), n), n, expected, wrong)


@law(
    "Euler; Du, Hu & Lee 2018",
    "In a bias-free homogeneous network <W, dC/dW> is the same for every layer: dC/dr . r at the "
    "output",
    "ReLU, sigma_w^2 = 1, width 64, depth 50; largest relative deviation of any layer",
    "5 % off, as with an activation that is not homogeneous",
)
def euler_identity(more: int) -> Finding:
    row = activation_row("relu")
    worst = np.empty(5 * more)
    for i, seed in enumerate(seeds(worst.size)):
        key = gaussian.key(seed, "euler")
        r, walked = gaussian.normal(key, 50, (1, 64)), []
        for k in range(50):
            W = gaussian.normal(key, k, (64, 64)) / 8
            walked.append((W, r, r @ W))
            r = row.phi(walked[-1][2])
        dr = gaussian.normal(key, 51, (1, 64))
        total = float(np.vdot(dr, r))
        ratios = []
        for W, r_k, z in reversed(walked):
            delta = dr * row.derivative(z)
            ratios.append(float(np.vdot(W, r_k.T @ delta)) / total)
            dr = delta @ W.T
        worst[i] = np.abs(np.array(ratios) - 1).max()
    return every(worst, 0.0, wrong=OFF - 1, tolerance=1e-11)


@law(
    "Euler; Hanin 2018",
    "Weight gradients of a mis-scaled ReLU network vanish in all layers alike: the slope of "
    "ln ||dC/dW||^2 over layers is 0",
    "ReLU, sigma_w = 1, width 128, depth 50; from the first to the last layer but one",
    "-ln chi = ln 2 per layer",
    "ReLU's vanishing gradients vanish towards the input",
)
def relu_vanishes_uniformly(more: int) -> Finding:
    found = weight_gradients(Network("relu", depth=50, width=128, sigma_w=1.0), 100 * more)
    laws = [theory.finite_width.weight_gradient_law([128] * 51, k, sigma_w=1.0) for k in (1, 48)]
    expected = (laws[1].mean - laws[0].mean) / 47
    wrong = -math.log(theory.mean_field("relu", 1.0).chi)
    return mean_of((found[:, 48] - found[:, 1]) / 47, expected, wrong)


@law(
    "Hanin & Nica 2018",
    "The kurtosis of the weights shifts the drift: uniform weights lose less than Gaussian ones",
    "ReLU, uniform, sigma_w^2 = 2, width 32, depth 50; mean of ln G; the shift to second order in "
    "1/n, tolerance: a tenth of it, the third",
    "the law of Gaussian weights",
)
def uniform_weights(more: int) -> Finding:
    exact = theory.finite_width.backward_law([32] * 51).mean
    shift = theory.moments.kurtosis_shift([32] * 51, "relu", KURTOSIS["uniform"]).mean
    logs = np.concatenate([_uniform_gains(seed, 200, 32, 50) for seed in seeds(40 * more)])
    return mean_of(logs, exact + shift, exact, tolerance=0.1 * shift)


def _uniform_gains(seed: int, networks: int, n: int, depth: int) -> np.ndarray:
    """ln G of He-ReLU networks with uniform weights, walked side by side."""
    row, key = activation_row("relu"), gaussian.key(seed, "uniform weights")
    r, dr = gaussian.normal(key, 0, (2, networks, 1, n), np.float32)
    start, walked = np.vecdot(dr, dr), []
    for k in range(depth):
        W = gaussian.uniform(key, k + 1, (networks, n, n), np.float32)
        W *= np.float32(_HE / math.sqrt(n))
        z = r @ W
        walked.append((W, row.derivative(z)))
        r = row.phi(z)
    for W, slope in reversed(walked):
        dr = (dr * slope) @ W.mT
    return np.log(np.vecdot(dr, dr) / start, dtype=float)[:, 0]
