"""The summary law, ln G = L ln chi + N(-a L/n, c L/n): its constants for every kind of activation.

Exact for scale-free activations; for others to first order in 1/n, with what the next order may
add as tolerance: `Gain.mean_error` and `Gain.variance_error` of the theory.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from experiments.laws.chains import gains
from experiments.laws.law import Finding, law, mean_of, variance_of
from study import theory
from study.core.network import Network
from study.theory.fluctuations import drift_and_spread, fluctuations, independent_layers
from study.theory.norm_law import NormLaw

_HE = math.sqrt(2)


@law(
    "summary law",
    "ln G = L ln chi + N(-aL/n, cL/n): c of a linear network with Gaussian weights is 2",
    "linear, sigma_w = 1, width 64, depth 100; variance of ln G, times n/L",
    "the c = 5 of ReLU",
)
def spread_linear(more: int) -> Finding:
    net = Network("linear", depth=100, width=64, sigma_w=1.0)
    exact = theory.finite_width.backward_law([64] * 101, "linear", sigma_w=1.0)
    values = gains(net, 1000 * more).sum(axis=1) * math.sqrt(0.64)
    return variance_of(values, 0.64 * exact.variance, theory.moments.drift_and_spread("relu")[1])


def _orthogonal_relu(more: int) -> tuple[np.ndarray, NormLaw]:
    """ln G of each network of width 64 and depth 100, and its exact law."""
    net = Network("relu", depth=100, width=64, sigma_w=_HE, weights="orthogonal")
    exact = theory.finite_width.backward_law([64] * 101, weights="orthogonal")
    return gains(net, 500 * more).sum(axis=1), exact


@law(
    "summary law",
    "c of a ReLU network with orthogonal weights is 3: orthogonality does not remove the L/n law",
    "ReLU, orthogonal, sigma_w^2 = 2, width 64, depth 100; variance of ln G, times n/L",
    "the c = 5 of Gaussian weights",
    "orthogonal weights make deep ReLU networks isometric",
)
def spread_orthogonal_relu(more: int) -> Finding:
    gain, exact = _orthogonal_relu(more)
    values = gain * math.sqrt(0.64)
    return variance_of(values, 0.64 * exact.variance, theory.moments.drift_and_spread("relu")[1])


@law(
    "summary law",
    "The drift is -aL/n with a = c/2: 3/2 with orthogonal weights",
    "ReLU, orthogonal, sigma_w^2 = 2, width 64, depth 100; mean of -ln G, times n/L",
    "the a = 5/2 of Gaussian weights",
)
def drift_orthogonal_relu(more: int) -> Finding:
    gain, exact = _orthogonal_relu(more)
    values = -0.64 * gain
    return mean_of(values, -0.64 * exact.mean, theory.moments.drift_and_spread("relu")[0])


_WIDTH, _DEPTH = 128, 100
_BIAS = 0.05**0.5


def _constants(more: int, activation: str, sigma_w: float, sigma_b: float = 0.0):
    """ln G, its law, and n / L."""
    net = Network(activation, depth=_DEPTH, width=_WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)
    found = gains(net, 2500 * more).sum(axis=1)
    return found, fluctuations(activation, sigma_w, sigma_b, depth=_DEPTH).gain(_WIDTH)


def _drift(
    more: int, wrong: float, activation: str, sigma_w: float, sigma_b: float = 0.0
) -> Finding:
    """a: n/L of what the mean of ln G is short of the sum of ln chi."""
    found, exact = _constants(more, activation, sigma_w, sigma_b)
    unit = _WIDTH / _DEPTH
    expected, tolerance = (exact.log_chi - exact.mean) * unit, exact.mean_error * unit
    return mean_of((exact.log_chi - found) * unit, expected, wrong, tolerance)


def _spread(more: int, activation: str, sigma_w: float, sigma_b: float = 0.0) -> Finding:
    """c: n/L of the variance of ln G; wrong: independent layers."""
    found, exact = _constants(more, activation, sigma_w, sigma_b)
    unit = _WIDTH / _DEPTH
    wrong = independent_layers(activation, sigma_w, sigma_b).spread
    expected, tolerance = exact.variance * unit, exact.variance_error * unit
    return variance_of(found * math.sqrt(unit), expected, wrong, tolerance)


@law(
    "summary law",
    "Critical tanh drifts, too, but less than ReLU: lengths fluctuate, and chi follows them",
    "tanh, sigma_b^2 = 0.05, critical sigma_w, width 128, depth 100; mean of sum ln chi - ln G, "
    "times n/L; tolerance: the next order",
    "a = 5/2, ReLU's",
    "on the critical line nothing drifts",
)
def drift_tanh_critical(more: int) -> Finding:
    critical = theory.critical_sigma_w("tanh", _BIAS)
    return _drift(more, theory.moments.drift_and_spread("relu").drift, "tanh", critical, _BIAS)


@law(
    "summary law",
    "c of critical tanh is larger than that of independent layers",
    "tanh, sigma_b^2 = 0.05, critical sigma_w, width 128, depth 100; variance of ln G, times n/L; "
    "tolerance: the next order",
    "independent layers, 3 mu_2/mu_1^2 - 1",
    "layers fluctuate independently",
)
def spread_tanh_critical(more: int) -> Finding:
    return _spread(more, "tanh", theory.critical_sigma_w("tanh", _BIAS), _BIAS)


@law(
    "summary law",
    "a of chaotic tanh is less than c/2",
    "tanh, sigma_w = 1.5, width 128, depth 100; mean of sum ln chi - ln G, times n/L; tolerance: "
    "the next order",
    "a = c/2, as for scale-free activations",
)
def drift_tanh_chaotic(more: int) -> Finding:
    return _drift(more, drift_and_spread("tanh", 1.5).spread / 2, "tanh", 1.5)


@law(
    "summary law",
    "c of chaotic tanh is larger than that of independent layers, too",
    "tanh, sigma_w = 1.5, width 128, depth 100; variance of ln G, times n/L; tolerance: the next "
    "order",
    "independent layers, 3 mu_2/mu_1^2 - 1",
)
def spread_tanh_chaotic(more: int) -> Finding:
    return _spread(more, "tanh", 1.5)


@law(
    "summary law",
    "a of SELU is less than c/2",
    "SELU, sigma_w = 1, width 128, depth 100; mean of sum ln chi - ln G, times n/L; tolerance: "
    "the next order",
    "a = c/2, as for scale-free activations",
)
def drift_selu(more: int) -> Finding:
    return _drift(more, drift_and_spread("selu", 1.0).spread / 2, "selu", 1.0)


@law(
    "summary law",
    "c of SELU is far larger than that of independent layers, since lengths settle slowly",
    "SELU, sigma_w = 1, width 128, depth 100; variance of ln G, times n/L; tolerance: the next "
    "order",
    "independent layers, 3 mu_2/mu_1^2 - 1",
)
def spread_selu(more: int) -> Finding:
    return _spread(more, "selu", 1.0)


@law(
    "summary law",
    "Sigmoid at sigma_w = 4 drifts more than a linear network",
    "sigmoid, sigma_w = 4, width 128, depth 100; mean of sum ln chi - ln G, times n/L; tolerance: "
    "the next order",
    "a = 1, that of a linear network",
)
def drift_sigmoid(more: int) -> Finding:
    return _drift(more, theory.moments.drift_and_spread("linear").drift, "sigmoid", 4.0)


@law(
    "summary law",
    "Critical sigmoid drifts more than ReLU: the slopes of most of its units are near 0",
    "sigmoid, critical sigma_w, width 128, depth 100; mean of sum ln chi - ln G, times n/L; "
    "tolerance: the next order",
    "a = 5/2, ReLU's",
    "at the critical scale sigmoid keeps gradients",
)
def drift_sigmoid_critical(more: int) -> Finding:
    critical = theory.critical_sigma_w("sigmoid")
    return _drift(more, theory.moments.drift_and_spread("relu").drift, "sigmoid", critical)


@law(
    "summary law",
    "Critical sigmoid is noisier than ReLU: few of its units carry the gradient",
    "sigmoid, critical sigma_w, width 128, depth 100; variance of ln G, times n/L; tolerance: the "
    "next order",
    "c = 5, ReLU's",
)
def spread_sigmoid_critical(more: int) -> Finding:
    found = _spread(more, "sigmoid", theory.critical_sigma_w("sigmoid"))
    return replace(found, wrong=theory.moments.drift_and_spread("relu").spread)
