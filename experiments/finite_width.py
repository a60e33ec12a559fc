"""What width does to the typical gradient: the exact law, 10,000 layers deep, to width 16,384."""

import numpy as np
import pandas as pd

import study
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, above, below, median_interval, within
from study.statistics.estimators import (
    distance_interval,
    least_p_value,
    log10_mean_square,
    mean,
    medians,
)
from study.statistics.gains import deaths_at_half_life, deaths_by_depth, gains, he_profile
from study.theory import finite_width

SCALES = {"relu": 2**0.5, "linear": 1.0}  # critical: the mean squared gradient is 1
LN = 2 * np.log(10)  # ln of a squared norm, over log10 of the norm
KIND = ["activation", "weights", "width", "narrow_width", "layers"]
DEPTHS = {"quick": [128, 512, 2048], "paper": [128, 512, 2048, 8192, 10_000]}
HE = ("relu", "gaussian")
PLAN = [  # kind, its own depth, networks a cell, cells of quick and of paper
    (*HE, 16, 16, None, 25, 1, 4),
    (*HE, 64, 64, None, 25, 4, 12),
    (*HE, 256, 256, None, 25, 2, 8),
    (*HE, 1024, 1024, None, 25, 1, 4),
    (*HE, 4096, 4096, None, 8, 0, 4),
    (*HE, 16_384, 16_384, None, 4, 0, 4),
    ("relu", "orthogonal", 64, 64, None, 25, 2, 8),
    ("linear", "gaussian", 64, 64, None, 25, 2, 8),
    (*HE, 128, 8, 100, 50, 1, 10),
    *[(*HE, n, n, 2 ** (n + 1), 250, 1, 4) for n in (3, 4, 5, 6)],  # these will die
    *[(*HE, n, n, 2 ** (n + 1), 100, 0, cells) for n, cells in ((7, 6), (9, 2))],
]


def measure(
    activation: str, weights: str, width: int, narrow_width: int, depths: list[int], seed: int,
    networks: int,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The gain of the gradient over the last L layers, for every L of ``depths``."""
    depth, seeds = depths[-1], range(seed, seed + networks)
    if width == narrow_width:
        sigma_w = SCALES[activation]
        net = study.Network(activation, depth, width, sigma_w, weights=weights, dtype="float32")
        df = study.profile(net, seeds, engine="matrix_free")
    else:
        df = he_profile(layer_widths(width, narrow_width, depth), seeds)
    kind = dict(zip(KIND[:4], (activation, weights, width, narrow_width), strict=True))
    return {"gains": gains(df, seeds, depths, kind)}


def layer_widths(width: int, narrow_width: int, layers: int) -> list[int]:
    """Units of r^(0), ..., r^(layers): every tenth is narrow, neither the first nor the last."""
    return [narrow_width if k % 10 == 5 else width for k in range(layers + 1)]


def law(activation: str, weights: str, width: int, narrow_width: int, layers: int):
    """The exact law of ln of the squared gain, of networks alive."""
    widths = layer_widths(width, narrow_width, layers)
    return finite_width.backward_law(widths, activation, weights, SCALES[activation])


def places(tables: dict[str, pd.DataFrame]) -> list[np.ndarray]:
    """Kind by kind: where in its exact law each network is, at full depth."""
    own = tables["gains"].query("layers == depth and layers_alive == depth")
    kinds = own[own.narrow_width > 7].groupby(KIND)  # a few narrow layers: no smooth density
    return [law(*kind).cdf(LN * group.log10_gain.to_numpy()) for kind, group in kinds]


def he(tables: dict[str, pd.DataFrame], which: str) -> pd.Series:
    """log10 of the gains of He networks that are alive, by a query; the index holds the seeds."""
    own = tables["gains"].query(f"weights == 'gaussian' and activation == 'relu' and {which}")
    return own[own.layers_alive == own.depth].set_index("seed").log10_gain


def _beside_law(which: str, widths: list[int]):
    """Judge: mean ln G of networks over that of the exact law of these widths."""
    expected = finite_width.backward_law(widths).mean / LN
    return lambda t: mean(he(t, which), unit=expected)


DEEP = "width == 64 and layers == depth"
UNEQUAL = layer_widths(128, 8, 100)
MEAN_WIDTH = [128, *[round(float(np.mean(UNEQUAL[1:-1])))] * 99, 128]

SAYINGS = (
    "He initialisation preserves the typical gradient",
    "an average over networks shows that mean",
    "the mean width decides",
)


def figure(tables: dict[str, pd.DataFrame]):
    """At finite width the typical gradient falls with depth over width, and narrow networks die.

    Left: the typical gain of the squared gradient norm, ln G, over depth times width, at the
    critical scale: one level a kind of network, -5/2 for ReLU with Gaussian weights. Marks: median
    with its 95 % interval over networks alive; lines: the median of the exact law of each width.
    Middle: where each network is in its exact law, equally often everywhere. Right: share of narrow
    networks whose gradient is exactly zero, with 1 - (1 - 2^-n)^L.
    """
    gains = tables["gains"]
    figure, [[left, middle, right]] = study.plot.panels(1, 3, 2.3)
    alive = gains[(gains.layers_alive == gains.depth) & (gains.width > 9)]
    alive = alive[alive.width == alive.narrow_width]
    points = medians(alive, KIND, ["log10_gain"])
    points["kind"] = points.activation.map({"relu": "ReLU", "linear": "linear"})
    points["kind"] += ", " + points.weights.replace("gaussian", "Gaussian")
    points["ratio"] = points.layers / points.width
    points["theory"] = [law(*kind).median / LN for kind in points[KIND].itertuples(index=False)]
    columns = ["value", "low", "high", "theory"]
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
    deaths = deaths_by_depth(gains[gains.width < 10])
    deaths = deaths.assign(low=deaths["value"] - deaths.half, high=deaths["value"] + deaths.half)
    study.plot.curves(
        deaths, "depth", "value", hue="width", interval=("low", "high"), legend=True,
        theory=deaths.assign(value=deaths.theory), ax=right, log="x", ylim=(0, 1),
    )  # fmt: skip
    right.set_ylabel("share with gradient zero")
    return figure


experiment = Experiment(
    question="How far does the typical gradient fall in networks of finite width, and what "
    "decides?",
    grid={
        preset: [
            dict(zip([*KIND[:4], "depths", "seed", "networks"], values, strict=True))
            for i, (*kind, own, networks, quick, paper) in enumerate(PLAN)
            for b in range(quick if preset == "quick" else paper)
            # Widths of one seed share draws, so every network has a seed of its own.
            for values in [(*kind, [own] if own else depths, 1000 * i + networks * b, networks)]
        ]
        for preset, depths in DEPTHS.items()
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name=name,
            statement=statement,
            threshold=threshold,
            judge=judge,
            about="saying" if name in SAYINGS else "",
        )
        for name, threshold, judge, statement in (
            (
                "the log gradient follows the exact law",
                below(0.1),
                lambda t: distance_interval(np.concatenate(places(t))),
                "All kinds at full depth, each network at its place in its own law: largest gap "
                "between the measured and the exact distribution; below 0.1.",
            ),
            (
                "no kind of network is an exception",
                above(1e-3),
                lambda t: least_p_value(places(t)),
                "The least p-value of that gap among the kinds, times their number; above 1e-3, "
                "the family-wise false-alarm rate.",
            ),
            (
                "He initialisation preserves the typical gradient",
                within(-1, 1),
                lambda t: median_interval(he(t, DEEP)),
                "He-ReLU, width 64, deepest networks: decades that the gradient norm gains, "
                "median; within a factor of ten.",
            ),
            (
                "He initialisation preserves the mean squared gradient",
                within(-np.log10(2), np.log10(2)),
                lambda t: log10_mean_square(he(t, "2 * layers == width")),
                "He-ReLU, half as many layers as units: log10 of the average squared gain of all "
                "such networks; 0 within a factor of two.",
            ),
            (
                "an average over networks shows that mean",
                within(-1, 1),
                lambda t: log10_mean_square(he(t, DEEP)),
                "He-ReLU, width 64, deepest networks: the same, though the mean is 1; within a "
                "factor of ten.",
            ),
            (
                "depth over width alone decides",
                within(0.9, 1.1),
                _beside_law("width == 256 and layers == 2048", [64] * 513),
                "He-ReLU, 8 times as deep as wide: mean ln G at width 256 over that of the law of "
                "width 64; within 10 % of 1.",
            ),
            (
                "a bottleneck costs what its 1/n says",
                within(0.9, 1.1),
                _beside_law("narrow_width == 8", UNEQUAL),
                "He-ReLU, 100 layers of width 128, every tenth of width 8: mean ln G over that of "
                "the exact law, a sum over layers; within 10 % of 1.",
            ),
            (
                "the mean width decides",
                within(0.9, 1.1),
                _beside_law("narrow_width == 8", MEAN_WIDTH),
                "The same networks: mean ln G over that of networks of their mean width; within 10 "
                "% of 1.",
            ),
            (
                "networks are born dead as often as 1 - (1 - 2^-n)^L",
                within(0.9, 1.1),
                lambda t: deaths_at_half_life(t["gains"].query("width < 10")),
                "He-ReLU of width below 10, L its half-life: dead networks over those expected; "
                "within 10 % of 1.",
            ),
        )
    ],
    columns={
        "narrow_width": "units of every tenth layer, where the others have width units [units]",
        "layers": "L, counted from the output down [layers]",
        "log10_gain": "‖dC/dr^(depth - L)‖ / ‖dC/dr^(depth)‖; -inf in a dead network [log10]",
        "layers_alive": "layers below the first without an active unit [layers]",
    },
)
