"""Laws of blocks: batch and layer normalisation (Yang), residual branches, shattered gradients."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from study import blocks, gaussian, theory
from study.activations import activation as activation_row
from study.laws.law import OFF, Finding, every, law, mean_of
from study.theory.residual import branch_scales, growth


def _weights(seed: int, k: int, n: int, sigma_w: float = 1.0) -> np.ndarray:
    """W^(k), n x n, of the networks of this module."""
    return gaussian.normal(gaussian.key(seed, "blocks"), k, (n, n)) * (sigma_w / math.sqrt(n))


def _ends(seed: int, batch: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and a cotangent."""
    x, dr = gaussian.normal(gaussian.key(seed, "ends"), 0, (2, batch, n))
    return x, dr


def _normalised(seeds: int, activation: str, batch: int, n: int, axis: int) -> np.ndarray:
    """The factor of the squared gradient per layer, away from both ends of 16 layers."""
    factors = np.empty(seeds)
    for seed in range(seeds):
        x, dr = _ends(seed, batch, n)
        weights = [_weights(seed, k, n) for k in range(16)]
        logs = blocks.normalised_gradients(activation, weights, x, dr, axis)
        factors[seed] = math.exp((logs[4] - logs[14]) / 10)
    return factors


@law(
    "Yang et al. 2019",
    "Batch normalisation explodes a ReLU network's gradient by about pi/(pi-1) per layer",
    "ReLU, batch 64, width 640; factor of the squared gradient, layers 4 to 14; tolerance 1 %",
    "5 % off",
    "batch normalisation prevents exploding gradients",
)
def batch_norm_relu(more: int) -> Finding:
    expected = theory.normalised.batch_norm_factor("relu", 64)
    values = _normalised(12 * more, "relu", 64, 640, blocks.BATCH)
    return mean_of(values, expected, expected * OFF, tolerance=0.01 * expected)


@law(
    "Yang et al. 2019",
    "Small batches explode more",
    "ReLU, batch 12, width 512; factor of the squared gradient, layers 4 to 14; tolerance 1.5 %",
    "the factor of an infinite batch",
)
def batch_norm_small_batch(more: int) -> Finding:
    expected = theory.normalised.batch_norm_factor("relu", 12)
    values = _normalised(16 * more, "relu", 12, 512, blocks.BATCH)
    wrong = theory.normalised.batch_norm_factor("relu")
    return mean_of(values, expected, wrong, tolerance=0.015 * expected)


@law(
    "Yang et al. 2019",
    "Batch normalisation alone, without activation, explodes by (B-2)/(B-3)",
    "linear, batch 8, width 512; factor of the squared gradient, layers 4 to 14; tolerance 1.5 %",
    "1, no explosion",
)
def batch_norm_linear(more: int) -> Finding:
    expected = theory.normalised.linear_batch_factor(8)
    values = _normalised(16 * more, "linear", 8, 512, blocks.BATCH)
    return mean_of(values, expected, 1.0, tolerance=0.015 * expected)


@law(
    "Yang et al. 2019",
    "Layer normalisation keeps a ReLU network's gradient at any sigma_w",
    "ReLU, batch 16, width 512; factor of the squared gradient, layers 4 to 14; tolerance 1.5 %",
    "5 % off",
)
def layer_norm_relu(more: int) -> Finding:
    expected = theory.normalised.layer_norm_factor("relu")
    values = _normalised(16 * more, "relu", 16, 512, blocks.UNITS)
    return mean_of(values, expected, expected * OFF, tolerance=0.015 * expected)


@law(
    "Yang et al. 2019",
    "Layer normalisation explodes a tanh network's gradient by E phi'^2 / E phi^2 = 1.178",
    "tanh, batch 16, width 512; factor of the squared gradient, layers 4 to 14; tolerance 1.5 %",
    "5 % off",
)
def layer_norm_tanh(more: int) -> Finding:
    expected = theory.normalised.layer_norm_factor("tanh")
    values = _normalised(16 * more, "tanh", 16, 512, blocks.UNITS)
    return mean_of(values, expected, expected * OFF, tolerance=0.015 * expected)


@lru_cache(maxsize=4)
def _residual(
    seeds: int, schedule: str, depth: int, activation: str, sigma_w: float
) -> tuple[np.ndarray, np.ndarray]:
    """ln of the growth of the squared gradient and of the squared signal, width 128."""
    found = np.empty((2, seeds))
    for seed in range(seeds):
        x, dr = _ends(seed, 1, 128)
        x /= math.sqrt(np.vdot(x, x) / 128)
        branches = [
            (_weights(seed, 2 * k, 128, sigma_w), _weights(seed, 2 * k + 1, 128))
            for k in range(depth)
        ]
        scales = branch_scales(schedule, depth)
        logs, lengths = blocks.residual_gradients(activation, branches, scales, x, dr)
        found[:, seed] = logs[0] - logs[-1], lengths[-1] - lengths[0]
    return found[0], found[1]


def _he_residual(more: int, schedule: str, depth: int, signal: bool, wrong: float) -> Finding:
    """Growth of an He-ReLU network: E G is exact at any width, and moderate at these depths."""
    found = _residual(40 * more, schedule, depth, "relu", math.sqrt(2))[int(signal)]
    expected = math.exp(growth(branch_scales(schedule, depth)).log_gradient[-1])
    return mean_of(np.exp(found), expected, wrong)


@law(
    "De & Smith 2020",
    "An undamped residual block doubles the signal's variance",
    "x + V relu(W x), He, width 128, 6 blocks; E of the squared signal's growth",
    "3/2 per block",
)
def undamped_signal(more: int) -> Finding:
    return _he_residual(more, "undamped", 6, True, 1.5**6)


@law(
    "De & Smith 2020",
    "and the squared gradient: residual connections alone explode as 2^L",
    "x + V relu(W x), He, width 128, 6 blocks; E of the squared gradient's growth",
    "1, as if the skip path kept gradients",
    "skip connections prevent exploding gradients",
)
def undamped_gradient(more: int) -> Finding:
    return _he_residual(more, "undamped", 6, False, 1.0)


@law(
    "Zhang et al. 2019 (Fixup)",
    "Branches scaled by 1/sqrt L grow the gradient by (1 + 1/L)^L < e at any depth",
    "x + V relu(W x) / sqrt L, He, width 128, 60 blocks; E of the squared gradient's growth",
    "1, no growth",
)
def scaled_by_depth(more: int) -> Finding:
    return _he_residual(more, "1/sqrt(L)", 60, False, 1.0)


@law(
    "De & Smith 2020",
    "Branches scaled by 1/sqrt l, as normalised ones are, grow the gradient as L + 1",
    "x + V relu(W x) / sqrt l, He, width 128, 60 blocks; ln of the growth; tolerance 30/n",
    "the exponential law, ln 2 per block",
)
def normalised_branches(more: int) -> Finding:
    found = _residual(40 * more, "1/sqrt(l)", 60, "relu", math.sqrt(2))[0]
    expected, wrong = (
        float(growth(branch_scales(name, 60)).log_gradient[-1])
        for name in ("1/sqrt(l)", "undamped")
    )
    return mean_of(found, expected, wrong, tolerance=30 / 128)


@law(
    "Hanin & Rolnick 2018",
    "Lengths stay bounded if the squared branch scales have a finite sum: prod (1 + 1/l^2)",
    "x + V relu(W x) / l, He, width 128, 60 blocks; E of the squared signal's growth",
    "L + 1, the law of 1/sqrt l",
)
def summable_branches(more: int) -> Finding:
    return _he_residual(more, "1/l", 60, True, 61.0)


@law(
    "Bachlechner et al. 2020 (ReZero)",
    "Branches that start at 0 make the Jacobian the identity",
    "x + 0 V relu(W x), width 128, 60 blocks; ln of the squared gradient's growth, every network",
    "the growth of 1/L branches",
)
def zero_branches(more: int) -> Finding:
    found = _residual(2 * more, "zero", 60, "relu", math.sqrt(2))[0]
    wrong = float(growth(branch_scales("1/L", 60)).log_gradient[-1])
    expected = float(growth(branch_scales("zero", 60)).log_gradient[-1])
    return every(found, expected, wrong, tolerance=1e-12)


@law(
    "Yang & Schoenholz 2017",
    "Residual tanh networks explode as exp(1.06 sqrt l), neither exponential nor a power law",
    "x + V tanh(W x), sigma_w = sigma_v = 1, width 128, 60 blocks; mean of ln of the squared "
    "gradient's growth; tolerance 3 %",
    "ln 2 per block, the exponential law of ReLU",
)
def residual_tanh(more: int) -> Finding:
    found = _residual(40 * more, "undamped", 60, "tanh", 1.0)[0]
    scales = branch_scales("undamped", 60)
    expected = float(growth(scales, "tanh", sigma_w=1.0).log_gradient[-1])
    wrong = float(growth(scales).log_gradient[-1])
    return mean_of(found, expected, wrong, tolerance=0.03 * expected)


def _overlaps(seeds: int, n: int, depth: int, independent: bool) -> np.ndarray:
    """tr(J1 J2') / n of two inputs in He-ReLU networks: a row a seed, a column a depth.

    That is the mean over cotangents of the inner product of their gradients. ``independent``
    draws the masks of both inputs as fair coins instead, as Balduzzi et al. assume.
    """
    row = activation_row("relu")
    found = np.empty((seeds, depth))
    for seed in range(seeds):
        x = gaussian.normal(gaussian.key(seed, "ends"), 0, (2, n))
        x[1] -= np.vdot(x[0], x[1]) / np.vdot(x[0], x[0]) * x[0]
        jacobians = [np.eye(n), np.eye(n)]
        coins = gaussian.normal(gaussian.key(seed, "coins"), 0, (depth, 2, n))
        for k in range(depth):
            W = _weights(seed, k, n, math.sqrt(2))
            z = x @ W
            masks = row.derivative(coins[k] if independent else z)
            x = row.phi(z)
            jacobians = [J @ W * mask for J, mask in zip(jacobians, masks, strict=True)]
            found[seed, k] = np.vdot(*jacobians) / n
    return found


@law(
    "Balduzzi et al. 2017",
    "If two inputs activate units independently, their gradients' covariance halves per layer",
    "He-ReLU with coin-tossed masks, width 256, depth 5; mean of <g1, g2>",
    "that of real masks, for orthogonal inputs",
)
def shattered_by_coins(more: int) -> Finding:
    values = _overlaps(24 * more, 256, 5, independent=True)[:, -1]
    expected = float(theory.correlation.independent_shattering(5).covariance[-1])
    return mean_of(values, expected, float(theory.correlation.shattering(5).covariance[-1]))


@law(
    "Balduzzi et al. 2017",
    "In a plain bias-free He-ReLU network inputs become collinear: covariance falls as l^-3 only",
    "He-ReLU, orthogonal inputs, width 256, depth 8; mean of <g1, g2>; tolerance 10 L/n, relative",
    "2^-L",
    "gradients of plain ReLU networks shatter as 2^-L",
)
def shattered_by_angles(more: int) -> Finding:
    values = _overlaps(40 * more, 256, 8, independent=False)[:, -1]
    expected = float(theory.correlation.shattering(8).covariance[-1])
    wrong = float(theory.correlation.independent_shattering(8).covariance[-1])
    return mean_of(values, expected, wrong, tolerance=80 / 256 * expected)
