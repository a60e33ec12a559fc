"""Growth of the gradient per layer as a function of the weight scale, beside chi(sigma_w)."""

import numpy as np
import pandas as pd

import study
from study.activations import TABLE
from study.claims import Claim, Estimate, above, below, bootstrap_over_seeds, within
from study.plotting.scale import growth_against_scale

QUESTION = "At which weight scale does the gradient stop vanishing and start to explode?"

WIDTH = 500
DEPTH = 100
FIRST, LAST = 50, 95  # r^(FIRST) is past the transient of the forward pass

GRID = {
    preset: [
        {"seed": seed, "scales": np.geomspace(0.25, 16, count).round(6).tolist()}
        for seed in range(seeds)
    ]
    for preset, seeds, count in (("quick", 6, 13), ("paper", 20, 25))
}

COLUMNS = {
    "first_layer": "k of the lowest layer of the window [layers]",
    "last_layer": "k just above the window [layers]",
    "log10_growth": "factor of the gradient norm per layer, ‖dC/dr^(k)‖ / ‖dC/dr^(k+1)‖, its mean "
    "logarithm over the window [log10 a layer]",
    "log10_derivative_growth": "what the derivative did to it [log10 a layer]",
    "log10_weight_growth": "what the weights did to it [log10 a layer]",
}


def measure(seed: int, scales: list[float]) -> dict[str, pd.DataFrame]:
    """Every activation at every scale, all on the same weights."""
    nets = [
        study.Network(activation=name, depth=DEPTH, width=WIDTH, sigma_w=s, dtype="float32")
        for name in TABLE
        for s in scales
    ]
    df = study.profile(nets, [seed], engine="dense")
    df = df[(df.layer >= FIRST) & (df.layer < LAST)]
    keys = ["activation", "sigma_w", "depth", "width", "seed"]
    means = df.groupby(keys, sort=False)[["log10_derivative_factor", "log10_weight_factor"]].mean()
    means = means.set_axis(["log10_derivative_growth", "log10_weight_growth"], axis=1)
    means.insert(0, "log10_growth", means.sum(axis=1))
    rows = means.reset_index()
    rows.insert(5, "first_layer", FIRST)
    rows.insert(6, "last_layer", LAST)
    return {"growth": rows}


def crossing(growth: pd.DataFrame) -> float:
    """The sigma_w at which the mean growth over seeds crosses zero, linear in log sigma_w."""
    curve = growth.groupby("sigma_w").log10_growth.mean()
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

CLAIMS = [
    Claim(
        "sigmoid explodes beyond its critical scale",
        "Sigmoid: decades of gradient norm per layer at the first measured sigma_w above 11.",
        above(0),
        _growth_beyond("sigmoid", 11),
    ),
    Claim(
        "sigmoid's critical scale",
        "Sigmoid: the sigma_w at which the measured growth crosses zero; within 3 % of mean "
        f"field's {CRITICAL['sigmoid']:.6g}.",
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
        "1.012.",
        below(0.005),
        _deviation,
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Growth against sigma_w, a panel an activation."""
    growth = tables["growth"]
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
    return growth_against_scale(
        points,
        lines,
        CRITICAL,
        "Every activation has a weight scale of its own above which gradients explode",
        f"Marks: mean log10 growth of ‖dC/dr‖ per layer, layers {FIRST} to {LAST} of {DEPTH}, "
        f"width {WIDTH}, over {seeds} seeds with 95 % intervals (mostly smaller than the marks), "
        "float32, no bias.\nLines: ½ log10 χ(σ_w), mean-field theory of infinite width and depth, "
        "no free offset. Dotted: the critical σ_w of theory.",
    )
