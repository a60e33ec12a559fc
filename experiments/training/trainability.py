"""Which networks learn real digits, at which rate, and what training did to their weights.

Networks of one width in float32 without biases, on 5,000 MNIST digits, softmax and cross-entropy.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from study import theory
from study.engines.training import Course, gaussian_weights, train
from study.records.norms import gradient_norms
from study.sampling import digits, gaussian
from study.statistics.estimators import medians

WIDTH, BATCH, TRAIN, HELD_OUT = 64, 32, 4000, 300
CRITICAL = {n: round(theory.critical_sigma_w(n), 9) for n in ("relu", "tanh", "sigmoid")}
METHODS = {
    "momentum": {"optimiser": "momentum"},
    "clipped": {"optimiser": "momentum", "clip": 1.0},
    "adam": {"optimiser": "adam"},
}
# Half decades around what a pilot with another seed found best at 10 layers.
RATES = {
    "momentum": {"relu": [0.01, 0.003, 0.001], "sigmoid": [0.3, 0.1, 0.03]},
    "adam": {"relu": [0.003, 0.001, 0.0003], "sigmoid": [0.01, 0.003, 0.001]},
}
for grid in RATES.values():
    grid["tanh"] = grid["relu"]
RATES["clipped"] = RATES["momentum"]
NET = ["activation", "method", "depth", "sigma_w", "seed", "rate"]
RECORDED = (0,)  # seeds whose gradient norms are kept, at the chosen rates, in five layers

OUTCOMES = {
    "method": "momentum (0.9); clipped: the same, its gradient's norm clipped at 1; adam [-]",
    "rate": "learning rate [1]",
    "status": "ok; or diverged: loss or gradient were no longer finite [-]",
    "steps": "steps taken [steps]",
    "chosen": "whether of the rates this one has the lowest train_loss; the largest where all "
    "diverged [-]",
    "train_loss": "cross-entropy, mean over the last 20 batches; inf where it diverged [nat]",
    "accuracy": f"share of {HELD_OUT} held-out digits told right; nan where it diverged [1]",
    "log10_weight_growth": "norm of all weights over what it was before training; where the run "
    "diverged, of the last finite weights [log10]",
    "spread_before": "largest over smallest ‖dC/dW^(k)‖ of the layers, before training [log10]",
    "spread_after": "the same after training; nan where it diverged [log10]",
    "active_after": "active_fraction after training, mean over the hidden layers; nan where it "
    "diverged [1]",
    "step": "steps taken so far [steps]",
    "loss": "cross-entropy of the next batch; nan at the step that failed [nat]",
}
"""Columns of what `outcomes` returns."""


def train_on_digits(nets: pd.DataFrame, steps: int, layered: Collection[int]) -> Course:
    """Train a network a row, all from the same unit weights and on the same batches.

    Parameters
    ----------
    nets : columns `NET`; they differ in sigma_w and rate only
    layered : steps at which every layer's gradient norm is taken
    """
    first = nets.iloc[0]
    depth = int(first.depth)
    key = gaussian.key(int(first.seed), "training")
    x, classes = digits.digits()
    x = x.astype(np.float32)
    y = np.eye(10, dtype=np.float32)[classes]
    picked = np.random.default_rng(key).integers(TRAIN, size=(steps + 1, BATCH))
    widths = [x.shape[1], *[WIDTH] * (depth - 1), 10]
    return train(
        gaussian_weights([key] * len(nets), widths, nets.sigma_w, "float32"),
        nets.rate,
        lambda step: (x[picked[step]], y[picked[step]]),
        steps,
        [first.activation] * (depth - 1) + ["linear"],
        held_out=(x[TRAIN : TRAIN + HELD_OUT], classes[TRAIN : TRAIN + HELD_OUT]),
        logged=[0, steps // 10, steps // 4, steps // 2, steps],
        layered=layered,
        **METHODS[first.method],
    )


def outcomes(nets: pd.DataFrame, course: Course) -> dict[str, pd.DataFrame]:
    """The tables of an experiment; of the course and the gradients, at the chosen rates alone.

    Returns
    -------
    dict of ``networks``, a row a network; ``course``, a row a logged step; and, of few seeds,
    ``gradient_norms``, a row a layered step and layer. Columns: `NET`, `OUTCOMES` and the frame's.
    """
    networks = of_networks(nets, course)
    best = networks[networks.chosen][NET]
    log = best.merge(course.log, left_index=True, right_on="network")
    start = log.groupby("network").log10_weight_norm.transform("first")
    log["log10_weight_growth"] = log.log10_weight_norm - start
    tables = {
        "networks": networks,
        "course": log[[*NET, "step", "loss", "accuracy", "log10_weight_growth"]],
    }
    few = best[best.seed.isin(RECORDED)].assign(width=WIDTH, dtype="float32")
    if len(few):
        norms = few.merge(course.layers, left_index=True, right_on="network")
        tables["gradient_norms"] = gradient_norms(norms.drop(columns="network"), 5)
    return tables


def of_networks(nets: pd.DataFrame, course: Course) -> pd.DataFrame:
    """A row a network: what became of it, and whether its rate is the one chosen."""
    steps = len(course.losses)
    loss = course.losses[-20:].mean(axis=0)
    first = course.log.drop_duplicates("network").set_index("network")
    last = course.log.drop_duplicates("network", keep="last").set_index("network")
    spread = course.layers.groupby(["step", "network"]).log10_grad_norm.agg(_spread)
    hidden = course.layers[course.layers.layer < len(course.weights) - 1]
    after = hidden[hidden.step == steps]
    networks = nets.assign(
        status=course.networks.status,
        steps=course.networks.steps,
        train_loss=np.where(np.isnan(loss), np.inf, loss),
        accuracy=last.accuracy,
        log10_weight_growth=last.log10_weight_norm - first.log10_weight_norm,
        spread_before=spread.get(0),
        spread_after=spread.get(steps),
        active_after=after.groupby("network").active_fraction.mean(),
    ).astype({"spread_before": float, "spread_after": float})
    best = networks.groupby("sigma_w").train_loss.idxmin()
    networks.insert(len(NET), "chosen", networks.index.isin(best))
    return networks


def _spread(norms: pd.Series) -> float:
    return norms.max() - norms.min() if norms.max() > -np.inf else np.nan


def weight_growth(course: pd.DataFrame) -> pd.DataFrame:
    """Median decades that weight norms have grown, from the critical scale and from twice that.

    Returns
    -------
    DataFrame with method, activation, start ("critical" or "twice critical"), step, value, low
    and high. A run that diverged keeps the weights it had last.
    """
    starts = {1.0: "critical", 2.0: "twice critical"}
    share = np.round(course.sigma_w / course.activation.map(CRITICAL), 6)
    course = course.assign(start=share.map(starts))[share.isin(starts)]
    keys = ["method", "activation", "start"]
    wide = course.pivot(index=[*keys, "seed"], columns="step", values="log10_weight_growth")
    wide = wide.ffill(axis=1)[sorted(course.step[course.accuracy.notna()].unique())]
    growth = medians(wide.stack().rename("decades").reset_index(), [*keys, "step"], "decades")
    return growth.sort_values("method", key=lambda m: m.map([*METHODS].index), kind="stable")
