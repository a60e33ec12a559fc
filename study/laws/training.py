"""The law of trainable depth, 6 xi_c: small training runs (Schoenholz et al. 2017)."""

from __future__ import annotations

import math

import numpy as np

from study import gaussian, theory
from study.laws.law import FIRST_SEED, Finding, every, law
from study.training import gaussian_weights, train

CLASSES, EXAMPLES, WIDTH, STEPS = 4, 128, 64, 200
RATES = (0.1, 0.01, 0.003)
"""The best of these learning rates counts; a run that diverged has accuracy 0."""


def _accuracies(
    activation: str, sigma_w: float, sigma_b: float, layers: int, seeds: int
) -> np.ndarray:
    """Share of Gaussian clusters' points told apart after full-batch training, one a seed."""
    keys = [gaussian.key(FIRST_SEED + seed, "training") for seed in range(seeds)]
    classes = np.arange(EXAMPLES) % CLASSES
    x = np.empty((seeds, EXAMPLES, WIDTH))
    biases = [np.empty((seeds, n)) for n in [WIDTH] * layers + [CLASSES]]
    for i, key in enumerate(keys):
        centres = gaussian.normal(key, layers + 1, (CLASSES, WIDTH))
        x[i] = centres[classes] + 0.5 * gaussian.normal(key, layers + 2, (EXAMPLES, WIDTH))
        x[i] /= math.sqrt(np.mean(x[i] ** 2))
        for k, b in enumerate(biases):
            gaussian.fill_normal(key, layers + 3 + k, b[i])
            b[i] *= sigma_b
    # One network a seed and rate, the rates of a seed side by side.
    x, *biases = (np.repeat(a, len(RATES), axis=0) for a in (x, *biases))
    keys = [key for key in keys for _ in RATES]
    y = np.eye(CLASSES)[classes]
    course = train(
        gaussian_weights(keys, [WIDTH] * (layers + 1) + [CLASSES], [sigma_w] * len(keys)),
        RATES * seeds,
        lambda step: (x, y),
        STEPS,
        [activation] * layers + ["linear"],
        biases,
        optimiser="momentum",
        held_out=(x, classes),
        logged=[STEPS],
    )
    found = np.zeros(len(keys))
    done = course.log[course.log.step == STEPS]
    found[done.network] = done.accuracy
    return found.reshape(seeds, len(RATES)).max(axis=1)


def _trained(
    more: int, activation: str, sigma_w: float, layers: int, sigma_b: float = 0.0
) -> Finding:
    """Accuracy against 1 where layers < 6 xi_c and chance where not; tolerance 0.2."""
    accuracies = _accuracies(activation, sigma_w, sigma_b, layers, 1 + more // 2)
    trains = layers < 6 * theory.mean_field(activation, sigma_w, sigma_b).xi_c
    right, wrong = (1.0, 1 / CLASSES) if trains else (1 / CLASSES, 1.0)
    return every(accuracies, right, wrong, tolerance=0.2)
