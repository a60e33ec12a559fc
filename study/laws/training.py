"""The law of trainable depth: a small training run (Schoenholz), with its own NumPy."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from study import gaussian, theory
from study.activations import activation as activation_row
from study.laws.law import Finding, every, law

CLASSES, EXAMPLES, WIDTH = 4, 128, 64
STEPS, MOMENTUM = 120, 0.9
RATES = (0.1, 0.01)
"""The better of these learning rates counts."""


@lru_cache(maxsize=8)
def _accuracy(
    activation: str, sigma_w: float, sigma_b: float, depth: int, seed: int, rate: float
) -> float:
    """Share of Gaussian clusters' points told apart after full-batch gradient descent."""
    row, key = activation_row(activation), gaussian.key(seed, "training")
    centres = gaussian.normal(key, depth + 1, (CLASSES, WIDTH))
    labels = np.arange(EXAMPLES) % CLASSES
    x = centres[labels] + 0.5 * gaussian.normal(key, depth + 2, (EXAMPLES, WIDTH))
    x /= math.sqrt(np.mean(x**2))
    sizes = [WIDTH] * (depth + 1) + [CLASSES]
    weights, biases = [], []
    for k in range(depth + 1):
        scale = (sigma_w if k < depth else 1.0) / math.sqrt(WIDTH)
        weights.append(scale * gaussian.normal(key, k, (WIDTH, sizes[k + 1])))
        biases.append(sigma_b * gaussian.normal(key, depth + 3 + k, (sizes[k + 1],)))
    speeds = [np.zeros_like(p) for p in weights + biases]
    target = np.eye(CLASSES)[labels]
    for _ in range(STEPS):
        r, trace = x, []
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            z = r @ W + b
            trace.append((r, z))
            r = row.phi(z)
        out = r @ weights[-1] + biases[-1]
        out = np.exp(np.maximum(out - out.max(axis=1, keepdims=True), -500))
        delta = (out / out.sum(axis=1, keepdims=True) - target) / EXAMPLES
        steps_w, steps_b = [r.T @ delta], [delta.sum(axis=0)]
        dr = delta @ weights[-1].T
        for W, (r_k, z) in zip(weights[-2::-1], reversed(trace), strict=True):
            delta = dr * row.derivative(z)
            steps_w.append(r_k.T @ delta)
            steps_b.append(delta.sum(axis=0))
            dr = delta @ W.T
        gradients = steps_w[::-1] + steps_b[::-1]
        for p, speed, g in zip(weights + biases, speeds, gradients, strict=True):
            speed *= MOMENTUM
            speed -= rate * g
            p += speed
    r = x
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        r = row.phi(r @ W + b)
    return float(np.mean(np.argmax(r @ weights[-1] + biases[-1], axis=1) == labels))


def _trained(
    more: int, activation: str, sigma_w: float, depth: int, sigma_b: float = 0.0
) -> Finding:
    """Accuracy against 1 where depth < 6 xi_c and chance where it is not; tolerance 0.2."""
    with np.errstate(under="ignore"):  # a vanished gradient is the point here
        accuracies = [
            max(_accuracy(activation, sigma_w, sigma_b, depth, seed, rate) for rate in RATES)
            for seed in range(1 + more // 2)
        ]
    trains = depth < 6 * theory.mean_field(activation, sigma_w, sigma_b).xi_c
    right, wrong = (1.0, 1 / CLASSES) if trains else (1 / CLASSES, 1.0)
    return every(accuracies, right, wrong, tolerance=0.2)


_SETTING = (
    "width 64, 128 points in 4 Gaussian clusters, 120 full-batch steps with momentum, the better "
    "of 2 learning rates; accuracy of every network; tolerance 0.2"
)


@law(
    "Schoenholz et al. 2017",
    "A critical tanh network trains at any depth: xi_c is infinite",
    f"tanh, sigma_b^2 = 0.05, critical sigma_w, 30 layers, {_SETTING}",
    "chance",
)
def critical_trains(more: int) -> Finding:
    sigma_b = 0.05**0.5
    return _trained(more, "tanh", theory.critical_sigma_w("tanh", sigma_b), 30, sigma_b)


@law(
    "Schoenholz et al. 2017",
    "A network deeper than 6 xi_c does not train",
    f"sigmoid, sigma_w = 4, 20 layers (6 xi_c = 6.5), {_SETTING}",
    "accuracy 1",
)
def ordered_does_not_train(more: int) -> Finding:
    return _trained(more, "sigmoid", 4.0, 20)


@law(
    "Schoenholz et al. 2017",
    "It is the scale and not the sigmoid: at its critical scale it trains",
    f"sigmoid, critical sigma_w, 10 layers, {_SETTING}",
    "chance",
    "deep sigmoid networks cannot be trained",
)
def critical_sigmoid_trains(more: int) -> Finding:
    return _trained(more, "sigmoid", theory.critical_sigma_w("sigmoid"), 10)
