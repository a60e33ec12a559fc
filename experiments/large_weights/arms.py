"""Networks that learn to tell MNIST digits from small or from large weights, and their norms.

Float32, no biases, softmax and cross-entropy, batches of 32; digits of 14 x 14 pixels. An arm is an
activation, an optimiser and a start; its learning rate is tuned on seeds that are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study import theory
from study.engines.arms import GOAL
from study.engines.training import (
    WINDOW,
    Course,
    drawn_batches,
    gaussian_weights,
    steps_to_goal,
    train,
)
from study.engines.tuning import Tuned, tuned_over_seeds
from study.sampling import digits, gaussian
from study.tools import Array

SIDE, WIDTH, DEPTH, BATCH, TRAIN = 14, 64, 5, 32, 4000
CRITICAL = {n: round(theory.critical_sigma_w(n), 9) for n in ("relu", "sigmoid", "tanh")}
OPTIMISERS = ("sgd", "momentum", "adam")
STARTS = {
    "critical": [1, 1, 1, 1, 1],
    "twice critical": [2, 2, 2, 2, 1],
    "× 2 and 1/2 in turn": [2, 1 / 2, 2, 1 / 2, 1],
    "× 2, output undone": [2, 2, 2, 2, 1 / 16],
}
"""Factors of the layers' weights; the last two leave what a ReLU network computes."""
KINDS = ["activation", "optimiser", "start"]

COLUMNS = {
    "optimiser": "sgd, momentum (0.9) or adam [-]",
    "start": "weights before training: those of the critical scale, or they times factors [-]",
    "rate": "learning rate, tuned on other seeds [1]",
    "enclosed": "whether in tuning a smaller and a larger rate did worse [-]",
    "status": "ok; dead: no gradient reaches the first layer's weights; diverged: loss or gradient "
    "were no longer finite [-]",
    "accuracy": "share of 1,000 held-out digits told right after training [1]",
    "train_loss": f"cross-entropy, mean over the last {WINDOW} batches [nat]",
    "earlier_loss": "the same, half the training before [nat]",
    "steps_to_goal": f"steps until the mean loss of {WINDOW} batches was {GOAL} nats or less; inf "
    "if never [steps]",
    "log10_growth": "norm of all weights over what it was before training [log10]",
    "step": "steps taken so far [steps]",
} | {
    f"log10_growth_{k}": f"‖W^({k})‖ over what it was before training [log10]" for k in range(DEPTH)
}
"""Columns of `outcomes`; numbers of a run that diverged are nan, but for steps_to_goal."""


class Arm:
    """One kind of network on its task."""

    def __init__(self, activation: str, optimiser: str, start: str):
        self.kind = dict(zip(KINDS, (activation, optimiser, start), strict=True))
        self.activations = [activation] * (DEPTH - 1) + ["linear"]
        data = digits.coarse(TRAIN + 1000, SIDE)
        self.images = data.images.astype(np.float32)
        self.one_hot = np.eye(10, dtype=np.float32)[data.classes]
        self.held_out = (self.images[TRAIN:], data.classes[TRAIN:])

    def begin(self, seeds: Sequence[int]) -> list[Array]:
        """Weights of a network a seed."""
        keys = [gaussian.key(seed, "large weights") for seed in seeds]
        widths = [SIDE**2, *[WIDTH] * (DEPTH - 1), 10]
        scale = CRITICAL[self.kind["activation"]]
        drawn = gaussian_weights(keys, widths, [scale] * len(seeds), "float32")
        factors = STARTS[self.kind["start"]]
        return [np.float32(factor) * W for factor, W in zip(factors, drawn, strict=True)]

    def course(self, seeds: Sequence[int], rates: Sequence[float], steps: int, **seen) -> Course:
        """Train a network for each seed and rate, on batches that the seed names."""
        return train(
            self.begin(seeds),
            rates,
            drawn_batches((self.images[:TRAIN], self.one_hot[:TRAIN]), seeds, 3, steps, BATCH),
            steps,
            self.activations,
            optimiser=self.kind["optimiser"],
            held_out=self.held_out,
            **seen,
        )

    def tuned(self, seeds: Sequence[int], few: int, many: int) -> Tuned:
        """The rate at which the median seed's loss is lowest."""

        def losses(seeds: Sequence[int], rates: Array, steps: int) -> Array:
            return last_loss(self.course(seeds, rates, steps).losses)

        return tuned_over_seeds(losses, seeds, few, many)


def last_loss(losses: Array) -> Array:
    """Mean loss of the last `WINDOW` batches, (networks,); nan where a network diverged."""
    return losses[-WINDOW:].mean(axis=0)


def of_layers(course: Course, step: int, column: str) -> pd.DataFrame:
    """A column of the gradient norms before a step, by network and layer; nan where it diverged."""
    rows = course.layers[course.layers.step == step]
    wide = rows.pivot(index="network", columns="layer", values=column)
    return wide.reindex(index=range(len(course.networks)), columns=range(DEPTH)).astype(float)


def outcomes(
    arm: Arm, steps: int, few: int, many: int, tuning_seeds: list[int], seeds: list[int]
) -> dict[str, pd.DataFrame]:
    """Tune an arm and train its seeds: ``runs``, a row a seed; ``course``, their norms on the way.

    Columns: `COLUMNS`.
    """
    tuned = arm.tuned(tuning_seeds, few, many)
    shown = sorted({0, *np.geomspace(10, steps, 6).astype(int).tolist()})
    course = arm.course(seeds, [tuned.rate] * len(seeds), steps, logged=shown, layered=[0, steps])
    log = course.log[course.log.step.isin(shown) & course.log.loss.notna()]
    first = log[log.step == 0].set_index("network").log10_weight_norm
    log = log.assign(log10_growth=log.log10_weight_norm - log.network.map(first))
    last = log[log.step == steps].set_index("network").reindex(range(len(seeds)))
    ended = of_layers(course, steps, "log10_weight_norm")
    grown = ended - of_layers(course, 0, "log10_weight_norm")
    is_dead = np.isneginf(of_layers(course, steps, "log10_grad_norm")[0])
    runs = pd.DataFrame(
        arm.kind
        | {
            "seed": seeds,
            "rate": tuned.rate,
            "enclosed": tuned.enclosed,
            "status": course.networks.status.mask(is_dead, "dead"),
            "accuracy": last.accuracy,
            "train_loss": last_loss(course.losses),
            "earlier_loss": last_loss(course.losses[: steps // 2]),
            "steps_to_goal": steps_to_goal(course.losses, GOAL),
            "log10_growth": last.log10_growth,
        }
    )
    runs = runs.join(grown.add_prefix("log10_growth_"))
    way = log.assign(**arm.kind, seed=log.network.map(dict(enumerate(seeds))))
    way = way.loc[way.step > 0, [*KINDS, "seed", "step", "log10_growth"]]
    return {"runs": runs, "course": way}
