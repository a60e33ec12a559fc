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

from study.activations import Array
from study.network import one_of
from study.theory import checks
from study.theory.maps import checked, gradient_factor_at, variance_at

SCHEDULES = {
    "undamped": lambda layer, depth: np.ones_like(layer),
    "1/sqrt(L)": lambda layer, depth: np.full_like(layer, depth**-0.5),
    "1/sqrt(l)": lambda layer, depth: layer**-0.5,
    "1/l": lambda layer, depth: 1 / layer,
    "1/L": lambda layer, depth: np.full_like(layer, 1 / depth),
    "zero": lambda layer, depth: np.zeros_like(layer),
}
"""Names of the branch scales; l is the block, from 1, and L the number of blocks.

A batch normalisation at the start of each branch acts as "1/sqrt(l)": it divides by the size of
the skip path, which grows as sqrt(l) (De and Smith 2020).
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
