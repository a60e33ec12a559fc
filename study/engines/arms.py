"""Arms of a comparison by training: one kind of network that learns to tell MNIST digits.

Networks of one width in float32, no biases, softmax and cross-entropy, batches of 32. An arm's
learning rate is tuned on seeds of its own; other seeds are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.arithmetic.activations import ACTIVE_SHARE
from study.core.activations import activation
from study.core.backprop import Layer, forward
from study.core.blocks import BATCH as OVER_BATCH
from study.core.blocks import UNITS, Dense, Residual
from study.engines.learned import Learned, LearnedBottom, LearnedLinear, LearnedNormalised
from study.engines.training import (
    WINDOW,
    Course,
    drawn_batches,
    gaussian_weights,
    steps_to_goal,
    train,
)
from study.engines.tuning import tuned_over_seeds
from study.sampling import digits, gaussian
from study.tools import Array
from study.tools.checks import one_of

WIDTH, BATCH, TRAIN, HELD_OUT = 64, 32, 4000, 1000
CHANCE = 0.1
AT_CHANCE = 0.99 * math.log(10)
"""Nats: a loss above it is that of a network that has learned nothing."""
GOAL = 0.5
"""Nats: most digits are told right."""
EPSILON = 1e-5
"""Added to the variance by which a layer is normalised, as is usual."""
NORMALISED = {"BatchNorm": OVER_BATCH, "LayerNorm": UNITS}
COLUMNS = {
    "rate": "learning rate, tuned on other seeds [1]",
    "enclosed": "whether in tuning a smaller and a larger rate did worse [-]",
    "status": "ok; or diverged: loss or gradient were no longer finite [-]",
    "accuracy": f"share of {HELD_OUT} held-out digits told right after training; that of chance, "
    f"{CHANCE}, or nan where the run diverged [1]",
    "train_loss": f"cross-entropy, mean over the last {WINDOW} batches; inf where it diverged "
    "[nat]",
    "earlier_loss": "the same, half the training before; not yet flat where it is well above "
    "train_loss [nat]",
    "steps_to_goal": f"steps until the mean loss of {WINDOW} batches was {GOAL} nats or less; inf "
    "if never [steps]",
}
"""Columns of `Arm.judged`."""
REMEDIES = ("none", "output rescaled", "layers rescaled", "orthogonal", "residual", *NORMALISED)
"""What is done to a network beside sigma_w; see `Arm`."""


class Task(NamedTuple):
    """What all arms of a comparison learn, and whence their chances come."""

    name: str = "training"
    """Of the random weights."""
    stream: int = 1
    """Of the random batches."""
    side: int = 28
    """Pixels across an image."""


WHOLE_DIGITS = Task()


class Arm:
    """One kind of network: what all its seeds share.

    Parameters
    ----------
    activation, sigma_w : of the hidden layers; the output layer has sigma_w = 1
    depth : weight matrices, those of residual branches included
    remedy : none; output rescaled: the last weights times one number a network, so that outputs
        have unit mean square before training; layers rescaled: each layer's, so that its z have
        (Mishkin & Matas 2016); orthogonal: Haar weights of that sigma_w; residual: r + alpha phi(r
        W) V with alpha = 1/sqrt(number of blocks), of sigma_w both; BatchNorm or LayerNorm, without
        gain or shift, of every hidden layer
    optimiser : see `train`
    task : what is learned
    """

    def __init__(
        self,
        activation: str,
        sigma_w: float,
        depth: int,
        remedy: str = "none",
        optimiser: str = "momentum",
        task: Task = WHOLE_DIGITS,
    ):
        self.activation = activation
        self.sigma_w = sigma_w
        self.depth = depth
        self.remedy = one_of("remedy", remedy, REMEDIES)
        self.kinds = [activation] * (depth - 1) + ["linear"]
        self.optimiser = optimiser
        self.task = task
        count = TRAIN + HELD_OUT
        data = digits.digits() if task.side == 28 else digits.coarse(count, task.side)
        self.images = data.images.astype(np.float32)
        self.classes = data.classes
        self.one_hot = np.eye(10, dtype=np.float32)[data.classes]

    def start(self, seeds: Sequence[int]) -> tuple[list[Array], Array]:
        """Weights of a network a seed, and by how much their outputs were rescaled."""
        keys = [gaussian.key(seed, self.task.name) for seed in seeds]
        widths = [self.images.shape[1], *[WIDTH] * (self.depth - 1), 10]
        weights = gaussian_weights(keys, widths, [self.sigma_w] * len(seeds), "float32")
        scale = np.ones(len(seeds), np.float32)
        images = self.images[:TRAIN:10]
        if self.remedy == "orthogonal":
            for k in range(1, self.depth - 1):
                frames = [gaussian.haar(key, k, WIDTH, WIDTH, np.float32) for key in keys]
                weights[k] = np.float32(self.sigma_w) * np.stack(frames)
        if self.remedy == "output rescaled":
            layers = [Dense(W, kind) for W, kind in zip(weights, self.kinds, strict=True)]
            _, outputs = forward(layers, images)
            scale = 1 / np.sqrt(np.mean(outputs**2, axis=(1, 2)))
            weights[-1] *= scale[:, None, None]
        if self.remedy == "layers rescaled":
            r = images
            for W, kind in zip(weights, self.kinds, strict=True):
                layer = Dense(W, kind)
                W /= np.sqrt(np.mean(layer.up(r) ** 2, axis=(1, 2), keepdims=True))
                r = layer.phi(layer.up(r))
        return weights, scale

    def layers(self, weights: Sequence[Array], biases: Sequence[Array] = ()) -> list[Layer]:
        """The network that has these weights, stacked."""
        bottom = LearnedBottom(weights[0], self.activation)
        top = Learned(weights[-1], "linear")
        if self.remedy in NORMALISED:
            axis = NORMALISED[self.remedy]
            hidden = [
                LearnedNormalised(W, self.activation, axis, epsilon=EPSILON) for W in weights[:-1]
            ]
            return [*hidden, top]
        if self.remedy == "residual":
            blocks = (self.depth - 2) // 2
            alpha = 1 / math.sqrt(blocks)
            pairs = zip(weights[1:-1:2], weights[2:-1:2], strict=True)
            branches = [
                Residual([Learned(W, self.activation), LearnedLinear(V, alpha)]) for W, V in pairs
            ]
            return [bottom, *branches, top]
        hidden = [Learned(W, self.activation) for W in weights[1:-1]]
        return [bottom, *hidden, top]

    def course(
        self,
        seeds: Sequence[int],
        rates: Sequence[float],
        steps: int,
        **how: Any,
    ) -> Course:
        """Train a network for each seed and rate, on batches that the seed names; see `train`."""
        weights, _ = self.start(seeds)
        data = self.images[:TRAIN], self.one_hot[:TRAIN]
        return train(
            weights,
            rates,
            drawn_batches(data, seeds, self.task.stream, steps, BATCH),
            steps,
            self.kinds,
            optimiser=self.optimiser,
            build=self.layers if self.remedy in (*NORMALISED, "residual") else None,
            **how,
        )

    def judged(
        self,
        seeds: list[int],
        steps: int,
        few: int,
        many: int,
        tuning_seeds: list[int],
        near: float | None = None,
        loss: Callable[[Course], Array] | None = None,
        logged: Sequence[int] = (),
        **how: Any,
    ) -> tuple[Course, pd.DataFrame]:
        """Tune the rate, train other seeds at it, and say what became of them.

        Parameters
        ----------
        seeds, steps : of the networks that are judged
        few, many, tuning_seeds, near : see `tuned_over_seeds`
        loss : by which a rate is judged; by default `last_loss`
        logged : steps before which accuracies are taken, beside the last
        **how : see `course`

        Returns
        -------
        The course, and a row a seed with `COLUMNS`.
        """
        of_course = loss or last_loss

        def losses(seeds: Sequence[int], rates: Array, steps: int) -> Array:
            return of_course(self.course(seeds, rates, steps))

        tuned = tuned_over_seeds(losses, tuning_seeds, few, many, near)
        held_out = slice(TRAIN, TRAIN + HELD_OUT)
        course = self.course(
            seeds,
            [tuned.rate] * len(seeds),
            steps,
            held_out=(self.images[held_out], self.classes[held_out]),
            logged=[*logged, steps],
            **how,
        )
        last = course.log.drop_duplicates("network", keep="last").set_index("network")
        rows = {
            "seed": seeds,
            "rate": tuned.rate,
            "enclosed": tuned.enclosed,
            "status": course.networks.status,
            "accuracy": last.accuracy.sort_index(),
            "train_loss": last_loss(course),
            "earlier_loss": last_loss(course, steps // 2),
            "steps_to_goal": steps_to_goal(course.losses, GOAL),
        }
        return course, pd.DataFrame(rows)

    @np.errstate(all="ignore")  # weights of a run that diverged
    def dead(self, weights: Sequence[Array]) -> Array:
        """Share of each network's hidden units that no image of the training set activates."""
        row = activation(self.activation)
        least = ACTIVE_SHARE * row.max_slope
        shares = []
        for i in range(len(weights[0])):  # of one network alone, all images fit into a cache
            r = self.images[:TRAIN]
            of_layers = []
            for layer in self.layers([W[i : i + 1] for W in weights])[:-1]:
                z = layer.up(r)
                inner = z.trace[0].z if isinstance(layer, Residual) else z
                [inner] = getattr(inner, "x", inner)
                # Few images activate most units; the others are for those that are left.
                is_dead = row.derivative(inner[::20], 0.0).max(axis=0) <= least
                rest = row.derivative(inner[:, is_dead], 0.0)
                is_dead[is_dead] = rest.max(axis=0, initial=0.0) <= least
                of_layers.append(is_dead)
                r = layer.phi(z)
            shares.append(np.mean(of_layers))
        return np.array(shares)


def last_loss(course: Course, end: int | None = None) -> Array:
    """Mean loss of the `WINDOW` batches before a step; inf where a network diverged."""
    loss = course.losses[:end][-WINDOW:].mean(axis=0)
    return np.where(np.isnan(loss), np.inf, loss)
