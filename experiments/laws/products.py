"""Laws of long products of matrices and of learning time: Saxe, Newman, Xiao, Pascanu.

Explicit products in NumPy, re-orthonormalised or rescaled where they outgrow the floats.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.chains import SQUARE
from experiments.laws.law import FIRST_SEED, OFF, Finding, every, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.theory.spectra import spectrum


def matrix(seed: int, k: int, n: int, weights: str = "gaussian") -> np.ndarray:
    """W^(k) at sigma_w = 1."""
    key = gaussian.key(seed, "spectra")
    if weights == "orthogonal":
        return gaussian.haar(key, k, n, n)
    return gaussian.normal(key, k, (n, n)) / math.sqrt(n)


@lru_cache(maxsize=2)
def _exponents(count: int, n: int = 50, depth: int = 400) -> np.ndarray:
    """Lyapunov exponents of Gaussian products by QR steps, a row a seed."""
    found = np.empty((count, n))
    for i, seed in enumerate(seeds(count)):
        Q, total = np.eye(n), np.zeros(n)
        for k in range(depth):
            Q, R = np.linalg.qr(matrix(seed, k, n).T @ Q)
            total += np.log(np.abs(R.diagonal()))
        found[i] = total / depth
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
    for seed in seeds(2 * more):
        J = np.eye(64)
        for k in range(1000):
            J = J @ matrix(seed, k, 64, "orthogonal")
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
    inputs = gaussian.normal(gaussian.key(FIRST_SEED, "spectra inputs"), 0, (1, 48))
    inputs *= math.sqrt((q - sigma_b**2) / sigma_w**2 / np.mean(inputs**2))
    df = profile(net, seeds=seeds(20 * more), inputs=inputs)
    step = (df["log10_derivative_factor"] + df["log10_weight_factor"]).to_numpy()
    return SQUARE * step.reshape(-1, net.depth).sum(axis=1)


@law(
    "Xiao et al. 2018",
    "Orthogonal tanh on the critical line at small q* carries gradients through 10,000 layers",
    "tanh, orthogonal, critical at q* = 1e-4, width 48, depth 10,000; ln G of every network; "
    "tolerance 0.5: 2 q L, were q off by a quarter all the way",
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
    "Gaussian weights of that scale lose the gradient over 10,000 layers: the linear law, -L/n",
    "tanh, Gaussian, critical at q* = 1e-4, width 48, depth 10,000; mean of ln G; tolerance 5 %",
    "0, the mean field",
    "the critical line suffices for 10,000 layers",
)
def ten_thousand_gaussian_layers(more: int) -> Finding:
    expected = theory.finite_width.backward_law([48] * 10_001, "linear", sigma_w=1.0).mean
    values = _isometric(more, "gaussian")
    wrong = 10_000 * math.log(theory.mean_field("linear", 1.0).chi)
    return mean_of(values, expected, wrong, tolerance=-0.05 * expected)


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
    for seed in seeds(2 * more):
        r = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (n,))
        J, bound = np.eye(n), 0.0
        for k in range(depth):
            W = sigma_w * matrix(seed, k, n)
            z = r @ W
            J, r = J @ W * row.derivative(z), row.phi(z)
            bound += math.log(row.max_slope * np.linalg.norm(W, 2))
        excess.append(max(0.0, math.log(np.linalg.norm(J, 2)) - bound))
    wrong = depth * math.log(2 * sigma_w / theory.mean_field("tanh", sigma_w).chi ** 0.5)
    return every(excess, 0.0, wrong, tolerance=1e-9)


@law(
    "Pascanu et al. 2013",
    "With tied weights the spectral radius governs, not the norm: slope of ln||J'u|| is ln rho(W)",
    "tanh recurrent network near 0, sigma_w = 0.7, width 100, 600 steps; slope less ln rho(W), "
    "every network; tolerance 2 ln(n)/T: rho^T times eigenvectors' condition, about n^2 at most",
    "ln s_max(W) - ln rho(W), of large W: the edge of the spectrum over that of the circular law",
    "the largest singular value governs recurrent gradients",
)
def tied_weights(more: int) -> Finding:
    n, steps = 100, 600
    row, found = activation_row("tanh"), []
    for seed in seeds(10 * more):
        W = 0.7 * matrix(seed, 0, n)  # rho(W) < 1: the signal stays where tanh is linear
        x, u = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (2, n))
        r, slopes = 1e-3 * x, []
        for _ in range(steps):
            z = r @ W
            slopes.append(row.derivative(z))
            r = row.phi(z)
        total, u = 0.0, u / np.linalg.norm(u)
        for slope in reversed(slopes):
            u = (u * slope) @ W.T
            size = np.linalg.norm(u)
            total += math.log(size)
            u /= size
        radius = np.abs(np.linalg.eigvals(W)).max()
        found.append(total / steps - math.log(radius))
    wrong = math.log(spectrum("linear", 1).largest) / 2
    return every(found, 0.0, wrong, tolerance=2 * math.log(n) / steps)
