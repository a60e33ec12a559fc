"""Where gradients vanish and where they explode: weight scale, depth and bias, beside chi = 1."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd

import study
from study.core.activations import TABLE
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below, bootstrap_over_seeds, within
from study.statistics.estimators import mean, root_mean_square
from study.statistics.phase import critical_scale, lasting_growth, mean_growth

WIDTH, DEPTH, PHASE_WIDTH = 500, 100, 256
FIRST, LAST = 50, 95  # r^(FIRST) is past the transient of the forward pass
NET = ["activation", "sigma_w"]
FOUR = ["relu", "sigmoid", "tanh", "linear"]
# The seeds from 0 on were seen when the statistics of the claims were chosen.
SEED = 1000


def _cells(seeds: int, n_scales: int, depths: list[int], n_biases: int) -> list[dict]:
    """Growth: every activation and scale on one seed's matrices. Phase: an activation a cell."""
    scales = np.geomspace(0.25, 16, n_scales).round(6).tolist()
    biases = np.geomspace(0.1, 10, n_biases).round(6).tolist()
    growth = [{"table": "growth", "seeds": [SEED + i], "scales": scales} for i in range(seeds)]
    planes = {"depths": depths, "biases": [0.0]}, {"depths": [DEPTH], "biases": biases}
    few = {"table": "phase", "seeds": [*range(SEED, SEED + 5)], "scales": scales}
    return growth + [few | {"activation": name} | plane for plane in planes for name in TABLE]


def measure(
    table: str, seeds: list[int], scales: list[float], activation: str = "", **plane: list
) -> dict[str, pd.DataFrame]:
    """Growth per layer of every activation, paired; or the decay of one, all over a plane."""
    if table == "growth":
        nets = [study.Network(a, DEPTH, WIDTH, s, dtype="float32") for a in TABLE for s in scales]
        df = study.profile(nets, seeds, engine="dense").query(f"{FIRST} <= layer < {LAST}")
        name, of = "log10_growth", "mean"
    else:
        at = product(plane["depths"], plane["biases"], scales)
        nets = [study.Network(activation, depth, PHASE_WIDTH, s, b) for depth, b, s in at]
        df = study.profile(nets, seeds, engine="matrix_free")
        name, of = "log10_decay", "sum"
    # Factors are 0 / 0 beneath a true zero, which is itself a factor, -inf.
    df[name] = df[["log10_derivative_factor", "log10_weight_factor"]].fillna(0.0).sum(axis=1)
    keys = [*NET, "sigma_b", "depth", "width"]
    rows = df.groupby([*keys, "seed"], sort=False)[name].agg(of)
    if table == "phase":
        rows = rows.groupby(keys, sort=False).agg(n_seeds="count", log10_decay="median")
    return {table: rows.reset_index()}


def _crossing(activation: str, tables: dict[str, pd.DataFrame]) -> Estimate:
    growth = tables["growth"]
    return bootstrap_over_seeds(growth[growth.activation == activation], critical_scale)


def _sigmoid_from(sigma_w: float, tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: sigmoid's mean growth at the first scale of the grid from ``sigma_w`` on."""
    own = tables["growth"]
    own = own[(own.activation == "sigmoid") & (own.sigma_w >= sigma_w)]
    return mean(own[own.sigma_w == own.sigma_w.min()].set_index("seed").log10_growth)


def _deviation(tables: dict[str, pd.DataFrame]) -> Estimate:
    wide = tables["growth"].pivot(index="seed", columns=NET, values="log10_growth")
    return root_mean_square(wide - [expected_growth(*net) for net in wide.columns])


def expected_growth(activation: str, sigma_w: float) -> float:
    """Mean of 1/2 log10 chi over the window, in an infinitely wide network, layer by layer."""
    chi = study.theory.trajectory(activation, sigma_w, 0.0, LAST).chi
    return float(0.5 * np.log10(chi[FIRST:LAST]).mean())


CRITICAL = {name: study.theory.critical_sigma_w(name) for name in TABLE}
SIGMOID = CRITICAL["sigmoid"]
_FRESH = f"Judged on seeds from {SEED} on, of which none was seen when the statistic was chosen."


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """Every activation crosses from vanishing to exploding at a weight scale that theory gives.

    growth: decades of the gradient's norm a layer against the weight scale; marks: mean over seeds
    with its 95 % interval; lines: 1/2 log10 chi of mean-field theory, no free offset.

    depth: decades gained from output to input over weight scale and depth, median over seeds. The
    colours end where float32 does. Solid: chi = 1; dashed: theory's loss or gain of 3 decades, a
    factor of 1,000; dotted: theory's end of float32.
    """
    growth, phase = mean_growth(tables["growth"]), tables["phase"]
    theory = lasting_growth(growth.activation.unique(), growth.sigma_w.min(), growth.sigma_w.max())
    figure, [[common, others]] = study.plot.panels(1, 2, 2.7, sharey=True)
    for ax, asked in ((common, True), (others, False)):
        own, lines = (
            t[t.activation.isin(FOUR) == asked].rename(columns={"value": "rate"})
            for t in (growth, theory)
        )
        study.plot.curves(
            own,
            "sigma_w",
            "rate",
            hue="activation",
            interval=("low", "high"),
            theory=lines,
            ax=ax,
            log="x",
        )
        ax.axhline(0, color="#888888", lw=0.6, zorder=0)
        ax.set_ylabel("decades a layer")
    own = phase[(phase.sigma_b == 0) & phase.activation.isin(FOUR)]
    grid = study.plot.phase(own, "log10_decay", col="activation", theory=True, height=2.1)
    return {"growth": figure, "depth": grid.figure}


experiment = Experiment(
    question="At which weight scale does the gradient stop vanishing and start to explode?",
    grid={
        "quick": _cells(3, 7, [10, 32, 100], 3),
        "paper": _cells(20, 25, [10, 22, 46, 100, 215, 464, 1000], 9),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(name=name, statement=statement, threshold=threshold, judge=judge, about=about)
        for name, about, threshold, judge, statement in (
            (
                "sigmoid explodes beyond its critical scale",
                "B",
                above(0),
                partial(_sigmoid_from, 11),
                "Sigmoid: decades of gradient norm per layer at the first measured sigma_w above "
                "11.",
            ),
            (
                "a sigmoid's gradient always vanishes",
                "saying",
                below(0),
                partial(_sigmoid_from, 16),
                "Sigmoid: decades of gradient norm per layer at the largest measured sigma_w.",
            ),
            (
                "sigmoid's critical scale",
                "",
                within(0.97 * SIGMOID, 1.03 * SIGMOID),
                partial(_crossing, "sigmoid"),
                "Sigmoid: the sigma_w at which the measured growth crosses zero; within 3 % of "
                f"mean field's {SIGMOID:.6g}. {_FRESH}",
            ),
            (
                "ReLU's critical scale",
                "",
                within(0.99 * 2**0.5, 1.01 * 2**0.5),
                partial(_crossing, "relu"),
                "ReLU: the sigma_w at which the measured growth crosses zero; within 1 % of sqrt "
                "2.",
            ),
            (
                "growth follows chi",
                "",
                below(0.005),
                _deviation,
                "All activations and scales: root mean square deviation of the mean growth from "
                "mean field's 1/2 log10 chi in the same layers; below 0.005 decades per layer, a "
                f"factor of 1.012. {_FRESH}",
            ),
        )
    ],
    columns={
        "log10_growth": "factor of the gradient norm per layer, ‖dC/dr^(k)‖ / ‖dC/dr^(k+1)‖, its "
        f"mean logarithm over layers {FIRST} to {LAST - 1} [log10 a layer]",
        "n_seeds": "seeds behind the row [seeds]",
        "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, median over the seeds [log10]",
    },
)
