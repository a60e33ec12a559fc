"""Laws of shattered gradients: Balduzzi, with his assumption and without.

What is measured is tr(J1 J2') / n of two inputs: the mean inner product <g1, g2> of their
gradients over cotangents common to both. Where coins are tossed for the masks, as Balduzzi et al.
assume, expectations are exact at any width and tolerances 0.
"""

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, mean_of, seeds
from experiments.laws.walks import HE, input_gradient
from study.core.activations import activation as activation_row
from study.core.blocks import BATCH, Dense, Linear, Normalised, Residual
from study.sampling import gaussian
from study.theory.correlation import (
    Shattering,
    independent_shattering,
    normalised_shattering,
    shattering,
)
from study.theory.residual import branch_scales


class Tossed(Dense):
    """A ReLU layer whose gradient is masked by coins, not by the signs of z."""

    def __init__(self, W: np.ndarray, coins: np.ndarray):
        super().__init__(W, "relu")
        self.mask = activation_row("relu").derivative(coins)

    def slope(self, z: np.ndarray) -> np.ndarray:
        return self.mask


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def _overlaps(
    count: int, n: int, depth: int, coins: bool, schedule: str | None = None
) -> np.ndarray:
    """tr(J1 J1') / n and tr(J1 J2') / n of orthogonal inputs in He-ReLU networks: (2, count).

    ``schedule`` makes the layers residual blocks with these branch scales.
    """
    scales = None if schedule is None else branch_scales(schedule, depth)
    rows = []
    for seed in seeds(count):
        key = gaussian.key(seed, "shattered")
        tosses = gaussian.normal(key, 1, (depth, 2, 1, n))
        layers = []
        for k in range(depth):
            W, V = gaussian.normal(key, 2 + k, (2, n, n)) / math.sqrt(n)
            layer = Tossed(HE * W, tosses[k]) if coins else Dense(HE * W, "relu")
            if schedule is not None:
                layer = Residual([layer, Linear(V, scale=scales[k])])
            layers.append(layer)
        J = input_gradient(layers, _orthogonal_inputs(key, n), np.stack([np.eye(n)] * 2))
        rows.append((np.vdot(J[0], J[0]) / n, np.vdot(J[0], J[1]) / n))
    return np.transpose(rows)


def _orthogonal_inputs(key: int, n: int) -> np.ndarray:
    """Two inputs of norm 1, a batch of one each: (2, 1, n)."""
    x = gaussian.normal(key, 0, (2, n))
    x[1] -= np.vdot(x[0], x[1]) / np.vdot(x[0], x[0]) * x[0]
    return (x / np.linalg.norm(x, axis=1, keepdims=True))[:, None]


def _covariance(law: Shattering) -> float:
    return float(law.covariance[-1])


def _log_correlation(law: Shattering) -> float:
    return float((law.log_covariance - law.log_variance)[-1])


def _by_coins(factor: int) -> Finding:
    _, covariances = _overlaps(250 * factor, 128, 4, coins=True)
    wrong = _covariance(shattering(4))
    return mean_of(covariances, _covariance(independent_shattering(4)), wrong)


def _by_angles(factor: int) -> Finding:
    _, covariances = _overlaps(100 * factor, 256, 8, coins=False)
    wrong = _covariance(independent_shattering(8))
    return mean_of(covariances, _covariance(shattering(8)), wrong, relative=10 * 8 / 256)


def _residual_covariance(factor: int) -> Finding:
    _, covariances = _overlaps(150 * factor, 128, 4, True, "undamped")
    scales = branch_scales("undamped", 4)
    wrong = _covariance(shattering(4, scales))
    return mean_of(covariances, _covariance(independent_shattering(4, scales)), wrong)


def _residual_variance(factor: int) -> Finding:
    variances, _ = _overlaps(150 * factor, 128, 4, True, "undamped")
    law = independent_shattering(4, branch_scales("undamped", 4))
    expected = math.exp(law.log_variance[-1])
    return mean_of(variances, expected, OFF**4 * expected)


def _scaled_branches(factor: int) -> Finding:
    _, covariances = _overlaps(60 * factor, 128, 16, True, "1/sqrt(l)")
    scales = branch_scales("1/sqrt(l)", 16)
    law = independent_shattering(16, scales)
    expected = float(law.correlation[-1])
    wrong = float(shattering(16, scales).correlation[-1])
    return mean_of(covariances / math.exp(law.log_variance[-1]), expected, wrong)


# --- Batch normalisation in the branches ---------------------------------------------------------

DEPTH = 40
BATCH_SIZE = 32


@lru_cache(maxsize=2)  # two laws are about the same networks
def _normalised(count: int, n: int = 256) -> np.ndarray:
    """ln of the mean of <g1, g1> and of <g1, g2> over pairs of a batch: (2, count).

    x + V relu(BN(W x)) with Var V = 2/n; the gradients of each example's output by its own input,
    the batch's statistics held fixed, under 8 cotangents that all examples have in common.
    """
    rows = []
    for seed in seeds(count):
        key = gaussian.key(seed, "normalised branches")
        blocks = []
        for k in range(DEPTH):
            W, V = gaussian.normal(key, 2 + k, (2, n, n)) / math.sqrt(n)
            branch = [Normalised(W, "relu", BATCH, frozen=True), Linear(HE * V)]
            blocks.append(Residual(branch))
        cotangents = gaussian.normal(key, 1, (8, 1, n))
        dr = np.broadcast_to(cotangents, (8, BATCH_SIZE, n))
        g = input_gradient(blocks, gaussian.normal(key, 0, (BATCH_SIZE, n)), dr)
        squares = np.sum(g**2) / BATCH_SIZE
        # Pairs of different examples: what the square of the sum has beyond the squares.
        sums = np.sum(g.sum(axis=1) ** 2) / BATCH_SIZE
        pairs = (sums - squares) / (BATCH_SIZE - 1)
        rows.append(np.array([squares, pairs]) / np.sum(cotangents**2))
    return np.log(rows).T


def _by_root_layer() -> Shattering:
    return independent_shattering(DEPTH, branch_scales("1/sqrt(l)", DEPTH))


def _normalised_growth(factor: int) -> Finding:
    logs, _ = _normalised(20 * factor)
    expected = float(normalised_shattering(DEPTH, BATCH_SIZE).log_variance[-1])
    return mean_of(logs, expected, float(_by_root_layer().log_variance[-1]), tolerance=0.05)


def _normalised_correlation(factor: int) -> Finding:
    squares, pairs = _normalised(20 * factor)
    expected = _log_correlation(normalised_shattering(DEPTH, BATCH_SIZE))
    return mean_of(pairs - squares, expected, _log_correlation(_by_root_layer()), tolerance=0.05)


MEASURES = {
    "shattered by coins": _by_coins,
    "shattered by angles": _by_angles,
    "residual covariance": _residual_covariance,
    "residual variance": _residual_variance,
    "scaled branches correlation": _scaled_branches,
    "normalised branches growth": _normalised_growth,
    "normalised branches correlation": _normalised_correlation,
}
