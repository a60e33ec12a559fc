"""Training: gradient descent on the three equations, many small networks at once.

Networks of the same shape are stacked, weights (networks, n_k, n_{k+1}), and differ in their
weights, learning rates and, if wanted, data. Each step is what a plain run does, in plain floats.

A run whose loss or gradient is no longer finite has diverged: its weights stay as they were, and
the step is reported. The norms of every layer are taken at chosen steps by `study.backpropagate` on
the weights of the moment, so that a gradient that vanished from a plain run is not recorded as 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.arithmetic.scaled import log10
from study.core.activations import Activation
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
from study.engines.explicit import activation_rows, backpropagate
from study.engines.optimisers import COSTS, OPTIMISERS, Descent, clip_shares, norms
from study.engines.weights import CORES, one_blas_thread
from study.sampling import gaussian
from study.tools import Array
from study.tools.checks import bad, one_of

Data = tuple[Array, Array]
"""Inputs (batch, n_0) and targets (batch, n_depth), or one such pair a network, stacked."""

LOGGED = ["network", "step", "loss", "accuracy", "log10_weight_norm"]
"""What is logged of a network."""

BLOCK_BYTES = 2**22
"""Weights of the networks that are walked together; with gradients and memory thrice as much."""


class Course(NamedTuple):
    """What happened to the networks, in the order in which they were given; see `train`."""

    networks: pd.DataFrame
    """One row a network: network, status ("ok" or "diverged"), steps (how many it took)."""
    log: pd.DataFrame
    """One row a logged step and network: network, step, loss (of the batch), accuracy (on the held
    out) and log10_weight_norm (Frobenius norm, all layers together). A diverged network's last row
    is the step that failed: no loss, no accuracy."""
    layers: pd.DataFrame
    """One row a layered step, network and layer: network, step, the columns of `backpropagate`."""
    losses: Array
    """(steps, networks), of each step's batch; NaN from divergence on."""
    weights: list[Array]
    """Of a diverged network, the last it had; biases likewise."""
    biases: list[Array]


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
    batch: Callable[[int], Data],
    steps: int,
    activation: str | Activation | Callable | Sequence = "relu",
    biases: Sequence[Array] = (),
    cost: str = "cross_entropy",
    optimiser: str = "sgd",
    clip: float = math.inf,
    kink: float = 1.0,
    held_out: Data | None = None,
    logged: Collection[int] = (),
    layered: Collection[int] = (),
) -> Course:
    """Train a stack of networks, in the format of their weights.

    Parameters
    ----------
    weights : (networks, n_k, n_{k+1}) arrays, float32 or float64, one a layer; not changed
    rates : (networks,) learning rates
    batch : callable, step -> `Data`, for 0 .. steps; the last batch is only looked at
        Targets are one-hot for cross-entropy.
    activation : one, or one a layer
        Cross-entropy wants "linear" last: its softmax is part of the cost.
    biases : (networks, n_{k+1}) arrays, one a layer, optional
        Trained too, where given.
    cost : "cross_entropy" or "squared_error"
        The latter is the derivation's 1/2 |r - y|^2. Both are means over the batch.
    optimiser : "sgd", "momentum" or "adam"
    clip : the largest norm that the gradient of a network may have
    held_out : inputs and int classes on which accuracy is taken
    logged, layered : steps, 0 .. steps
        Before which loss, accuracy and weight norm are recorded; and every layer's gradient norm.

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
    depth = len(weights)
    _check_count("rates", rates, len(weights[0]))
    rows = activation_rows(activation, depth)
    _check_count("biases", biases, depth if len(biases) else 0)
    task = _Task(
        batch,
        steps,
        COSTS[one_of("cost", cost, COSTS)],
        one_of("optimiser", optimiser, OPTIMISERS),
        clip,
        held_out,
        frozenset(logged),
        frozenset(layered),
    )
    moved = [np.array(W) for W in weights]
    shifts = [np.array(b) for b in biases]

    def descend(networks: slice) -> Course:
        block = [[p[networks] for p in parameters] for parameters in (moved, shifts)]
        return _Block(networks, *block, rows, kink).descend(task, np.asarray(rates)[networks])

    with one_blas_thread(), ThreadPoolExecutor(CORES) as pool:
        courses = list(pool.map(descend, _blocks(weights)))
    return Course(
        pd.concat([course.networks for course in courses], ignore_index=True),
        _step_by_step([course.log for course in courses]),
        _step_by_step([course.layers for course in courses]),
        np.concatenate([course.losses for course in courses], axis=1),
        moved,
        shifts,
    )


def _blocks(weights: Sequence[Array]) -> list[slice]:
    """Networks that are walked together: what a core's share of the cache holds."""
    count = len(weights[0])
    size = BLOCK_BYTES // sum(W[0].nbytes for W in weights)
    size = max(1, min(size, -(-count // CORES)))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _step_by_step(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all blocks, by step and network."""
    # One without rows has no types, and would take those of the others.
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return rows.sort_values(["step", "network"], kind="stable", ignore_index=True)


class _Task(NamedTuple):
    """What all networks are trained for; see `train`."""

    batch: Callable[[int], Data]
    steps: int
    cost: Callable
    optimiser: str
    clip: float
    held_out: Data | None
    logged: frozenset[int]
    layered: frozenset[int]


class _Bottom(Dense):
    """The layer next to the input, whose dC/dr^(0) nobody asks for."""

    def down(self, delta: Array, r: Array, z: Array) -> None:
        return None


class _Block:
    """Networks that are trained side by side; their arrays are views of all networks'."""

    def __init__(
        self,
        networks: slice,
        weights: list[Array],
        biases: list[Array],
        rows: list[Activation],
        kink: float,
    ):
        self.networks = networks
        self.weights = weights
        self.biases = biases
        self.rows = rows
        self.kink = kink
        shifts = [b[:, None] for b in biases] or [None] * len(weights)
        kinds = [_Bottom] + [Dense] * (len(weights) - 1)
        parts = zip(kinds, weights, rows, shifts, strict=True)
        self.layers = [kind(W, row, b, kink) for kind, W, row, b in parts]

    def descend(self, task: _Task, rates: Array) -> Course:
        """Train as the task says, in place."""
        count = len(rates)
        network = np.arange(self.networks.start, self.networks.stop)
        descent = Descent(task.optimiser, [*self.weights, *self.biases])
        alive = np.full(count, True)
        taken = np.full(count, task.steps)
        losses = np.full((task.steps + 1, count), np.nan)
        log = []
        layers = []
        with np.errstate(all="ignore"):  # what a plain run loses is data
            for step in range(task.steps + 1):
                inputs, targets = (self.part(a, 2) for a in task.batch(step))
                loss, dr, gradients = self.gradients(inputs, targets, task.cost)
                size = norms(gradients)
                lost = alive & ~(np.isfinite(loss) & np.isfinite(size[0]))
                alive &= ~lost
                taken[lost] = step
                losses[step] = np.where(alive, loss, np.nan)
                shown = alive | lost if step in task.logged else lost
                if shown.any():
                    accuracy = np.where(alive, self.accuracy(task.held_out), np.nan)
                    columns = {"network": network, "step": step, "loss": losses[step]}
                    columns["accuracy"] = accuracy
                    columns["log10_weight_norm"] = log10(*norms(self.weights))
                    log.append(pd.DataFrame(columns)[shown])
                if step in task.layered:
                    layers += [self.layer_rows(i, step, inputs, dr) for i in np.flatnonzero(alive)]
                if step == task.steps or not alive.any():
                    break
                descent.step(gradients, rates, clip_shares(task.clip, size), alive)
        status = np.where(alive, "ok", "diverged")
        networks = pd.DataFrame({"network": network, "status": status, "steps": taken})
        none = pd.DataFrame(columns=LOGGED)
        return Course(
            networks,
            pd.concat(log, ignore_index=True) if log else none,
            pd.concat(layers, ignore_index=True) if layers else none[["step", "network"]],
            losses[:-1],
            self.weights,
            self.biases,
        )

    def part(self, a: Array, axes: int) -> Array:
        """The block's own, of arrays that are stacked: that have more axes than shared ones."""
        return a[self.networks] if a.ndim > axes else a

    def gradients(self, inputs: Array, targets: Array, cost: Callable) -> tuple[Array, Array, list]:
        """The cost, dC/dr of the output and the gradient of every parameter."""
        trace, r = forward(self.layers, inputs)
        loss, dr = cost(r, targets)
        weights = []
        biases = []
        for step in backward(trace, dr):
            weights.append(weight_gradient(step.r, step.delta))
            if self.biases:
                biases.append(step.delta.sum(axis=1))
        return loss, dr, weights[::-1] + biases[::-1]

    def accuracy(self, held_out: Data | None) -> Array | float:
        if held_out is None:
            return math.nan
        _, r = forward(self.layers, self.part(held_out[0], 2))
        return (r.argmax(axis=-1) == self.part(held_out[1], 1)).mean(axis=-1)

    def layer_rows(self, i: int, step: int, inputs: Array, dr: Array) -> pd.DataFrame:
        frame = backpropagate(
            [W[i] for W in self.weights],
            inputs if inputs.ndim == 2 else inputs[i],
            activation=self.rows,
            biases=[b[i] for b in self.biases] or None,
            cotangent=dr[i],
            kink=self.kink,
        )
        return frame.assign(network=self.networks.start + i, step=step)


def _check_count(field: str, values: Sequence, wanted: int) -> None:
    if len(values) != wanted:
        raise bad(field, f"{len(values)} values", f"{wanted}")
