"""Shattered gradients: how the gradients at two inputs lose their likeness with depth.

Balduzzi et al. 2017 (theorems 1 to 3) let two inputs activate each ReLU independently, together
with probability 1/4: then gradients at two inputs have covariance 2^-L in a plain He network,
(3/4)^L of the variance in a residual one, and ~1/sqrt(L) of it if batch normalisation scales the
branches by 1/sqrt(l). The assumption holds where batch normalisation keeps inputs orthogonal.

It fails in plain bias-free networks, whose inputs become collinear (c -> 1): two inputs at angle
theta activate a unit together with probability (pi - theta) / (2 pi), so the covariance is
prod (pi - theta_l) / pi along the correlation map

    c -> [sin theta + (pi - theta) cos theta] / pi,       c = cos theta       (Cho and Saul 2009)

and, since 1 - c -> (9 pi^2 / 2) / l^2, falls as l^-3 only. Infinite width; SQUARED norms;
weights at the critical scale, sigma_v^2 sigma_w^2 = 2; a top gradient common to both inputs.

>>> shattering(100).covariance[[0, 4, 9, 99]].round(7)
array([5.000000e-01, 1.045588e-01, 3.365220e-02, 1.441000e-04])
>>> independent_shattering(4).covariance
array([0.5   , 0.25  , 0.125 , 0.0625])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from study.activations import Array
from study.theory import checks


class Shattering(NamedTuple):
    """Entry l - 1 is about l layers or blocks. The variance is the mean squared gradient norm."""

    log_variance: Array
    """Natural logarithm; 0 in a plain network."""
    log_covariance: Array
    """Natural logarithm of the gradients' mean inner product."""

    @property
    def covariance(self) -> Array:
        """Mean inner product of the two gradients, 0 below the float range."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_covariance)

    @property
    def correlation(self) -> Array:
        """Covariance over variance, 0 below the float range."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_covariance - self.log_variance)


def independent_shattering(depth: int, scales: Array | None = None) -> Shattering:
    """Two inputs that activate the units independently: Balduzzi's assumption.

    Parameters
    ----------
    depth : int
        Number of layers, or of residual blocks.
    scales : array (depth,), optional
        Branch scales of the blocks x + alpha V relu(W x), see `residual`; a plain network if not
        given.

    Examples
    --------
    >>> from study.theory.residual import branch_scales
    >>> independent_shattering(8, branch_scales("undamped", 8)).correlation[-1].round(4)   # .75^8
    np.float64(0.1001)
    >>> normalised = independent_shattering(10_000, branch_scales("1/sqrt(l)", 10_000))
    >>> (normalised.correlation[-1] * (math.pi * 10_000) ** 0.5 / 2).round(3)
    np.float64(1.0)
    """
    return _shattering(depth, scales, np.full(checks.count("depth", depth), 0.5))


def shattering(depth: int, scales: Array | None = None, c_0: float = 0.0) -> Shattering:
    """Two inputs of correlation c_0 in a bias-free ReLU network as it is. See the module.

    Parameters
    ----------
    depth, scales
        As in `independent_shattering`.
    c_0 : float
        Cosine of the angle between the inputs, in [-1, 1].

    Examples
    --------
    >>> float((shattering(10_000).covariance[-1] * 10_000**3).round(0))
    196.0
    """
    depth = checks.count("depth", depth)
    c_0 = checks.number("c_0", c_0, -1.0, 1.0)
    branch = _branch(depth, scales)
    overlap, gap = np.empty(depth), 1 - c_0
    for k in range(depth):
        # 1 - c keeps its digits as c -> 1; so does 1 - C = gap - (sin - theta cos) / pi.
        theta = 2 * math.asin(math.sqrt(gap / 2))
        overlap[k] = 1 - theta / math.pi
        closing = (math.sin(theta) - theta * math.cos(theta)) / math.pi
        gap -= closing if scales is None else closing * branch[k] / (1 + branch[k])
    return _shattering(depth, scales, overlap)


def _branch(depth: int, scales: Array | None) -> Array:
    """alpha^2 of each block; 1 in a plain network."""
    branch = np.ones(depth) if scales is None else np.square(np.asarray(scales, float))
    if branch.shape != (depth,) or not np.all(np.isfinite(branch)):
        raise ValueError(f"scales = {scales}; allowed: {depth} numbers, as many as blocks")
    return branch


def _shattering(depth: int, scales: Array | None, overlap: Array) -> Shattering:
    """``overlap`` is the share of one input's active units that the other input has, too."""
    branch = _branch(depth, scales)
    if scales is None:
        with np.errstate(divide="ignore"):  # opposite inputs share no unit
            return Shattering(np.zeros(depth), np.cumsum(np.log(overlap)))
    return Shattering(np.cumsum(np.log1p(branch)), np.cumsum(np.log1p(branch * overlap)))
