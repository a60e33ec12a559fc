"""How deep a network can be trained, from which weight scale, and what remedies change.

Every kind of network has a learning rate of its own, found by halving among nine rates in four
decades, and more until the best is enclosed, on two seeds that judge nothing. A network that has
learned stops. All have one budget. A cell is one arm, of some minutes at most, so that a run that
is killed loses no more.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

import study
from experiments.training import networks
from experiments.training.networks import measure
from study.core.activations import TABLE
from study.records.norms import COLUMNS as NORMS
from study.runs.experiment import Experiment
from study.statistics.claims import (
    Claim,
    Estimate,
    above,
    below,
    confidence,
    median_interval,
    within,
)

ACTIVATIONS = ["relu", "tanh", "sigmoid"]
CALLED = {name: TABLE[name].label for name in ACTIVATIONS}
CRITICAL = {name: round(study.theory.critical_sigma_w(name), 9) for name in ACTIVATIONS}
PLAIN = {
    10: {name: [0.5, 1.0, 2.0] for name in ACTIVATIONS},
    30: {"relu": [0.5, 1.0, 2.0], "tanh": [1.0], "sigmoid": [1.0]},
    100: {"relu": [1.0], "tanh": [1.0]},
}
"""By depth and activation: shares of the critical sigma_w of networks without a remedy."""
HELP = ["layers rescaled", "orthogonal", "residual", "BatchNorm", "LayerNorm"]
HELPED = [("sigmoid", 30, remedy) for remedy in HELP] + [("relu", 100, "residual")]
"""At the critical scale: activation, depth and remedy."""
FIRST_JUDGED = 200  # seeds below it choose the learning rates


def cells(steps: int, seeds: int) -> list[dict]:
    """An arm a cell, those that take longest first."""
    task = {"steps": steps, "few": steps // 20, "many": steps // 4, "tuning_seeds": [0, 1]}
    task["seeds"] = [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]
    arms = [(depth, name, 1.0, remedy) for name, depth, remedy in HELPED]
    for depth, shares in PLAIN.items():
        arms += [(depth, name, share, "none") for name in shares for share in shares[name]]
    return [
        {"activation": name, "sigma_w": round(share * CRITICAL[name], 9), "share": share}
        | {"remedy": remedy, "depth": depth, "is_followed": share == 1.0}
        | task
        for depth, name, share, remedy in sorted(arms, key=lambda arm: -arm[0])
    ]


def arm(
    tables: dict, activation: str, depth: int, share: float = 1.0, remedy: str = "none"
) -> pd.DataFrame:
    """The networks of an arm, by seed."""
    rows = tables["networks"]
    rows = rows[(rows.activation == activation) & (rows.depth == depth) & (rows.share == share)]
    return rows[rows.remedy == remedy].set_index("seed")


def learning(tables: dict, **which) -> Estimate:
    """Share of an arm's networks that learned, with its exact interval (Clopper & Pearson 1934)."""
    has_learned = arm(tables, **which).outcome == "learned"
    count = int(has_learned.sum())
    ends = stats.binomtest(count, len(has_learned)).proportion_ci(confidence())
    return Estimate(count / len(has_learned), ends.low, ends.high, len(has_learned))


def quicker(tables: dict, depth: int) -> Estimate:
    """log10 of the steps to the goal, ReLU's over tanh's, by seed."""
    relu, tanh = (arm(tables, name, depth).steps_to_goal for name in ("relu", "tanh"))
    learned = float(np.isfinite(relu + tanh).mean())
    ratio = np.log10(relu / tanh)[np.isfinite(relu + tanh)]
    if not len(ratio):
        return Estimate(np.nan, -np.inf, np.inf, len(relu), learned)
    found = median_interval(ratio)
    return Estimate(found.value, found.low, found.high, found.n, learned)


def dead_after(tables: dict, **which) -> Estimate:
    """Share of units that no image activates after training, median over seeds."""
    rows = arm(tables, **which)
    found = median_interval(rows.dead_after)
    learned = float((rows.outcome == "learned").mean())
    return Estimate(found.value, found.low, found.high, found.n, learned)


def held(course: pd.DataFrame) -> pd.DataFrame:
    """The course at common steps: a network that has stopped stays as it was."""
    keys = ["activation", "depth", "seed"]
    wide = course.pivot(index=keys, columns="step", values=["loss", "accuracy"])
    values = {name: wide[name].ffill(axis=1) for name in ("loss", "accuracy")}
    last = course.groupby(["activation", "depth"]).step.transform("max")
    common = [step for step in networks.LOGGED if step in wide["loss"]]
    rows = pd.DataFrame({name: table.stack() for name, table in values.items()}).reset_index()
    ends = course.assign(end=last).drop_duplicates(["activation", "depth"])
    rows = rows.merge(ends[["activation", "depth", "end"]], on=["activation", "depth"])
    return rows[(rows.step.isin(common) & (rows.step <= rows.end)) | (rows.step == rows.end)]


def draw_learning(course: pd.DataFrame):
    """Loss and accuracy against step, a column a depth."""
    plain = held(course[course.remedy == "none"]).drop(columns="end")
    depths = sorted(plain.depth[plain.activation == "tanh"].unique())
    figure, axes = study.plot.panels(2, len(depths), 3.6, sharex=True, sharey="row")
    for column, depth in zip(axes.T, depths, strict=True):
        rows = plain[plain.depth == depth].drop(columns="depth")
        study.plot.curves(rows, "step", "loss", hue="activation", ylim=(0, 2.6), ax=column[0])
        study.plot.curves(rows, "step", "accuracy", hue="activation", ylim=(0, 1), ax=column[1])
        column[0].set_title(f"{depth} layers")
    return figure


def draw_scale(rows: pd.DataFrame):
    """Accuracy against depth, a panel a weight scale."""
    plain = rows[(rows.remedy == "none") & rows.share.isin([0.5, 1.0, 2.0])]
    names = {0.5: "half critical", 1.0: "critical", 2.0: "twice critical"}
    plain = plain.assign(scale=plain.share.map(names)).drop(columns=["sigma_w", "share", "rate"])
    figure, [axes] = study.plot.panels(1, 3, 2.2, sharey=True)
    for ax, name in zip(axes, names.values(), strict=True):
        shown = plain[plain.scale == name].drop(columns="scale")
        study.plot.curves(shown, "depth", "accuracy", hue="activation", log="x", ylim=(0, 1), ax=ax)
        ax.set_title(name)
        ax.set_xticks([*PLAIN], [*PLAIN])
        ax.minorticks_off()
    return figure


def draw_remedies(rows: pd.DataFrame):
    """Accuracy of networks without and with each remedy."""
    helped = rows[(rows.share == 1) & (rows.activation == "sigmoid") & (rows.depth == 30)]
    helped = helped.drop(columns=["sigma_w", "share", "rate", "depth"])
    figure, [[ax]] = study.plot.panels(1, 1, 2.2)
    study.plot.dots(helped, "accuracy", "remedy", hue="activation", legend=False, ax=ax)
    return figure


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """What gradient descent makes of deep networks, each kind at its own learning rate.

    MNIST digits, width 64, momentum 0.9, float32. Marks: median over seeds with its 95 % interval.

    learning: loss and held-out accuracy against step, each activation at its critical weight scale.
    A network stops when it has learned (0.5 nats) and counts as it was then; curves end where the
    last one stopped, or with the budget.

    scale: held-out accuracy at the end against depth, for three weight scales. Chance is 0.1.

    remedies: held-out accuracy at the end of sigmoid networks of 30 layers at the critical scale,
    helped in different ways.
    """
    return {
        "learning": draw_learning(tables["course"]),
        "scale": draw_scale(tables["networks"]),
        "remedies": draw_remedies(tables["networks"]),
    }


LEARNS = "share of seeds that learn within the budget, exact interval; above one half"
WHOSE = {
    ("sigmoid", "BatchNorm"): "Ioffe & Szegedy 2015, section 4.2",
    ("relu", "residual"): "He et al. 2016 (deep residual learning), section 4",
}
"""Sayings among the remedies."""

experiment = Experiment(
    question="How deep a network can be trained, from which weight scale, and what helps?",
    grid={
        "quick": cells(60, 2),
        "paper": cells(1200, 10),
    },
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=f"{CALLED[name]} of {depth} layers learns at its critical scale",
                statement=f"{CALLED[name]}, sigma_w = {CRITICAL[name]:.4g}: {LEARNS}.",
                threshold=above(0.5),
                judge=partial(learning, activation=name, depth=depth),
                about="A4" if name == "relu" else "",
            )
            for name, depth in (("relu", 30), ("relu", 100), ("tanh", 100), ("sigmoid", 30))
        ),
        *(
            Claim(
                name=f"weights of {word} the scale keep ReLU of 30 layers from learning",
                statement=f"ReLU at {word} its critical scale: share of seeds that learn within "
                "the budget, exact interval; below one half.",
                threshold=below(0.5),
                judge=partial(learning, activation="relu", depth=30, share=share),
                about="B1",
            )
            for word, share in (("half", 0.5), ("twice", 2.0))
        ),
        Claim(
            name="ReLU learns several times as fast as tanh",
            statement="10 layers, each at its critical scale: log10 of the steps to the goal, "
            "ReLU's over tanh's, by seed; less than half of them.",
            threshold=below(-np.log10(2)),
            negligible=within(-np.log10(1.1), np.log10(1.1)),
            judge=partial(quicker, depth=10),
            about="saying",
            source="Krizhevsky et al. 2012, section 3.1",
        ),
        Claim(
            name="few ReLU units are dead after training",
            statement="He-initialised ReLU, 10 layers: share of hidden units that no training "
            "image activates at the end; below a tenth.",
            threshold=below(0.1),
            judge=partial(dead_after, activation="relu", depth=10),
            about="A3",
        ),
        *(
            Claim(
                name=f"{depth} layers of {CALLED[name]} learn with this remedy: {remedy}",
                statement=f"{CALLED[name]} at its critical scale: {LEARNS}.",
                threshold=above(0.5),
                judge=partial(learning, activation=name, depth=depth, remedy=remedy),
                about="saying" if (name, remedy) in WHOSE else "",
                source=WHOSE.get((name, remedy), ""),
            )
            for name, depth, remedy in HELPED
        ),
    ],
    columns=networks.COLUMNS | NORMS,
    version=2,
)
