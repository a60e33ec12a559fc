"""Training: gradient descent on the three equations, many small networks at once.

Networks of the same shape are stacked, weights (networks, n_k, n_{k+1}), and differ in their
weights, learning rates and, if wanted, data. Each step is what a plain run does, in plain floats:
forward, cost, equations (1) to (3) of ``backprop``, and the optimiser's step.

A run whose loss or gradient is no longer finite has diverged: that network stops, and is reported
with the step and the weights it had last. The norms of every layer are taken at chosen steps by
`study.backpropagate` on the weights of the moment, so that a gradient that vanished from a plain
run is not recorded as 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.arithmetic.scaled import Array, log10
from study.checks import bad, one_of
from study.core.activations import Activation
from study.core.activations import activation as activation_row
from study.engines.explicit import backpropagate
from study.engines.optimisers import COSTS, OPTIMISERS, Descent, clip_to, norms
from study.sampling import gaussian


class Course(NamedTuple):
    """What happened to the networks, in the order in which they were given; see :func:`train`."""

    networks: pd.DataFrame
    """One row a network: network, status ("ok" or "diverged"), steps (how many it took)."""
    log: pd.DataFrame
    """One row a logged step and network: network, step, loss (of the step's batch), accuracy (share
    of the held-out examples) and log10_weight_norm (Frobenius norm over all weight matrices). A
    diverged network's last row is the step that failed: no loss, no accuracy."""
    layers: pd.DataFrame
    """One row a layered step, network and layer: network, step, the columns of `backpropagate`."""
    losses: Array
    """(steps, networks), of each step's batch; NaN from divergence on."""
    weights: list[Array]
    """(networks, n_k, n_{k+1}), one a layer; of a diverged network, the last it had."""
    biases: list[Array]
    """(networks, n_{k+1}), one a layer, or none."""


class _Stack:
    """Networks side by side: parameters are their weights, layer by layer, then their biases."""

    def __init__(self, parameters: list[Array], rows: list[Activation], kink: float):
        self.parameters, self.rows, self.kink = parameters, rows, kink
        self.depth, self.biased = len(rows), len(parameters) > len(rows)

    def forward(self, x: Array, trace: list | None = None) -> Array:
        """The output r^(depth); the pairs (r^(k), z^(k+1)) go into ``trace``."""
        r = x
        for k, row in enumerate(self.rows):
            z = r @ self.parameters[k]
            if self.biased:
                z += self.parameters[self.depth + k][:, None]
            if trace is not None:
                trace.append((r, z))
            r = row.phi(z)
        return r

    def backward(self, trace: list[tuple[Array, Array]], dr: Array) -> list[Array]:
        """Equations (1) to (3): the gradient of each of the parameters; the trace is used up."""
        found = self.parameters.copy()
        for k in reversed(range(self.depth)):
            r, z = trace.pop()
            delta = dr * self.rows[k].derivative(z, self.kink)
            found[k] = r.swapaxes(-1, -2) @ delta
            if self.biased:
                found[self.depth + k] = delta.sum(axis=1)
            if k > 0:
                dr = delta @ self.parameters[k].swapaxes(-1, -2)
        return found

    def layers(self, i: int, x: Array, dr: Array) -> pd.DataFrame:
        """Every layer of network i, given its dC/dr at the output."""
        own = [p[i] for p in self.parameters]
        return backpropagate(
            own[: self.depth],
            x,
            activation=[row.name for row in self.rows],
            biases=own[self.depth :] or None,
            cotangent=dr,
            kink=self.kink,
        )


def gaussian_weights(
    keys: Sequence[Array], widths: Sequence[int], sigma_w: Sequence[float], dtype: str = "float64"
) -> list[Array]:
    """Weights to start from: (networks, n_k, n_{k+1}), Var W = sigma_w^2 / n_k, one a layer.

    Networks of equal key have equal draws. The output layer has sigma_w = 1 whatever the others'
    scale, so that all networks start with outputs of like size.

    >>> hidden, out = gaussian_weights([gaussian.key(0)] * 2, [50, 50, 3], [1.0, 2.0])
    >>> hidden.shape, float(hidden[1, 0, 0] / hidden[0, 0, 0]), float(out[1, 0, 0] / out[0, 0, 0])
    ((2, 50, 50), 2.0, 1.0)
    """
    weights = []
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        W = gaussian.fill_normals(np.stack(keys), k, np.empty((len(keys), n, m), dtype))
        scale = np.ones(len(keys)) if k == len(widths) - 2 else np.asarray(sigma_w)
        W *= (scale / math.sqrt(n)).astype(dtype)[:, None, None]
        weights.append(W)
    return weights


def train(
    weights: Sequence[Array],
    rates: Sequence[float],
    batch: Callable[[int], tuple[Array, Array]],
    steps: int,
    activation: str | Sequence[str] = "relu",
    biases: Sequence[Array] = (),
    cost: str = "cross_entropy",
    optimiser: str = "sgd",
    clip: float = math.inf,
    kink: float = 1.0,
    held_out: tuple[Array, Array] | None = None,
    logged: Collection[int] = (),
    layered: Collection[int] = (),
) -> Course:
    """Train a stack of networks, in the format of their weights.

    Parameters
    ----------
    weights : sequence of (networks, n_k, n_{k+1}) arrays
        float32 or float64, one a layer; they are not changed.
    rates : (networks,) floats
        Learning rates.
    batch : callable
        From a step, 0 .. steps, to inputs (batch, n_0) and targets (batch, n_depth), or one such
        pair a network, (networks, batch, ...). Targets are one-hot for cross-entropy. The last
        batch is only looked at.
    steps : int
        How many steps to take.
    activation : str or one str a layer
        Cross-entropy wants "linear" last: its softmax is part of the cost.
    biases : sequence of (networks, n_{k+1}) arrays, optional
        Trained too, where given.
    cost : "cross_entropy" or "squared_error"
        The latter is the derivation's 1/2 |r - y|^2. Both are means over the batch.
    optimiser : "sgd", "momentum" or "adam", as in ``descent``
    clip : float
        The largest norm a gradient may have, over all weights and biases of a network.
    kink : float
        phi' at a kink is (1 - kink) * left + kink * right slope.
    held_out : (inputs, classes), optional
        What accuracy is taken on: (examples, n_0) and int (examples,), or one such pair a network.
    logged, layered : collections of int
        Steps, 0 .. steps, before which loss, accuracy and weight norm are recorded; and every
        layer's gradient norm, of the step's batch.

    Examples
    --------
    One linear neuron, C = 1/2 (w x - y)^2 at x = y = 1: the error halves at rate 1/2, and grows
    beyond all bounds at rate 10^6:

    >>> one = np.ones((1, 1))
    >>> course = train([np.zeros((2, 1, 1))], [0.5, 1e6], lambda step: (one, one), 60,
    ...                activation="linear", cost="squared_error")
    >>> course.losses[:3, 0].tolist()
    [0.5, 0.125, 0.03125]
    >>> course.networks.values.tolist()
    [[0, 'ok', 60], [1, 'diverged', 26]]
    """
    count, depth = len(weights[0]), len(weights)
    names = [activation] * depth if isinstance(activation, str) else list(activation)
    rates = np.asarray(rates, np.float64)
    for field, given, wanted in (
        ("activation", len(names), depth),
        ("rates", rates.size, count),
        ("biases", len(biases), depth if len(biases) else 0),
    ):
        if given != wanted:
            raise bad(field, f"{given} values", f"{wanted}")
    cost_of = COSTS[one_of("cost", cost, tuple(COSTS))]
    final = [np.array(p) for p in (*weights, *biases)]
    stack = _Stack([p.copy() for p in final], [activation_row(name) for name in names], kink)
    descent = Descent(one_of("optimiser", optimiser, OPTIMISERS), stack.parameters)
    running, taken = np.arange(count), np.full(count, steps)
    losses, log, frames = np.full((steps, count), np.nan), [], []

    def own(values: Array, shared: int) -> Array:
        return values if values.ndim == shared else values[running]

    def record(step: int, of: Array | slice, loss: Array, accuracy: Array) -> None:
        sizes = log10(*norms([p[of] for p in stack.parameters[:depth]]))
        found = (running[of], loss[of].astype(np.float64), accuracy[of], sizes)
        for network, *rest in zip(*map(np.ndarray.tolist, found), strict=True):
            log.append((network, step, *rest))

    with np.errstate(all="ignore"):  # what a plain run loses is data
        for step in range(steps + 1):
            inputs, y = batch(step)
            trace = []
            loss, dr = cost_of(stack.forward(own(inputs, 2), trace), own(y, 2))
            gradients = stack.backward(trace, dr)
            size = norms(gradients)
            fine = np.isfinite(loss) & np.isfinite(size[0])
            if not fine.all():
                taken[running[~fine]] = step
                record(step, ~fine, *np.full((2, len(fine)), np.nan))
                for whole, p in zip(final, stack.parameters, strict=True):
                    whole[running[~fine]] = p[~fine]
                for arrays in (stack.parameters, gradients, *descent.memory):
                    arrays[:] = [a[fine] for a in arrays]
                running, rates, loss, dr, *size = (
                    a[fine] for a in (running, rates, loss, dr, *size)
                )
            if step in logged:
                accuracy = np.full(len(running), np.nan)
                if held_out is not None:
                    said = stack.forward(own(held_out[0], 2)).argmax(axis=-1)
                    accuracy = (said == own(held_out[1], 1)).mean(axis=-1)
                record(step, slice(None), loss, accuracy)
            if step in layered:
                for i, network in enumerate(running):
                    frame = stack.layers(i, inputs if inputs.ndim == 2 else inputs[network], dr[i])
                    frames.append(frame.assign(network=network, step=step))
            if step == steps or not running.size:
                break
            losses[step, running] = loss
            if clip < math.inf:
                clip_to(clip, gradients, size)
            descent.step(stack.parameters, gradients, rates)
    for whole, p in zip(final, stack.parameters, strict=True):
        whole[running] = p
    networks = np.arange(count)
    status = np.where(np.isin(networks, running), "ok", "diverged")
    return Course(
        pd.DataFrame({"network": networks, "status": status, "steps": taken}),
        pd.DataFrame(log, columns=["network", "step", "loss", "accuracy", "log10_weight_norm"]),
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        losses,
        final[:depth],
        final[depth:],
    )
