"""Batch and layer normalisation: what they do to a gradient, layer by layer.

x -> phi(norm(W x)), width much larger than the batch; factors of the SQUARED norm, per layer.
Layer normalisation: E phi'^2 / E phi^2 at unit variance. Batch normalisation takes the mean over
the batch away, which leaves Var phi in place of E phi^2: gradients explode, ReLU's by
pi / (pi - 1) a layer (Yang et al. 2019). docs/theory.md derives the factor of a finite batch.

>>> round(batch_norm_factor("relu"), 5), round(batch_norm_factor("relu", batch=8), 4)
(1.46694, 1.7882)
>>> round(layer_norm_factor("relu"), 12), round(layer_norm_factor("tanh"), 5)
(1.0, 1.17781)
"""

import math

import numpy as np

from study.theory.maps import ActivationLike, gradient_factor, row_of, spread_of_phi, variance_map
from study.theory.quadrature import break_points, panels
from study.tools.checks import integer
from study.tools.elementary import Array


def layer_norm_factor(activation: ActivationLike) -> float:
    """E phi'(z)^2 / E phi(z)^2, z ~ N(0, 1): layer normalisation of the pre-activations."""
    row = row_of(activation)
    return float(gradient_factor(row, 1.0, 1.0) / variance_map(row, 1.0, 1.0))


def batch_norm_factor(activation: ActivationLike, batch: int | None = None) -> float:
    """Batch normalisation's factor, its statistics differentiated; a batch of 4 or more, or None.

    None is infinite. Accurate to 1e-12; with kinks away from 0, as hard_tanh's, to 1e-5.

    >>> [round(batch_norm_factor("linear", batch), 6) for batch in (5, 64)]
    [1.5, 1.016393]
    """
    row = row_of(activation)
    if batch is None:
        return float(gradient_factor(row, 1.0, 1.0)) / spread_of_phi(row)
    b = checked_batch(batch)
    u, v, weights = _pairs(b, break_points(row).kinks)
    phi_u = row.phi(u)
    slope_u = row.derivative(u)
    slope_v = row.derivative(v)
    spread = weights @ (phi_u**2 - phi_u * row.phi(v))
    square = weights @ slope_u**2
    product = weights @ (slope_u * slope_v)
    trace = (b - 2) * square + square / b + (b - 1) / b * product  # of P D P D
    radial = weights @ (u * slope_u) ** 2
    cross = weights @ (u * slope_u * v * slope_v)
    projected = radial - (radial + (b - 1) * cross) / b  # u' D P D u
    return float(b / ((b - 1) * (b - 3)) * (trace - projected) / spread)


def linear_batch_factor(batch: int) -> float:
    """(B - 2) / (B - 3): exact without activation.

    Times the factor at infinite batch, a GUESS for others: 1.5 % low for ReLU at B = 8.
    """
    b = checked_batch(batch)
    return (b - 2) / (b - 3)


def mean_inverse_variance(batch: int | None) -> float:
    """E of 1 / the variance over a batch, B / (B - 3), at unit variance; 1 if it is infinite."""
    return 1.0 if batch is None else checked_batch(batch) / (batch - 3)


def checked_batch(batch: int) -> int:
    """At batches of up to 3 the mean of 1 / variance is infinite."""
    return integer("batch", batch, 4)


def _pairs(batch: int, kinks: Array) -> tuple[Array, Array, Array]:
    """Nodes and weights for the law of two examples' values of one normalised unit.

    They are sqrt(B - 1) r (cos a, cos(a - a_0)): the angle a is uniform, cos a_0 = -1 / (B - 1),
    and 1 - r^2 = exp(-R^2 / (B - 3)) with density R exp(-R^2 / 2).
    """
    size = math.sqrt(batch - 1)
    reach = kinks[np.abs(kinks) < size] / size  # the r from which on a kink is met
    first_met = np.sqrt(-(batch - 3) * np.log1p(-(reach**2)))
    radius, radial = panels(np.unique(np.append(np.linspace(0.0, 9.0, 7), first_met)))
    radial = radial * radius * np.exp(-(radius**2) / 2)
    r = np.sqrt(-np.expm1(-(radius**2) / (batch - 3)))[:, None]
    shift = math.acos(-1 / (batch - 1))
    turn = 2 * math.pi
    met = np.arccos(np.clip(reach / r, -1, 1))
    cuts = np.sort(np.mod(np.hstack([met, -met, shift + met, shift - met]), turn), axis=-1)
    angle, angular = panels(np.hstack([cuts, cuts[:, :1] + turn]))
    weights = radial[:, None] * angular / turn
    u = size * r * np.cos(angle)
    v = size * r * np.cos(angle - shift)
    return u.ravel(), v.ravel(), weights.ravel() / weights.sum()
