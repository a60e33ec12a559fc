"""Singular values of the input-output Jacobian, at infinite width and at infinite depth.

L Gaussian matrices of width n have singular values exp(L lambda_k) of known exponents (Newman
1986): all but one direction are lost as L grows, while orthogonal matrices keep them all.

At infinite width it follows from free probability (Pennington, Schoenholz and Ganguli 2017; 2018;
docs/theory.md). With d = phi'^2 and z = E [y d / (1 - y d)] an eigenvalue of J J^T over the mean is

    lambda(y) = (1 + z) / z * (z g(z) / (E d y))^L       g = 1 if Gaussian, 1 / (1 + z) if not

and the largest is at the saddle point lambda'(y) = 0. The mean itself is chi^L (``mean_field``).

>>> spectrum("linear", depth=16).normalised_variance             # L; 2 L for ReLU
16.0
>>> isometric = spectrum("hard_tanh", depth=64, weights="orthogonal", q=0.2)
>>> round(isometric.normalised_variance, 3), round(isometric.largest, 3)
(1.664, 4.489)
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from study.theory.finite_width import active_units
from study.theory.maps import ActivationLike, positive, row_of
from study.theory.quadrature import break_points, gaussian_nodes
from study.tools.checks import integer, one_of
from study.tools.elementary import Array, root

# Of the largest eigenvalue of real matrices (Tracy and Widom 1996; digits: Bornemann 2010).
TRACY_WIDOM_MEAN = -1.2065335745820

_FINE = np.linspace(-9.0, 9.0, 73)  # panels of the Gaussian, in standard deviations


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of J J^T (squared singular values) in units of their mean; see `spectrum`.

    Attributes
    ----------
    depth, gaussian : number of layers; whether the weights are, or orthogonal
    slopes, probabilities : the values of phi'^2, increasing; a quadrature rule if phi is smooth
    """

    depth: int
    gaussian: bool
    slopes: Array
    probabilities: Array

    @property
    def _mean_slope(self) -> float:
        return float(self.probabilities @ self.slopes)

    @property
    def _sharp_edge(self) -> bool:
        """Whether the spectrum ends in an atom or a hard edge: units that saturate in no layer."""
        saturated = 1 - float(self.probabilities[-1])
        return not self.gaussian and self.depth * saturated <= 1 + 1e-9

    @property
    def normalised_variance(self) -> float:
        """Var / mean^2 = L (mu_2 / mu_1^2 - 1 - s_1); s_1 = -1 if Gaussian, 0 if orthogonal."""
        relative = self.slopes / self._mean_slope
        return self.depth * (float(self.probabilities @ (relative - 1) ** 2) + self.gaussian)

    @property
    def largest(self) -> float:
        """The upper end of the spectrum; finite matrices are short of it, see `largest_at`."""
        if self._sharp_edge:
            return float((self.slopes[-1] / self._mean_slope) ** self.depth)
        return math.exp(self._log_eigenvalue(self._saddle)[0])

    def largest_at(self, width: int) -> float:
        """The largest eigenvalue of networks of finite width, typically: exp of its mean logarithm.

        >>> at = spectrum("relu", depth=4)
        >>> round(at.largest, 2), round(at.largest_at(300), 2), round(at.largest_at(10**9), 2)
        (21.86, 20.32, 21.86)
        """
        width = integer("width", width, 1)
        if self._sharp_edge:
            raise ValueError(
                f"depth = {self.depth}, weights = 'orthogonal': the spectrum ends in an atom or a "
                "hard edge; allowed: Gaussian weights, or more layers"
            )
        log_largest, _, bend, dz = self._log_eigenvalue(self._saddle)
        rise = dz * math.sqrt(2 / bend)  # c
        return math.exp(log_largest + TRACY_WIDOM_MEAN * (rise * width) ** (-2 / 3))

    @cached_property
    def _saddle(self) -> float:
        """ln y where an eigenvalue is the largest."""
        pole = -math.log(self.slopes[-1])

        def slope(log_gap: float) -> float:
            return self._log_eigenvalue(pole - math.exp(log_gap))[1]

        return pole - math.exp(root(slope, math.log(1e-13), math.log(100), 1e-14))

    def _log_eigenvalue(self, log_y: float) -> tuple[float, float, float, float]:
        """ln lambda(y), its first two derivatives by ln y, and that of z."""
        share = math.exp(log_y) * self.slopes
        ratio = share / (1 - share)
        once = ratio * (1 + ratio)
        twice = once * (1 + 2 * ratio)
        z, dz, d2z = (float(self.probabilities @ values) for values in (ratio, once, twice))
        outer = 1 if self.gaussian else 1 - self.depth  # powers of 1 + z and z
        inner = self.depth - 1
        log_scale = self.depth * (log_y + math.log(self._mean_slope))
        log_eigenvalue = outer * math.log1p(z) + inner * math.log(z) - log_scale
        by_z = outer / (1 + z) + inner / z
        bend = d2z * by_z - dz**2 * (outer / (1 + z) ** 2 + inner / z**2)
        return log_eigenvalue, dz * by_z - self.depth, bend, dz


def spectrum(
    activation: ActivationLike, depth: int, weights: str = "gaussian", q: float = 1.0
) -> Spectrum:
    """The spectrum of a network's Jacobian J J^T, in units of its mean.

    Parameters
    ----------
    weights : "gaussian", independent, or "orthogonal", Haar; their scale is in the mean alone
    q : variance of the pre-activations in all layers, q_star of `mean_field`

    >>> largest = [spectrum("linear", depth).largest for depth in (1, 4, 16, 32)]
    >>> [round(value, 1) for value in largest]          # (L + 1)^(L + 1) / L^L
    [4.0, 12.2, 44.8, 88.3]
    """
    row = row_of(activation)
    depth = integer("depth", depth, 1)
    gaussian = one_of("weights", weights, ("gaussian", "orthogonal")) == "gaussian"
    std = math.sqrt(positive("q", q))
    breaks, kinks = break_points(row)
    if len(breaks) > len(kinks):  # the law of the largest slopes matters, not their moments alone
        breaks = np.concatenate([breaks, std * _FINE])
    with np.errstate(under="ignore"):
        x, weight = gaussian_nodes(0.0, std, breaks)
        x = x[weight > 1e-30]  # a slope that no finite network meets is no upper end
        squares = row.derivative(x) ** 2
        squares[squares < 1e-100 * squares.max()] = 0  # clear of underflow
        slopes, where = np.unique(squares, return_inverse=True)
    probabilities = np.bincount(where, weight[weight > 1e-30])
    return Spectrum(depth, gaussian, slopes, probabilities / probabilities.sum())


# --- Infinite depth ---


def lyapunov_exponents(n: int) -> Array:
    """lim (1 / L) ln s_k of products of L n x n matrices with entries N(0, 1 / n) (Newman 1986).

    >>> lyapunov_exponents(50)[[0, 10, 25, 40, 49]].round(4)
    array([-0.0101, -0.1242, -0.3668, -0.8564, -2.5912])
    """
    n = integer("n", n, 1)
    return (scipy.special.digamma(np.arange(n, 0, -1) / 2) + math.log(2 / n)) / 2


def relu_exponents(n: int, weights: str = "gaussian") -> Array:
    """lim (1 / L) ln s_k, k = 1, ..., n, of ReLU networks of width n at sigma_w = sqrt 2.

    Of those that have k directions left. ``weights`` are "gaussian" or "orthogonal".

    >>> relu_exponents(50)[[0, 1, 10]].round(4)
    array([-0.0259, -0.0477, -0.3073])
    """
    n = integer("n", n, 1)
    orthogonal = one_of("weights", weights, ("gaussian", "orthogonal")) == "orthogonal"
    # A layer keeps B ~ Binomial(n, 1/2) rows of a random frame of k directions. The determinant of
    # what is kept has one factor an exponent, chi^2 of B - k + 1 degrees of freedom over n or, if
    # the frame is orthogonal, over chi^2 of n - k + 1.
    units, p = active_units(n)
    freedom = units[:, None] - np.arange(n)
    p = np.where(freedom > 0, p[:, None], 0)
    kept = np.sum(p * scipy.special.digamma(np.maximum(freedom, 1) / 2), axis=0) / p.sum(axis=0)
    lost = scipy.special.digamma((n - np.arange(n)) / 2) if orthogonal else np.log(n / 2)
    return (kept - lost + np.log(2)) / 2
