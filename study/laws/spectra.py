"""Laws of singular values and of learning time: Pennington, Saxe, Xiao, Pascanu.

Explicit Jacobians in NumPy, re-orthonormalised where the product outgrows the floats.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from study import gaussian, theory
from study.activations import activation as activation_row
from study.engines import profile
from study.laws.chains import SQUARE
from study.laws.law import OFF, Finding, every, law, mean_of
from study.network import Network
from study.theory.spectra import spectrum


def _matrix(seed: int, k: int, n: int, law: str = "gaussian") -> np.ndarray:
    """W^(k) at sigma_w = 1."""
    key = gaussian.key(seed, "spectra")
    if law == "orthogonal":
        return gaussian.haar(key, k, n, n)
    return gaussian.normal(key, k, (n, n)) / math.sqrt(n)


@lru_cache(maxsize=2)
def _spectra(
    seeds: int, activation: str, weights: str, depth: int, q: float, n: int = 256
) -> np.ndarray:
    """Squared singular values over their mean, on the critical line at pre-activations q."""
    row = activation_row(activation)
    sigma_w = theory.gradient_factor(activation, q, 1.0) ** -0.5
    sigma_b = math.sqrt(max(0.0, q - float(theory.variance_map(activation, q, sigma_w))))
    found = np.empty((seeds, n))
    for seed in range(seeds):
        z_0 = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (depth + 1, n))
        r, J = row.phi(math.sqrt(q) * z_0[depth]), np.eye(n)
        for k in range(depth):
            W = sigma_w * _matrix(seed, k, n, weights)
            z = r @ W + sigma_b * z_0[k]
            J = J @ W * row.derivative(z)
            r = row.phi(z)
        squares = np.linalg.eigvalsh(J.T @ J)
        # Directions that are lost come out as rounding errors, negative or tiny.
        found[seed] = np.maximum(squares, 1e-30) / squares.mean()
    return found


def _spread(more: int, activation: str, weights: str, depth: int, wrong: float, q: float = 1.0):
    """Var / mean^2 of the squared singular values; tolerance 6 L/n, relative, and 2 %."""
    squares = _spectra(60 * more, activation, weights, depth, q)
    expected = spectrum(activation, depth, weights, q).normalised_variance
    return mean_of(
        squares.var(axis=1), expected, wrong, tolerance=(0.02 + 6 * depth / 256) * expected
    )


@law(
    "Pennington et al. 2017",
    "Var s^2 / (E s^2)^2 of a ReLU network's Jacobian is 2L with Gaussian weights",
    "ReLU, width 256, 4 layers; tolerance 6 L/n + 2 %",
    "L, that of orthogonal weights",
)
def spectrum_relu_gaussian(more: int) -> Finding:
    wrong = spectrum("relu", 4, "orthogonal").normalised_variance
    return _spread(more, "relu", "gaussian", 4, wrong)


@law(
    "Pennington et al. 2017",
    "and L with orthogonal ones: ReLU never comes to dynamical isometry",
    "ReLU, orthogonal, width 256, 4 layers; tolerance 6 L/n + 2 %",
    "0, isometry",
    "orthogonal weights make any network isometric",
)
def spectrum_relu_orthogonal(more: int) -> Finding:
    return _spread(
        more, "relu", "orthogonal", 4, spectrum("linear", 4, "orthogonal").normalised_variance
    )


@law(
    "Pennington et al. 2017",
    "Hard tanh with orthogonal weights nears isometry as q* falls: L (1/p - 1)",
    "hard tanh, orthogonal, critical at q* = 0.2, width 256, 4 layers; tolerance 6 L/n + 2 %",
    "that at Gaussian weights",
)
def spectrum_hard_tanh(more: int) -> Finding:
    wrong = spectrum("hard_tanh", 4, "gaussian", 0.2).normalised_variance
    return _spread(more, "hard_tanh", "orthogonal", 4, wrong, 0.2)


@law(
    "Pennington et al. 2018",
    "So does erf: L ((1 + pi q) / sqrt(1 + 2 pi q) - 1)",
    "erf, orthogonal, critical at q* = 0.1, width 256, 4 layers; tolerance 6 L/n + 2 %",
    "that at a q* of 0.15",
)
def spectrum_erf(more: int) -> Finding:
    wrong = spectrum("erf", 4, "orthogonal", 0.15).normalised_variance
    return _spread(more, "erf", "orthogonal", 4, wrong, 0.1)


@law(
    "Pennington et al. 2018",
    "The largest squared singular value is that of the S-transform",
    "hard tanh, orthogonal, q* = 0.2, width 256, 4 layers; s^2 over the mean; tolerance 2 %",
    "5 % off",
)
def largest_singular_value(more: int) -> Finding:
    squares = _spectra(60 * more, "hard_tanh", "orthogonal", 4, 0.2)
    expected = spectrum("hard_tanh", 4, "orthogonal", 0.2).largest
    return mean_of(squares.max(axis=1), expected, OFF * expected, tolerance=0.02 * expected)


@lru_cache(maxsize=2)
def _exponents(seeds: int, n: int = 50, depth: int = 400) -> np.ndarray:
    """Lyapunov exponents of Gaussian products by QR steps, a row a seed."""
    found = np.empty((seeds, n))
    for seed in range(seeds):
        Q, total = np.eye(n), np.zeros(n)
        for k in range(depth):
            Q, R = np.linalg.qr(_matrix(seed, k, n).T @ Q)
            total += np.log(np.abs(R.diagonal()))
        found[seed] = total / depth
    return found


@law(
    "Saxe et al. 2013; Newman 1986",
    "Singular values of Gaussian products part exponentially: the middle Lyapunov exponent",
    "linear, Gaussian, width 50, depth 400; 26th of 50 exponents of ln s per layer",
    "5 % off",
)
def lyapunov_middle(more: int) -> Finding:
    expected = float(theory.deep_linear.lyapunov_spectrum(50).exponents[25])
    return mean_of(_exponents(24 * more)[:, 25], expected, OFF * expected)


@law(
    "Saxe et al. 2013; Newman 1986",
    "Gaussian weights keep the mean square only: even the largest singular value falls",
    "linear, Gaussian, width 50, depth 400; largest exponent of ln s per layer",
    "0, the mean field",
    "sigma_w = 1 keeps a deep linear network's gradients",
)
def lyapunov_top(more: int) -> Finding:
    expected = float(theory.deep_linear.lyapunov_spectrum(50).exponents[0])
    wrong = math.log(theory.mean_field("linear", 1.0).chi) / 2
    return mean_of(_exponents(24 * more)[:, 0], expected, wrong)


@law(
    "Saxe et al. 2013",
    "Products of orthogonal matrices keep every singular value at 1, at any depth",
    "linear, orthogonal, width 64, depth 1000, float64; largest |s - 1|",
    "5 % off",
)
def orthogonal_products(more: int) -> Finding:
    worst = []
    for seed in range(2 * more):
        J = np.eye(64)
        for k in range(1000):
            J = J @ _matrix(seed, k, 64, "orthogonal")
        worst.append(np.abs(np.linalg.svd(J, compute_uv=False) - 1).max())
    isometric = spectrum("linear", 1000, "orthogonal")
    return every(worst, isometric.normalised_variance, OFF - 1, tolerance=1e-11)


@law(
    "Saxe et al. 2013",
    "Learning time at a learning rate eta/L has a finite limit in depth",
    "a mode of 4096 balanced weights, from 0.5 to 0.95, eta = 0.01; steps x eta; tolerance 1 %",
    "that of two layers",
    "deeper linear networks learn ever more slowly",
)
def learning_time(more: int) -> Finding:
    depth, eta = 4096, 0.01
    a, steps = 0.5 ** (1 / depth), 0
    while a**depth < 0.95:
        # dC/da of C = (s - a^L)^2 / 2, for one of the L weights.
        a += eta / depth * a ** (depth - 1) * (1 - a**depth)
        steps += 1
    expected, wrong = (theory.deep_linear.learning_time(d, 1.0, 0.5, 0.95) for d in (depth, 2))
    return every(steps * eta, expected, wrong, tolerance=0.01 * expected)


def _isometric(more: int, weights: str) -> np.ndarray:
    """ln G over 10,000 layers of tanh on the critical line at q* = 1e-4."""
    q = 1e-4
    sigma_w = theory.gradient_factor("tanh", q, 1.0) ** -0.5
    sigma_b = math.sqrt(q - float(theory.variance_map("tanh", q, sigma_w)))
    net = Network("tanh", depth=10_000, width=48, sigma_w=sigma_w, sigma_b=sigma_b, weights=weights)
    inputs = gaussian.normal(gaussian.key(0, "spectra inputs"), 0, (1, 48))
    inputs *= math.sqrt((q - sigma_b**2) / sigma_w**2 / np.mean(inputs**2))
    df = profile(net, seeds=range(20 * more), inputs=inputs)
    step = df["log10_derivative_factor"] + df["log10_weight_factor"]
    return SQUARE * step.groupby(df["seed"]).sum().to_numpy()


@law(
    "Xiao et al. 2018",
    "Orthogonal tanh on the critical line at small q* carries gradients through 10,000 layers",
    "tanh, orthogonal, critical at q* = 1e-4, width 48, depth 10,000; ln G of every network; "
    "tolerance 0.5",
    "ln chi per layer at a sigma_w 0.1 % larger",
)
def ten_thousand_layers(more: int) -> Finding:
    q = 1e-4
    sigma_w = theory.gradient_factor("tanh", q, 1.0) ** -0.5
    expected = 10_000 * math.log(theory.gradient_factor("tanh", q, sigma_w))
    wrong = 10_000 * math.log(theory.gradient_factor("tanh", q, 1.001 * sigma_w))
    return every(_isometric(more, "orthogonal"), expected, wrong, tolerance=0.5)


@law(
    "Xiao et al. 2018",
    "and Gaussian weights of the same scale do not: the linear law, about -L/n",
    "tanh, Gaussian, critical at q* = 1e-4, width 48, depth 10,000; mean of ln G; tolerance 5 %",
    "0, the mean field",
    "the critical line suffices for 10,000 layers",
)
def ten_thousand_gaussian_layers(more: int) -> Finding:
    expected = theory.finite_width.backward_law([48] * 10_001, "linear", sigma_w=1.0).mean
    values = _isometric(more, "gaussian")
    return mean_of(values, expected, 0.0, tolerance=-0.05 * expected)


@law(
    "Pascanu et al. 2013",
    "||J|| is at most the product of max|phi'| s_max(W): below 1 it must vanish",
    "tanh, sigma_w = 0.45, width 100, depth 40; how far ln||J|| exceeds the bound, if it does",
    "what the mean field says is left below the bound",
)
def norm_bound(more: int) -> Finding:
    n, depth, sigma_w = 100, 40, 0.45
    row = activation_row("tanh")
    excess = []
    for seed in range(2 * more):
        r = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (n,))
        J, bound = np.eye(n), 0.0
        for k in range(depth):
            W = sigma_w * _matrix(seed, k, n)
            z = r @ W
            J, r = J @ W * row.derivative(z), row.phi(z)
            bound += math.log(row.max_slope * np.linalg.norm(W, 2))
        excess.append(max(0.0, math.log(np.linalg.norm(J, 2)) - bound))
    wrong = depth * math.log(2 * sigma_w / theory.mean_field("tanh", sigma_w).chi ** 0.5)
    return every(excess, 0.0, wrong, tolerance=1e-9)


@law(
    "Pascanu et al. 2013",
    "With tied weights the spectral radius governs, not the norm: slope of ln||J'u|| is ln rho(W)",
    "tanh recurrent network near 0, sigma_w = 0.9, width 100, 600 steps; slope less ln rho(W), "
    "every network; tolerance 0.1",
    "ln s_max(W) - ln rho(W) = ln 2",
    "the largest singular value governs recurrent gradients",
)
def tied_weights(more: int) -> Finding:
    n = 100
    row = activation_row("tanh")
    found = []
    for seed in range(10 * more):
        W = 0.9 * _matrix(seed, 0, n)
        x, u = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (2, n))
        r, slopes = 1e-3 * x, []
        for _ in range(600):
            z = r @ W
            slopes.append(row.derivative(z))
            r = row.phi(z)
        logs = []
        for slope in reversed(slopes):
            u = (u * slope) @ W.T
            size = np.linalg.norm(u)
            logs.append(math.log(size))
            u /= size
        radius = np.abs(np.linalg.eigvals(W)).max()
        found.append(np.mean(logs[100:]) - math.log(radius))
    return every(found, 0.0, math.log(2), tolerance=0.1)
