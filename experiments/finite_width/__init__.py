"""What width does to the typical gradient: the exact law, to 10,000 layers and to width 16,384."""

from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns

import study
from experiments.finite_width import ensembles
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, median_interval, within
from study.statistics.estimators import mean, medians
from study.theory import finite_width

SCALES = {"relu": 2**0.5, "linear": 1.0}  # critical: the mean squared gradient is 1
LN = 2 * np.log(10)  # ln of a squared norm, over log10 of the norm
KIND = ["activation", "weights", "width", "narrow_width", "layers"]
DEPTHS = {"quick": [128, 512, 2048], "paper": [128, 512, 2048, 8192, 10_000]}
HE = ("relu", "gaussian")
PLAN = [  # kind, its own depth, networks a cell, cells of quick and of paper
    (*HE, 16, 16, None, 25, 1, 2),
    (*HE, 64, 64, None, 25, 1, 6),
    (*HE, 256, 256, None, 25, 1, 8),
    (*HE, 1024, 1024, None, 15, 1, 4),
    (*HE, 4096, 4096, None, 8, 0, 4),
    (*HE, 16_384, 16_384, 2048, 2, 0, 5),
    ("relu", "orthogonal", 64, 64, None, 25, 1, 2),
    ("linear", "gaussian", 64, 64, None, 25, 1, 2),
    (*HE, 128, 8, 100, 50, 1, 20),
    *[(*HE, n, n, 2 ** (n + 1), 250, 1, 4) for n in (3, 4, 5, 6)],  # these will die
    *[(*HE, n, n, 2 ** (n + 1), 100, 0, cells) for n, cells in ((7, 6), (9, 2))],
    # More, for claims that few networks leave open.
    (*HE, 256, 256, 128, 100, 1, 10),
    (*HE, 256, 256, 2048, 50, 0, 12),
]


def cells(preset: str) -> list[dict]:
    """Every kind of the plan; widths of one seed share draws, so every network has its own."""
    rows = []
    for i, (*kind, depth, networks, quick, paper) in enumerate(PLAN):
        cell = dict(zip(KIND, kind, strict=False))
        cell["depths"] = DEPTHS[preset] if depth is None else [depth]
        for part in range(quick if preset == "quick" else paper):
            rows.append(cell | {"seed": 1000 * i + networks * part, "networks": networks})
    return rows


def measure(
    depths: list[int], seed: int, networks: int, **kind: str | int
) -> dict[str, pd.DataFrame]:
    """The gain of the gradient over the last L layers, for every L of ``depths``.

    ``kind`` is the activation, the weights, the width and the narrow width.
    """
    activation, weights, width, narrow_width = (kind[name] for name in KIND[:4])
    seeds = range(seed, seed + networks)
    if width == narrow_width:
        sigma_w = SCALES[activation]
        net = study.Network(
            activation, depths[-1], width, sigma_w, weights=weights, dtype="float32"
        )
        df = study.profile(net, seeds, engine="matrix_free")
    else:
        df = ensembles.he_profile(layer_widths(width, narrow_width, depths[-1]), seeds)
    columns = [*KIND, "depth", "seed", "log10_gain", "layers_alive"]
    return {
        "gains": ensembles.gains_of_last(df, depths).assign(**kind)[columns],
        "gradient_norms": gradient_norms(df[df.seed == seed].assign(**kind), 9),
    }


def layer_widths(width: int, narrow_width: int, layers: int) -> list[int]:
    """Units of r^(0), ..., r^(layers): every tenth is narrow, neither the first nor the last."""
    return [narrow_width if k % 10 == 5 else width for k in range(layers + 1)]


def law(activation: str, weights: str, width: int, narrow_width: int, layers: int):
    """The exact law of ln of the squared gain, of networks alive."""
    widths = layer_widths(width, narrow_width, layers)
    return finite_width.backward_law(widths, activation, weights, SCALES[activation])


def places(tables: dict[str, pd.DataFrame]) -> list[np.ndarray]:
    """Kind by kind: where in its exact law each network is, at full depth."""
    rows = tables["gains"]
    rows = rows[(rows.layers == rows.depth) & (rows.layers_alive == rows.depth)]
    kinds = rows[rows.narrow_width > 7].groupby(KIND)  # a few narrow layers: no smooth density
    return [law(*kind).cdf(LN * group.log10_gain.to_numpy()) for kind, group in kinds]


def he(tables: dict[str, pd.DataFrame], which: str) -> pd.Series:
    """log10 of the gains of He networks that are alive, by a query; the index holds the seeds."""
    rows = tables["gains"].query(f"weights == 'gaussian' and activation == 'relu' and {which}")
    return rows[rows.layers_alive == rows.depth].set_index("seed").log10_gain


def beside_law(tables: dict[str, pd.DataFrame], which: str, widths: list[int]) -> Estimate:
    """Mean ln G of networks over that of the exact law of these widths."""
    return mean(he(tables, which) * LN / finite_width.backward_law(widths).mean)


def mean_square(tables: dict[str, pd.DataFrame], which: str) -> Estimate:
    """log10 of the mean squared gain."""
    return ensembles.log10_mean_square(he(tables, which))


def narrow(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The networks that will die."""
    return tables["gains"].query("width < 10")


DEEP = "width == 64 and layers == depth"
BOTTLENECK = "narrow_width == 8"
UNEQUAL = layer_widths(128, 8, 100)
MEAN_WIDTH = [128, *[round(float(np.mean(UNEQUAL[1:-1])))] * 99, 128]


def figure(tables: dict[str, pd.DataFrame]):
    """At finite width the typical gradient falls with depth over width, and narrow networks die.

    Left: the typical gain of the squared gradient norm, ln G, over depth times width, at the
    critical scale, from width 64 on: one level a kind of network, -5/2 for ReLU with Gaussian
    weights. Marks: median with its 95 % interval over networks alive; lines: the median of the
    exact law of each width. Middle: where each network is in its exact law, equally often
    everywhere. Right: share of narrow networks whose gradient is exactly zero, with 1 - (1 -
    2^-n)^L.
    """
    gains = tables["gains"]
    figure, [[left, middle, right]] = study.plot.panels(1, 3, 2.3)
    alive = gains[(gains.layers_alive == gains.depth) & (gains.width >= 64)]
    alive = alive[alive.width == alive.narrow_width]
    points = medians(alive, KIND, "log10_gain")
    points["kind"] = points.activation.map({"relu": "ReLU", "linear": "linear"})
    points["kind"] += ", " + points.weights.replace("gaussian", "Gaussian")
    points["ratio"] = points.layers / points.width
    points["theory"] = [law(*kind).median / LN for kind in points[KIND].itertuples(index=False)]
    columns = ["value", "low", "high", "theory"]
    # ln G a unit of depth over width.
    points[columns] = LN * points[columns].div(points.ratio, axis=0)
    points = points[points.ratio >= 1].sort_values("ratio")[["kind", "ratio", *columns]]
    study.plot.curves(
        points, "ratio", "value", hue="kind", interval=("low", "high"),
        theory=points.assign(value=points.theory), ax=left, log="x", ylim=(-4, 0),
    )  # fmt: skip
    left.set(xlabel="$L/n$", ylabel=r"$\ln G\;n/L$")
    middle.hist(np.concatenate(places(tables)), 20, density=True, color="#D55E00", alpha=0.5)
    middle.axhline(1, color="black", lw=0.9)
    middle.set(xlabel="place in the exact law", ylabel="density", ylim=(0, 1.5))
    deaths = ensembles.deaths_by_depth(narrow(tables))
    deaths = deaths.assign(low=deaths["value"] - deaths.half, high=deaths["value"] + deaths.half)
    study.plot.curves(
        deaths, "depth", "value", hue="width", interval=("low", "high"), legend=True,
        theory=deaths.assign(value=deaths.theory), ax=right, log="x", ylim=(0, 1),
    )  # fmt: skip
    sns.move_legend(right, "upper left", bbox_to_anchor=(1, 1))
    right.set_ylabel("share with gradient zero")
    return figure


experiment = Experiment(
    question="How far does the typical gradient fall in networks of finite width, and what "
    "decides?",
    grid={"quick": cells("quick"), "paper": cells("paper")},
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="He initialisation preserves the typical gradient",
            statement="He-ReLU, width 64, deepest networks: decades that the gradient norm gains, "
            "median; within a factor of ten.",
            threshold=within(-1, 1),
            judge=lambda tables: median_interval(he(tables, DEEP)),
        ),
        Claim(
            name="He initialisation preserves the mean squared gradient",
            statement="He-ReLU, half as many layers as units: log10 of the average squared gain of "
            "all such networks; 0 within a factor of two.",
            threshold=within(-np.log10(2), np.log10(2)),
            judge=partial(mean_square, which="2 * layers == width"),
        ),
        Claim(
            name="an average over networks shows that mean",
            statement="He-ReLU, width 64, deepest networks: the same, though the mean is 1; within "
            "a factor of ten.",
            threshold=within(-1, 1),
            judge=partial(mean_square, which=DEEP),
        ),
        Claim(
            name="depth over width alone decides",
            statement="He-ReLU, 8 times as deep as wide: mean ln G at width 256 over that of the "
            "law of width 64; within 10 % of 1.",
            threshold=within(0.9, 1.1),
            judge=partial(beside_law, which="width == 256 and layers == 2048", widths=[64] * 513),
        ),
        Claim(
            name="a bottleneck costs what its 1/n says",
            statement="He-ReLU, 100 layers of width 128, every tenth of width 8: mean ln G over "
            "that of the exact law, a sum over layers; within 10 % of 1.",
            threshold=within(0.9, 1.1),
            judge=partial(beside_law, which=BOTTLENECK, widths=UNEQUAL),
        ),
        Claim(
            name="the mean width decides",
            statement="The same networks: mean ln G over that of networks of their mean width; "
            "within 10 % of 1.",
            threshold=within(0.9, 1.1),
            judge=partial(beside_law, which=BOTTLENECK, widths=MEAN_WIDTH),
        ),
        Claim(
            name="networks are born dead as often as 1 - (1 - 2^-n)^L",
            statement="He-ReLU of width below 10, L its half-life: dead networks over those "
            "expected; within 10 % of 1.",
            threshold=within(0.9, 1.1),
            judge=lambda tables: ensembles.deaths_at_half_life(narrow(tables)),
        ),
    ],
    columns={
        "narrow_width": "units of every tenth layer, where the others have width units [units]",
        "layers": "L, counted from the output down [layers]",
        "log10_gain": "‖dC/dr^(depth - L)‖ / ‖dC/dr^(depth)‖; -inf in a dead network [log10]",
        "layers_alive": "layers below the first without an active unit [layers]",
    },
    version=3,
)
