"""Laws of long products of matrices: Pennington, Saxe, Newman, Xiao, Pascanu.

Jacobians of depths far below the width come from the backward pass, a cotangent a unit of the
output; products without activation are re-orthonormalised where they outgrow the floats.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.laws.law import FIRST_SEED, OFF, Finding, every, mean_of, seeds
from experiments.laws.walks import (
    SQUARE,
    chains,
    exact_law,
    input_gradient,
    log_chi,
    log_square,
    over_seeds,
)
from study import theory
from study.core.blocks import Dense
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.statistics.summaries import gains
from study.theory.maps import gradient_factor, variance_map
from study.theory.spectra import Spectrum, lyapunov_spectrum, spectrum


def _matrix(seed: int, k: int, n: int, weights: str = "gaussian") -> np.ndarray:
    """W^(k) at sigma_w = 1."""
    key = gaussian.key(seed, "spectra")
    if weights == "orthogonal":
        return gaussian.haar(key, k, n, n)
    return gaussian.normal(key, k, (n, n)) / math.sqrt(n)


def _input(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, shape)


# --- Singular values at the critical line --------------------------------------------------------


def _at_length(activation: str, q: float) -> tuple[float, float]:
    """sigma_w and sigma_b on the critical line at which pre-activations have the variance q."""
    sigma_w = gradient_factor(activation, q, 1.0) ** -0.5
    return sigma_w, math.sqrt(max(0.0, q - float(variance_map(activation, q, sigma_w))))


class Kind(NamedTuple):
    """Four layers of width 256 whose pre-activations have the variance q."""

    activation: str
    weights: str
    q: float = 1.0

    def theory(self, depth: int = 4) -> Spectrum:
        """The spectrum at infinite width."""
        return spectrum(self.activation, depth, self.weights, self.q)


RELU = Kind("relu", "gaussian")
RELU_ORTHOGONAL = Kind("relu", "orthogonal")
HARD_TANH = Kind("hard_tanh", "orthogonal", 0.2)
ERF = Kind("erf", "orthogonal", 0.1)


@over_seeds
def _squares(seed: int, kind: Kind) -> np.ndarray:
    """Squared singular values over their mean."""
    sigma_w, sigma_b = _at_length(kind.activation, kind.q)
    z = _input(seed, (5, 256))
    layers = [
        Dense(sigma_w * _matrix(seed, k, 256, kind.weights), kind.activation, b=sigma_b * z[k])
        for k in range(4)
    ]
    J = input_gradient(layers, layers[0].phi(math.sqrt(kind.q) * z[4:]), np.eye(256)).T
    squares = np.linalg.eigvalsh(J.T @ J)
    # Directions that are lost come out as rounding errors, negative or tiny.
    return np.maximum(squares, 1e-30) / squares.mean()


def _spread(kind: Kind, wrong: Kind, factor: int) -> Finding:
    """Var / mean^2 of the squared singular values; tolerance 6 L/n, relative, and 2 %."""
    values = _squares(60 * factor, kind).var(axis=1)
    expected = kind.theory().normalised_variance
    wrong = wrong.theory().normalised_variance
    return mean_of(values, expected, wrong, relative=0.02 + 6 * 4 / 256)


def _largest(kind: Kind, edge: float, wrong: float, factor: int) -> Finding:
    """Mean of ln of the largest s^2 over the mean of s^2.

    Tolerance L/n, the size of what is left beyond Tracy and Widom's n^(-2/3).
    """
    logs = np.log(_squares(60 * factor, kind).max(axis=1))
    return mean_of(logs, math.log(edge), math.log(wrong), tolerance=4 / 256)


# --- Long products -------------------------------------------------------------------------------


@over_seeds
def _exponents(seed: int) -> np.ndarray:
    """Lyapunov exponents of 400 Gaussian matrices of width 50 by QR steps."""
    Q = np.eye(50)
    total = np.zeros(50)
    for k in range(400):
        Q, R = np.linalg.qr(_matrix(seed, k, 50).T @ Q)
        total += np.log(np.abs(R.diagonal()))
    return total / 400


def _lyapunov(k: int, factor: int, wrong: float | None = None) -> Finding:
    exponents = _exponents(24 * factor)[:, k]
    return mean_of(exponents, lyapunov_spectrum(50).exponents[k], wrong)


SMALL_Q = 1e-4
SIGMA_W, SIGMA_B = _at_length("tanh", SMALL_Q)


def _isometric(factor: int, weights: str) -> np.ndarray:
    """ln G over 10,000 layers of tanh on the critical line at q* = 1e-4."""
    net = Network("tanh", 10_000, 48, SIGMA_W, SIGMA_B, weights)
    inputs = _input(FIRST_SEED, (1, 48))
    inputs *= math.sqrt((SMALL_Q - SIGMA_B**2) / SIGMA_W**2 / np.mean(inputs**2))
    frame = profile(net, seeds=seeds(20 * factor), inputs=inputs)
    return SQUARE * gains(frame).log10_gain.to_numpy()


def _ten_thousand_orthogonal(factor: int) -> Finding:
    expected, wrong = (
        10_000 * math.log(gradient_factor("tanh", SMALL_Q, sigma_w))
        for sigma_w in (SIGMA_W, 1.001 * SIGMA_W)
    )
    return every(_isometric(factor, "orthogonal"), expected, wrong, tolerance=0.5)


def _ten_thousand_gaussian(factor: int) -> Finding:
    expected = exact_law(Network("linear", 10_000, 48, 1.0)).mean
    wrong = 10_000 * log_chi("linear", 1.0)
    return mean_of(_isometric(factor, "gaussian"), expected, wrong, relative=0.05)


# --- Where the norms of matrices do not decide ---------------------------------------------------


@over_seeds
def _beyond_radius(seed: int, steps: int) -> float:
    """Growth of ln ||dC/dr|| per step of a recurrent network, less ln of the spectral radius."""
    W = 0.7 * _matrix(seed, 0, 100)  # rho(W) < 1: the signal stays where tanh is linear
    x, u = _input(seed, (2, 1, 100))
    below = input_gradient([Dense(W, "tanh")] * steps, 1e-3 * x, u)
    radius = np.abs(np.linalg.eigvals(W)).max()
    return (log_square(below) - log_square(u)) / (2 * steps) - math.log(radius)


def _tied_weights(factor: int) -> Finding:
    wrong = math.log(spectrum("linear", 1).largest) / 2
    slopes = _beyond_radius(10 * factor, 600)
    return every(slopes, 0.0, wrong, tolerance=2 * math.log(100) / 600)


def _above_the_bound(factor: int) -> Finding:
    steps = chains(Network("tanh", depth=60, width=512, sigma_w=0.8), 40 * factor).gains[:, 10:]
    expected = np.log(theory.trajectory("tanh", 0.8, 0.0, 60).chi[10:]).mean()
    return mean_of(steps.mean(axis=1), expected, 2 * math.log(1.6), tolerance=8 / 512)


MEASURES = {
    "spectrum relu gaussian": partial(_spread, RELU, RELU_ORTHOGONAL),
    "largest relu gaussian": partial(
        _largest, RELU, RELU.theory().largest_at(256), RELU.theory().largest
    ),
    "spectrum relu orthogonal": partial(_spread, RELU_ORTHOGONAL, Kind("linear", "orthogonal")),
    "largest relu orthogonal": partial(
        _largest,
        RELU_ORTHOGONAL,
        RELU_ORTHOGONAL.theory().largest_at(256),
        RELU_ORTHOGONAL.theory(depth=5).largest_at(256),
    ),
    "spectrum hard tanh": partial(_spread, HARD_TANH, HARD_TANH._replace(weights="gaussian")),
    "largest singular value": partial(
        _largest, HARD_TANH, HARD_TANH.theory().largest, OFF * HARD_TANH.theory().largest
    ),
    "spectrum erf": partial(_spread, ERF, ERF._replace(q=0.15)),
    "lyapunov middle": partial(_lyapunov, 25),
    "lyapunov top": partial(_lyapunov, 0, wrong=log_chi("linear", 1.0) / 2),
    "ten thousand layers": _ten_thousand_orthogonal,
    "ten thousand gaussian layers": _ten_thousand_gaussian,
    "tied weights": _tied_weights,
    "vanishing above the bound": _above_the_bound,
}
