"""Networks of one width that learn to tell 5,000 MNIST digits, each arm at a rate of its own.

Float32, no biases, softmax and cross-entropy, batches of 32, momentum 0.9. The rate of an arm is
found by `study.engines.tuning` on two seeds; other seeds are judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.core.backprop import forward
from study.core.blocks import Dense
from study.engines.training import Course, gaussian_weights, train
from study.engines.tuning import Tuned, tuned_rate
from study.sampling import digits, gaussian
from study.tools import Array

WIDTH, BATCH, TRAIN, HELD_OUT = 64, 32, 4000, 1000
CHANCE = 0.1
GOAL = 0.5  # nats: most digits are told right
WINDOW = 50  # steps over which the loss of a batch is averaged

COLUMNS = {
    "output": "as drawn: sigma_w = 1; rescaled: its weights times one number a network, so that "
    "outputs have unit mean square before training [-]",
    "log10_output_scale": "that number, 0 where the output is as drawn [log10]",
    "rate": "learning rate, tuned on other seeds [1]",
    "enclosed": "whether in tuning a smaller and a larger rate did worse [-]",
    "status": "ok; or diverged: loss or gradient were no longer finite [-]",
    "accuracy": f"share of {HELD_OUT} held-out digits told right after training; that of chance, "
    f"{CHANCE}, where the run diverged [1]",
    "train_loss": f"cross-entropy, mean over the last {WINDOW} batches; inf where it diverged "
    "[nat]",
    "earlier_loss": "the same, half the training before; not yet flat where it is well above "
    "train_loss [nat]",
    "steps_to_goal": f"steps until the mean loss of {WINDOW} batches was {GOAL} nats or less; inf "
    "if never [steps]",
    "spread_before": "largest over smallest ‖dC/dW^(k)‖ of all layers but the output's, before "
    "training [log10]",
    "spread_after": "the same after training; nan where it diverged [log10]",
}
"""Columns of `outcomes`."""


class Arm:
    """One kind of network: what all its seeds share."""

    def __init__(self, activation: str, sigma_w: float, depth: int, is_rescaled: bool):
        self.activation = activation
        self.sigma_w = sigma_w
        self.depth = depth
        self.is_rescaled = is_rescaled
        self.kinds = [activation] * (depth - 1) + ["linear"]
        data = digits.digits()
        self.images = data.images.astype(np.float32)
        self.classes = data.classes
        self.one_hot = np.eye(10, dtype=np.float32)[data.classes]

    def start(self, seeds: Sequence[int]) -> tuple[list[Array], Array]:
        """Weights of a network a seed, and by how much their outputs were rescaled."""
        keys = [gaussian.key(seed, "training") for seed in seeds]
        widths = [self.images.shape[1], *[WIDTH] * (self.depth - 1), 10]
        weights = gaussian_weights(keys, widths, [self.sigma_w] * len(seeds), "float32")
        scale = np.ones(len(seeds), np.float32)
        if self.is_rescaled:
            layers = [Dense(W, kind) for W, kind in zip(weights, self.kinds, strict=True)]
            _, outputs = forward(layers, self.images[:TRAIN:10])
            scale = 1 / np.sqrt(np.mean(outputs**2, axis=(1, 2)))
            weights[-1] *= scale[:, None, None]
        return weights, scale

    def course(self, seeds: Sequence[int], rates: Sequence[float], steps: int) -> Course:
        """Train a network for each seed and rate, on batches that the seed names."""
        weights, _ = self.start(seeds)
        draws = [np.random.default_rng([seed, 1]) for seed in seeds]
        picked = np.stack([rng.integers(TRAIN, size=(steps + 1, BATCH)) for rng in draws])
        held_out = slice(TRAIN, TRAIN + HELD_OUT)
        return train(
            weights,
            rates,
            lambda step: (self.images[picked[:, step]], self.one_hot[picked[:, step]]),
            steps,
            self.kinds,
            optimiser="momentum",
            held_out=(self.images[held_out], self.classes[held_out]),
            logged=[steps],
            layered=[0, steps],
        )

    def tuned(self, seeds: Sequence[int], few: int, many: int) -> Tuned:
        """The rate at which the median seed's loss is lowest."""

        def losses(rates: Array, steps: int) -> Array:
            repeated = np.repeat(rates, len(seeds))
            course = self.course([*seeds] * len(rates), repeated, steps)
            return np.median(last_loss(course).reshape(len(rates), len(seeds)), axis=1)

        return tuned_rate(losses, few, many)


def last_loss(course: Course, end: int | None = None) -> Array:
    """Mean loss of the `WINDOW` batches before a step; inf where a network diverged."""
    loss = course.losses[:end][-WINDOW:].mean(axis=0)
    return np.where(np.isnan(loss), np.inf, loss)


def steps_to_goal(losses: Array) -> Array:
    """Steps, (networks,), until the running mean of the loss is at most the goal; inf if never."""
    sums = np.cumsum(np.vstack([np.zeros(losses.shape[1]), losses]), axis=0)
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    reached = means <= GOAL
    return np.where(reached.any(axis=0), reached.argmax(axis=0) + WINDOW, np.inf)


def outcomes(
    arm: Arm, steps: int, few: int, many: int, tuning_seeds: list[int], seeds: list[int]
) -> pd.DataFrame:
    """Tune an arm, train its seeds at that rate, and say what became of them: a row a seed."""
    tuned = arm.tuned(tuning_seeds, few, many)
    course = arm.course(seeds, [tuned.rate] * len(seeds), steps)
    hidden = course.layers[course.layers.layer < max(1, arm.depth - 1)]
    spread = hidden.groupby(["step", "network"]).log10_grad_norm.agg(_spread)
    spread = spread.unstack(0).reindex(range(len(seeds)), columns=[0, steps]).astype(float)
    accuracy = course.log[course.log.step == steps].set_index("network").accuracy
    rows = pd.DataFrame(
        {
            "activation": arm.activation,
            "sigma_w": arm.sigma_w,
            "output": "rescaled" if arm.is_rescaled else "as drawn",
            "depth": arm.depth,
            "seed": seeds,
            "log10_output_scale": np.log10(arm.start(seeds)[1].astype(float)),
            "rate": tuned.rate,
            "enclosed": tuned.enclosed,
            "status": course.networks.status,
            "train_loss": last_loss(course),
            "earlier_loss": last_loss(course, steps // 2),
            "steps_to_goal": steps_to_goal(course.losses),
            "spread_before": spread[0],
            "spread_after": spread[steps],
        }
    )
    return rows.assign(accuracy=accuracy.reindex(rows.index).fillna(CHANCE))


def _spread(norms: pd.Series) -> float:
    """Decades between the layers; a true zero among others makes it infinite."""
    return norms.max() - norms.min() if norms.max() > -np.inf else np.nan
