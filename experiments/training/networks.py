"""One arm of the training: its rate tuned, its seeds trained, and what became of each.

A network has learned when the mean loss of 50 batches is at most the goal, and then stops. One
whose loss has not left chance when half the budget is spent is given up. Of others it is said
whether their loss still fell when the budget was spent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.engines import arms
from study.engines.arms import AT_CHANCE, CHANCE, GOAL, TRAIN, Arm
from study.engines.training import WINDOW, Course
from study.records.norms import gradient_norms, significant

LOGGED = (0, 50, 100, 200, 400, 800, 1600, 3200)
LAYERS = 3
DIGITS = 6
FALLING = 0.05
"""Share by which the loss fell in the last third of the budget, at least, where it is falling."""
DEAD = 0.5
"""Share of the units that no image activates, at least, where a network is dead."""

COLUMNS = arms.COLUMNS | {
    "share": "sigma_w over the activation's critical one [1]",
    "remedy": "what is done to the network beside sigma_w; see study.engines.arms [-]",
    "outcome": f"learned: the loss came down to {GOAL} nats; or did not: diverged: loss or "
    f"gradient were no longer finite; dead: {DEAD:.0%} of the units or more; falling: the loss "
    f"fell by {FALLING:.0%} or more in the last third of the budget; stuck: by less, or was above "
    f"{AT_CHANCE:.3g} nats after half the budget [-]",
    "steps": "steps taken: to the goal, to divergence, or the budget [steps]",
    "steps_to_goal": "steps to the goal; inf if never [steps]",
    "dead_before": f"share of hidden units that none of {TRAIN} images activates: phi' is 0.01 of "
    "its maximum or less on all of them; before training [1]",
    "dead_after": "the same at the end [1]",
    "log10_weight_growth": "norm of all weights at the end over that before [log10]",
    "step": "steps taken so far [steps]",
    "loss": "cross-entropy of the next batch [nat]",
    "log10_relative_update": "rate x ‖dC/dW^(k)‖ / ‖W^(k)‖ [log10]",
}
"""Columns of the tables of an arm."""


def measure(
    activation: str,
    sigma_w: float,
    share: float,
    remedy: str,
    depth: int,
    steps: int,
    seeds: list[int],
    is_followed: bool,
    **tuning: Any,
) -> dict[str, pd.DataFrame]:
    """Tune an arm and train its seeds; where it is followed, with what was seen on the way.

    Gradient norms are those of the first seed: before training, after a tenth of the budget, and
    at the end.
    """
    arm = Arm(activation, sigma_w, depth, remedy)
    course, judged = arm.judged(
        seeds,
        steps,
        logged=[step for step in LOGGED if step < steps] if is_followed else [0],
        layered=[0, steps // 10, steps],
        followed=1,
        goal=GOAL,
        patience=(steps // 2, AT_CHANCE),
        **tuning,
    )
    rate = judged.rate[0]
    about = {"activation": activation, "sigma_w": sigma_w, "share": share, "remedy": remedy}
    about |= {"depth": depth}
    networks = of_networks(arm, course, seeds, steps)
    networks = judged[["seed", "rate", "enclosed"]].join(networks)
    tables = {"networks": pd.DataFrame(about, networks.index).join(rounded(networks))}
    if is_followed:
        log = course.log.assign(seed=np.take(seeds, course.log.network))
        log = rounded(log[["seed", "step", "loss", "accuracy"]])
        tables["course"] = pd.DataFrame(about, log.index).join(log)
    first = course.layers
    update = np.log10(rate) + first.log10_grad_norm - first.log10_weight_norm
    first = first.assign(seed=seeds[0], rate=rate, log10_relative_update=update)
    kept = ["seed", "rate", "step", "layer", "log10_grad_norm", "log10_weight_norm"]
    norms = pd.DataFrame(about, first.index).join(first[[*kept, "log10_relative_update"]])
    tables["gradient_norms"] = gradient_norms(norms, LAYERS)
    return tables


def of_networks(arm: Arm, course: Course, seeds: list[int], steps: int) -> pd.DataFrame:
    """A row a seed: what became of it."""
    ends = course.networks.steps.to_numpy()
    status = course.networks.status
    is_lost = (status == "diverged").to_numpy()
    late = np.array([mean_loss(loss, end) for loss, end in zip(course.losses.T, ends, strict=True)])
    early = np.array([mean_loss(loss, 2 * steps // 3) for loss in course.losses.T])
    has_learned = ((status == "ok") & (ends < steps)).to_numpy() | (late <= GOAL)
    last = course.log.drop_duplicates("network", keep="last").set_index("network").sort_index()
    first = course.log.drop_duplicates("network").set_index("network").sort_index()
    dead = arm.dead(course.weights)
    outcome = np.where(late < (1 - FALLING) * early, "falling", "stuck").astype(object)
    outcome[status == "given up"] = "stuck"
    outcome[dead >= DEAD] = "dead"
    outcome[is_lost] = "diverged"
    outcome[has_learned] = "learned"
    return pd.DataFrame(
        {
            "outcome": outcome,
            "steps": ends,
            "steps_to_goal": np.where(has_learned, ends, np.inf),
            "accuracy": last.accuracy.fillna(CHANCE),
            "train_loss": late,
            "dead_before": arm.dead(arm.start(seeds)[0]),
            "dead_after": dead,
            "log10_weight_growth": last.log10_weight_norm - first.log10_weight_norm,
        }
    )


def mean_loss(losses: np.ndarray, end: int) -> float:
    """Of the batches before a step; inf where the network had diverged."""
    loss = losses[max(0, end + 1 - WINDOW) : end + 1].mean()
    return float(np.nan_to_num(loss, nan=np.inf, posinf=np.inf))


def rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Its numbers to `DIGITS` significant digits."""
    numbers = {name: significant(rows[name], DIGITS) for name in rows.select_dtypes("float")}
    return rows.assign(**numbers)
