"""The law of trainable depth, 6 xi_c: small training runs (Schoenholz et al. 2017)."""

import math
from typing import NamedTuple

import numpy as np

from experiments.laws.law import FIRST_SEED, Finding, every
from experiments.laws.walks import HE
from study import theory
from study.engines.training import gaussian_weights, train
from study.sampling import gaussian

CLASSES = 4
EXAMPLES = 128
WIDTH = 64
SIGMA_B = 0.05**0.5

FIRST = FIRST_SEED + 2_000
"""The first seed that judges here: budgets and depths were chosen on those before."""


class Budget(NamedTuple):
    """Full-batch steps, and the learning rates of which the best counts, with momentum 0.9."""

    steps: int
    rates: tuple[float, ...]


SHORT = Budget(120, (0.1, 0.01))
LONG = Budget(200, (0.01, 0.003))  # what is deep, and ReLU, want more and smaller steps


class Draw(NamedTuple):
    """What a seed decides beyond the weights."""

    key: int
    x: np.ndarray
    biases: list[np.ndarray]


def _draw(seed: int, layers: int, sigma_b: float) -> Draw:
    key = gaussian.key(FIRST + seed, "training")
    centres = gaussian.normal(key, layers + 1, (CLASSES, WIDTH))
    x = np.tile(centres, (EXAMPLES // CLASSES, 1))
    x += 0.5 * gaussian.normal(key, layers + 2, (EXAMPLES, WIDTH))
    x /= math.sqrt(np.mean(x**2))
    widths = [WIDTH] * layers + [CLASSES]
    biases = [sigma_b * gaussian.normal(key, layers + 3 + k, (n,)) for k, n in enumerate(widths)]
    return Draw(key, x, biases)


def _accuracies(
    activation: str, sigma_w: float, sigma_b: float, layers: int, seeds: int, budget: Budget
) -> np.ndarray:
    """Share of Gaussian clusters' points told apart after full-batch training, one a seed."""
    # One network a seed and rate, the rates of a seed side by side.
    draws = [_draw(seed, layers, sigma_b) for seed in range(seeds) for _ in budget.rates]
    x = np.stack([draw.x for draw in draws])
    classes = np.arange(EXAMPLES) % CLASSES
    y = np.eye(CLASSES)[classes]
    widths = [WIDTH] * (layers + 1) + [CLASSES]
    course = train(
        gaussian_weights([draw.key for draw in draws], widths, [sigma_w] * len(draws)),
        budget.rates * seeds,
        lambda step: (x, y),
        budget.steps,
        [activation] * layers + ["linear"],
        [np.stack(layer) for layer in zip(*(draw.biases for draw in draws), strict=True)],
        optimiser="momentum",
        held_out=(x, classes),
        logged=[budget.steps],
    )
    accuracies = np.zeros(len(draws))  # that of runs which diverge
    done = course.log[course.log.step == budget.steps]
    accuracies[done.network] = done.accuracy
    return accuracies.reshape(seeds, len(budget.rates)).max(axis=1)


def _trained(
    factor: int,
    activation: str,
    layers: int,
    sigma_w: float | None = None,
    sigma_b: float = 0.0,
    budget: Budget = SHORT,
) -> Finding:
    """Accuracy against 1 where layers < 6 xi and chance where not; sigma_w critical if not given.

    xi is xi_grad in the ordered phase, where xi_c is equal to it or, when q goes to 0, infinite.
    """
    if sigma_w is None:
        sigma_w = theory.critical_sigma_w(activation, sigma_b)
    accuracies = _accuracies(activation, sigma_w, sigma_b, layers, 1 + factor // 2, budget)
    field = theory.mean_field(activation, sigma_w, sigma_b)
    xi = field.xi_grad if field.phase == "ordered" else field.xi_c
    if layers < 6 * xi:
        return every(accuracies, 1.0, 1 / CLASSES, tolerance=0.2)
    return every(accuracies, 1 / CLASSES, 1.0, tolerance=0.2)


def _diverges(factor: int) -> Finding:
    accuracies = _accuracies("relu", 2.0, 0.0, 40, 1 + factor // 2, SHORT)
    return every(accuracies, 0.0, 1 / CLASSES, tolerance=0.0)


MEASURES = {
    "critical trains": lambda factor: _trained(factor, "tanh", 30, None, SIGMA_B),
    "deep critical trains": lambda factor: _trained(factor, "tanh", 60, None, SIGMA_B, LONG),
    "ordered within reach trains": lambda factor: _trained(factor, "tanh", 20, 1.2**0.5, SIGMA_B),
    "ordered does not train": lambda factor: _trained(factor, "sigmoid", 20, 4.0),
    "shallow ordered trains": lambda factor: _trained(factor, "sigmoid", 5, 4.0),
    "critical sigmoid trains": lambda factor: _trained(factor, "sigmoid", 10),
    "he relu trains": lambda factor: _trained(factor, "relu", 20, HE, budget=LONG),
    "small relu does not train": lambda factor: _trained(factor, "relu", 60, 1.0),
    "large relu diverges": _diverges,
}
