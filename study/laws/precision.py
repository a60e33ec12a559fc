"""Laws of number formats, of ReLU'(0) and of clipping: Bertoin, Pascanu."""

from __future__ import annotations

import math

import numpy as np

from study import gaussian, theory
from study.backprop import backpropagate
from study.laws.chains import SQUARE
from study.laws.law import OFF, Finding, every, law, mean_of, share_of


def _below_dead(seeds: int, kink: float) -> np.ndarray:
    """ln of the squared gradient's growth over 20 He layers above a dead one; -inf if zero."""
    found = np.empty(seeds)
    for seed in range(seeds):
        key = gaussian.key(seed, "dead layer")
        weights = [gaussian.normal(key, k, (64, 64)) * math.sqrt(2 / 64) for k in range(21)]
        weights[0] = -np.abs(weights[0])
        inputs = np.abs(gaussian.normal(key, 21, (1, 64)))
        cotangent = gaussian.normal(key, 22, (1, 64))
        cotangent /= np.linalg.norm(cotangent)
        df = backpropagate(weights, inputs, activation="relu", cotangent=cotangent, kink=kink)
        # Weight gradients are 0 there either way, as r is: dC/dr tells the two apart.
        delta, step = df["log10_delta_norm"][1], df["log10_weight_factor"][1]
        found[seed] = SQUARE * (delta + step) if delta > -math.inf else -math.inf
    return found


@law(
    "Bertoin et al. 2021",
    "Above a dead layer all z are 0; ReLU'(0) = 1 makes the rest a linear network that doubles "
    "the squared gradient per layer",
    "ReLU, sigma_w^2 = 2, ReLU'(0) = 1, width 64, 20 layers above a dead one; mean of ln G",
    "5 % off",
    "the choice of ReLU'(0) does not matter",
)
def relu_slope_one(more: int) -> Finding:
    exact = theory.finite_width.backward_law([64] * 21, "linear", sigma_w=math.sqrt(2)).mean
    return mean_of(_below_dead(250 * more, 1.0), exact, OFF * exact)


@law(
    "Bertoin et al. 2021",
    "and ReLU'(0) = 0 makes every gradient there a true zero",
    "ReLU, sigma_w^2 = 2, ReLU'(0) = 0, width 64, 20 layers above a dead one; G, every network",
    "the 2^20 of ReLU'(0) = 1",
)
def relu_slope_zero(more: int) -> Finding:
    with np.errstate(under="ignore"):
        found = np.exp(_below_dead(5 * more, 0.0))
    wrong = theory.gradient_factor("linear", 1.0, math.sqrt(2)) ** 20
    return every(found, 0.0, wrong, tolerance=0.0)


def _zeros(dtype: type, dots: int) -> int:
    """How many dot products of 10 normals, accumulated in that format, are exactly 0."""
    rng = np.random.default_rng(16)
    total = np.zeros(dots, dtype)
    for _ in range(10):
        a = rng.standard_normal(dots, np.float32) * np.float32(0.1**0.5)
        total += (a * rng.standard_normal(dots, np.float32)).astype(dtype)
    return int(np.count_nonzero(total == 0))


@law(
    "Bertoin et al. 2021",
    "Random pre-activations are never exactly 0 in float64, so ReLU'(0) is not met",
    "dot products of 10 normals, 1 million of them or more; share that is exactly 0",
    "the share in float16, measured on the same draws",
)
def exact_zeros(more: int) -> Finding:
    dots = 1_000_000 * min(more, 2)
    with np.errstate(under="ignore"):
        half = _zeros(np.float16, dots)
    return share_of(_zeros(np.float64, dots), dots, 0.0, half / dots)


@law(
    "Pascanu et al. 2013",
    "Clipping the global norm keeps the ratios of the layers' gradients: it cannot cure vanishing",
    "ReLU, sigma_w^2 = 4, width 32, depth 20, clipped to norm 1; largest change of ln of the "
    "first over the last layer's norm",
    "what clipping each layer by itself changes: 19 layers of ln chi / 2 to none, 5 % of it",
    "clipping equalises the layers",
)
def clipping(more: int) -> Finding:
    changes = []
    for seed in range(5 * more):
        key = gaussian.key(seed, "clipping")
        r = gaussian.normal(key, 20, (1, 32))
        walked = []
        for k in range(20):
            W = gaussian.normal(key, k, (32, 32)) * math.sqrt(4 / 32)
            walked.append((W, r, r @ W))
            r = np.maximum(walked[-1][2], 0)
        dr, gradients = gaussian.normal(key, 21, (1, 32)), []
        for W, r_k, z in reversed(walked):
            delta = dr * (z > 0)
            gradients.append(r_k.T @ delta)
            dr = delta @ W.T
        total = math.sqrt(sum(np.vdot(g, g) for g in gradients))
        clipped = [g * min(1.0, 1.0 / total) for g in gradients]
        before, after = (
            math.log(np.linalg.norm(gs[-1]) / np.linalg.norm(gs[0])) for gs in (gradients, clipped)
        )
        changes.append(abs(after - before))
    wrong = 0.05 * 19 * math.log(theory.mean_field("relu", 2.0).chi) / 2
    return every(changes, 0.0, wrong, tolerance=1e-12)
