"""What the choice of phi' at a kink, ReLU'(0), changes: plain runs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.arithmetic.formats import Format, quietly
from study.arithmetic.rounded import Rounded, rounded_layers
from study.core.activations import Array
from study.core.backprop import BackStep, Step, backward, forward, weight_gradient
from study.core.blocks import Dense


def zeros(trace: Sequence[Step]) -> int:
    """How many pre-activations are exactly 0, where ReLU has its kink."""
    return sum(int(np.count_nonzero(step.z.value == 0)) for step in trace)


def with_kink(trace: Sequence[Step], dr: Rounded, kink: float) -> list[BackStep]:
    """The steps down, from the output on, with that phi' at a kink."""
    turned = [
        step._replace(layer=Dense(step.layer.W, step.layer.activation, kink=kink)) for step in trace
    ]
    return list(backward(turned, dr))


@quietly
def differences(trace: Sequence[Step], dr: Rounded, kinks: Sequence[float]) -> tuple[float, float]:
    """How far dC/dW, and dC/dz of every example, are from those of the last of ``kinks``.

    Parameters
    ----------
    trace : of a run whose gradients are compared
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
    >>> one = Rounded(np.ones((1, 1)), FORMATS["float64"])
    >>> trace, _ = forward(rounded_layers([np.zeros((1, 1))], "relu", one.number), one)
    >>> differences(trace, one, [0.0, 1.0]), differences(trace, one, [0.5, 1.0])
    ((1.0, 1.0), (0.5, 0.5))
    """
    deltas, gradients = [], []
    for kink in kinks:
        steps = with_kink(trace, dr, kink)
        deltas.append([step.delta.value for step in steps])
        gradients.append([weight_gradient(step.r, step.delta).value for step in steps])
    of_weights = max(apart(other, gradients[-1]) for other in gradients[:-1])
    return of_weights, max(apart(other, deltas[-1]) for other in deltas[:-1])


def apart(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """The largest difference over the layer's largest entry; the largest of all layers."""
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        gap = float(np.abs(a - b).max())
        if gap > 0:
            largest = max(largest, gap / float(np.abs([a, b]).max()))
    return largest


@dataclass
class Descent:
    """Where gradient descent with one choice has come to."""

    weights: list[Array]
    zeros: int = 0
    """Pre-activations of all hidden layers and steps that were exactly 0."""
    parted: float = np.inf
    """The first step after which a weight is not what it is with the last choice."""

    @quietly
    def step(self, x: Rounded, y: Array, activations: Sequence[str], kink: float, rate: float):
        """A step of gradient descent on the batch mean of half the squared error."""
        trace, r = forward(rounded_layers(self.weights, activations, x.number, kink), x)
        self.zeros += zeros(trace[:-1])
        dr = Rounded((r.value - x.number.rounded(y)) / len(y), x.number)
        moved = [
            step.layer.W - weight_gradient(step.r, step.delta) * rate
            for step in backward(trace, dr)
        ]
        self.weights = [W.value for W in reversed(moved)]


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
    batches : inputs (batch, n_0) and targets (batch, n_depth) of each step
    activations : one a layer; of the last, zeros are not counted
    number : format of everything
    kinks : the choices; the others are compared with the last
    rate : learning rate
    """
    descents = {kink: Descent(list(start)) for kink in kinks}
    reference = descents[kinks[-1]]
    for step, (x, y) in enumerate(batches, start=1):
        for kink, descent in descents.items():
            descent.step(Rounded(x, number), y, activations, kink, rate)
        for descent in descents.values():
            if not all(map(np.array_equal, descent.weights, reference.weights)):
                descent.parted = min(descent.parted, float(step))
    return descents
