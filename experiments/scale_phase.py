"""Where gradients vanish and where they explode: weight scale, depth and bias, beside chi = 1."""

from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd

import study
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below, within
from study.statistics.estimators import mean, resampled, root_mean_square
from study.statistics.summaries import critical_scale, gains

ACTIVATIONS = [
    "relu", "sigmoid", "tanh", "linear", "leaky_relu", "selu", "elu", "gelu", "silu", "softplus",
    "hard_tanh", "erf",
]  # fmt: skip
FOUR = ["relu", "sigmoid", "tanh", "linear"]
CRITICAL = {name: study.theory.critical_sigma_w(name) for name in ACTIVATIONS}
WIDTH, DEPTH, PHASE_WIDTH = 500, 100, 256
FIRST, LAST = 50, 95  # r^(FIRST) is past the transient of the forward pass
NET = ["activation", "sigma_w"]
PLANE = [*NET, "sigma_b", "depth", "width"]
EXCESSES = [1.25, 1.5]  # of the critical scales, at which activations are compared
FEW = 5  # seeds
SEED = 1000  # those from 0 on were seen when the statistics of the claims were chosen


def cells(seeds: int, n_scales: int, depths: list[int], n_biases: int) -> list[dict]:
    """Growth: every activation and scale on the draws of few seeds. Phase: an activation a cell."""
    scales = np.geomspace(0.25, 16, n_scales).round(6).tolist()
    biases = np.geomspace(0.1, 10, n_biases).round(6).tolist()
    growth = [
        {"table": "growth", "seeds": [*range(first, first + FEW)], "scales": scales}
        for first in range(SEED, SEED + seeds, FEW)
    ]
    few = {"table": "phase", "seeds": [*range(SEED, SEED + FEW)], "scales": scales}
    planes = [{"depths": depths, "biases": [0.0]}, {"depths": [DEPTH], "biases": biases}]
    return growth + [few | {"activation": name} | plane for plane in planes for name in ACTIVATIONS]


def measure(table: str, **cell) -> dict[str, pd.DataFrame]:
    """One of the two tables, for a cell; of few networks the gradient norms."""
    return {"growth": measure_growth, "phase": measure_phase}[table](**cell)


def measure_growth(seeds: list[int], scales: list[float]) -> dict[str, pd.DataFrame]:
    """Growth per layer of every activation; networks of a seed share draws."""
    nets = [
        study.Network(name, DEPTH, WIDTH, sigma_w, dtype="float32")
        for name, sigma_w in product(ACTIVATIONS, scales)
    ]
    df = study.profile(nets, seeds, engine="matrix_free")
    rows = gains(df, FIRST, LAST)  # within the ends, where input and cost still show
    rows["log10_growth"] = rows.log10_gain / (LAST - FIRST)
    tables = {"growth": rows[[*PLANE, "seed", "log10_growth"]]}
    few = df[df.seed == SEED]
    return tables | ({"gradient_norms": gradient_norms(few, 3)} if len(few) else {})


def measure_phase(
    seeds: list[int],
    scales: list[float],
    activation: str,
    depths: list[int],
    biases: list[float],
) -> dict[str, pd.DataFrame]:
    """The median decay of one activation, all over a plane."""
    nets = [
        study.Network(activation, depth, PHASE_WIDTH, sigma_w, sigma_b, dtype="float32")
        for depth, sigma_b, sigma_w in product(depths, biases, scales)
    ]
    df = study.profile(nets, seeds, engine="matrix_free", layers=2)
    networks = gains(df).groupby(PLANE, sort=False).log10_gain
    phase = networks.agg(n_seeds="count", log10_decay="median").reset_index()
    few = df[(df.seed == SEED) & (df.sigma_b == 0) & df.sigma_w.isin(scales[::2])]
    return {"phase": phase} | ({"gradient_norms": gradient_norms(few, 2)} if len(few) else {})


def crossing(tables: dict[str, pd.DataFrame], activation: str) -> Estimate:
    """The sigma_w at which the growth of an activation crosses 0."""
    growth = tables["growth"]
    rows = growth[growth.activation == activation]
    wide = rows.pivot(index="seed", columns="sigma_w", values="log10_growth")
    scales = wide.columns.to_numpy()
    return resampled(wide, lambda seeds: critical_scale(scales, seeds.mean(axis=0)))


def sigmoid_growth(tables: dict[str, pd.DataFrame], sigma_w: float) -> Estimate:
    """Sigmoid's mean growth at the first scale of the grid from ``sigma_w`` on."""
    growth = tables["growth"].query("activation == 'sigmoid' and sigma_w >= @sigma_w")
    at_first = growth[growth.sigma_w == growth.sigma_w.min()]
    return mean(at_first.set_index("seed").log10_growth)


def growth_at(growth: pd.DataFrame, activation: str, excess: float) -> pd.Series:
    """The growth at a multiple of the critical scale, by seed; linear in log sigma_w between."""
    rows = growth[growth.activation == activation]
    wide = rows.pivot(index="seed", columns="sigma_w", values="log10_growth")
    wanted = excess * CRITICAL[activation]
    upper = int(np.searchsorted(wide.columns, wanted))
    low, high = wide.columns[upper - 1 : upper + 1]
    share = np.log(wanted / low) / np.log(high / low)  # scales are spaced evenly in the logarithm
    return (1 - share) * wide[low] + share * wide[high]


def relu_less_others(tables: dict[str, pd.DataFrame]) -> Estimate:
    """ReLU's growth less the larger of sigmoid's and tanh's, at the excess where that is least."""
    gaps = {}
    for excess in EXCESSES:
        relu, sigmoid, tanh = (
            growth_at(tables["growth"], name, excess) for name in ("relu", "sigmoid", "tanh")
        )
        gaps[excess] = relu - np.maximum(sigmoid, tanh)
    return mean(pd.DataFrame(gaps).min(axis=1))


def beyond_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """How far the mean growth is from mean field's, over all activations and scales."""
    wide = tables["growth"].pivot(index="seed", columns=NET, values="log10_growth")
    return root_mean_square(wide - [expected_growth(*net) for net in wide.columns])


@cache  # claims are judged at several levels
def expected_growth(activation: str, sigma_w: float) -> float:
    """Mean of 1/2 log10 chi over the window, in an infinitely wide network, layer by layer."""
    chi = study.theory.trajectory(activation, sigma_w, 0.0, LAST).chi
    return float(0.5 * np.log10(chi[FIRST:LAST]).mean())


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """Every activation crosses from vanishing to exploding at a weight scale that theory gives.

    growth: decades of the gradient's norm a layer against the weight scale; marks: median over
    seeds with its 95 % interval; lines: 1/2 log10 chi of mean-field theory, no free offset.

    depth: decades gained from output to input over weight scale and depth, median over seeds. The
    colours end where float32 does. Solid: chi = 1; dashed: theory's loss or gain of 3 decades, a
    factor of 1,000; dotted: theory's end of float32.
    """
    growth = tables["growth"]
    scales = np.geomspace(growth.sigma_w.min(), growth.sigma_w.max(), 40)
    theory = pd.DataFrame(product(growth.activation.unique(), scales), columns=NET)
    chi = [study.theory.mean_field(*net).chi for net in theory.itertuples(index=False)]
    theory["log10_growth"] = 0.5 * np.log10(chi)
    kinds = {True: "common activations", False: "others"}
    growth, theory = (
        frame.assign(kind=frame.activation.isin(FOUR).map(kinds)) for frame in (growth, theory)
    )
    curves = study.plot.curves(
        growth, "sigma_w", "log10_growth", hue="activation", col="kind", theory=theory, log="x",
        height=2.5,
    )  # fmt: skip
    for ax in curves.axes.flat:
        ax.axhline(0, color="#888888", lw=0.6, zorder=0)
    curves.set_ylabels("decades a layer")
    plane = tables["phase"].query("sigma_b == 0 and activation in @FOUR")
    maps = study.plot.phase(plane, "log10_decay", col="activation", theory=True, height=2.1)
    return {"growth": curves.figure, "depth": maps.figure}


SIGMOID = CRITICAL["sigmoid"]
SLIGHT = within(-0.001, 0.001)  # decades a layer: less than a factor of ten in a thousand layers
_FRESH = f"Judged on seeds from {SEED} on, of which none was seen when the statistic was chosen."

experiment = Experiment(
    question="At which weight scale does the gradient stop vanishing and start to explode?",
    grid={
        "quick": cells(FEW, 7, [10, 32], 2),
        "paper": cells(40, 25, [10, 22, 46, 100, 215, 464, 1000], 9),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="sigmoid explodes beyond its critical scale",
            statement="Sigmoid: decades of gradient norm per layer at the first measured sigma_w "
            "above 11.",
            threshold=above(0),
            negligible=SLIGHT,
            judge=partial(sigmoid_growth, sigma_w=11),
            about="B2",
        ),
        Claim(
            name="a sigmoid's gradient always vanishes",
            statement="Sigmoid: decades of gradient norm per layer at the largest measured "
            "sigma_w.",
            threshold=below(0),
            negligible=SLIGHT,
            judge=partial(sigmoid_growth, sigma_w=16),
        ),
        Claim(
            name="sigmoid's critical scale",
            statement="Sigmoid: the sigma_w at which the measured growth crosses zero; within 3 % "
            f"of mean field's {SIGMOID:.6g}. {_FRESH}",
            threshold=within(0.97 * SIGMOID, 1.03 * SIGMOID),
            judge=partial(crossing, activation="sigmoid"),
        ),
        Claim(
            name="ReLU's critical scale",
            statement="ReLU: the sigma_w at which the measured growth crosses zero; within 1 % of "
            "sqrt 2.",
            threshold=within(0.99 * 2**0.5, 1.01 * 2**0.5),
            judge=partial(crossing, activation="relu"),
        ),
        Claim(
            name="at equal excess ReLU's gradients explode less, by ‖dC/dr‖",
            statement="At 1.25 and 1.5 times each one's critical scale: decades of ‖dC/dr‖ per "
            "layer, ReLU's less the larger of sigmoid's and tanh's, the lesser of the two; below "
            "0.",
            threshold=below(0),
            judge=relu_less_others,
            about="C1",
        ),
        Claim(
            name="growth follows chi",
            statement="All activations and scales: root mean square deviation of the mean growth "
            "from mean field's 1/2 log10 chi in the same layers; below 0.005 decades per layer, a "
            f"factor of 1.012. {_FRESH}",
            threshold=below(0.005),
            judge=beyond_theory,
        ),
    ],
    columns={
        "log10_growth": "factor of the gradient norm per layer, ‖dC/dr^(k)‖ / ‖dC/dr^(k+1)‖, its "
        f"mean logarithm over layers {FIRST} to {LAST - 1} [log10 a layer]",
        "n_seeds": "seeds behind the row [seeds]",
        "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, median over the seeds [log10]",
    },
    version=3,
)
