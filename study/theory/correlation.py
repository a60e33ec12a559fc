"""Shattered gradients: how the gradients at two inputs lose their likeness with depth.

Balduzzi et al. 2017 let two inputs activate each ReLU independently, together
with probability 1/4: then gradients at two inputs have covariance 2^-L in a plain He network,
(3/4)^L of the variance in a residual one, and ~1/sqrt(L) of it if batch normalisation scales the
branches by 1/sqrt(l). The assumption holds where batch normalisation keeps inputs orthogonal; but
there it takes the batch's mean away, too, and divides by less than sqrt(l): `normalised_shattering`
falls as L^-0.73 instead.

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

from study.core.activations import Array
from study.theory import checks
from study.theory.maps import LARGEST, checked, half_square_step, trajectory, variance_at
from study.theory.quadrature import break_points, pair_expectation


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


def normalised_shattering(
    depth: int, batch: int | None = None, sigma_v: float = math.sqrt(2)
) -> Shattering:
    """Two examples of a batch in the residual network x + V relu(BN(W x)) as it is.

    Batch normalisation divides by the standard deviation *within* the batch. Of a branch's mean
    square sigma_v^2 / 2 the share 1 / pi is common to all examples, so the variance within the
    batch grows by sigma_v^2 (1 - 1 / pi) / 2 a block, and a branch adds, relative to its skip path,

        sigma_v^2 / 2 / (1 + (l - 1) sigma_v^2 (1 - 1 / pi) / 2) ~ 1.467 / l

    to the squared gradient, and half of it to the covariance: they grow as L^1.467 and L^0.733,
    not as L and sqrt(L). Examples stay uncorrelated within the batch, so masks are independent.
    At a finite batch B the correlation is -1 / (B - 1), and E 1 / std^2 has the factor B / (B - 3).

    Parameters
    ----------
    depth : int
        Number of blocks; independent inputs of unit variance.
    batch : int, optional
        At least 4; infinite if not given.
    sigma_v : float
        Scale of the weights V after the ReLU; that of W drops out.

    Returns
    -------
    Shattering
        Of the gradients of one example's output by its own input, the batch's statistics held
        fixed as they are after training; infinite width.

    Examples
    --------
    >>> at = normalised_shattering(100_000)
    >>> rates = [log[-1] - log[9_999] for log in (at.log_variance, at.log_covariance)]
    >>> [round(float(rate) / math.log(10), 3) for rate in rates]
    [1.467, 0.733]
    """
    depth = checks.count("depth", depth)
    half = checks.number("sigma_v", sigma_v, high=1e50) ** 2 / 2
    b = math.inf if batch is None else checks.count("batch", batch, low=4)
    c = -1 / (b - 1)
    angle = math.acos(c)
    overlap = 1 - angle / math.pi
    kernel = (math.sin(angle) + (math.pi - angle) * c) / math.pi
    within = 1 + np.arange(depth) * half * (1 - kernel)
    share = half * (1 if batch is None else b / (b - 3)) / within
    return Shattering(np.cumsum(np.log1p(share)), np.cumsum(np.log1p(overlap * share)))


def plain_shattering(activation: str, sigma_w: float, depth: int, c_0: float = 0.0) -> Shattering:
    """Two inputs in a plain bias-free network of any activation, layer by layer.

    The squared gradient norm takes a factor sigma_w^2 E phi'(u1)^2 a layer, the inner product of
    two inputs' gradients sigma_w^2 E phi'(u1) phi'(u2), at the variance q_l and the correlation
    c_l that the signals have there (Poole et al. 2016).

    Parameters
    ----------
    activation : str
        A row of the table whose phi' has one sign.
    sigma_w : float
        Scale of the weights.
    depth : int
        Number of layers.
    c_0 : float
        Cosine of the angle between the inputs, of unit mean square.

    Notes
    -----
    Infinite width. In the ordered phase c -> 1 and the likeness tends to a limit above 0; in the
    chaotic phase c -> c* < 1 and it falls by C'(c*) / chi a layer.

    Examples
    --------
    >>> general = plain_shattering("relu", 2**0.5, 10).log_covariance
    >>> bool(np.allclose(general, shattering(10).log_covariance, rtol=1e-9))
    True
    """
    row, sw2, _ = checked(activation, sigma_w, 0.0)
    depth = checks.count("depth", depth)
    gap = 1 - checks.number("c_0", c_0, -1.0, 1.0)
    q, factors = trajectory(activation, sigma_w, 0.0, depth)
    overlap, before = np.empty(depth), None
    for k in range(depth):
        at = max(float(q[k]), LARGEST**-2), gap  # the limit q -> 0, to rounding
        if before is not None and np.allclose(at, before, rtol=1e-13, atol=0):
            overlap[k:] = overlap[k - 1]  # both have arrived
            break
        overlap[k] = sw2 * pair_expectation(
            lambda u1, u2: row.derivative(u1) * row.derivative(u2),
            math.sqrt(at[0]),
            gap,
            *break_points(row),
        )
        gap = sw2 * half_square_step(row, *at) / float(variance_at(row, at[0], sw2, 0.0))
        before = at
    return Shattering(np.cumsum(np.log(factors)), np.cumsum(np.log(overlap)))


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
