"""Shattered gradients: how the gradients at two inputs lose their likeness with depth.

Balduzzi et al. 2017 let two inputs activate each ReLU independently. In plain bias-free networks
they become collinear instead: at angle theta they share (pi - theta) / pi of their active units,
along the correlation map (Cho and Saul 2009)

    c -> [sin theta + (pi - theta) cos theta] / pi,       c = cos theta

so that the covariance falls as l^-3 only, and not as 2^-l. Infinite width; SQUARED norms; natural
logarithms; critical scale, sigma_v^2 sigma_w^2 = 2; a top gradient common to both inputs.

>>> shattering(100).covariance[[0, 4, 9, 99]].round(7)
array([5.000000e-01, 1.045588e-01, 3.365220e-02, 1.441000e-04])
>>> independent_shattering(4).covariance
array([0.5   , 0.25  , 0.125 , 0.0625])
"""

import math
from typing import NamedTuple

import numpy as np

from study.theory.maps import (
    ActivationLike,
    deviation,
    half_square_step,
    overlap,
    row_of,
    trajectory,
    variance_map,
    within_range,
)
from study.theory.normalisation import mean_inverse_variance
from study.tools.checks import bad, integer, real
from study.tools.elementary import Array


class Shattering(NamedTuple):
    """Entry l - 1 is about l layers or blocks. The variance is the mean squared gradient norm."""

    log_variance: Array
    log_covariance: Array  # of the mean inner product

    @property
    @np.errstate(under="ignore")
    def covariance(self) -> Array:
        """Mean inner product of the two gradients, 0 below the float range."""
        return np.exp(self.log_covariance)

    @property
    @np.errstate(under="ignore")
    def correlation(self) -> Array:
        """Covariance over variance, 0 below the float range."""
        return np.exp(self.log_covariance - self.log_variance)


def independent_shattering(depth: int, scales: Array | None = None) -> Shattering:
    """Two inputs that activate the units independently: Balduzzi's assumption.

    Parameters
    ----------
    depth : number of layers, or of residual blocks
    scales : array (depth,) of branch scales, see `residual`; if not given, a plain network
    """
    depth = integer("depth", depth, 1)
    return _shattering(_branches(depth, scales), np.full(depth, 0.5))


def shattering(depth: int, scales: Array | None = None, c_0: float = 0.0) -> Shattering:
    """Two inputs of correlation c_0 in a bias-free ReLU network as it is.

    >>> float((shattering(10_000).covariance[-1] * 10_000**3).round(0))
    196.0
    """
    depth = integer("depth", depth, 1)
    branches = _branches(depth, scales)
    shares = np.ones(depth) if branches is None else branches / (1 + branches)
    gap = 1 - real("c_0", c_0, -1.0, 1.0)
    both_active = np.empty(depth)
    for k in range(depth):
        both_active[k], closing = _arc_cosine(gap)
        gap -= closing * shares[k]
    return _shattering(branches, both_active)


def normalised_shattering(
    depth: int, batch: int | None = None, sigma_v: float = math.sqrt(2)
) -> Shattering:
    """Two examples of a batch in the residual network x + V relu(BN(W x)) as it is.

    Batch normalisation divides by the deviation *within* the batch, whose square grows by
    sigma_v^2 (1 - 1/pi) / 2 a block, as the mean is common to all examples: variance and covariance
    grow as L^1.467 and L^0.733. At a finite batch B, of 4 or more, the correlation is -1 / (B - 1)
    and E 1 / std^2 has the factor B / (B - 3), the statistics held fixed as after training.
    """
    blocks = np.arange(integer("depth", depth, 1))
    half = deviation("sigma_v", sigma_v) ** 2 / 2
    inverse_variance = mean_inverse_variance(batch)
    gap = 1.0 if batch is None else 1 + 1 / (batch - 1)
    both_active, closing = _arc_cosine(gap)
    within = 1 + blocks * half * (gap - closing)
    return _shattering(half * inverse_variance / within, both_active)


def plain_shattering(
    activation: ActivationLike, sigma_w: float, depth: int, c_0: float = 0.0
) -> Shattering:
    """Two inputs in a plain bias-free network of any activation whose phi' has one sign.

    The squared gradient takes a factor sigma_w^2 E phi'(u1)^2 a layer, two inputs' inner product
    sigma_w^2 E phi'(u1) phi'(u2), at the variance and correlation that the signals have there
    (Poole et al. 2016), from inputs of unit mean square and correlation c_0.
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
        gap = sw2 * half_square_step(row, q[k], gap) / variance_map(row, q[k], sigma_w)
    return Shattering(np.cumsum(np.log(chi)), np.cumsum(np.log(overlaps)))


def _arc_cosine(gap: float) -> tuple[float, float]:
    """The share of active units that two inputs have in common, and by how much 1 - c falls."""
    theta = 2 * math.asin(math.sqrt(gap / 2))
    return 1 - theta / math.pi, (math.sin(theta) - theta * math.cos(theta)) / math.pi


def _branches(depth: int, scales: Array | None) -> Array | None:
    """alpha^2 of each block; none in a plain network."""
    if scales is None:
        return None
    branches = np.square(np.asarray(scales, float))
    if branches.shape != (depth,) or not np.all(np.isfinite(branches)):
        raise bad("scales", scales, f"{depth} numbers, as many as blocks")
    return branches


def _shattering(branches: Array | None, both_active: Array | float) -> Shattering:
    """``both_active`` is the share of one input's active units that the other has, too."""
    if branches is None:
        with np.errstate(divide="ignore"):  # opposite inputs share no unit
            return Shattering(np.zeros_like(both_active), np.cumsum(np.log(both_active)))
    log_covariance = np.cumsum(np.log1p(branches * both_active))
    return Shattering(np.cumsum(np.log1p(branches)), log_covariance)
