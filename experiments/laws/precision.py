"""Laws of number formats and of ReLU'(0): Bertoin."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.chains import SQUARE
from experiments.laws.law import OFF, Finding, every, law, mean_of, seeds, share_of
from study import theory
from study.engines.explicit import backpropagate
from study.sampling import gaussian
from study.theory.rounding import cancellation, underflow

PRODUCTS = 10
"""Terms of a dot product."""

SMALL = 2.0**-12
"""Scale of the pre-activations that mixed precision is tried on."""

_BLOCK = 500_000  # dot products a seed


def _below_dead(count: int, kink: float) -> np.ndarray:
    """ln of the squared gradient's growth through 20 He layers above a dead one; -inf if zero."""
    found = np.empty(count)
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "dead layer")
        weights = [gaussian.normal(key, k, (64, 64)) * math.sqrt(2 / 64) for k in range(21)]
        weights[0] = -np.abs(weights[0])
        inputs = np.abs(gaussian.normal(key, 21, (1, 64)))
        cotangent = gaussian.normal(key, 22, (1, 64))
        cotangent /= np.linalg.norm(cotangent)
        df = backpropagate(weights, inputs, activation="relu", cotangent=cotangent, kink=kink)
        # Weight gradients are 0 there either way, as r is: dC/dr tells the two apart.
        delta, step = df["log10_delta_norm"][1], df["log10_weight_factor"][1]
        found[i] = SQUARE * (delta + step) if delta > -math.inf else -math.inf
    return found


@law(
    "Bertoin et al. 2021",
    "Above a dead layer without bias all z are 0: ReLU'(0) = 1 makes the rest a linear network, "
    "whose squared gradient doubles per layer",
    "ReLU, sigma_w^2 = 2, ReLU'(0) = 1, width 64, 20 layers above a dead one; mean of ln G",
    "5 % off",
    "the choice of ReLU'(0) never matters",
)
def relu_slope_one(more: int) -> Finding:
    exact = theory.finite_width.backward_law([64] * 21, "linear", sigma_w=math.sqrt(2)).mean
    return mean_of(_below_dead(250 * more, 1.0), exact, OFF * exact)


@law(
    "Bertoin et al. 2021",
    "Above a dead layer without bias ReLU'(0) = 0 makes every gradient a true zero",
    "ReLU, sigma_w^2 = 2, ReLU'(0) = 0, width 64, 20 layers above a dead one; G, every network",
    "2^20, that of ReLU'(0) = 1",
)
def relu_slope_zero(more: int) -> Finding:
    found = np.exp(_below_dead(5 * more, 0.0))
    wrong = theory.gradient_factor("linear", 1.0, math.sqrt(2)) ** 20
    return every(found, 0.0, wrong, tolerance=0.0)


@lru_cache(maxsize=4)
def _zeros(blocks: int, accumulated: str, stored: str, scale: float = 1.0) -> int:
    """How many of ``blocks`` times `_BLOCK` dot products of normals are exactly 0."""
    count = 0
    for seed in seeds(blocks):
        key = gaussian.key(seed, "dot products")
        total = np.zeros(_BLOCK, accumulated)
        drawn = np.float64 if accumulated == "float64" else np.float32
        for k in range(PRODUCTS):
            a, w = gaussian.normal(key, k, (2, _BLOCK), drawn)
            w *= drawn(scale / math.sqrt(PRODUCTS))
            total += (a * w).astype(accumulated)
        count += int(np.count_nonzero(total.astype(stored) == 0))
    return count


def _share(more: int, accumulated: str, stored: str, expected: float, wrong: float) -> Finding:
    blocks = 8 * more
    with np.errstate(under="ignore"):  # z that is stored as 0 is the point here
        count = _zeros(blocks, accumulated, stored, SMALL if accumulated != stored else 1.0)
    return share_of(count, blocks * _BLOCK, expected, wrong)


@law(
    "Bertoin et al. 2021",
    "In float16 random pre-activations are exactly 0 as often as a sum and a product cancel: the "
    "integral of their densities times the spacing of the numbers",
    "dot products of 10 normals, each product and sum rounded to float16; share exactly 0",
    "half of it: a significand of one bit more",
)
def half_precision_zeros(more: int) -> Finding:
    expected = cancellation(PRODUCTS, "float16")
    return _share(more, "float16", "float16", expected, expected / 2)


@law(
    "Bertoin et al. 2021",
    "In float32 random pre-activations are exactly 0 once in 10^8: zeros come from structure (dead "
    "layers, padding), or from billions of units",
    "dot products of 10 normals, each product and sum rounded to float32; share exactly 0",
    "the share in float16",
)
def single_precision_zeros(more: int) -> Finding:
    expected, wrong = (cancellation(PRODUCTS, name) for name in ("float32", "float16"))
    return _share(more, "float32", "float32", expected, wrong)


@law(
    "Bertoin et al. 2021",
    "In float64 random pre-activations are never exactly 0, so ReLU'(0) is not met",
    "dot products of 10 normals, each product and sum rounded to float64; share exactly 0",
    "the share in float16",
)
def double_precision_zeros(more: int) -> Finding:
    expected, wrong = (cancellation(PRODUCTS, name) for name in ("float64", "float16"))
    return _share(more, "float64", "float64", expected, wrong)


@law(
    "Bertoin et al. 2021",
    "In mixed precision z is exactly 0 only where it underflows: the rarer, the larger its scale",
    "dot products of 10 normals of scale 2^-12, summed in float32 and stored in float16; share "
    "exactly 0",
    "twice of it: truncation in place of rounding",
)
def mixed_precision_zeros(more: int) -> Finding:
    expected = underflow(PRODUCTS, "float16", SMALL)
    return _share(more, "float32", "float16", expected, 2 * expected)
