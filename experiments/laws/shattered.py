"""Laws of shattered gradients: Balduzzi, with his assumption and without.

What is measured is tr(J1 J2') / n of two inputs: the mean inner product <g1, g2> of their
gradients over cotangents common to both. Where coins are tossed for the masks, as Balduzzi et al.
assume, expectations are exact at any width and tolerances 0.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.engines import blocks
from study.sampling import gaussian
from study.theory.residual import branch_scales

_shattering = theory.correlation.shattering
_independent = theory.correlation.independent_shattering


@lru_cache(maxsize=2)
def _overlaps(
    count: int, n: int, depth: int, coins: bool, schedule: str | None = None
) -> np.ndarray:
    """tr(J1 J1') / n and tr(J1 J2') / n of orthogonal inputs in He-ReLU networks: (count, 2).

    ``schedule`` makes the layers residual blocks with these branch scales.
    """
    relu, found = activation_row("relu"), np.empty((count, 2))
    scales = None if schedule is None else branch_scales(schedule, depth)
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "shattered")
        x = gaussian.normal(key, 0, (2, n))
        x[1] -= np.vdot(x[0], x[1]) / np.vdot(x[0], x[0]) * x[0]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        tosses = gaussian.normal(key, 1, (depth, 2, n))
        J = np.stack([np.eye(n)] * 2)
        for k in range(depth):
            W, V = gaussian.normal(key, 2 + k, (2, n, n)) / math.sqrt(n)
            z = x @ W * math.sqrt(2)
            masks = relu.derivative(tosses[k] if coins else z)
            branch = J @ W * (math.sqrt(2) * masks[:, None, :])
            if scales is None:
                x, J = relu.phi(z), branch
            else:
                x, J = x + scales[k] * (relu.phi(z) @ V), J + scales[k] * (branch @ V)
        found[i] = np.vdot(J[0], J[0]) / n, np.vdot(J[0], J[1]) / n
    return found


@law(
    "Balduzzi et al. 2017",
    "If two inputs activate units independently, their gradients' covariance halves per layer",
    "He-ReLU with coin-tossed masks, width 128, depth 4; mean of <g1, g2>",
    "that of real masks, for orthogonal inputs",
)
def shattered_by_coins(more: int) -> Finding:
    values = _overlaps(250 * more, 128, 4, coins=True)[:, 1]
    expected, wrong = (float(law(4).covariance[-1]) for law in (_independent, _shattering))
    return mean_of(values, expected, wrong)


@law(
    "Balduzzi et al. 2017",
    "In a plain bias-free He-ReLU network inputs become collinear: covariance falls as l^-3 only",
    "He-ReLU, orthogonal inputs, width 256, depth 8; mean of <g1, g2>; tolerance 10 L/n, relative",
    "2^-L",
    "gradients of plain ReLU networks shatter as 2^-L",
)
def shattered_by_angles(more: int) -> Finding:
    values = _overlaps(100 * more, 256, 8, coins=False)[:, 1]
    expected, wrong = (float(law(8).covariance[-1]) for law in (_shattering, _independent))
    return mean_of(values, expected, wrong, tolerance=80 / 256 * expected)


@law(
    "Balduzzi et al. 2017",
    "If two inputs activate units independently, their gradients' covariance grows as (3/2)^L in a "
    "residual network",
    "x + V relu(W x), He, coin-tossed masks, width 128, 4 blocks; mean of <g1, g2>",
    "that of real masks, for orthogonal inputs",
)
def residual_covariance(more: int) -> Finding:
    scales = branch_scales("undamped", 4)
    values = _overlaps(150 * more, 128, 4, True, "undamped")[:, 1]
    expected, wrong = (float(law(4, scales).covariance[-1]) for law in (_independent, _shattering))
    return mean_of(values, expected, wrong)


@law(
    "Balduzzi et al. 2017",
    "The variance of a residual network's gradients grows as 2^L, so that their correlation is "
    "(3/4)^L: shattered later, not never",
    "x + V relu(W x), He, coin-tossed masks, width 128, 4 blocks; mean of <g1, g1>",
    "5 % off per block",
)
def residual_variance(more: int) -> Finding:
    values = _overlaps(150 * more, 128, 4, True, "undamped")[:, 0]
    expected = math.exp(_independent(4, branch_scales("undamped", 4)).log_variance[-1])
    return mean_of(values, expected, OFF**4 * expected)


@law(
    "Balduzzi et al. 2017",
    "Branches scaled by 1/sqrt l bring the correlation to about 1/sqrt L",
    "x + V relu(W x) / sqrt l, He, coin-tossed masks, width 128, 16 blocks; mean of <g1, g2>, "
    "over the variance L + 1",
    "that of real masks, for orthogonal inputs",
)
def scaled_branches_correlation(more: int) -> Finding:
    scales = branch_scales("1/sqrt(l)", 16)
    at = _independent(16, scales)
    values = _overlaps(60 * more, 128, 16, True, "1/sqrt(l)")[:, 1] / math.exp(at.log_variance[-1])
    wrong = float(_shattering(16, scales).correlation[-1])
    return mean_of(values, float(at.correlation[-1]), wrong)


@lru_cache(maxsize=2)
def _normalised(count: int, n: int, batch: int, depth: int) -> np.ndarray:
    """ln of the mean of <g1, g1> and of <g1, g2> over pairs of a batch: (count, 2).

    x + V relu(BN(W x)) with Var V = 2/n; the gradients of each example's output by its own input,
    the batch's statistics held fixed, under 8 cotangents that all examples have in common.
    """
    relu, found = activation_row("relu"), np.empty((count, 2))
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "normalised branches")
        x = gaussian.normal(key, 0, (batch, n))
        trace = []
        for k in range(depth):
            W, V = gaussian.normal(key, 2 + k, (2, n, n)) / math.sqrt(n)
            V *= math.sqrt(2)
            u, std = blocks.normalise(x @ W, blocks.BATCH)
            trace.append((W, V, relu.derivative(u) / std))
            x = x + relu.phi(u) @ V
        top = gaussian.normal(key, 1, (8, 1, n))
        g = np.broadcast_to(top, (8, batch, n)).copy()
        for W, V, slope in reversed(trace):
            g += ((g @ V.T) * slope) @ W.T
        squares = np.sum(g**2) / batch
        sums = np.sum(g.sum(axis=1) ** 2)
        pairs = (sums - squares * batch) / (batch * (batch - 1))
        found[i] = np.array([squares, pairs]) / np.sum(top**2)
    return np.log(found)


@law(
    "Balduzzi et al. 2017",
    "Batch normalisation in the branches divides by the spread within the batch, which grows as "
    "(1 - 1/pi) l: the squared gradient grows as L^1.467, not as L",
    "x + V relu(BN(W x)), Var V = 2/n, batch 32, width 256, 40 blocks; ln of the growth; "
    "tolerance 0.05",
    "ln(L + 1), that of branches scaled by 1/sqrt l",
    "normalised branches act as branches scaled by 1/sqrt l",
)
def normalised_branches_growth(more: int) -> Finding:
    at = theory.correlation.normalised_shattering(40, 32)
    wrong = float(_independent(40, branch_scales("1/sqrt(l)", 40)).log_variance[-1])
    values = _normalised(20 * more, 256, 32, 40)[:, 0]
    return mean_of(values, float(at.log_variance[-1]), wrong, tolerance=0.05)


@law(
    "Balduzzi et al. 2017",
    "With batch normalisation in the branches, correlations of two examples' gradients fall as "
    "L^-0.73, not as 1/sqrt L",
    "x + V relu(BN(W x)), Var V = 2/n, batch 32, width 256, 40 blocks; ln of the correlation of "
    "two examples' gradients; tolerance 0.05",
    "that of branches scaled by 1/sqrt l, about ln(1 / sqrt L)",
    "normalised branches shatter as 1/sqrt L",
)
def normalised_branches_correlation(more: int) -> Finding:
    at = theory.correlation.normalised_shattering(40, 32)
    other = _independent(40, branch_scales("1/sqrt(l)", 40))
    expected, wrong = (float((a.log_covariance - a.log_variance)[-1]) for a in (at, other))
    found = _normalised(20 * more, 256, 32, 40)
    return mean_of(found[:, 1] - found[:, 0], expected, wrong, tolerance=0.05)
