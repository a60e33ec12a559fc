"""Networks that learn to tell MNIST digits from small or from large weights, and their norms.

Float32, no biases, softmax and cross-entropy, batches of 32; digits of 14 x 14 pixels. An arm is an
activation, an optimiser and a start; its learning rate is tuned on seeds that are not judged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from study import theory
from study.engines import arms
from study.engines.arms import Task
from study.engines.training import Course
from study.tools import Array

DEPTH = 5
TASK = Task("large weights", stream=3, side=14)
CRITICAL = {n: round(theory.critical_sigma_w(n), 9) for n in ("relu", "sigmoid", "tanh")}
OPTIMISERS = ("sgd", "momentum", "adam")
# Factors of the layers' weights; the last two leave what a ReLU network computes.
STARTS = {
    "critical": [1, 1, 1, 1, 1],
    "twice critical": [2, 2, 2, 2, 1],
    "× 2 and 1/2 in turn": [2, 1 / 2, 2, 1 / 2, 1],
    "× 2, output undone": [2, 2, 2, 2, 1 / 16],
}
KINDS = ["activation", "optimiser", "start"]

COLUMNS = arms.COLUMNS | {
    "optimiser": "sgd, momentum (0.9) or adam [-]",
    "start": "weights before training: those of the critical scale, or they times factors [-]",
    "status": "ok; dead: no gradient reaches the first layer's weights; diverged: loss or gradient "
    "were no longer finite [-]",
    "log10_growth": "norm of all weights over what it was before training [log10]",
    "step": "steps taken so far [steps]",
}
COLUMNS |= {
    f"log10_growth_{k}": f"‖W^({k})‖ over what it was before training [log10]" for k in range(DEPTH)
}
"""Columns of `outcomes`; numbers of a run that diverged are nan but losses and steps, inf."""


class Arm(arms.Arm):
    """One kind of network, from a start."""

    def __init__(self, activation: str, optimiser: str, start: str):
        super().__init__(activation, CRITICAL[activation], DEPTH, "none", optimiser, TASK)
        self.kind = dict(zip(KINDS, (activation, optimiser, start), strict=True))

    def start(self, seeds: Sequence[int]) -> tuple[list[Array], Array]:
        """Weights of a network a seed, times the factors of the layers."""
        drawn, scale = super().start(seeds)
        factors = STARTS[self.kind["start"]]
        return [np.float32(factor) * W for factor, W in zip(factors, drawn, strict=True)], scale


def of_layers(course: Course, step: int, column: str) -> pd.DataFrame:
    """A column of the gradient norms before a step, by network and layer; nan where it diverged."""
    rows = course.layers[course.layers.step == step]
    wide = rows.pivot(index="network", columns="layer", values=column)
    return wide.reindex(index=range(len(course.networks)), columns=range(DEPTH)).astype(float)


def outcomes(arm: Arm, steps: int, seeds: list[int], **tuning: Any) -> dict[str, pd.DataFrame]:
    """Tune an arm and train its seeds: ``runs``, a row a seed; ``course``, their norms on the way.

    Columns: `COLUMNS`.
    """
    shown = sorted({0, *np.geomspace(10, steps, 6).astype(int).tolist()})
    course, runs = arm.judged(seeds, steps, logged=shown, layered=[0, steps], **tuning)
    log = course.log[course.log.step.isin(shown) & course.log.loss.notna()]
    first = log[log.step == 0].set_index("network").log10_weight_norm
    log = log.assign(log10_growth=log.log10_weight_norm - log.network.map(first))
    ended = of_layers(course, steps, "log10_weight_norm")
    grown = ended - of_layers(course, 0, "log10_weight_norm")
    is_dead = np.isneginf(of_layers(course, steps, "log10_grad_norm")[0])
    runs = runs.assign(
        status=runs.status.mask(is_dead, "dead"),
        log10_growth=log[log.step == steps].set_index("network").log10_growth,
    )
    runs = pd.DataFrame(arm.kind, runs.index).join(runs).join(grown.add_prefix("log10_growth_"))
    way = log.assign(**arm.kind, seed=np.take(seeds, log.network))
    way = way.loc[way.step > 0, [*KINDS, "seed", "step", "log10_growth"]]
    return {"runs": runs, "course": way}
