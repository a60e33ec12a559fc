"""Whether training moves towards large weights, and whether large weights are poor solutions.

Runs that diverged or died are counted as such, and are in no median. A norm says nothing by itself
of a ReLU network: neighbouring layers times 2 and 1/2 compute the same, so such starts are trained,
too.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

import study
from experiments.large_weights import arms, flow
from experiments.large_weights.arms import CRITICAL, OPTIMISERS, STARTS
from study.core.activations import TABLE
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, below, median_interval, within

FIRST_JUDGED = 100  # seeds below it choose the learning rates
CALLED = {name: TABLE[name].label for name in CRITICAL}
SAME = [*STARTS][2:]
FLOW_RATES = [0.1, 0.05, 0.025]
BALANCED_AT, LONG = 16, [1, 4, 16, 64, 256]
"""Times, learning rate times steps: of the balance, and of the growth after all is learned."""


def cells(starts: list[str], optimisers: list[str], steps: int, times: list[int], seeds: int):
    """An arm a cell, all its seeds side by side; and the flow, an activation and a rate a cell."""
    judged = [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]
    task = {"steps": steps, "few": steps // 20, "many": steps // 6, "tuning_seeds": [0, 1]}
    trained = [
        {"table": "runs", "activation": name, "optimiser": optimiser, "start": start}
        | task
        | {"seeds": judged}
        for start in starts
        for optimiser in optimisers
        for name in (["relu"] if start in SAME else CRITICAL)
    ]
    flowing = [
        {"table": "flow", "activation": name, "rate": rate, "seeds": judged}
        | {"times": times if name == "relu" and rate == FLOW_RATES[0] else times[:3]}
        for name in CRITICAL
        for rate in FLOW_RATES
    ]
    return trained + flowing


def measure(table: str, **cell) -> dict[str, pd.DataFrame]:
    """One of the two parts, for a cell."""
    return {"runs": measure_runs, "flow": measure_flow}[table](**cell)


def measure_runs(activation: str, optimiser: str, start: str, **task) -> dict[str, pd.DataFrame]:
    """One kind of network, its rate tuned, then its seeds trained."""
    return arms.outcomes(arms.Arm(activation, optimiser, start), **task)


def measure_flow(**cell) -> dict[str, pd.DataFrame]:
    """Plain descent at a small rate, without batches."""
    return {"flow": flow.along(**cell)}


def runs(tables: dict, activation: str, optimiser: str, start: str) -> pd.DataFrame:
    """The runs of an arm, by seed."""
    rows = tables["runs"].query(
        "activation == @activation and optimiser == @optimiser and start == @start"
    )
    return rows.set_index("seed")


def median_of(values: pd.Series, *arms_behind: pd.DataFrame) -> Estimate:
    """Of seeds whose runs neither diverged nor died; with the share of runs that learned."""
    of_all = pd.concat(arms_behind)
    learned = np.isfinite(of_all.steps_to_goal.where(of_all.status == "ok", np.inf)).mean()
    for rows in arms_behind:
        values = values[rows.status.reindex(values.index) == "ok"]
    found = median_interval(values)
    return replace(found, learned=min(found.learned, float(learned)))


def grown(tables: dict, optimiser: str, start: str) -> Estimate:
    """Decades that ReLU's weights grow."""
    relu = runs(tables, "relu", optimiser, start)
    return median_of(relu.log10_growth, relu)


def grown_beside(tables: dict, optimiser: str) -> Estimate:
    """What ReLU's weights grow less what the other's that grow least do, paired by seed."""
    kinds = [runs(tables, name, optimiser, "critical") for name in ("relu", "sigmoid", "tanh")]
    relu, *others = (rows.log10_growth for rows in kinds)
    return median_of(relu - np.minimum(*others), *kinds)


def from_start(tables: dict, start: str, activation: str) -> Estimate:
    """Accuracy, momentum, of runs from a start less those from the critical scale, by seed."""
    ours, plain = (runs(tables, activation, "momentum", at) for at in (start, "critical"))
    return median_of(ours.accuracy - plain.accuracy, ours, plain)


def imbalance(tables: dict, activation: str) -> Estimate:
    """How unequally the layers' squared norms grow in the limit of small rates."""
    rows = tables["flow"].query("activation == @activation and time == @BALANCED_AT")
    return median_interval(flow.at_rate_zero(rows, "unbalanced"))


def growth_ratio(tables: dict) -> Estimate:
    """Growth of ReLU's squared norms in the last two equal stretches of log time, their ratio."""
    rows = tables["flow"].query("activation == 'relu'")
    last = (
        rows[rows.rate == rows.rate.max()]
        .pivot(index="seed", columns="time", values="grown")
        .iloc[:, -3:]
        .to_numpy()
    )
    earlier, later = np.diff(last, axis=1).T
    return median_interval(later / earlier)


def figure(tables: dict[str, pd.DataFrame]):
    """ReLU's norm hardly grows; large weights learn less well even where they compute the same.

    Left: decades that the norm of all weights grows in training with momentum, from the critical
    scale and from twice that. Third: accuracy after training ReLU from the critical scale, from
    twice that, and from two starts of larger norm that compute what the first does. Right: how
    unequally the layers' squared norms grow in plain descent, against the learning rate: with ReLU
    not at all in the limit of small rates. Marks: median over seeds with its 95 % interval; runs
    that neither diverged nor died; MNIST digits, 5 layers (right: 3).
    """
    canvas, [axes] = study.plot.panels(1, 4, 2.2, width_ratios=[1, 1, 1.6, 0.9])
    way = tables["course"].query("optimiser == 'momentum'")
    limits = (1.1 * way.log10_growth.min(), 1.1 * way.log10_growth.max())
    for start, ax in zip(STARTS, axes[:2], strict=False):
        shown = way[way.start == start]
        study.plot.curves(
            shown, "step", "log10_growth", hue="activation", log="x", ylim=limits, ax=ax
        )
        ax.set(title=f"from {start}", ylabel="decades the norm grows")
        ax.axhline(0, color="#888888", lw=0.6, zorder=0)
    kept = tables["runs"].query("activation == 'relu' and status == 'ok'")
    study.plot.dots(kept.drop(columns="rate"), "accuracy", "start", hue="optimiser", ax=axes[2])
    low, high = kept.accuracy.min(), kept.accuracy.max()
    axes[2].set(title="ReLU", xlabel="held-out accuracy", xlim=(low - 0.35, high + 0.02))
    axes[2].legend(loc="lower left", handletextpad=0.2, borderpad=0)
    balance = tables["flow"].query("time == @BALANCED_AT")
    study.plot.curves(balance, "rate", "unbalanced", hue="activation", ax=axes[3])
    axes[3].set(title="plain descent", xlabel="learning rate", ylabel="imbalance of layers")
    axes[3].set_xlim(0, None)
    return canvas


POORER = -0.02
"""Of the held-out digits: two points less are a poorer solution."""
TWICE = float(np.log10(2))
SLIGHT = float(np.log10(1.1))
"""A tenth more: norms that differ by less are alike."""

experiment = Experiment(
    question="Does training move towards large weights, and are large weights poor solutions?",
    grid={
        "quick": cells([*STARTS], ["momentum"], 40, LONG[:3], 2),
        "paper": cells([*STARTS], [*OPTIMISERS], 1200, LONG, 10),
    },
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=f"{optimiser} does not double ReLU's weights",
                statement=f"ReLU, 5 layers, {optimiser} at its tuned rate, 1,200 steps from the "
                "critical scale: decades that the norm of all weights grows; less than a factor of "
                "two.",
                threshold=below(TWICE),
                judge=partial(grown, optimiser=optimiser, start="critical"),
                about="C1",
            )
            for optimiser in OPTIMISERS
        ),
        *(
            Claim(
                name=f"{optimiser} grows ReLU's weights less than saturating ones",
                statement=f"{optimiser} at tuned rates, 1,200 steps from the critical scale: "
                "decades that the norm of all weights grows, ReLU's less the smaller of sigmoid's "
                "and tanh's, by seed; below 0.",
                threshold=below(0),
                negligible=within(-SLIGHT, SLIGHT),
                judge=partial(grown_beside, optimiser=optimiser),
                about="C1",
            )
            for optimiser in OPTIMISERS
        ),
        Claim(
            name="from large weights ReLU moves back",
            statement="ReLU, momentum, from twice the critical scale: decades that the norm of all "
            "weights grows; falls by a tenth of its size at least.",
            threshold=below(float(np.log10(0.9))),
            judge=partial(grown, optimiser="momentum", start="twice critical"),
            about="C1",
        ),
        *(
            Claim(
                name=f"large weights are a poorer start for {called}",
                statement=f"{called}, momentum, twice the critical scale less the critical one: "
                "held-out accuracy after training, by seed; at least two points less.",
                threshold=below(POORER),
                judge=partial(from_start, start="twice critical", activation=name),
                about="C1",
            )
            for name, called in CALLED.items()
        ),
        *(
            Claim(
                name=f"the same ReLU function at larger norm is a poorer start ({start})",
                statement=f"ReLU, momentum, layers {start}, less the same network as drawn: "
                "held-out accuracy after training, by seed; at least two points less.",
                threshold=below(POORER),
                judge=partial(from_start, start=start, activation="relu"),
                about="C1",
            )
            for start in SAME
        ),
        *(
            Claim(
                name=f"{called}'s layers grow by one amount",
                statement=f"{called}, plain descent on all data to time {BALANCED_AT}, limit of "
                "small rates: largest less smallest growth of ‖W^(k)‖^2 over the layers' mean; "
                f"within 0.05 of 0 (Du et al. 2018; {law}).",
                threshold=within(-0.05, 0.05),
                judge=partial(imbalance, activation=name),
            )
            for name, called, law in (
                ("relu", "ReLU", "it holds of homogeneous activations"),
                ("sigmoid", "sigmoid", "a control, of which it does not hold"),
            )
        ),
        Claim(
            name="ReLU's norms grow with the logarithm of time",
            statement=f"ReLU, plain descent, all data told right: growth of ‖W‖^2 from time "
            f"{LONG[-2]} to {LONG[-1]} over that from {LONG[-3]} to {LONG[-2]}; within 0.5 to 1.5, "
            "where log t has 1, its powers less, sqrt t 2 and rest 0 (Lyu & Li 2020).",
            threshold=within(0.5, 1.5),
            judge=growth_ratio,
        ),
    ],
    columns=arms.COLUMNS | flow.COLUMNS | {"loss": "cross-entropy of the next batch [nat]"},
)
