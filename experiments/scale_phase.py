"""Where gradients vanish and where they explode: weight scale, depth and bias, beside chi = 1."""

import numpy as np
import pandas as pd

import study
from study.activations import TABLE
from study.claims import Claim, Estimate, above, below, bootstrap_over_seeds, within
from study.plotting.scale import growth_against_scale, phase_diagram

QUESTION = "At which weight scale does the gradient stop vanishing and start to explode?"

WIDTH, DEPTH = 500, 100  # of the networks whose growth is measured
FIRST, LAST = 50, 95  # r^(FIRST) is past the transient of the forward pass
PHASE_WIDTH = 256
# The seeds from 0 on were seen when the statistics of the claims were chosen.
SEED = 1000


def _cells(seeds: int, count: int, depths: list[int], biases: list[float]) -> list[dict]:
    """Growth: every activation and scale on one seed's matrices. Phase: an activation a cell."""
    scales = np.geomspace(0.25, 16, count).round(6).tolist()
    growth = [{"table": "growth", "seeds": [SEED + i], "scales": scales} for i in range(seeds)]
    planes = {"depths": depths, "biases": [0.0]}, {"depths": [DEPTH], "biases": biases}
    few = [*range(SEED, SEED + 5)]
    return growth + [
        {"table": "phase", "seeds": few, "scales": scales, "activation": name, **plane}
        for plane in planes
        for name in TABLE
    ]


GRID = {
    "quick": _cells(3, 7, [10, 32, 100], [0.1, 1.0, 10.0]),
    "paper": _cells(
        20,
        25,
        np.geomspace(10, 1000, 7).round().astype(int).tolist(),
        np.geomspace(0.1, 10, 9).round(6).tolist(),
    ),
}

COLUMNS = {
    "log10_growth": "factor of the gradient norm per layer, ‖dC/dr^(k)‖ / ‖dC/dr^(k+1)‖, its mean "
    f"logarithm over layers {FIRST} to {LAST - 1} [log10 a layer]",
    "n_seeds": "seeds behind the row [seeds]",
    "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, median over the seeds [log10]",
}


def measure(
    table: str,
    seeds: list[int],
    scales: list[float],
    activation: str = "",
    depths: list[int] | None = None,
    biases: list[float] | None = None,
) -> dict[str, pd.DataFrame]:
    """Growth per layer of every activation, paired; or the decay of one, all over a plane."""
    if table == "growth":
        fixed = {"depth": DEPTH, "width": WIDTH, "dtype": "float32"}
        nets = [study.Network(activation=a, sigma_w=s, **fixed) for a in TABLE for s in scales]
        df = study.profile(nets, seeds, engine="dense")
        df = df[(df.layer >= FIRST) & (df.layer < LAST)]
        name, of = "log10_growth", "mean"
    else:
        nets = [
            study.Network(activation, depth, PHASE_WIDTH, s, b)
            for depth in depths
            for b in biases
            for s in scales
        ]
        df = study.profile(nets, seeds, engine="matrix_free")
        name, of = "log10_decay", "sum"
    # Factors are 0 / 0 beneath a true zero, which is itself a factor, -inf.
    df[name] = df[["log10_derivative_factor", "log10_weight_factor"]].fillna(0.0).sum(axis=1)
    keys = ["activation", "sigma_w", "sigma_b", "depth", "width"]
    rows = df.groupby([*keys, "seed"], sort=False)[name].agg(of)
    if table == "phase":
        rows = rows.groupby(keys, sort=False).agg(n_seeds="count", log10_decay="median")
    return {table: rows.reset_index()}


def cost(table: str, seeds: list[int], scales: list[float], **plane) -> tuple[float, int]:
    """Growth: matrices drawn and a product a network. Phase: rows of a profile."""
    if table == "growth":
        nets = len(seeds) * len(scales) * len(TABLE)
        return 0.3 + 0.01 * nets, 2**26 + 2**20 * nets
    rows = len(seeds) * len(scales) * len(plane["biases"]) * sum(plane["depths"])
    return 3e-4 * max(plane["depths"]) + 7e-6 * rows, 2**24 + 2000 * rows


def crossing(growth: pd.DataFrame) -> float:
    """The sigma_w at which the mean growth over seeds crosses zero, linear in log sigma_w."""
    curve = growth.groupby("sigma_w").log10_growth.mean()
    if (curve > 0).all() or (curve <= 0).all():  # it crosses beyond the grid
        return 0.0 if curve.iloc[0] > 0 else np.inf
    up = int(np.argmax(curve.to_numpy() > 0))
    below_zero, above_zero = curve.iloc[up - 1 : up + 1]
    low, high = curve.index[up - 1 : up + 1]
    return float(low * (high / low) ** (below_zero / (below_zero - above_zero)))


def _crossing(activation: str):
    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        growth = tables["growth"]
        return bootstrap_over_seeds(growth[growth.activation == activation], crossing)

    return judge


def _growth_beyond(activation: str, sigma_w: float):
    """Judge: the mean growth at the first scale of the grid from ``sigma_w`` on."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["growth"]
        own = own[(own.activation == activation) & (own.sigma_w >= sigma_w)]
        own = own[own.sigma_w == own.sigma_w.min()]
        return bootstrap_over_seeds(own, lambda f: float(f.log10_growth.mean()))

    return judge


def _deviation(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: root mean square of (mean growth - mean field's over the same layers)."""
    wide = tables["growth"].pivot(
        index="seed", columns=["activation", "sigma_w"], values="log10_growth"
    )
    off = wide - [expected_growth(name, sigma) for name, sigma in wide.columns]
    off.columns = [f"{name} {sigma}" for name, sigma in wide.columns]
    cells = list(off.columns)
    return bootstrap_over_seeds(
        off.reset_index(), lambda f: float(np.sqrt((f[cells].to_numpy().mean(axis=0) ** 2).mean()))
    )


def expected_growth(activation: str, sigma_w: float) -> float:
    """Mean of 1/2 log10 chi over the window, in an infinitely wide network, layer by layer."""
    chi = study.theory.trajectory(activation, sigma_w, 0.0, LAST).chi
    return float(0.5 * np.log10(chi[FIRST:LAST]).mean())


CRITICAL = {name: study.theory.critical_sigma_w(name) for name in TABLE}
_FRESH = f"Judged on seeds from {SEED} on, of which none was seen when the statistic was chosen."

CLAIMS = [
    Claim(
        "sigmoid explodes beyond its critical scale",
        "Sigmoid: decades of gradient norm per layer at the first measured sigma_w above 11.",
        above(0),
        _growth_beyond("sigmoid", 11),
        about="B",
    ),
    Claim(
        "a sigmoid's gradient always vanishes",
        "Sigmoid: decades of gradient norm per layer at the largest measured sigma_w.",
        below(0),
        _growth_beyond("sigmoid", 16),
        about="saying",
    ),
    Claim(
        "sigmoid's critical scale",
        "Sigmoid: the sigma_w at which the measured growth crosses zero; within 3 % of mean "
        f"field's {CRITICAL['sigmoid']:.6g}. {_FRESH}",
        within(0.97 * CRITICAL["sigmoid"], 1.03 * CRITICAL["sigmoid"]),
        _crossing("sigmoid"),
    ),
    Claim(
        "ReLU's critical scale",
        "ReLU: the sigma_w at which the measured growth crosses zero; within 1 % of sqrt 2.",
        within(0.99 * 2**0.5, 1.01 * 2**0.5),
        _crossing("relu"),
    ),
    Claim(
        "growth follows chi",
        "All activations and scales: root mean square deviation of the mean growth from mean "
        "field's 1/2 log10 chi in the same layers; below 0.005 decades per layer, a factor of "
        f"1.012. {_FRESH}",
        below(0.005),
        _deviation,
    ),
]


def _growth_figure(growth: pd.DataFrame):
    """Growth against sigma_w, a panel an activation."""
    seeds = growth.seed.nunique()
    grouped = growth.groupby(["activation", "sigma_w"], sort=False).log10_growth
    points = grouped.agg(value="mean", sd="std").reset_index()
    half = 1.96 * points.sd / np.sqrt(seeds)
    points = points.assign(low=points.value - half, high=points.value + half)
    scales = np.geomspace(growth.sigma_w.min(), growth.sigma_w.max(), 160)
    lines = pd.DataFrame(
        [
            (name, s, 0.5 * np.log10(study.theory.mean_field(name, s).chi))
            for name in TABLE
            for s in scales
        ],
        columns=["activation", "sigma_w", "value"],
    )
    ends = points.groupby("activation").value
    crossed = int(((ends.min() < 0) & (ends.max() > 0)).sum())
    which = "Every activation has" if crossed == len(TABLE) else f"{crossed} activations have"
    return growth_against_scale(
        points,
        lines,
        CRITICAL,
        f"{which} a weight scale of its own above which gradients explode",
        f"Marks: mean log10 growth of ‖dC/dr‖ per layer, layers {FIRST} to {LAST} of {DEPTH}, "
        f"width {WIDTH}, over {seeds} seeds with 95 % intervals (mostly smaller than the marks), "
        "float32, no bias.\nLines: ½ log10 χ(σ_w), mean-field theory of infinite width and depth, "
        "no free offset. Dotted: the critical σ_w of theory.",
    )


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """Growth against sigma_w; the phases over depth and sigma_w, and over sigma_b and sigma_w."""
    phase = tables["phase"]
    return {
        "growth": _growth_figure(tables["growth"]),
        "depth": _phase_figure(phase[phase.sigma_b == 0], "depth", "No bias."),
        "bias": _phase_figure(
            phase[phase.sigma_b > 0], "sigma_b", f"Networks {DEPTH} layers deep."
        ),
    }


def _phase_figure(points: pd.DataFrame, y: str, which: str):
    at = points[["activation", "sigma_b"]].drop_duplicates()
    at["critical"] = [study.theory.critical_sigma_w(*row) for row in at.itertuples(index=False)]
    points = points.merge(at)
    right = ((points.log10_decay > 0) == (points.sigma_w > points.critical)).sum()
    return phase_diagram(
        points.rename(columns={"log10_decay": "value"}),
        y,
        f"χ = 1 parts vanishing from exploding gradients in {right} of {len(points)} cases",
        f"Colour: decades gained by ‖dC/dr‖ from output to input, median of {points.n_seeds.max()} "
        f"seeds a square (a case), width {PHASE_WIDTH}, matrix-free engine. {which}\nBlack: χ = 1, "
        "mean-field theory of infinite width, no free offset; white, dashed: where the measured "
        "median changes sign;\ndotted: float32's normal range, beyond which a plain run shows 0 "
        "(left) or inf and then NaN (right).",
    )
