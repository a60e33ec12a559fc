"""The maps from one layer to the next: variance, correlation, and the gradient's factor.

At infinite width the pre-activations of a layer are normal with variance q, and two inputs'
have a correlation c. One layer on (Poole et al. 2016)

    q -> V(q) = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2,                          z ~ N(0, 1)
    c -> C(c) = (sigma_w^2 E phi(u1) phi(u2) + sigma_b^2) / V(q)

with u1, u2 normal of variance q and correlation c, and one layer back a gradient's SQUARED norm
is multiplied by sigma_w^2 E phi'(sqrt(q) z)^2. Where the maps lead to, ``mean_field`` says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from study.core.activations import Activation, Array
from study.core.activations import activation as _row
from study.theory import checks
from study.theory.quadrature import break_points, expectation, pair_expectation

LARGEST = 1e50
"""The largest standard deviation accepted; q beyond its square is taken for the limit."""


class Trajectory(NamedTuple):
    """Entry k belongs to the pre-activations made by W^(k), k = 0 next to the input."""

    q: Array
    chi: Array


def variance_map(
    activation: str, q: float | Array, sigma_w: float, sigma_b: float = 0.0
) -> float | Array:
    """V(q), the variance of the next layer's pre-activations (Poole et al. 2016).

    ``q`` may be an array, and 0 or inf in it.

    >>> variance_map("relu", np.array([0.0, 1.0, 4.0, np.inf]), 2**0.5).round(12)
    array([ 0.,  1.,  4., inf])
    """
    row, sw2, sb2 = checked(activation, sigma_w, sigma_b)
    return variance_at(row, checked_q(q), sw2, sb2)[()]


def gradient_factor(activation: str, q: float | Array, sigma_w: float) -> float | Array:
    """sigma_w^2 E phi'(sqrt(q) z)^2: a layer's factor of the squared gradient norm, at given q.

    ``q`` may be an array; at 0 and inf in it the limits are returned.

    >>> gradient_factor("gelu", np.array([0.0, np.inf]), 2**0.5).round(12)
    array([0.5, 1. ])
    """
    row, sw2, _ = checked(activation, sigma_w, 0.0)
    return gradient_factor_at(row, checked_q(q), sw2)[()]


def correlation_map(
    activation: str, c: float | Array, q: float, sigma_w: float, sigma_b: float = 0.0
) -> float | Array:
    """C(c), the next layer's correlation of two inputs of variance q (Poole et al. 2016).

    Normalised by V(q), hence a correlation off the fixed point as well. ``c`` may be an array.

    >>> correlation_map("relu", np.array([0.0, 1.0]), 2.0, 2**0.5).round(10)
    array([0.31830989, 1.        ])
    """
    row, sw2, sb2 = checked(activation, sigma_w, sigma_b)
    q = float(checked_q(q))
    c = np.asarray(c, float)
    if not np.all(np.abs(c) <= 1):
        raise ValueError(f"c = {c}; allowed: between -1 and 1")
    q = min(max(q, LARGEST**-2), LARGEST**2)  # the limits, to rounding
    steps = np.array([half_square_step(row, q, 1 - one) for one in c.ravel()]).reshape(c.shape)
    return (1 - sw2 * steps / variance_at(row, np.asarray(q), sw2, sb2))[()]


def trajectory(
    activation: str, sigma_w: float, sigma_b: float, layers: int, q_1: float | None = None
) -> Trajectory:
    """q and chi layer by layer, the whole approach to the fixed point and not its end alone.

    ``q[k]`` is the variance of z^(k+1) = W^(k) r^(k) + b, from ``q_1`` (sigma_w^2 + sigma_b^2
    if not given: an input of unit mean square); ``chi[k] = sigma_w^2 E phi'(sqrt(q[k]) z)^2``
    is ||dC/dr^(k)||^2 / ||dC/dr^(k+1)||^2 for square layers. q is inf or 0 beyond the float range.

    >>> q, chi = trajectory("tanh", 1.0, 0.0, layers=1000)      # critical: q -> 1 / (2 l)
    >>> round(float(q[-1] * 2 * 1000), 3)
    1.003
    """
    row, sw2, sb2 = checked(activation, sigma_w, sigma_b)
    layers = checks.count("layers", layers)
    q = np.empty(layers)
    here = q[0] = sw2 + sb2 if q_1 is None else float(checked_q(q_1, "q_1"))
    for k in range(1, layers):
        before, here = here, float(variance_at(row, np.asarray(here), sw2, sb2))
        q[k] = here
        if here == before or abs(here - before) <= 1e-15 * here:
            q[k:] = here
            break
    blocks = np.array_split(q, -(-layers // 256))  # a few MB at a time
    return Trajectory(q, np.concatenate([gradient_factor_at(row, block, sw2) for block in blocks]))


def checked(activation: str, sigma_w: float, sigma_b: float) -> tuple[Activation, float, float]:
    """The row of the table and the two variances."""
    row = _row(activation)
    sigma_w = checks.number("sigma_w", sigma_w, high=LARGEST)
    sigma_b = checks.number("sigma_b", sigma_b, high=LARGEST)
    return row, sigma_w**2, sigma_b**2


def checked_q(q: float | Array, field: str = "q") -> Array:
    q = np.asarray(q, float)
    if not np.all(q >= 0):
        raise ValueError(f"{field} = {q}; allowed: variances, from 0 to inf")
    return q


def variance_at(row: Activation, q: Array, sw2: float, sb2: float) -> Array:
    with np.errstate(over="ignore", under="ignore"):  # beyond the float range: inf, and 0
        finite = np.minimum(q, LARGEST**2)
        second = expectation(lambda x: row.phi(x) ** 2, np.sqrt(finite), break_points(row)[0])
        growth = np.maximum(q / LARGEST**2, 1.0) if any(row.slopes_at_infinity) else 1.0
        return sw2 * second * growth + sb2


def gradient_factor_at(row: Activation, q: Array, sw2: float) -> Array:
    def limit(slopes: tuple[float, float]) -> float:
        return sw2 * (slopes[0] ** 2 + slopes[1] ** 2) / 2

    std = np.sqrt(np.clip(q, LARGEST**-2, LARGEST**2))
    bulk = sw2 * expectation(lambda x: row.derivative(x) ** 2, std, break_points(row)[0])
    at_zero, at_infinity = (q == 0) | row.scale_free, q == math.inf
    return np.where(
        at_zero,
        limit(row.slopes_at_zero),
        np.where(at_infinity, limit(row.slopes_at_infinity), bulk),
    )


def half_square_step(row: Activation, q: float, gap: float) -> float:
    """E (phi(u1) - phi(u2))^2 / 2 at correlation 1 - gap: keeps the digits of 1 - C(c)."""
    return 0.5 * pair_expectation(
        lambda u1, u2: (row.phi(u1) - row.phi(u2)) ** 2, math.sqrt(q), gap, *break_points(row)
    )
