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
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.arithmetic.scaled import log10
from study.core.activations import Activation
from study.core.backprop import Layer, backward, forward
from study.engines.explicit import activation_rows, backpropagate
from study.engines.learned import Learned, LearnedBottom, learned
from study.engines.optimisers import COSTS, OPTIMISERS, Descent, are_finite, clip_shares, norms
from study.engines.weights import CORES, one_blas_thread
from study.sampling import gaussian
from study.tools import Array
from study.tools.checks import bad, one_of

Data = tuple[Array, Array]
"""Inputs (batch, n_0) and targets (batch, n_depth), or one such pair a network, stacked."""

LOGGED = ["network", "step", "loss", "accuracy", "log10_weight_norm"]
"""What is logged of a network."""

WINDOW = 50
"""Steps over which a loss is averaged, to be compared with a goal."""
NETWORKS_A_THREAD = 20
"""With fewer, the calls are so short that threads mostly wait for one another."""


class Course(NamedTuple):
    """What happened to the networks, in the order in which they were given; see `train`."""

    networks: pd.DataFrame
    """One row a network: network, status ("ok", "diverged" or "given up"), steps (how many it took:
    fewer than all where it diverged, was given up or reached the goal)."""
    log: pd.DataFrame
    """One row a logged step and network: network, step, loss (of the batch), accuracy (on the held
    out) and log10_weight_norm (Frobenius norm, all layers together). The last row of a network that
    stops is of that step, which, where it diverged, has no loss and no accuracy."""
    layers: pd.DataFrame
    """One row a layered step, network and layer: network, step, the columns of `backpropagate`."""
    losses: Array
    """(steps, networks), of each step's batch; NaN once a network has stopped."""
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


def drawn_batches(
    data: Data, seeds: Sequence[int], stream: int, steps: int, size: int
) -> Callable[[int], Data]:
    """The ``batch`` of `train` for a network a seed: examples that seed and stream choose.

    ``data`` are all inputs and their targets; an example may come again, also within a batch.

    >>> x, y = drawn_batches((np.eye(9), np.arange(9)), [0, 1], stream=1, steps=3, size=4)(3)
    >>> x.shape, y.shape
    ((2, 4, 9), (2, 4))
    """
    inputs, targets = data
    draws = [np.random.default_rng([seed, stream]) for seed in seeds]
    picked = np.stack([rng.integers(len(inputs), size=(steps + 1, size)) for rng in draws])
    return lambda step: (inputs[picked[:, step]], targets[picked[:, step]])


def steps_to_goal(losses: Array, goal: float, window: int = WINDOW) -> Array:
    """Steps, (networks,), until the loss, mean over a window, is at most the goal; inf if never.

    ``losses`` are those of a `Course`, (steps, networks).

    >>> steps_to_goal(np.array([[3.0, 3.0], [2.0, 3.0], [1.0, 3.0]]), goal=1.5, window=2)
    array([ 3., inf])
    """
    means = pd.DataFrame(losses).rolling(window).mean().to_numpy()
    reached = means <= goal
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + 1.0, np.inf)


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
    followed: float = math.inf,
    goal: float = -math.inf,
    patience: tuple[int, float] = (-1, math.inf),
    build: Callable[..., list[Layer]] | None = None,
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
        With steps that are layered, those of a network that stops early are, too.
    followed : of so many networks, the first, gradient norms are recorded
    goal : a network whose loss, mean over `WINDOW` steps, is at most that takes no further step
    patience : a step, and a loss; a network whose mean loss is above that then is given up
    build : callable, weights (biases) -> layers, optional
        Of another network than a chain of dense layers: a list of `study.engines.learned`'s and of
        `study.core.blocks.Residual` of them, which have the weights in their order. It may be
        called with some of the networks. ``activation`` and ``kink`` are then its own affair.

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
    own = partial(built_norms, build=build) if build else None
    task = _Task(
        np.asarray(rates),
        batch,
        steps,
        build or partial(chain, rows=rows, kink=kink),
        COSTS[one_of("cost", cost, COSTS)],
        one_of("optimiser", optimiser, OPTIMISERS),
        clip,
        goal,
        patience,
        held_out,
        frozenset(logged),
        frozenset(layered),
        followed,
        own or partial(chain_norms, rows=rows, kink=kink),
    )
    moved = [np.array(p) for p in (*weights, *biases)]

    def descend(networks: Array) -> Course:
        return _descend(task, networks, moved, depth)

    with one_blas_thread(), ThreadPoolExecutor(CORES) as pool:
        courses = list(pool.map(descend, _blocks(weights)))
    return Course(
        pd.concat([course.networks for course in courses], ignore_index=True),
        _step_by_step([course.log for course in courses]),
        _step_by_step([course.layers for course in courses]),
        np.concatenate([course.losses for course in courses], axis=1),
        moved[:depth],
        moved[depth:],
    )


def _blocks(weights: Sequence[Array]) -> list[Array]:
    """Networks that are walked together, a thread each."""
    count = len(weights[0])
    threads = max(1, min(CORES, count // NETWORKS_A_THREAD))
    return np.array_split(np.arange(count), threads)


def _step_by_step(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all blocks, by step and network."""
    # One without rows has no types, and would take those of the others.
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    return rows.sort_values(["step", "network"], kind="stable", ignore_index=True)


class _Task(NamedTuple):
    """What all networks are trained for; see `train`."""

    rates: Array
    batch: Callable[[int], Data]
    steps: int
    build: Callable[..., list[Layer]]
    cost: Callable
    optimiser: str
    clip: float
    goal: float
    patience: tuple[int, float]
    held_out: Data | None
    logged: frozenset[int]
    layered: frozenset[int]
    followed: float
    norms: Callable[..., pd.DataFrame]


class _Look(NamedTuple):
    """What is seen of networks before a step."""

    inputs: Array
    loss: Array
    dr: Array
    """dC/dr of the output."""
    gradients: list[Array]
    """Of every weight, then of every bias."""


class _Block:
    """Networks that are trained side by side; weights, then biases, are its parameters."""

    def __init__(self, task: _Task, networks: Array, parameters: list[Array], depth: int):
        self.task = task
        self.networks = networks
        self.parameters = parameters
        self.depth = depth
        self.layers = task.build(parameters[:depth], parameters[depth:])
        self.learned = [*learned(self.layers)]
        self.descent = Descent(task.optimiser, parameters)

    def of(self, here: Array) -> _Block:
        """Some of the networks; they go on as they would have."""
        parameters = [p[here] for p in self.parameters]
        block = _Block(self.task, self.networks[here], parameters, self.depth)
        block.descent.resume(self.descent, here)
        return block

    def look(self, step: int) -> _Look:
        inputs, targets = (self.part(a, 2) for a in self.task.batch(step))
        trace, r = forward(self.layers, inputs)
        loss, dr = self.task.cost(r, targets)
        for _ in backward(trace, dr):
            pass  # what is wanted, each layer has left
        gradients = [layer.gradient for layer in self.learned]
        gradients += [layer.shift for layer in self.learned if layer.b is not None]
        return _Look(inputs, loss, dr, gradients)

    def part(self, a: Array, axes: int) -> Array:
        """The block's own, of arrays that are stacked: that have more axes than shared ones."""
        return a[self.networks] if a.ndim > axes else a

    def move(self, gradients: list[Array]) -> None:
        shares = np.ones(len(self.networks))
        if self.task.clip < math.inf:
            shares = clip_shares(self.task.clip, norms(gradients))
        self.descent.step(gradients, self.task.rates[self.networks], shares)

    def accuracy(self) -> Array | float:
        if self.task.held_out is None:
            return math.nan
        inputs, classes = self.task.held_out
        shares = []
        for i, network in enumerate(self.networks):  # of one alone, all examples fit into a cache
            own = [p[i : i + 1] for p in self.parameters]
            r = inputs if inputs.ndim == 2 else inputs[network]
            for layer in self.task.build(own[: self.depth], own[self.depth :]):
                r = layer.phi(layer.up(r))
            is_right = r.argmax(axis=-1) == (classes if classes.ndim == 1 else classes[network])
            shares.append(is_right.mean())
        return np.array(shares)

    def log_rows(self, step: int, loss: Array) -> pd.DataFrame:
        """Of every network, one without a loss being lost."""
        columns = {"network": self.networks, "step": step, "loss": loss}
        is_lost = np.isnan(loss)
        columns["accuracy"] = (
            np.nan if is_lost.all() else np.where(is_lost, np.nan, self.accuracy())
        )
        columns["log10_weight_norm"] = log10(*norms(self.parameters[: self.depth]))
        return pd.DataFrame(columns)

    def layer_rows(self, i: int, step: int, look: _Look) -> pd.DataFrame:
        own = [p[i] for p in self.parameters]
        inputs = look.inputs if look.inputs.ndim == 2 else look.inputs[i]
        frame = self.task.norms(own[: self.depth], own[self.depth :], inputs, look.dr[i])
        return frame.assign(network=self.networks[i], step=step)


class _Record:
    """What is kept of the networks of a block on their way."""

    def __init__(self, task: _Task, networks: Array):
        self.task = task
        self.networks = networks
        self.losses = np.full((task.steps + 1, len(networks)), np.nan)
        self.status = np.full(len(networks), "ok", object)
        self.taken = np.full(len(networks), task.steps)
        self.log: list[pd.DataFrame] = []
        self.layers: list[pd.DataFrame] = []

    def take(self, block: _Block, step: int, look: _Look) -> Array:
        """Keep what is to be kept before a step; which networks go on?"""
        here = np.searchsorted(self.networks, block.networks)
        is_lost = ~(np.isfinite(look.loss) & are_finite(look.gradients))
        loss = np.where(is_lost, np.nan, look.loss.astype(float))
        self.losses[step, here] = loss
        means = self._mean_losses(here, step)
        is_given_up = (means > self.task.patience[1]) & (step == self.task.patience[0])
        goes_on = ~(is_lost | is_given_up | (means <= self.task.goal))
        self.taken[here[~goes_on]] = step
        self.status[here[is_given_up]] = "given up"
        self.status[here[is_lost]] = "diverged"
        is_shown = ~goes_on if step not in self.task.logged else np.full(len(here), True)
        if is_shown.any():
            self.log.append(block.of(is_shown).log_rows(step, loss[is_shown]))
        if self.task.layered:
            is_seen = ~is_lost & (~goes_on | (step in self.task.layered))
            is_seen &= block.networks < self.task.followed
            self.layers += [block.layer_rows(i, step, look) for i in np.flatnonzero(is_seen)]
        return goes_on

    def _mean_losses(self, here: Array, step: int) -> Array:
        if step < WINDOW - 1:
            return np.full(len(here), np.nan)
        return self.losses[step - WINDOW + 1 : step + 1, here].mean(axis=0)

    def course(self) -> Course:
        columns = {"network": self.networks, "status": self.status, "steps": self.taken}
        none = pd.DataFrame(columns=LOGGED)
        return Course(
            pd.DataFrame(columns),
            pd.concat(self.log, ignore_index=True) if self.log else none,
            pd.concat(self.layers, ignore_index=True) if self.layers else none[["step", "network"]],
            self.losses[:-1],
            [],
            [],
        )


def _descend(task: _Task, networks: Array, parameters: list[Array], depth: int) -> Course:
    """Train some of the networks, whose parameters are changed in place."""
    whole = [p[networks[0] : networks[-1] + 1] for p in parameters]
    record = _Record(task, networks)
    block = _Block(task, networks, whole, depth)
    with np.errstate(all="ignore"):  # what a plain run loses is data
        for step in range(task.steps + 1):
            look = block.look(step)
            goes_on = record.take(block, step, look)
            gradients = look.gradients
            if step == task.steps or not goes_on.any():
                break
            if not goes_on.all():
                _put(parameters, block)
                gradients = [g[goes_on] for g in gradients]
                block = block.of(goes_on)
            block.move(gradients)
    _put(parameters, block)
    return record.course()


def _put(parameters: list[Array], block: _Block) -> None:
    for p, own in zip(parameters, block.parameters, strict=True):
        p[block.networks] = own


def chain(
    weights: Sequence[Array], biases: Sequence[Array], rows: Sequence[Activation], kink: float
) -> list[Layer]:
    """The layers of a network without branches or normalisation."""
    shifts = [b[:, None] for b in biases] or [None] * len(weights)
    kinds = [LearnedBottom] + [Learned] * (len(weights) - 1)
    parts = zip(kinds, weights, rows, shifts, strict=True)
    return [kind(W, row, b, kink) for kind, W, row, b in parts]


def chain_norms(
    weights: list[Array],
    biases: list[Array],
    inputs: Array,
    dr: Array,
    rows: Sequence[Activation],
    kink: float,
) -> pd.DataFrame:
    """The frame of such a network, of any depth."""
    return backpropagate(weights, inputs, rows, biases or None, cotangent=dr, kink=kink)


def built_norms(
    weights: list[Array],
    biases: list[Array],
    inputs: Array,
    dr: Array,
    build: Callable[..., list[Layer]],
) -> pd.DataFrame:
    """Norms of every weight matrix and its gradient in other networks, in float64."""
    parameters = [[p[None].astype(float) for p in given] for given in (weights, biases)]
    layers = build(*parameters)
    trace, _ = forward(layers, inputs.astype(float))
    for _ in backward(trace, dr[None].astype(float)):
        pass
    matrices = [*learned(layers)]
    return pd.DataFrame(
        {
            "layer": range(len(matrices)),
            "log10_grad_norm": [log10(*norms([layer.gradient]))[0] for layer in matrices],
            "log10_weight_norm": [log10(*norms([layer.W]))[0] for layer in matrices],
        }
    )


def _check_count(field: str, values: Sequence, wanted: int) -> None:
    if len(values) != wanted:
        raise bad(field, f"{len(values)} values", f"{wanted}")
