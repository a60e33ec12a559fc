"""How deep a network can be trained, from which weight scale, and what remedies change.

Every kind of network has a learning rate of its own, found by halving among nine rates in four
decades, and more until the best is enclosed, on two seeds that judge nothing. A network that has
learned stops. All have one budget. A cell is one arm, of some minutes at most, so that a run that
is killed loses no more.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

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
SHARES = [0.5, 0.8, 1.0, 1.25, 2.0]  # of the critical sigma_w
DEPTHS = [10, 30, 100, 300]
DEEPEST = DEPTHS[-1]  # at the critical scale only
HELP = ["layers rescaled", "orthogonal", "residual", "BatchNorm", "LayerNorm"]
HELPED = ["relu", "sigmoid"]  # activations that are helped, at the critical scale
FIRST_JUDGED = 300  # seeds below it choose the learning rates


def cells(
    steps: int, seeds: int, depths: list[int], shares: list[float], helped_depths: list[int]
) -> list[dict]:
    """An arm a cell, those that take longest first."""
    few = max(10, 3 * steps // 100)  # with fewer no rate is told from another
    task = {"steps": steps, "few": few, "many": max(20, steps // 5), "tuning_seeds": [0, 1]}
    task["seeds"] = [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]
    plain = [
        (depth, name, share, "none")
        for depth in depths
        for name in ACTIVATIONS
        for share in shares
        if share == 1 or depth < DEEPEST
    ]
    helped = [(depth, name, 1.0, way) for name in HELPED for depth in helped_depths for way in HELP]
    return [
        {"activation": name, "sigma_w": round(share * CRITICAL[name], 9), "share": share}
        | {"remedy": remedy, "depth": depth}
        | {"is_followed": share == 1.0 and remedy == "none"}
        | task
        for depth, name, share, remedy in sorted(helped + plain, key=lambda arm: -arm[0])
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
    from scipy.stats import binomtest  # slow to import

    has_learned = arm(tables, **which).outcome == "learned"
    count = int(has_learned.sum())
    if not len(has_learned):
        return Estimate(np.nan, np.nan, np.nan, 0, 0.0)
    ends = binomtest(count, len(has_learned)).proportion_ci(confidence())
    return Estimate(count / len(has_learned), ends.low, ends.high, len(has_learned))


def of_learned(found: Estimate, share: float) -> Estimate:
    """An estimate about networks of which that share learned."""
    return replace(found, learned=min(found.learned, share))


def quicker(tables: dict, depth: int) -> Estimate:
    """log10 of the steps to the goal, ReLU's over tanh's, by seed."""
    relu, tanh = (arm(tables, name, depth).steps_to_goal for name in ("relu", "tanh"))
    learned = float(np.isfinite(relu + tanh).mean())
    ratio = np.log10(relu / tanh)[np.isfinite(relu + tanh)]
    return of_learned(median_interval(ratio), learned)


def dead_after(tables: dict, **which) -> Estimate:
    """Share of units that no image activates after training, median over seeds."""
    rows = arm(tables, **which)
    learned = float((rows.outcome == "learned").mean())
    return of_learned(median_interval(rows.dead_after), learned)


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
    """Accuracy, and steps to the goal, in the plane of depth and weight scale."""
    plain = rows[rows.remedy == "none"]
    figure, [axes] = study.plot.panels(1, len(ACTIVATIONS), 2.6, sharey=True)
    for ax, name in zip(axes, ACTIVATIONS, strict=True):
        arms = plain[plain.activation == name].groupby(["share", "depth"])
        medians = arms[["accuracy", "steps_to_goal"]].median().unstack().sort_index(ascending=False)
        steps = medians.steps_to_goal.map(lambda s: f"{s:.0f}" if np.isfinite(s) else "never")
        words = medians.accuracy.map("{:.0%}\n".format) + steps
        study.plot.table(words, "{}", ax, shade=0.7 * medians.accuracy)
        ax.set(title=f"{CALLED[name]}: accuracy, steps to learn", xlabel="depth")
    axes[0].set_ylabel(r"$\sigma_w$ / critical $\sigma_w$")
    return figure


def draw_remedies(rows: pd.DataFrame):
    """Accuracy of networks without and with each remedy, a panel an activation and depth."""
    helped = rows[rows.share == 1]
    depths = sorted(helped.depth[helped.remedy != "none"].unique())
    kinds = [(name, depth) for name in HELPED for depth in depths]
    figure, [axes] = study.plot.panels(1, len(kinds), 2.2, sharey=True)
    for ax, (name, depth) in zip(axes, kinds, strict=True):
        shown = helped[(helped.activation == name) & (helped.depth == depth)]
        shown = shown.drop(columns=["sigma_w", "share", "rate", "depth"])
        study.plot.dots(shown, "accuracy", "remedy", hue="activation", legend=False, ax=ax)
        ax.set(title=f"{CALLED[name]}, {depth} layers", xlim=(0, 1))
    return figure


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """What gradient descent makes of deep networks, each kind at its own learning rate.

    MNIST digits, width 64, momentum 0.9, float32.

    learning: loss and held-out accuracy against step, each activation at its critical weight scale.
    A network stops when it has learned (0.5 nats) and counts as it was then; curves end where the
    last one stopped, or with the budget. Marks: median over seeds with its 95 % interval.

    scale: held-out accuracy at the end and, below it, steps to the goal, medians over seeds, by
    depth and by weight scale as a share of the critical one. Never: not in 2,000 steps. Chance is
    10 %.

    remedies: held-out accuracy at the end of networks at the critical scale, helped in different
    ways. Marks: median over seeds with its 95 % interval.
    """
    return {
        "learning": draw_learning(tables["course"]),
        "scale": draw_scale(tables["networks"]),
        "remedies": draw_remedies(tables["networks"]),
    }


LEARNS = "share of seeds that learn within the budget, exact interval; above one half"
AT_CRITICAL = [("relu", 30), ("relu", 100), ("tanh", 100), ("tanh", DEEPEST), ("sigmoid", 30)]
WORDS = {0.5: "half", 0.8: "0.8 of", 1.25: "1.25 times", 2.0: "twice"}
# Activation and share of the critical scale, of 30 layers.
OFF = [("relu", share) for share in WORDS] + [("tanh", 0.5), ("tanh", 2.0)]
REMEDIED = [("sigmoid", 30, remedy) for remedy in HELP] + [("relu", 100, r) for r in HELP]
REMEDIED += [("sigmoid", 100, "residual"), ("sigmoid", 100, "BatchNorm")]
# Sayings among the remedies.
WHOSE = {
    ("sigmoid", "BatchNorm"): "Ioffe & Szegedy 2015, section 4.2",
    ("relu", "residual"): "He et al. 2016 (deep residual learning), section 4",
}

experiment = Experiment(
    question="How deep a network can be trained, from which weight scale, and what helps?",
    grid={
        "quick": cells(40, 2, [4, 8], [0.5, 1.0], [8]),
        "paper": cells(2000, 10, DEPTHS, SHARES, [30, 100]),
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
            for name, depth in AT_CRITICAL
        ),
        *(
            Claim(
                name=f"weights of {WORDS[share]} the scale keep {CALLED[name]} of 30 layers from "
                "learning",
                statement=f"{CALLED[name]} at {WORDS[share]} its critical scale: share of seeds "
                "that learn within the budget, exact interval; below one half.",
                threshold=below(0.5),
                judge=partial(learning, activation=name, depth=30, share=share),
                about="B1" if name == "relu" else "B2",
            )
            for name, share in OFF
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
            for name, depth, remedy in REMEDIED
        ),
    ],
    columns=networks.COLUMNS | NORMS,
    version=3,
)
