"""Blocks: what normalisation and residual branches do to a gradient, and to those at two inputs.

A residual block is x -> x + alpha_l V phi(W x). V has mean zero, so squares add, nothing crosses:

    p_(l+1) = p_l + alpha_l^2 sigma_v^2 E phi(sqrt(q_l) z)^2,        q_l = sigma_w^2 p_l
    squared gradient norm, per block:  1 + alpha_l^2 sigma_v^2 sigma_w^2 E phi'(sqrt(q_l) z)^2

(Yang and Schoenholz 2017). A normalised layer is x -> phi(norm(W x)), of a width much larger than
the batch. Infinite width; SQUARED norms; natural logarithms. Derivations are in docs/theory.md.
"""

import math
from typing import NamedTuple

import numpy as np

from study.theory.maps import (
    LARGEST,
    ActivationLike,
    deviation,
    gradient_factor,
    half_square_step,
    overlap,
    row_of,
    spread_of_phi,
    trajectory,
    variance_map,
    within_range,
)
from study.theory.quadrature import break_points, panels
from study.tools.checks import bad, integer, one_of, real
from study.tools.elementary import Array

# Names of the branch scales; l is the block, from 1, and L the number of blocks.
SCHEDULES = {
    "undamped": lambda layer, depth: layer**0,
    "1/sqrt(L)": lambda layer, depth: layer**0 * depth**-0.5,
    "1/sqrt(l)": lambda layer, depth: layer**-0.5,
    "1/l": lambda layer, depth: 1 / layer,
    "1/L": lambda layer, depth: layer**0 / depth,
    "zero": lambda layer, depth: 0 * layer,
}
FEWEST = 4  # examples of a batch: of 3 the mean of 1 / variance is infinite


class Growth(NamedTuple):
    """Entry l - 1 is about blocks 1 to l together; natural logarithms of SQUARED norms."""

    log_signal: Array  # inf beyond the float range
    log_gradient: Array  # before block 1 over after block l


def branch_scales(schedule: str, depth: int) -> Array:
    """alpha_1, ..., alpha_L of one of the `SCHEDULES`.

    >>> branch_scales("1/l", 3).round(3)
    array([1.   , 0.5  , 0.333])
    """
    rule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]
    depth = integer("depth", depth, 1)
    return rule(np.arange(1.0, depth + 1), depth)


def growth(
    scales: Array,
    activation: ActivationLike = "relu",
    sigma_w: float = math.sqrt(2),
    sigma_v: float = 1.0,
) -> Growth:
    """Expected growth through blocks of branch scales ``scales``, an array (L,). Without bias.

    Exact in expectation for scale-free activations; else at infinite width, from an input of unit
    mean square. sigma_w and sigma_v are the scales of the weights before and after phi.

    >>> float(growth(np.full(100, 0.1)).log_gradient[-1].round(3))     # 100 branches of scale 1/10
    0.995
    """
    row = row_of(activation)
    sw2 = deviation("sigma_w", sigma_w) ** 2
    scales = np.asarray(scales, float)
    if scales.ndim != 1 or not scales.size or not np.all(np.abs(scales) <= LARGEST):
        raise bad("scales", scales.tolist(), "one number for each of the blocks")
    branch = scales**2 * deviation("sigma_v", sigma_v) ** 2
    if row.scale_free:
        total = np.cumsum(np.log1p(branch * gradient_factor(row, 1.0, sigma_w)))
        return Growth(total, total)
    p = np.ones(scales.size + 1)
    with np.errstate(over="ignore"):
        for k, share in enumerate(branch):
            p[k + 1] = p[k] + share * variance_map(row, sw2 * p[k], 1.0)
        slopes = gradient_factor(row, sw2 * p[:-1], sigma_w)
    return Growth(np.log(p[1:]), np.cumsum(np.log1p(branch * slopes)))


# --- Normalisation ---


def layer_norm_factor(activation: ActivationLike) -> float:
    """E phi'(z)^2 / E phi(z)^2, z ~ N(0, 1): layer normalisation of the pre-activations.

    >>> round(layer_norm_factor("relu"), 12), round(layer_norm_factor("tanh"), 5)
    (1.0, 1.17781)
    """
    row = row_of(activation)
    return float(gradient_factor(row, 1.0, 1.0) / variance_map(row, 1.0, 1.0))


def batch_norm_factor(activation: ActivationLike, batch: int | None = None) -> float:
    """Batch normalisation's factor, its statistics differentiated; a batch of 4 or more, or None.

    None is infinite: E phi'^2 / Var phi (Yang et al. 2019). Accurate to 1e-12; with kinks away from
    0, as hard_tanh's, to 1e-5.

    >>> round(batch_norm_factor("relu"), 5), round(batch_norm_factor("relu", batch=8), 4)
    (1.46694, 1.7882)
    """
    row = row_of(activation)
    if batch is None:
        return float(gradient_factor(row, 1.0, 1.0)) / spread_of_phi(row)
    b = integer("batch", batch, FEWEST)
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


def _pairs(batch: int, kinks: Array) -> tuple[Array, Array, Array]:
    """Nodes and weights for the law of two examples' values of one normalised unit."""
    # They are sqrt(B - 1) r (cos a, cos(a - a_0)): the angle a is uniform, cos a_0 = -1 / (B - 1),
    # and 1 - r^2 = exp(-R^2 / (B - 3)) with density R exp(-R^2 / 2).
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


def normalised_scales(
    depth: int,
    activation: ActivationLike = "relu",
    sigma_v: float = math.sqrt(2),
    batch: int | None = None,
) -> Array:
    """The branch scales that a batch normalisation of r W amounts to: x + V phi(norm(W x)).

    It divides by the spread of x over the batch, which grows by Var phi a block and not by E phi^2:
    alpha_l^2 = 1 / (1 + (l - 1) sigma_v^2 Var phi(z)), z ~ N(0, 1), and gradients grow as
    L^(E phi'^2 / Var phi). Inputs have unit variance over the batch; at a finite one, of 4 or more,
    alpha^2 takes a factor B / (B - 3), the statistics fixed. For `growth` with sigma_w = 1.

    >>> normalised_scales(4, sigma_v=1.0).round(3).tolist()
    [1.0, 0.864, 0.771, 0.703]
    """
    variance = deviation("sigma_v", sigma_v) ** 2 * spread_of_phi(row_of(activation))
    spread = 1 + variance * np.arange(integer("depth", depth, 1))
    return np.sqrt(mean_inverse_variance(batch) / spread)


def mean_inverse_variance(batch: int | None) -> float:
    """E of 1 / the variance over a batch, B / (B - 3), at unit variance; 1 if it is infinite."""
    return 1.0 if batch is None else integer("batch", batch, FEWEST) / (batch - 3)


# --- Two inputs ---


class Shattering(NamedTuple):
    """How the gradients at two inputs lose their likeness; entry l - 1 is about l layers or blocks.

    At the critical scale, sigma_v^2 sigma_w^2 = 2; the gradient at the top is common to both.
    """

    log_variance: Array  # of the mean squared gradient norm
    log_covariance: Array  # of the mean inner product of the two

    @property
    @np.errstate(under="ignore")
    def covariance(self) -> Array:
        """0 below the float range."""
        return np.exp(self.log_covariance)

    @property
    @np.errstate(under="ignore")
    def correlation(self) -> Array:
        """Covariance over variance, 0 below the float range."""
        return np.exp(self.log_covariance - self.log_variance)


def independent_shattering(depth: int, scales: Array | None = None) -> Shattering:
    """Two inputs that activate the units independently: the assumption of Balduzzi et al. 2017.

    Parameters
    ----------
    depth : number of layers, or of residual blocks
    scales : array (depth,) of branch scales, see `branch_scales`; if not given, a plain network

    >>> independent_shattering(4).covariance
    array([0.5   , 0.25  , 0.125 , 0.0625])
    """
    depth = integer("depth", depth, 1)
    return _shattering(*_branches(depth, scales), np.full(depth, 0.5))


def shattering(depth: int, scales: Array | None = None, c_0: float = 0.0) -> Shattering:
    """Two inputs of correlation c_0 in a bias-free ReLU network as it is.

    They become collinear: at an angle theta they share (pi - theta) / pi of their active units, and
    c -> [sin theta + (pi - theta) cos theta] / pi (Cho and Saul 2009), so that the covariance falls
    as l^-3 only, and not as 2^-l.

    >>> shattering(100).covariance[[0, 4, 9, 99]].round(7)
    array([5.000000e-01, 1.045588e-01, 3.365220e-02, 1.441000e-04])
    """
    depth = integer("depth", depth, 1)
    beside, branches = _branches(depth, scales)
    gap = 1 - real("c_0", c_0, -1.0, 1.0)
    both_active = np.empty(depth)
    for k in range(depth):
        both_active[k], closing = arc_cosine(gap)
        gap -= closing * branches[k] / (beside + branches[k])
    return _shattering(beside, branches, both_active)


def normalised_shattering(
    depth: int, batch: int | None = None, sigma_v: float = math.sqrt(2)
) -> Shattering:
    """Two examples of a batch in the residual network x + V relu(BN(W x)) as it is.

    The square of the deviation within the batch grows by sigma_v^2 (1 - 1/pi) / 2 a block:
    variance and covariance grow as L^1.467 and L^0.733. At a finite batch B, of 4 or more, the
    correlation is -1 / (B - 1) and E 1 / std^2 has the factor B / (B - 3), the statistics fixed.

    >>> normalised_shattering(50).correlation[[0, 49]].round(2).tolist()
    [0.75, 0.09]
    """
    blocks = np.arange(integer("depth", depth, 1))
    half = deviation("sigma_v", sigma_v) ** 2 / 2
    inverse_variance = mean_inverse_variance(batch)
    gap = 1.0 if batch is None else 1 + 1 / (batch - 1)
    both_active, closing = arc_cosine(gap)
    within = 1 + blocks * half * (gap - closing)
    return _shattering(1, half * inverse_variance / within, both_active)


def plain_shattering(
    activation: ActivationLike, sigma_w: float, depth: int, c_0: float = 0.0
) -> Shattering:
    """Two inputs in a plain bias-free network of any activation whose phi' has one sign.

    The inner product of the two gradients takes a factor sigma_w^2 E phi'(u1) phi'(u2) a layer, at
    the variance and correlation of the signals there, from inputs of unit mean square.

    >>> plain_shattering("relu", 2**0.5, depth=3).correlation.round(3).tolist()
    [0.5, 0.302, 0.2]
    """
    row = row_of(activation)
    sw2 = deviation("sigma_w", sigma_w) ** 2
    gap = 1 - real("c_0", c_0, -1.0, 1.0)
    q, chi = trajectory(row, sigma_w, 0.0, integer("depth", depth, 1))
    q = within_range(q)
    overlaps = np.empty(depth)
    before = (0.0, 0.0)
    for k in range(depth):
        if np.allclose((q[k], gap), before, rtol=1e-13, atol=0):
            overlaps[k:] = overlaps[k - 1]  # both have arrived
            break
        before = (q[k], gap)
        overlaps[k] = sw2 * overlap(row, q[k], gap)
        gap = float(sw2 * half_square_step(row, q[k], gap) / variance_map(row, q[k], sigma_w))
    return Shattering(np.cumsum(np.log(chi)), np.cumsum(np.log(overlaps)))


def arc_cosine(gap: float) -> tuple[float, float]:
    """The share of active units that two inputs have in common, and by how much 1 - c falls."""
    theta = 2 * math.asin(math.sqrt(gap / 2))
    return 1 - theta / math.pi, (math.sin(theta) - theta * math.cos(theta)) / math.pi


def _branches(depth: int, scales: Array | None) -> tuple[int, Array]:
    """Whether something passes beside them, and alpha^2 of each; a plain network is all branch."""
    if scales is None:
        return 0, np.ones(depth)
    branches = np.square(np.asarray(scales, float))
    if branches.shape != (depth,) or not np.all(np.isfinite(branches)):
        raise bad("scales", scales, f"{depth} numbers, as many as blocks")
    return 1, branches


def _shattering(beside: int, branches: Array, both_active: Array | float) -> Shattering:
    """``both_active`` is the share of one input's active units that the other has, too."""
    with np.errstate(divide="ignore"):  # opposite inputs share no unit
        steps = (np.log1p(branches * share + (beside - 1)) for share in (1.0, both_active))
        return Shattering(*map(np.cumsum, steps))
