"""Laws of long products of matrices: Pennington, Saxe, Newman, Xiao, Pascanu.

Jacobians of depths far below the width come from the backward pass, a cotangent a unit of the
output; products without activation are re-orthonormalised where they outgrow the floats.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from experiments.laws.law import FIRST_SEED, OFF, Finding, every, mean_of, seeds
from experiments.laws.walks import (
    by_layer,
    chains,
    gaussian_layers,
    input_gradient,
    log_chi,
    log_square,
)
from study import theory
from study.core.activations import activation as activation_row
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.theory.deep_linear import learning_time, lyapunov_spectrum
from study.theory.finite_width import backward_law
from study.theory.maps import gradient_factor, variance_map
from study.theory.spectra import Spectrum, spectrum


def _matrix(seed: int, k: int, n: int, weights: str = "gaussian") -> np.ndarray:
    """W^(k) at sigma_w = 1."""
    key = gaussian.key(seed, "spectra")
    if weights == "orthogonal":
        return gaussian.haar(key, k, n, n)
    return gaussian.normal(key, k, (n, n)) / math.sqrt(n)


def _input(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, shape)


def _jacobian(layers: list[Dense], r: np.ndarray) -> np.ndarray:
    """dr^(depth) / dr^(0) at one input, (n, n)."""
    return input_gradient(layers, r, np.eye(len(layers[-1].W))).T


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


RELU = Kind("relu", "gaussian")
RELU_ORTHOGONAL = Kind("relu", "orthogonal")
HARD_TANH = Kind("hard_tanh", "orthogonal", 0.2)
ERF = Kind("erf", "orthogonal", 0.1)


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def _squares(kind: Kind, count: int) -> np.ndarray:
    """Squared singular values over their mean, a row a seed."""
    activation, weights, q = kind
    sigma_w, sigma_b = _at_length(activation, q)
    rows = []
    for seed in seeds(count):
        z = _input(seed, (5, 256))
        layers = [
            Dense(sigma_w * _matrix(seed, k, 256, weights), activation, b=sigma_b * z[k])
            for k in range(4)
        ]
        J = _jacobian(layers, layers[0].phi(math.sqrt(q) * z[4:]))
        squares = np.linalg.eigvalsh(J.T @ J)
        # Directions that are lost come out as rounding errors, negative or tiny.
        rows.append(np.maximum(squares, 1e-30) / squares.mean())
    return np.array(rows)


def _spectrum(kind: Kind, depth: int = 4) -> Spectrum:
    return spectrum(kind.activation, depth, kind.weights, kind.q)


def _spread(factor: int, kind: Kind, wrong: Kind) -> Finding:
    """Var / mean^2 of the squared singular values; tolerance 6 L/n, relative, and 2 %."""
    values = _squares(kind, 60 * factor).var(axis=1)
    expected = _spectrum(kind).normalised_variance
    wrong = _spectrum(wrong).normalised_variance
    return mean_of(values, expected, wrong, relative=0.02 + 6 * 4 / 256)


def _largest(factor: int, kind: Kind, edge: float, wrong: float) -> Finding:
    """Mean of ln of the largest s^2 over the mean of s^2.

    Tolerance L/n, the size of what is left beyond Tracy and Widom's n^(-2/3).
    """
    logs = np.log(_squares(kind, 60 * factor).max(axis=1))
    return mean_of(logs, math.log(edge), math.log(wrong), tolerance=4 / 256)


def _largest_relu(factor: int) -> Finding:
    at = _spectrum(RELU)
    return _largest(factor, RELU, at.largest_at(256), wrong=at.largest)


def _largest_relu_orthogonal(factor: int) -> Finding:
    edge = _spectrum(RELU_ORTHOGONAL).largest_at(256)
    wrong = _spectrum(RELU_ORTHOGONAL, depth=5).largest_at(256)
    return _largest(factor, RELU_ORTHOGONAL, edge, wrong)


def _largest_hard_tanh(factor: int) -> Finding:
    edge = _spectrum(HARD_TANH).largest
    return _largest(factor, HARD_TANH, edge, OFF * edge)


# --- Long products -------------------------------------------------------------------------------


@lru_cache(maxsize=2)  # two laws are about the same products
def _exponents(count: int) -> np.ndarray:
    """Lyapunov exponents of 400 Gaussian matrices of width 50 by QR steps, a row a seed."""
    rows = []
    for seed in seeds(count):
        Q = np.eye(50)
        total = np.zeros(50)
        for k in range(400):
            Q, R = np.linalg.qr(_matrix(seed, k, 50).T @ Q)
            total += np.log(np.abs(R.diagonal()))
        rows.append(total / 400)
    return np.array(rows)


def _lyapunov(factor: int, k: int, wrong: float | None = None) -> Finding:
    expected = float(lyapunov_spectrum(50).exponents[k])
    return mean_of(_exponents(24 * factor)[:, k], expected, wrong)


def _orthogonal_products(factor: int) -> Finding:
    worst = []
    for seed in seeds(2 * factor):
        J = np.eye(64)
        for k in range(1000):
            J = J @ _matrix(seed, k, 64, "orthogonal")
        worst.append(np.abs(np.linalg.svd(J, compute_uv=False) - 1).max())
    expected = spectrum("linear", 1000, "orthogonal").normalised_variance
    return every(worst, expected, OFF - 1, tolerance=1e-11)


def _learning_time(factor: int) -> Finding:
    depth = 4096
    a = 0.5 ** (1 / depth)
    steps = 0
    while a**depth < 0.95:
        # dC/da of C = (s - a^L)^2 / 2, for one of the L weights.
        a += 0.01 / depth * a ** (depth - 1) * (1 - a**depth)
        steps += 1
    expected = learning_time(depth, 1.0, 0.5, 0.95)
    wrong = learning_time(2, 1.0, 0.5, 0.95)
    return every(0.01 * steps, expected, wrong, tolerance=0.01 * expected)


SMALL_Q = 1e-4


def _isometric(factor: int, weights: str) -> np.ndarray:
    """ln G over 10,000 layers of tanh on the critical line at q* = 1e-4."""
    sigma_w, sigma_b = _at_length("tanh", SMALL_Q)
    net = Network("tanh", 10_000, 48, sigma_w, sigma_b, weights)
    inputs = _input(FIRST_SEED, (1, 48))
    inputs *= math.sqrt((SMALL_Q - sigma_b**2) / sigma_w**2 / np.mean(inputs**2))
    frame = profile(net, seeds=seeds(20 * factor), inputs=inputs)
    return by_layer(frame, net.depth).gains.sum(axis=1)


def _ten_thousand_orthogonal(factor: int) -> Finding:
    sigma_w, _ = _at_length("tanh", SMALL_Q)
    expected = 10_000 * math.log(gradient_factor("tanh", SMALL_Q, sigma_w))
    wrong = 10_000 * math.log(gradient_factor("tanh", SMALL_Q, 1.001 * sigma_w))
    return every(_isometric(factor, "orthogonal"), expected, wrong, tolerance=0.5)


def _ten_thousand_gaussian(factor: int) -> Finding:
    expected = backward_law([48] * 10_001, "linear", sigma_w=1.0).mean
    wrong = 10_000 * log_chi("linear", 1.0)
    return mean_of(_isometric(factor, "gaussian"), expected, wrong, relative=0.05)


# --- Bounds --------------------------------------------------------------------------------------


def _excess(layers: list[Dense], r: np.ndarray) -> float:
    """How far ln ||J|| exceeds the bound, the sum of ln(max |phi'| s_max(W)), if it does."""
    slope = layers[0].activation.max_slope
    bound = sum(math.log(slope * np.linalg.norm(layer.W, 2)) for layer in layers)
    return max(0.0, math.log(np.linalg.norm(_jacobian(layers, r), 2)) - bound)


def _below_bound(activation: str, sigma_w: float, depth: int) -> float:
    """How far the mean field stays below the bound."""
    bound = math.log(activation_row(activation).max_slope * 2 * sigma_w)
    return depth * (bound - log_chi(activation, sigma_w) / 2)


def _bound(
    count: int, activation: str, sigma_w: float, depth: int, words: tuple[str, str], draw: int
) -> Finding:
    """Weights and inputs are drawn from keys of their own words, the input as that draw."""
    excess = []
    for seed in seeds(count):
        layers = gaussian_layers(gaussian.key(seed, words[0]), depth, 100, activation, sigma_w)
        excess.append(
            _excess(layers, gaussian.normal(gaussian.key(seed, words[1]), draw, (1, 100)))
        )
    return every(excess, 0.0, _below_bound(activation, sigma_w, depth), tolerance=1e-9)


def _tied_weights(factor: int) -> Finding:
    steps = 600
    slopes = []
    for seed in seeds(10 * factor):
        W = 0.7 * _matrix(seed, 0, 100)  # rho(W) < 1: the signal stays where tanh is linear
        x, u = _input(seed, (2, 1, 100))
        below = input_gradient([Dense(W, "tanh")] * steps, 1e-3 * x, u)
        radius = np.abs(np.linalg.eigvals(W)).max()
        slopes.append((log_square(below) - log_square(u)) / (2 * steps) - math.log(radius))
    wrong = math.log(spectrum("linear", 1).largest) / 2
    return every(slopes, 0.0, wrong, tolerance=2 * math.log(100) / steps)


def _above_the_bound(factor: int) -> Finding:
    gains = chains(Network("tanh", depth=60, width=512, sigma_w=0.8), 40 * factor).gains
    expected = float(np.log(theory.trajectory("tanh", 0.8, 0.0, 60).chi[10:]).mean())
    return mean_of(gains[:, 10:].mean(axis=1), expected, 2 * math.log(1.6), tolerance=8 / 512)


def _log_ratio(gradients: np.ndarray) -> float:
    """ln of the first layer's norm over the last one's; gradients from the output down."""
    return math.log(np.linalg.norm(gradients[-1]) / np.linalg.norm(gradients[0]))


def _clipping(factor: int) -> Finding:
    changes = []
    for seed in seeds(5 * factor):
        key = gaussian.key(seed, "clipping")
        trace, _ = forward(
            gaussian_layers(key, 20, 64, "tanh", 2.0), gaussian.normal(key, 20, (1, 64))
        )
        dr = gaussian.normal(key, 21, (1, 64))
        plain = np.array([weight_gradient(step.r, step.delta) for step in backward(trace, dr)])
        clipped = plain * min(1.0, 1.0 / np.linalg.norm(plain))
        changes.append(abs(_log_ratio(clipped) - _log_ratio(plain)))
    return every(changes, 0.0, 19 * log_chi("tanh", 2.0) / 2, tolerance=1e-12)


MEASURES = {
    "spectrum relu gaussian": lambda factor: _spread(factor, RELU, RELU_ORTHOGONAL),
    "largest relu gaussian": _largest_relu,
    "spectrum relu orthogonal": lambda factor: _spread(
        factor, RELU_ORTHOGONAL, Kind("linear", "orthogonal")
    ),
    "largest relu orthogonal": _largest_relu_orthogonal,
    "spectrum hard tanh": lambda factor: _spread(
        factor, HARD_TANH, HARD_TANH._replace(weights="gaussian")
    ),
    "largest singular value": _largest_hard_tanh,
    "spectrum erf": lambda factor: _spread(factor, ERF, ERF._replace(q=0.15)),
    "lyapunov middle": lambda factor: _lyapunov(factor, 25),
    "lyapunov top": lambda factor: _lyapunov(factor, 0, wrong=log_chi("linear", 1.0) / 2),
    "orthogonal products": _orthogonal_products,
    "learning time": _learning_time,
    "ten thousand layers": _ten_thousand_orthogonal,
    "ten thousand gaussian layers": _ten_thousand_gaussian,
    "norm bound": lambda factor: _bound(
        2 * factor, "tanh", 0.45, 40, ("spectra", "spectra inputs"), 0
    ),
    "tied weights": _tied_weights,
    "sigmoid norm bound": lambda factor: _bound(
        3 * factor, "sigmoid", 1.9, 30, ("bounds", "bounds"), 30
    ),
    "vanishing above the bound": _above_the_bound,
    "clipping": _clipping,
}
