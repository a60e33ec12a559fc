"""What the choice of phi' at a kink, ReLU'(0), changes: plain runs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.arithmetic.formats import Format
from study.arithmetic.plain import PlainRun
from study.core.activations import Array


def zeros(z: Sequence[Array]) -> int:
    """How many pre-activations are exactly 0, where ReLU has its kink."""
    return sum(int(np.count_nonzero(one == 0)) for one in z)


def differences(run: PlainRun, dr: Array, kinks: Sequence[float]) -> tuple[float, float]:
    """How far dC/dW, and dC/dz of every example, are from those of the last of ``kinks``.

    Parameters
    ----------
    run : whose gradients are compared
    dr : dC/dr at the output
    kinks : values of phi' at a kink, two or more

    Returns
    -------
    Two numbers from 0 to 2: the largest difference of an entry over the largest entry of the layer
    in either, the largest of all layers and of all other kinks.

    Examples
    --------
    A ReLU unit at 0: its weight learns where there is an input, if anything comes down to it.

    >>> from study.arithmetic.formats import FORMATS
    >>> run = PlainRun([np.zeros((1, 1))], np.ones((1, 1)), "relu", FORMATS["float64"])
    >>> differences(run, np.ones((1, 1)), [0.0, 1.0]), differences(run, np.ones((1, 1)), [0.5, 1.0])
    ((1.0, 1.0), (0.5, 0.5))
    """
    deltas = [run.backward(dr, kink) for kink in kinks]
    gradients = [[run.gradient(k, d) for k, d in enumerate(own)] for own in deltas]
    of_weights, of_deltas = (
        max(apart(own, last) for own in others) for *others, last in (gradients, deltas)
    )
    return of_weights, of_deltas


def apart(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """The largest difference over the layer's largest entry; the largest of all layers."""
    pairs = [(np.abs(a - b).max(), np.abs([a, b]).max()) for a, b in zip(ours, theirs, strict=True)]
    return max(float(gap) / float(top) if gap > 0 else 0.0 for gap, top in pairs)


@dataclass
class Descent:
    """Where gradient descent with one choice has come to."""

    weights: list[Array]
    zeros: int = 0
    """Pre-activations of all hidden layers and steps that were exactly 0."""
    parted: float = np.inf
    """The first step after which a weight is not what it is with the last choice."""


def descend(
    start: Sequence[Array],
    batches: Sequence[tuple[Array, Array]],
    activations: Sequence[str],
    number: Format,
    kinks: Sequence[float],
    rate: float,
) -> dict[float, Descent]:
    """Gradient descent from the same weights on the same batches, for each phi' at a kink.

    Parameters
    ----------
    start : weights, (n_k, n_{k+1}) arrays
    batches : inputs (batch, n_0) and targets (batch, n_depth) of each step; the cost is the mean
        over the batch of half the squared error
    activations : one a layer; of the last, zeros are not counted
    number : format of everything
    kinks : the choices; the others are compared with the last
    rate : learning rate
    """
    found = {kink: Descent(list(start)) for kink in kinks}
    for step, (x, y) in enumerate(batches, start=1):
        for kink, own in found.items():
            run = PlainRun(own.weights, x, activations, number)
            dr = (run.r[-1] - number.rounded(y)) / len(x)
            own.weights = run.stepped(run.backward(dr, kink), rate)
            own.zeros += zeros(run.z[:-1])
        for own in found.values():
            if not all(map(np.array_equal, own.weights, found[kinks[-1]].weights)):
                own.parted = min(own.parted, float(step))
    return found
