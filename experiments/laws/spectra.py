"""Laws of a Jacobian's singular values: Pennington, Schoenholz and Ganguli.

Explicit Jacobians in NumPy, of depths far below the width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, law, mean_of, seeds
from experiments.laws.products import matrix
from study import theory
from study.core.activations import activation as activation_row
from study.sampling import gaussian
from study.theory.spectra import spectrum


@lru_cache(maxsize=2)
def _spectra(
    count: int, activation: str, weights: str, depth: int, q: float, n: int = 256
) -> np.ndarray:
    """Squared singular values over their mean, on the critical line at pre-activations q."""
    row = activation_row(activation)
    sigma_w = theory.gradient_factor(activation, q, 1.0) ** -0.5
    sigma_b = math.sqrt(max(0.0, q - float(theory.variance_map(activation, q, sigma_w))))
    found = np.empty((count, n))
    for i, seed in enumerate(seeds(count)):
        z_0 = gaussian.normal(gaussian.key(seed, "spectra inputs"), 0, (depth + 1, n))
        r, J = row.phi(math.sqrt(q) * z_0[depth]), np.eye(n)
        for k in range(depth):
            W = sigma_w * matrix(seed, k, n, weights)
            z = r @ W + sigma_b * z_0[k]
            J = J @ W * row.derivative(z)
            r = row.phi(z)
        squares = np.linalg.eigvalsh(J.T @ J)
        # Directions that are lost come out as rounding errors, negative or tiny.
        found[i] = np.maximum(squares, 1e-30) / squares.mean()
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


def _largest(more: int, weights: str, wrong: float) -> Finding:
    """Mean of ln of the largest s^2 over the mean of s^2, of four ReLU layers.

    Tolerance L/n, the size of what is left beyond Tracy and Widom's n^(-2/3).
    """
    found = np.log(_spectra(60 * more, "relu", weights, 4, 1.0).max(axis=1))
    expected = math.log(spectrum("relu", 4, weights).largest_at(256))
    return mean_of(found, expected, wrong, tolerance=4 / 256)


@law(
    "Pennington et al. 2017",
    "The largest squared singular value of a ReLU network grows as 2 e L with Gaussian weights; at "
    "finite width it is short of that by Tracy and Widom's law",
    "ReLU, width 256, 4 layers; ln of s^2 over the mean; tolerance L/n",
    "the edge at infinite width",
)
def largest_relu_gaussian(more: int) -> Finding:
    return _largest(more, "gaussian", math.log(spectrum("relu", 4).largest))


@law(
    "Pennington et al. 2017",
    "With orthogonal weights it is L: ReLU never comes to dynamical isometry",
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
    "With orthogonal weights it grows as e L",
    "ReLU, orthogonal, width 256, 4 layers; ln of s^2 over the mean; tolerance L/n",
    "that of five layers",
)
def largest_relu_orthogonal(more: int) -> Finding:
    wrong = math.log(spectrum("relu", 5, "orthogonal").largest_at(256))
    return _largest(more, "orthogonal", wrong)


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
    "The largest squared singular value of nearly isometric networks is that of the S-transform, "
    "where the spectrum ends in an atom",
    "hard tanh, orthogonal, q* = 0.2, width 256, 4 layers; ln of s^2 over the mean; tolerance L/n",
    "5 % off",
)
def largest_singular_value(more: int) -> Finding:
    found = np.log(_spectra(60 * more, "hard_tanh", "orthogonal", 4, 0.2).max(axis=1))
    expected = math.log(spectrum("hard_tanh", 4, "orthogonal", 0.2).largest)
    return mean_of(found, expected, expected + math.log(OFF), tolerance=4 / 256)


@law(
    "Pennington et al. 2018",
    "Erf nears isometry, too: L ((1 + pi q) / sqrt(1 + 2 pi q) - 1)",
    "erf, orthogonal, critical at q* = 0.1, width 256, 4 layers; tolerance 6 L/n + 2 %",
    "that at a q* of 0.15",
)
def spectrum_erf(more: int) -> Finding:
    wrong = spectrum("erf", 4, "orthogonal", 0.15).normalised_variance
    return _spread(more, "erf", "orthogonal", 4, wrong, 0.1)
