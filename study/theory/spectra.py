"""Singular values of the input-output Jacobian at infinite width, by free probability.

J = D_L W_L ... D_1 W_1 with D_l = diag phi'. At fixed depth and infinite width the eigenvalues
of J J^T have S-transform prod S_(D^2) S_(W W^T) (Pennington, Schoenholz and Ganguli 2017; 2018),
with S_(W W^T) = 1 / (sigma_w^2 (1 + z)) for Gaussian and 1 / sigma_w^2 for orthogonal weights.
Given y and z = psi(y) = E [y d / (1 - y d)], d = phi'(sqrt(q) g)^2, an eigenvalue over the mean is

    lambda(y) = (1 + z) / z * (z g(z) / (mu_1 y))^L       mu_1 = E d,
                                                          g = 1 if Gaussian, 1 / (1 + z) if not

and its density Im z / (pi lambda) on the curve in the upper half plane where lambda is real. The
curve leaves the real axis at the saddle point lambda'(y) = 0, which is the largest eigenvalue,
and goes straight downhill. The mean itself is chi^L (``mean_field``). All this is for depths well
below the width; beyond, the law of ``finite_width`` takes over.

>>> spectrum("linear", depth=16).normalised_variance             # L; 2 L for ReLU
16.0
>>> isometric = spectrum("hard_tanh", depth=64, weights="orthogonal", q=0.2)
>>> round(isometric.normalised_variance, 3), round(isometric.largest, 3)
(1.664, 4.489)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize

from study.checks import one_of
from study.core.activations import Array
from study.core.activations import activation as _row
from study.theory import checks
from study.theory.quadrature import break_points, gaussian_nodes

TRACY_WIDOM_MEAN = -1.2065335745820
"""Of the largest eigenvalue of real matrices (Tracy and Widom 1996; digits: Bornemann 2010)."""

_FINE = np.linspace(-9.0, 9.0, 73)  # panels of the Gaussian, in standard deviations
_STEP = 0.02  # of the curve, in ln y and relative to the distance from the real axis
_FLOOR = 1e-100  # of a smooth phi'^2 over its maximum, to stay clear of underflow
_SHARE = 1e-7  # the curve ends where the density has fallen to this share of its peak


class Density(NamedTuple):
    """Points of a curve, from the largest eigenvalue downwards."""

    log_x: Array
    """Natural logarithm of the eigenvalue of J J^T over the mean: of s^2, not of s."""
    density: Array
    """Per unit of ``log_x``; integrates to 1 - zero_mass - top_mass (to 1e-4)."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of J J^T (squared singular values) in units of their mean; see `spectrum`."""

    depth: int
    gaussian: bool
    slopes: Array
    """The values of phi'^2, increasing, ..."""
    probabilities: Array
    """... and their probabilities: a quadrature rule if phi is not piecewise linear."""

    @property
    def _mu_1(self) -> float:
        return float(self.probabilities @ self.slopes)

    @property
    def normalised_variance(self) -> float:
        """Var / mean^2 = L (mu_2 / mu_1^2 - 1 - s_1); s_1 = -1 if Gaussian, 0 if orthogonal."""
        relative = self.slopes / self._mu_1
        return self.depth * (float(self.probabilities @ (relative - 1) ** 2) + self.gaussian)

    @property
    def zero_mass(self) -> float:
        """Share of the eigenvalues that are exactly 0."""
        return float(self.probabilities[self.slopes == 0].sum())

    @property
    def top_mass(self) -> float:
        """Share of those exactly at the largest: orthogonal weights and few saturated units."""
        if self.gaussian:
            return 0.0
        return max(0.0, 1 - self.depth * (1 - self._top))

    @property
    def _top(self) -> float:
        """Probability of the largest slope."""
        return float(self.probabilities[-1])

    @property
    def largest(self) -> float:
        """The upper end of the spectrum; finite matrices are short of it, see `largest_at`."""
        if self.top_mass > 0 or (self.depth == 1 and not self.gaussian):
            return float((self.slopes[-1] / self._mu_1) ** self.depth)
        return math.exp(self._log_eigenvalue(self._saddle() + 1e-9j)[0].real)

    def largest_at(self, width: int) -> float:
        """The largest eigenvalue of networks of finite width, typically: exp of its mean logarithm.

        Next to a soft edge, where n times the density of ln lambda is n c sqrt(v) / pi at a
        distance v below it, the largest is -(c n)^(-2/3) T away, T Tracy and Widom's variable for
        real matrices, of mean -1.2065 (universality; errors of order depth / width).

        >>> at = spectrum("relu", depth=4)
        >>> round(at.largest, 2), round(at.largest_at(300), 2), round(at.largest_at(10**9), 2)
        (21.86, 20.32, 21.86)
        """
        width = checks.count("width", width)
        if self.top_mass > 0 or (not self.gaussian and self.depth * (1 - self._top) <= 1 + 1e-9):
            raise ValueError(
                f"depth = {self.depth}, weights = 'orthogonal': the spectrum ends in an atom or a "
                "hard edge; allowed: Gaussian weights, or more layers"
            )
        y = math.exp(self._saddle())
        ratio = y * self.slopes / (1 - y * self.slopes)
        z, dz, d2z = (
            float(self.probabilities @ f)
            for f in (ratio, ratio * (1 + ratio), ratio * (1 + ratio) * (1 + 2 * ratio))
        )
        power, rest = 1 if self.gaussian else 1 - self.depth, self.depth - 1
        bend = d2z * (power / (1 + z) + rest / z) - dz**2 * (power / (1 + z) ** 2 + rest / z**2)
        rise = dz * math.sqrt(2 / bend)  # c
        return self.largest * math.exp(TRACY_WIDOM_MEAN * (rise * width) ** (-2 / 3))

    def density(self) -> Density:
        """The part of the spectrum that has a density, traced from its upper end down.

        Raises
        ------
        ValueError
            With orthogonal weights, for depth 1 and wherever all eigenvalues are equal.
        """
        if not self.gaussian and (self.depth == 1 or self.probabilities[-1] == 1):
            raise ValueError(
                f"depth = {self.depth}, weights = 'orthogonal': the spectrum has no density; "
                "allowed: depth >= 2, slopes not all equal"
            )
        saddle = self._saddle()
        log_y = saddle + 1e-3j * min(1.0, max(abs(saddle + math.log(self.slopes[-1])), 1e-4))
        points, peak = [(math.nan, 0.0)], 0.0
        while points[-1][1] >= _SHARE * peak:
            value, slope, _ = self._log_eigenvalue(log_y)
            log_y -= 1j * value.imag / slope  # back onto the curve, at the same height
            value, slope, z = self._log_eigenvalue(log_y)
            points.append((value.real, z.imag / math.pi))
            peak = max(peak, points[-1][1])
            step = _STEP * min(1.0, log_y.imag)
            ahead = log_y - step / 2 * slope.conjugate() / abs(slope)
            slope = self._log_eigenvalue(ahead)[1]
            log_y -= step * slope.conjugate() / abs(slope)
        return Density(*np.array(points[1:]).T)

    def _saddle(self) -> float:
        """ln y at the upper end of the part that has a density."""
        pole, largest = -math.log(self.slopes[-1]), self._top
        if not self.gaussian and self.depth * (1 - largest) <= 1 + 1e-9:
            return pole - math.log(self.depth * (1 - largest))  # beyond the largest: an atom there

        def slope(log_gap: float) -> float:
            return self._log_eigenvalue(pole - math.exp(log_gap))[1]

        return pole - math.exp(optimize.brentq(slope, math.log(1e-13), math.log(100), xtol=1e-14))

    def _log_eigenvalue(self, log_y: complex) -> tuple[complex, complex, complex]:
        """ln lambda, its derivative by ln y, and z, for y in the upper half plane."""
        y = np.exp(log_y)
        with np.errstate(under="ignore"):  # in imaginary parts, of saturated units
            share = self.slopes / (1 - y * self.slopes)
            z = y * (self.probabilities @ share)
            dz = y * (self.probabilities @ (share / (1 - y * self.slopes)))
        # There z and 1 + z are in the upper half plane, too: no logarithm crosses its cut.
        power = 1 if self.gaussian else 1 - self.depth
        value = power * np.log(1 + z) + (self.depth - 1) * np.log(z)
        slope = dz * (power / (1 + z) + (self.depth - 1) / z)
        return value - self.depth * (log_y + math.log(self._mu_1)), slope - self.depth, z


def spectrum(activation: str, depth: int, weights: str = "gaussian", q: float = 1.0) -> Spectrum:
    """The spectrum of a network's Jacobian J J^T, in units of its mean.

    Parameters
    ----------
    activation : str
        A row of the table.
    depth : int
        Number of layers.
    weights : {"gaussian", "orthogonal"}
        Independent or Haar; their scale is in the mean, chi^depth, alone.
    q : float
        Variance of the pre-activations, the same in all layers: q_star of `mean_field`.
        Irrelevant for scale-free activations.

    Examples
    --------
    >>> largest = [spectrum("linear", depth).largest for depth in (1, 4, 16, 32)]
    >>> [round(one, 1) for one in largest]          # (L + 1)^(L + 1) / L^L
    [4.0, 12.2, 44.8, 88.3]
    >>> log_x, density = spectrum("erf", 8, "orthogonal", q=0.1).density()
    >>> round(float(np.trapezoid(np.exp(log_x) * density, -log_x)), 3)      # the mean
    1.0
    """
    row = _row(activation)
    depth = checks.count("depth", depth)
    gaussian = one_of("weights", weights, ("gaussian", "orthogonal")) == "gaussian"
    std = math.sqrt(checks.positive("q", q))
    breaks = break_points(row)[0]
    if row.decay is not None:  # the law of the largest slopes matters, not their moments alone
        breaks = np.concatenate([breaks, std * _FINE])
    with np.errstate(under="ignore"):
        x, weight = gaussian_nodes(np.zeros(()), np.asarray(std), breaks)
        x, weight = x[weight > 1e-30], weight[weight > 1e-30]
        squares = row.derivative(x) ** 2
        if row.decay is not None:  # never quite 0, other than the flat parts of a piecewise phi
            squares = np.maximum(squares, _FLOOR * squares.max())
        slopes, where = np.unique(squares, return_inverse=True)
    probabilities = np.bincount(where, weight)
    return Spectrum(depth, gaussian, slopes, probabilities / probabilities.sum())
