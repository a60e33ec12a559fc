"""The maps from one layer to the next: variance, correlation, and the gradient's factor.

At infinite width pre-activations are normal with variance q, two inputs' have a correlation c, and

    q -> V(q) = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2,                          z ~ N(0, 1)
    c -> C(c) = (sigma_w^2 E phi(u1) phi(u2) + sigma_b^2) / V(q)      (Poole et al. 2016)

with u1, u2 normal of variance q and correlation c. One layer back a gradient's SQUARED norm is
multiplied by sigma_w^2 E phi'(sqrt(q) z)^2. All of them are means of the two functions below.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from study.core.activations import Activation
from study.core.activations import activation as row_of
from study.theory.quadrature import break_points, expectation, pair_mean
from study.tools.checks import bad, integer, real
from study.tools.elementary import Array

# The largest standard deviation accepted; q beyond its square is taken for the limit.
LARGEST = 1e50

# A name of the table, a row, or a plain function of arrays that overflows nowhere.
ActivationLike = str | Activation | Callable[[Array], Array]


def mean_of(row: Activation, f: Callable[[Array], Array], q: float | Array) -> Array:
    """E f(sqrt(q) z) for f made of phi and phi', in the shape of q; see `expectation`."""
    return expectation(f, np.sqrt(q), break_points(row).breaks)


def half_square_step(row: Activation, q: float, gap: float) -> float:
    """E (phi(u1) - phi(u2))^2 / 2 at correlation 1 - gap: keeps the digits of 1 - C(c)."""
    return pair_mean(lambda u1, u2: (row.phi(u1) - row.phi(u2)) ** 2 / 2, row, q, gap)


def overlap(row: Activation, q: float, gap: float) -> float:
    """E phi'(u1) phi'(u2) at correlation 1 - gap: C' over sigma_w^2 (Schoenholz et al. 2017)."""
    return pair_mean(lambda u1, u2: row.derivative(u1) * row.derivative(u2), row, q, gap)


def spread_of_phi(row: Activation) -> float:
    """Var phi(z), z ~ N(0, 1)."""
    return float(variance_map(row, 1.0, 1.0) - mean_of(row, row.phi, 1.0) ** 2)


def variance_map(
    activation: ActivationLike, q: float | Array, sigma_w: float, sigma_b: float = 0.0
) -> float | Array:
    """V(q), the variance of the next layer's pre-activations; ``q`` may be an array, with 0, inf.

    >>> variance_map("relu", np.array([0.0, 1.0, 4.0, np.inf]), 2**0.5).round(12)
    array([ 0.,  1.,  4., inf])
    """
    row = row_of(activation)
    q = _variance("q", q)
    sw2 = deviation("sigma_w", sigma_w) ** 2
    sb2 = deviation("sigma_b", sigma_b) ** 2
    with np.errstate(over="ignore", under="ignore"):  # beyond the float range: inf, and 0
        square = mean_of(row, lambda x: row.phi(x) ** 2, np.minimum(q, LARGEST**2))
        if any(row.slopes_at_infinity):
            square = square * np.maximum(q / LARGEST**2, 1.0)
        return (sw2 * square + sb2)[()]


def gradient_factor(activation: ActivationLike, q: float | Array, sigma_w: float) -> float | Array:
    """sigma_w^2 E phi'(sqrt(q) z)^2: a layer's factor of the squared gradient norm; ``q`` likewise.

    >>> gradient_factor("gelu", np.array([0.0, np.inf]), 2**0.5).round(12)
    array([0.5, 1. ])
    """
    row = row_of(activation)
    q = _variance("q", q)
    sw2 = deviation("sigma_w", sigma_w) ** 2
    square = mean_of(row, lambda x: row.derivative(x) ** 2, within_range(q))
    at_zero = np.mean(np.square(row.slopes_at_zero))
    at_infinity = np.mean(np.square(row.slopes_at_infinity))
    square = np.where(q == math.inf, at_infinity, square)
    square = np.where((q == 0) | row.scale_free, at_zero, square)
    return (sw2 * square)[()]


def correlation_map(
    activation: ActivationLike, c: float | Array, q: float, sigma_w: float, sigma_b: float = 0.0
) -> float | Array:
    """C(c), the next layer's correlation of two inputs of variance q; ``c`` may be an array.

    >>> correlation_map("relu", np.array([0.0, 1.0]), 2.0, 2**0.5).round(10)
    array([0.31830989, 1.        ])
    """
    row = row_of(activation)
    q = float(within_range(_variance("q", q)))
    after = variance_map(row, q, sigma_w, sigma_b)
    c = np.asarray(c, float)
    if not np.all(np.abs(c) <= 1):
        raise bad("c", c.tolist(), "between -1 and 1")
    steps = [half_square_step(row, q, gap) for gap in 1 - c.ravel()]
    return (1 - sigma_w**2 * np.reshape(steps, c.shape) / after)[()]


class Trajectory(NamedTuple):
    """Entry k belongs to the pre-activations made by W^(k), k = 0 next to the input."""

    q: Array
    chi: Array


def trajectory(
    activation: ActivationLike, sigma_w: float, sigma_b: float, layers: int
) -> Trajectory:
    """q and chi layer by layer, the whole approach to the fixed point and not its end alone.

    ``q[k]`` is the variance of z^(k+1) = W^(k) r^(k) + b, for an input of unit mean square, inf or
    0 beyond the float range; ``chi[k]`` is ||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2 for square layers.

    >>> q, chi = trajectory("tanh", 1.0, 0.0, layers=1000)      # critical: q -> 1 / (2 l)
    >>> round(float(q[-1] * 2 * 1000), 3)
    1.003
    """
    layers = integer("layers", layers, 1)
    sigmas = deviation("sigma_w", sigma_w), deviation("sigma_b", sigma_b)
    path = _path(row_of(activation), *sigmas)
    path.reach(layers)
    beyond = max(0, layers - len(path.q))
    known = path.q[:layers], path.chi[:layers]
    return Trajectory(*(np.pad(values, (0, beyond), mode="edge") for values in known))


class _Path:
    """q and chi as far as they have been asked for; deeper networks go on from there."""

    def __init__(self, row: Activation, sigma_w: float, sigma_b: float):
        self.network = row, sigma_w, sigma_b
        self.q = [sigma_w**2 + sigma_b**2]
        self.chi: list[float] = []

    def reach(self, layers: int) -> None:
        """So many layers, or as many as q takes to arrive."""
        row, sigma_w, sigma_b = self.network
        while len(self.q) < layers and not self._has_arrived():
            self.q.append(float(variance_map(row, self.q[-1], sigma_w, sigma_b)))
        new = self.q[len(self.chi) :]
        if new:
            self.chi.extend(np.asarray(gradient_factor(row, np.array(new), sigma_w)))

    def _has_arrived(self) -> bool:
        before, after = [math.nan, *self.q][-2:]
        return before == after or math.isclose(before, after, rel_tol=1e-15)


_path = lru_cache(maxsize=256)(_Path)


def deviation(field: str, value: float) -> float:
    """A standard deviation, or ValueError."""
    return real(field, value, 0.0, LARGEST)


def positive(field: str, value: float) -> float:
    """A number above 0, or ValueError."""
    return real(field, value, LARGEST**-2, LARGEST**2)


def within_range(q: Array) -> Array:
    """q where its logarithm can be followed: at 1e-100 and 1e100 limits are reached to rounding."""
    return np.clip(q, LARGEST**-2, LARGEST**2)


def _variance(field: str, q: float | Array) -> Array:
    q = np.asarray(q, float)
    if not np.all(q >= 0):
        raise bad(field, q.tolist(), "variances, from 0 to inf")
    return q
