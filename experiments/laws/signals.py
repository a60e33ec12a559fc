"""Laws of signals at infinite width: their lengths and directions, by Poole, Schoenholz, Klambauer.

Where q and the correlation of two inputs go, and how soon. Means have the bias of finite width
(``theory.fluctuations``); tolerances are what the next order in 1/n may add, or as stated.
"""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import signals
from experiments.laws.law import OFF, Finding, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.sampling import gaussian
from study.theory.fluctuations import drift_and_spread, fluctuations

WIDTH = 1024
SETTLED = 10
"""Layers next to the input that are left out."""


@law(
    "Poole et al. 2016",
    "Lengths converge to the fixed point q* of the variance map",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 2.5, width 1024, layers 10 to 60; mean square of r; "
    "to order 1/n; tolerance: the next order",
    "5 % off",
)
def fixed_point(more: int) -> Finding:
    sigma_w, sigma_b = 2.5**0.5, 0.05**0.5
    return _mean_square(more, "tanh", sigma_w, sigma_b)


def _mean_square(more: int, activation: str, sigma_w: float, sigma_b: float) -> Finding:
    """The mean square of the signals, averaged over layers, with the bias of finite width.

    E q = q (1 + (shift + variance / 2) / n) from the mean and variance of ln q; the next order
    is about the square of the latter.
    """
    net = Network(activation, depth=60, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)
    values = np.exp(signals(net, 60 * more)[:, SETTLED:]).mean(axis=1) / WIDTH
    q, shift, variance, *_ = fluctuations(activation, sigma_w, sigma_b, depth=61)
    q = (q * (1 + (shift + variance / 2) / WIDTH))[SETTLED + 1 :].mean()
    expected = (q - sigma_b**2) / sigma_w**2
    tolerance = expected * (float(variance.max()) / WIDTH) ** 2
    return mean_of(values, expected, OFF * expected, tolerance)


def _pairs(count: int, sigma_w: float, sigma_b: float, c_0: float, layers: int) -> np.ndarray:
    """1 - c of two inputs' pre-activations in tanh networks, a row a seed, a column a layer.

    Given the layer below, the two pre-activations of a unit are normal with the covariance of the
    two signals: no matrix is needed.
    """
    row, gaps = activation_row("tanh"), np.empty((count, layers))
    q = theory.mean_field("tanh", sigma_w, sigma_b).q_star
    for i, seed in enumerate(seeds(count)):
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
            gaps[i, k] = apart / (2 * size[0] * size[1])
    return gaps


@law(
    "Schoenholz et al. 2017",
    "In the ordered phase 1 - c of two inputs falls by e every xi_c layers; 6 xi_c is trainable",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 1.2, width 1024; slope of ln(1 - c), layers 10 to 60; "
    "tolerance: twice the drift a/n of a gradient",
    "the depth scale 15 % longer",
)
def depth_scale(more: int) -> Finding:
    sigma_w, sigma_b = 1.2**0.5, 0.05**0.5
    gaps = np.log(_pairs(60 * more, sigma_w, sigma_b, 0.5, 60))
    expected = -1 / theory.mean_field("tanh", sigma_w, sigma_b).xi_c
    tolerance = 2 * drift_and_spread("tanh", sigma_w, sigma_b).drift / WIDTH
    return mean_of((gaps[:, 59] - gaps[:, 9]) / 50, expected, expected / 1.15, tolerance)


@law(
    "Poole et al. 2016",
    "In the chaotic phase the correlation of two inputs tends to c* < 1",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 4, width 1024; mean of c, layers 50 to 200; "
    "tolerance 8/n, a few times the variance 1/n of a cosine",
    "c* = 1, as in the ordered phase",
)
def chaos_decorrelates(more: int) -> Finding:
    gaps = _pairs(60 * more, 2.0, 0.05**0.5, 0.9, 200)
    expected = theory.mean_field("tanh", 2.0, 0.05**0.5).c_star
    wrong = theory.mean_field("tanh", 1.0, 0.05**0.5).c_star
    return mean_of(1 - gaps[:, 50:].mean(axis=1), expected, wrong, tolerance=8 / WIDTH)


def _lengths(
    more: int, activation: str, sigma_w: float, sigma_b: float, layers: int
) -> tuple[np.ndarray, float]:
    """ln per layer of how two lengths of signals draw together, next to q*; and -1 / xi_q.

    Given r, pre-activations are independent normals of variance q: no matrix is needed, and the
    same normals serve both signals.
    """
    row, found = activation_row(activation), np.empty(60 * more)
    at = theory.mean_field(activation, sigma_w, sigma_b)
    for i, seed in enumerate(seeds(found.size)):
        q, key = at.q_star * np.array([1 / OFF, OFF]), gaussian.key(seed, "lengths")
        apart = q[1] - q[0]
        for k in range(layers):
            z = np.sqrt(q)[:, None] * gaussian.normal(key, k, (WIDTH,))
            q = sigma_w**2 * np.mean(row.phi(z) ** 2, axis=1) + sigma_b**2
        found[i] = math.log((q[1] - q[0]) / apart) / layers
    return found, -1 / at.xi_q


@law(
    "Poole et al. 2016",
    "Lengths draw together by e every xi_q layers, sooner than directions",
    "tanh, sigma_b^2 = 0.05, sigma_w^2 = 1.2, width 1024, 20 layers from 5 % above and below q*; "
    "slope of ln of the difference; tolerance: twice the drift a/n of a gradient",
    "the depth scale xi_c of correlations",
)
def length_scale(more: int) -> Finding:
    sigma_w, sigma_b = 1.2**0.5, 0.05**0.5
    values, expected = _lengths(more, "tanh", sigma_w, sigma_b, 20)
    wrong = -1 / theory.mean_field("tanh", sigma_w, sigma_b).xi_c
    tolerance = 2 * drift_and_spread("tanh", sigma_w, sigma_b).drift / WIDTH
    return mean_of(values, expected, wrong, tolerance)


@law(
    "Klambauer et al. 2017",
    "SELU's variance map contracts deviations from 1 by 0.7826 per layer",
    "SELU, sigma_w = 1, width 1024, 40 layers from 5 % above and below q*; slope of ln of the "
    "difference; tolerance: twice the drift a/n of a gradient",
    "5 % off",
)
def selu_contracts(more: int) -> Finding:
    values, expected = _lengths(more, "selu", 1.0, 0.0, 40)
    tolerance = 2 * drift_and_spread("selu", 1.0).drift / WIDTH
    return mean_of(values, expected, OFF * expected, tolerance)


@law(
    "Klambauer et al. 2017",
    "SELU's signal is self-normalising: q* = 1",
    "SELU, sigma_w = 1, width 1024, layers 10 to 60; mean square of r, to order 1/n; tolerance: "
    "the next order",
    "5 % off",
)
def selu_signal(more: int) -> Finding:
    return _mean_square(more, "selu", 1.0, 0.0)
