"""Residual networks: how signal and gradient grow under each way of scaling the branches.

Block l is x -> x + alpha_l V phi(W x). V has mean zero, so squares add and nothing crosses:

    p_(l+1) = p_l + alpha_l^2 sigma_v^2 E phi(sqrt(q_l) z)^2,        q_l = sigma_w^2 p_l
    squared gradient norm, per block:  1 + alpha_l^2 sigma_v^2 sigma_w^2 E phi'(sqrt(q_l) z)^2

(Yang and Schoenholz 2017; docs/theory.md says what follows for each schedule). Natural logarithms.

>>> [round(float(growth(branch_scales(s, 200)).log_gradient[-1]), 4) for s in SCHEDULES]
[138.6294, 0.9975, 5.3033, 1.2969, 0.005, 0.0]
"""

import math
from typing import NamedTuple

import numpy as np

from study.theory.maps import (
    LARGEST,
    ActivationLike,
    deviation,
    gradient_factor,
    row_of,
    spread_of_phi,
    variance_map,
)
from study.theory.normalisation import mean_inverse_variance
from study.tools.checks import bad, integer, one_of
from study.tools.elementary import Array

SCHEDULES = {
    "undamped": lambda layer, depth: layer**0,
    "1/sqrt(L)": lambda layer, depth: layer**0 * depth**-0.5,
    "1/sqrt(l)": lambda layer, depth: layer**-0.5,
    "1/l": lambda layer, depth: 1 / layer,
    "1/L": lambda layer, depth: layer**0 / depth,
    "zero": lambda layer, depth: 0 * layer,
}
"""Names of the branch scales; l is the block, from 1, and L the number of blocks."""


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


def normalised_scales(
    depth: int,
    activation: ActivationLike = "relu",
    sigma_v: float = math.sqrt(2),
    batch: int | None = None,
) -> Array:
    """The branch scales that a batch normalisation of r W amounts to: x + V phi(norm(W x)).

    It divides by the spread of x over the batch, which grows by Var phi a block and not by
    E phi^2. So gradients grow as a power of the depth above 1, L^(E phi'^2 / Var phi):

        alpha_l^2 = E (1 / std^2) = 1 / (1 + (l - 1) sigma_v^2 Var phi(z)),      z ~ N(0, 1)

    Infinite width, inputs of unit variance over the batch; at a finite one, of 4 or more, alpha^2
    times B / (B - 3), the statistics held fixed. For `growth` with sigma_w = 1, same sigma_v.
    """
    variance = deviation("sigma_v", sigma_v) ** 2 * spread_of_phi(row_of(activation))
    spread = 1 + variance * np.arange(integer("depth", depth, 1))
    return np.sqrt(mean_inverse_variance(batch) / spread)


def growth(
    scales: Array,
    activation: ActivationLike = "relu",
    sigma_w: float = math.sqrt(2),
    sigma_v: float = 1.0,
) -> Growth:
    """Expected growth through blocks of branch scales ``scales``, an array (L,). Without bias.

    Exact in expectation for scale-free activations; else at infinite width, from an input of unit
    mean square. sigma_w and sigma_v are the scales of the weights before and after phi.
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


def first_step(depth: int, scale: float = 1.0, sigma_w: float = math.sqrt(2)) -> float:
    """How far one step of gradient descent moves the output of ReLU branches x + V relu(scale W x).

    V is 0, so each dC/dV_l = relu(scale W_l x)' dC/dx, and to first order in the learning rate
    eta the output moves by -eta ||x||^2 dC/dx times L scale^2 sigma_w^2 / 2, which is returned: 1
    at every depth L if scale is 1 / sqrt(L) (Fixup, Zhang et al. 2019, rule 2).
    """
    depth = integer("depth", depth, 1)
    return depth * (deviation("scale", scale) * deviation("sigma_w", sigma_w)) ** 2 / 2
