"""Residual networks: how signal and gradient grow under each way of scaling the branches.

Block l, from 1 to L, is x -> x + alpha_l V phi(W x), with Var W = sigma_w^2 / n and Var V =
sigma_v^2 / n. V has mean zero, so squares add and nothing crosses: with p the mean square of x,

    p_(l+1) = p_l + alpha_l^2 sigma_v^2 E phi(sqrt(q_l) z)^2,        q_l = sigma_w^2 p_l
    squared gradient norm, per block:  1 + alpha_l^2 sigma_v^2 sigma_w^2 E phi'(sqrt(q_l) z)^2

(Yang and Schoenholz 2017). For ReLU both factors are 1 + alpha^2 sigma_v^2 sigma_w^2 / 2 whatever
p is, in expectation at any width: undamped He networks grow as 2^L (De and Smith 2020), those with
alpha = 1/sqrt(L) by e at any depth, with 1/sqrt(l) as L + 1. Tanh's undamped gradients grow as
exp(8 / (3 sqrt(2 pi)) sigma_v sigma_w sqrt(l)): neither exponential nor a power law. A branch that
starts at 0 (ReZero, SkipInit, the last layer of Fixup) makes J the identity. Natural logarithms.

>>> [round(float(growth(branch_scales(s, 200)).log_gradient[-1]), 4) for s in SCHEDULES]
[138.6294, 0.9975, 5.3033, 1.2969, 0.005, 0.0]
>>> _, log_gradient = growth(branch_scales("undamped", 400), "tanh", sigma_w=1.0)
>>> log_gradient[[99, 199, 399]].round(3)
array([10.546, 15.169, 21.618])
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from study.checks import one_of
from study.core.activations import Array
from study.core.activations import activation as activation_row
from study.theory import checks
from study.theory.maps import checked, gradient_factor_at, variance_at
from study.theory.quadrature import break_points, expectation

SCHEDULES = {
    "undamped": lambda layer, depth: np.ones_like(layer),
    "1/sqrt(L)": lambda layer, depth: np.full_like(layer, depth**-0.5),
    "1/sqrt(l)": lambda layer, depth: layer**-0.5,
    "1/l": lambda layer, depth: 1 / layer,
    "1/L": lambda layer, depth: np.full_like(layer, 1 / depth),
    "zero": lambda layer, depth: np.zeros_like(layer),
}
"""Names of the branch scales; l is the block, from 1, and L the number of blocks.

A batch normalisation at the start of each branch acts about as "1/sqrt(l)": it divides by the size
of the skip path, which grows as sqrt(l) (De and Smith 2020). More exactly: `normalised_scales`.
"""


class Growth(NamedTuple):
    """Entry l - 1 is about blocks 1 to l together; natural logarithms of SQUARED norms."""

    log_signal: Array
    """ln(p_l / p_0); inf beyond the float range."""
    log_gradient: Array
    """ln of the squared gradient norm before block 1 over that after block l."""


def branch_scales(schedule: str, depth: int) -> Array:
    """alpha_1, ..., alpha_L of one of the `SCHEDULES`.

    >>> branch_scales("1/l", 3).round(3)
    array([1.   , 0.5  , 0.333])
    """
    rule = SCHEDULES[one_of("schedule", schedule, SCHEDULES)]
    depth = checks.count("depth", depth)
    return rule(np.arange(1.0, depth + 1), depth)


def normalised_scales(
    depth: int, activation: str = "relu", sigma_v: float = math.sqrt(2), batch: int | None = None
) -> Array:
    """The branch scales that a batch normalisation of r W amounts to: x + V phi(norm(W x)).

    It divides by the spread of x over the batch, which grows by Var phi a block and not by
    E phi^2, since it takes the mean over the batch away: with a branch of unit mean square,
    ReLU's spread grows by 1 - 1/pi only. So gradients grow as a power of the depth above 1:

        alpha_l^2 = E (1 / std^2) = 1 / (1 + (l - 1) sigma_v^2 Var phi(z)),      z ~ N(0, 1)
        squared gradient norm ~ L^(E phi'^2 / Var phi): L^1.467 for ReLU

    Parameters
    ----------
    depth : int
        Number of blocks.
    activation : str
        A row of the table.
    sigma_v : float
        Scale of the weights behind phi.
    batch : int, optional
        At least 4: alpha^2 times B / (B - 3), since the spread of so few is uncertain. The
        statistics are then constants of the backward pass. Infinite if not given.

    Notes
    -----
    Infinite width, inputs of unit variance over the batch; an error of 1 / batch is left. Ask
    :func:`growth` with sigma_w = 1 and the same sigma_v.

    Examples
    --------
    >>> log_gradient = growth(normalised_scales(10_000), sigma_w=1.0, sigma_v=2**0.5).log_gradient
    >>> round(float((log_gradient[9999] - log_gradient[999]) / math.log(10)), 3)
    1.466
    """
    row = activation_row(activation)
    mean = float(expectation(row.phi, 1.0, break_points(row)[0]))
    variance = float(variance_at(row, np.ones(()), 1.0, 0.0)) - mean**2
    sv2 = checks.number("sigma_v", sigma_v, high=1e50) ** 2
    spread = 1 + sv2 * variance * np.arange(checks.count("depth", depth))
    uncertain = 1.0 if batch is None else (b := checks.count("batch", batch, low=4)) / (b - 3)
    return np.sqrt(uncertain / spread)


def growth(
    scales: Array,
    activation: str = "relu",
    sigma_w: float = math.sqrt(2),
    sigma_v: float = 1.0,
) -> Growth:
    """Expected growth of the signal and of the gradient through residual blocks.

    Parameters
    ----------
    scales : array (L,)
        alpha_l, one a block. See `branch_scales`.
    activation : str
        A row of the table.
    sigma_w, sigma_v : float
        Scales of the weights before and after phi. Without bias.

    Notes
    -----
    Exact in expectation for scale-free activations; else at infinite width, from an input of
    unit mean square.
    """
    row, sw2, _ = checked(activation, sigma_w, 0.0)
    sv2 = checks.number("sigma_v", sigma_v, high=1e50) ** 2
    scales = np.asarray(scales, float)
    if scales.ndim != 1 or not scales.size or not np.all(np.abs(scales) <= 1e50):
        raise ValueError(f"scales = {scales}; allowed: one number for each of the blocks")
    branch = scales**2 * sv2
    if row.scale_free:
        total = np.cumsum(np.log1p(branch * gradient_factor_at(row, np.ones(()), sw2)))
        return Growth(total, total)
    p = np.ones(scales.size + 1)
    with np.errstate(over="ignore"):
        for k, share in enumerate(branch):
            p[k + 1] = p[k] + share * variance_at(row, sw2 * p[k], 1.0, 0.0)
        slopes = [
            gradient_factor_at(row, q, sw2) for q in np.array_split(sw2 * p[:-1], 1 + p.size // 256)
        ]
    return Growth(np.log(p[1:]), np.cumsum(np.log1p(branch * np.concatenate(slopes))))


def first_step(depth: int, scale: float = 1.0, sigma_w: float = math.sqrt(2)) -> float:
    """How far one step of gradient descent moves the output of ReLU branches whose V are 0.

    Every gradient dC/dV_l = relu(scale W_l x)' dC/dx, since each block is the identity, and those
    of W_l are 0. So to first order in the learning rate eta the output moves by

        -eta ||x||^2 dC/dx  *  L scale^2 sigma_w^2 / 2

    and what is returned is the second factor: in expectation, at any width. It is 1 at every
    depth L if the first layer of a branch is scaled by 1 / sqrt(L) (Fixup, Zhang et al. 2019,
    rule 2 for branches of two layers), and L without.

    Parameters
    ----------
    depth : int
        L, the number of blocks x -> x + V relu(scale W x).
    scale, sigma_w : float
        Of the first layer of a branch: Var W = sigma_w^2 / n.

    Examples
    --------
    >>> [round(first_step(depth, scale=depth**-0.5), 12) for depth in (1, 64, 10_000)]
    [1.0, 1.0, 1.0]
    """
    depth = checks.count("depth", depth)
    sigma = checks.number("scale", scale, high=1e50) * checks.number("sigma_w", sigma_w, high=1e50)
    return depth * sigma**2 / 2
