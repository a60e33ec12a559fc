"""Networks of one width that learn to tell 5,000 MNIST digits, each arm at a rate of its own.

Arms are those of `study.engines.arms`; the rate of each is tuned on two seeds, others are judged.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.engines.arms import CHANCE, GOAL, HELD_OUT, Arm, last_loss
from study.engines.training import WINDOW, steps_to_goal

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


def outcomes(
    arm: Arm,
    steps: int,
    few: int,
    many: int,
    tuning_seeds: list[int],
    seeds: list[int],
    near: float | None = None,
) -> pd.DataFrame:
    """Tune an arm, train its seeds at that rate, and say what became of them: a row a seed."""
    tuned = arm.tuned(tuning_seeds, few, many, near)
    course = arm.course(seeds, [tuned.rate] * len(seeds), steps, layered=[0, steps])
    hidden = course.layers[course.layers.layer < max(1, arm.depth - 1)]
    spread = hidden.groupby(["step", "network"]).log10_grad_norm.agg(_spread)
    spread = spread.unstack(0).reindex(range(len(seeds)), columns=[0, steps]).astype(float)
    accuracy = course.log[course.log.step == steps].set_index("network").accuracy
    rows = pd.DataFrame(
        {
            "activation": arm.activation,
            "sigma_w": arm.sigma_w,
            "output": "as drawn" if arm.remedy == "none" else "rescaled",
            "depth": arm.depth,
            "seed": seeds,
            "log10_output_scale": np.log10(arm.start(seeds)[1].astype(float)),
            "rate": tuned.rate,
            "enclosed": tuned.enclosed,
            "status": course.networks.status,
            "train_loss": last_loss(course),
            "earlier_loss": last_loss(course, steps // 2),
            "steps_to_goal": steps_to_goal(course.losses, GOAL),
            "spread_before": spread[0],
            "spread_after": spread[steps],
        }
    )
    return rows.assign(accuracy=accuracy.reindex(rows.index).fillna(CHANCE))


def _spread(norms: pd.Series) -> float:
    """Decades between the layers; a true zero among others makes it infinite."""
    return norms.max() - norms.min() if norms.max() > -np.inf else np.nan
