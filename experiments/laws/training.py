"""The law of trainable depth, 6 xi_c: small training runs (Schoenholz et al. 2017)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from experiments.laws.law import FIRST_SEED, Finding, every, law
from study import theory
from study.engines.training import gaussian_weights, train
from study.sampling import gaussian

CLASSES, EXAMPLES, WIDTH = 4, 128, 64

FIRST = FIRST_SEED + 2_000
"""The first seed that judges here: budgets and depths were chosen on those before."""


class Budget(NamedTuple):
    """Full-batch steps, and the learning rates of which the best counts, with momentum 0.9."""

    steps: int
    rates: tuple[float, ...]

    def __str__(self) -> str:
        rates = " and ".join(map(str, self.rates))
        return (
            f"width {WIDTH}, {EXAMPLES} points in {CLASSES} Gaussian clusters, {self.steps} "
            f"full-batch steps with momentum, the better of the learning rates {rates}; accuracy "
            "of every network, 0 if all its runs diverge; tolerance 0.2"
        )


SHORT = Budget(120, (0.1, 0.01))
LONG = Budget(200, (0.01, 0.003))  # what is deep, and ReLU, want more and smaller steps


def _accuracies(
    activation: str, sigma_w: float, sigma_b: float, layers: int, seeds: int, budget: Budget
) -> np.ndarray:
    """Share of Gaussian clusters' points told apart after full-batch training, one a seed."""
    keys = [gaussian.key(FIRST + seed, "training") for seed in range(seeds)]
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
    count = len(budget.rates)
    x, *biases = (np.repeat(a, count, axis=0) for a in (x, *biases))
    keys = [key for key in keys for _ in range(count)]
    y = np.eye(CLASSES)[classes]
    course = train(
        gaussian_weights(keys, [WIDTH] * (layers + 1) + [CLASSES], [sigma_w] * len(keys)),
        budget.rates * seeds,
        lambda step: (x, y),
        budget.steps,
        [activation] * layers + ["linear"],
        biases,
        optimiser="momentum",
        held_out=(x, classes),
        logged=[budget.steps],
    )
    found = np.zeros(len(keys))
    done = course.log[course.log.step == budget.steps]
    found[done.network] = done.accuracy
    return found.reshape(seeds, count).max(axis=1)


def _trained(
    more: int,
    activation: str,
    sigma_w: float,
    layers: int,
    sigma_b: float = 0.0,
    budget: Budget = SHORT,
) -> Finding:
    """Accuracy against 1 where layers < 6 xi and chance where not; tolerance 0.2.

    xi is xi_grad in the ordered phase, where xi_c is equal to it or, when q goes to 0, infinite.
    """
    accuracies = _accuracies(activation, sigma_w, sigma_b, layers, 1 + more // 2, budget)
    field = theory.mean_field(activation, sigma_w, sigma_b)
    trains = layers < 6 * (field.xi_grad if field.phase == "ordered" else field.xi_c)
    right, wrong = (1.0, 1 / CLASSES) if trains else (1 / CLASSES, 1.0)
    return every(accuracies, right, wrong, tolerance=0.2)


SIGMA_B = 0.05**0.5


@law(
    "Schoenholz et al. 2017",
    "A critical tanh network trains at any depth: xi_c is infinite",
    f"tanh, sigma_b^2 = 0.05, critical sigma_w, 30 layers, {SHORT}",
    "chance",
)
def critical_trains(more: int) -> Finding:
    return _trained(more, "tanh", theory.critical_sigma_w("tanh", SIGMA_B), 30, SIGMA_B)


@law(
    "Schoenholz et al. 2017",
    "A critical tanh network trains at any depth, here about its width",
    f"tanh, sigma_b^2 = 0.05, critical sigma_w, 60 layers, {LONG}",
    "chance",
)
def deep_critical_trains(more: int) -> Finding:
    return _trained(more, "tanh", theory.critical_sigma_w("tanh", SIGMA_B), 60, SIGMA_B, LONG)


@law(
    "Schoenholz et al. 2017",
    "An ordered network shallower than 6 xi_c trains",
    f"tanh, sigma_w^2 = 1.2, sigma_b^2 = 0.05, 20 layers (6 xi_c = 36), {SHORT}",
    "chance",
)
def ordered_within_reach_trains(more: int) -> Finding:
    return _trained(more, "tanh", 1.2**0.5, 20, SIGMA_B)


@law(
    "Schoenholz et al. 2017",
    "A network deeper than 6 xi_c does not train",
    f"sigmoid, sigma_w = 4, 20 layers (6 xi_c = 6.5), {SHORT}",
    "accuracy 1",
)
def ordered_does_not_train(more: int) -> Finding:
    return _trained(more, "sigmoid", 4.0, 20)


@law(
    "Schoenholz et al. 2017",
    "The same network trains when it is shallower than 6 xi_c",
    f"sigmoid, sigma_w = 4, 5 layers (6 xi_c = 6.5), {SHORT}",
    "chance",
)
def shallow_ordered_trains(more: int) -> Finding:
    return _trained(more, "sigmoid", 4.0, 5)


@law(
    "Schoenholz et al. 2017",
    "It is the scale and not the sigmoid: at its critical scale it trains",
    f"sigmoid, critical sigma_w, 10 layers, {SHORT}",
    "chance",
    "deep sigmoid networks cannot be trained",
)
def critical_sigmoid_trains(more: int) -> Finding:
    return _trained(more, "sigmoid", theory.critical_sigma_w("sigmoid"), 10)


@law(
    "He et al. 2015",
    "ReLU trains from the scale that keeps its signal",
    f"ReLU, sigma_w^2 = 2, 20 layers, {LONG}",
    "chance",
)
def he_relu_trains(more: int) -> Finding:
    return _trained(more, "relu", theory.critical_sigma_w("relu"), 20, budget=LONG)


@law(
    "He et al. 2015",
    "ReLU does not train from half He's variance: signal and gradient vanish, 6 xi_grad = 8.7",
    f"ReLU, sigma_w^2 = 1, 60 layers, {SHORT}",
    "accuracy 1",
    "ReLU does not let gradients vanish",
)
def small_relu_does_not_train(more: int) -> Finding:
    return _trained(more, "relu", 1.0, 60)


@law(
    "He et al. 2015",
    "ReLU diverges from twice He's variance, in every run",
    f"ReLU, sigma_w^2 = 4, 40 layers, {SHORT}",
    "chance",
)
def large_relu_diverges(more: int) -> Finding:
    accuracies = _accuracies("relu", 2.0, 0.0, 40, 1 + more // 2, SHORT)
    return every(accuracies, 0.0, 1 / CLASSES, tolerance=0.0)
