"""Batch and layer normalisation: what they do to a gradient, layer by layer.

x -> phi(norm(W x)) without skip connections, width much larger than the batch. Factors are those
of the SQUARED norm, per layer, going back; sigma_w and sigma_b drop out.

Layer normalisation divides by the size of W phi, so the factor is E phi'^2 / E phi^2 at unit
variance. Batch normalisation first takes the mean over the batch away, which leaves Var phi in
place of E phi^2: gradients explode, ReLU's by pi / (pi - 1) a layer (Yang et al. 2019).

At a finite batch B the normalised pre-activations u sqrt(B) of a unit are uniform on a sphere in
the B - 1 dimensions orthogonal to (1, ..., 1) =: e. With P = 1 - e e'/B, D = diag phi', and the
covariance of the cotangents, which is a multiple of P after one layer,

    factor = B / ((B - 1) (B - 3)) * E tr[(P - u u') D P D] / (E phi_1^2 - E phi_1 phi_2)

since 1 / ||P z||^2, independent of u, has mean 1 / (B - 3) in units of the variance. Without
activation that is (B - 2) / (B - 3) (there, too), a factor of which the gradients'
explosion in any network is a rough multiple: `linear_batch_factor`.

>>> round(batch_norm_factor("relu"), 5), round(batch_norm_factor("relu", batch=8), 4)
(1.46694, 1.7882)
>>> round(layer_norm_factor("relu"), 12), round(layer_norm_factor("tanh"), 5)
(1.0, 1.17781)
"""

from __future__ import annotations

import math

import numpy as np

from study.core.activations import Array
from study.core.activations import activation as _row
from study.theory import checks
from study.theory.maps import gradient_factor, variance_map
from study.theory.quadrature import break_points, expectation, panels


def layer_norm_factor(activation: str) -> float:
    """E phi'(z)^2 / E phi(z)^2, z ~ N(0, 1): layer normalisation of the pre-activations.

    Parameters
    ----------
    activation : str
        A row of the table.
    """
    return float(gradient_factor(activation, 1.0, 1.0) / variance_map(activation, 1.0, 1.0))


def batch_norm_factor(activation: str, batch: int | None = None) -> float:
    """Batch normalisation's factor, its statistics differentiated.

    Parameters
    ----------
    activation : str
        A row of the table.
    batch : int, optional
        At least 4; infinite if not given: E phi'^2 / Var phi at unit variance.

    Notes
    -----
    Accurate to 1e-12, for hard_tanh at a finite batch to 1e-5. At batches of up to 3 the mean
    factor is infinite.

    >>> [round(batch_norm_factor("linear", batch), 6) for batch in (5, 64)]
    [1.5, 1.016393]
    >>> round(batch_norm_factor("sigmoid"), 5), round(batch_norm_factor("selu"), 5)
    (1.03359, 1.07157)
    """
    row = _row(activation)
    if batch is None:
        mean = float(expectation(row.phi, 1.0, break_points(row)[0]))
        variance = float(variance_map(activation, 1.0, 1.0)) - mean**2
        return float(gradient_factor(activation, 1.0, 1.0)) / variance
    b = checks.count("batch", batch, low=4)
    u, v, weights = _pairs(b, break_points(row)[1])
    phi_u, slope_u = row.phi(u), row.derivative(u)
    phi_v, slope_v = row.phi(v), row.derivative(v)
    # Two units' averages; u and v are sqrt(b) times entries of the unit vector of the text.
    spread = weights @ (phi_u**2 - phi_u * phi_v)
    square, product = weights @ slope_u**2, weights @ (slope_u * slope_v)
    radial = weights @ (u * slope_u) ** 2
    cross = weights @ (u * slope_u * v * slope_v)
    # tr(P D P D), and u' D P D u.
    trace = (b - 2) * square + square / b + (b - 1) / b * product
    projected = radial - (radial + (b - 1) * cross) / b
    return float(b / ((b - 1) * (b - 3)) * (trace - projected) / spread)


def linear_batch_factor(batch: int) -> float:
    """(B - 2) / (B - 3): exact without activation.

    Times the factor at infinite batch, a GUESS for others: 1.5 % low for ReLU at B = 8.
    """
    b = checks.count("batch", batch, low=4)
    return (b - 2) / (b - 3)


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
    r = np.sqrt(-np.expm1(-(radius**2) / (batch - 3)))
    a_0 = math.acos(-1 / (batch - 1))
    turn = 2 * math.pi
    met = np.arccos(np.clip(reach / r[:, None], -1, 1))
    cuts = np.sort(np.mod(np.hstack([met, -met, a_0 + met, a_0 - met]), turn), axis=-1)
    angle, angular = panels(np.hstack([cuts, cuts[:, :1] + turn]))
    weights = radial[:, None] * angular / turn
    u, v = (size * r[:, None] * np.cos(angle - shift) for shift in (0.0, a_0))
    return u.ravel(), v.ravel(), weights.ravel() / weights.sum()
