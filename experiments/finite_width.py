"""What width does to the typical gradient: the exact law, 10,000 layers deep, to width 16,384."""

import numpy as np
import pandas as pd

import study
from study import gaussian
from study.claims import Claim, Estimate, above, below, bootstrap_over_seeds, within
from study.claims import median_interval as median
from study.plotting.finite_width import gradients_at_finite_width
from study.theory import dying, finite_width

QUESTION = "How far does the typical gradient fall in networks of finite width, and what decides?"

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

GRID = {
    preset: [
        dict(zip([*KIND[:4], "depths", "seed", "networks"], values, strict=True))
        for i, (*kind, own, networks, quick, paper) in enumerate(PLAN)
        for b in range(quick if preset == "quick" else paper)
        # Widths of one seed share draws, so every network has a seed of its own.
        for values in [(*kind, [own] if own else depths, 1000 * i + networks * b, networks)]
    ]
    for preset, depths in DEPTHS.items()
}

COLUMNS = {
    "narrow_width": "units of every tenth layer, where the others have width units [units]",
    "layers": "L, counted from the output down [layers]",
    "log10_gain": "‖dC/dr^(depth - L)‖ / ‖dC/dr^(depth)‖; -inf in a dead network [log10]",
    "layers_alive": "layers below the first without an active unit [layers]",
}


def cost(width: int, narrow_width: int, depths: list, networks: int, **_) -> tuple[float, int]:
    """Core-seconds and bytes: so much a layer and an entry; more where layers die."""
    layers = networks * depths[-1]
    entries = 1.5e-8 * width if width == narrow_width else 1e-8 * width**2
    each = entries + (1e-5 if width <= 16 else 4e-6)
    return 1.2e-4 * depths[-1] + layers * each, 1000 * layers + 2**27


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
        df = pd.concat([_unequal(layer_widths(width, narrow_width, depth), s) for s in seeds])
    steps = (df.log10_derivative_factor + df.log10_weight_factor).to_numpy().reshape(-1, depth)
    silent = np.isneginf(df.log10_signal_norm.to_numpy().reshape(-1, depth))
    alive = np.where(silent.any(axis=1), silent.argmax(axis=1), depth)
    rows = []
    for layers in depths:
        row = dict(zip(KIND, (activation, weights, width, narrow_width, layers), strict=True))
        gain = np.where(alive == depth, steps[:, -layers:].sum(axis=1), -np.inf)
        rows.append(row | {"depth": depth, "seed": seeds, "log10_gain": gain})
    return {"gains": pd.concat([pd.DataFrame(row | {"layers_alive": alive}) for row in rows])}


def layer_widths(width: int, narrow_width: int, layers: int) -> list[int]:
    """Units of r^(0), ..., r^(layers): every tenth is narrow, neither the first nor the last."""
    return [narrow_width if k % 10 == 5 else width for k in range(layers + 1)]


def _unequal(n: list[int], seed: int) -> pd.DataFrame:
    """A ReLU network of unequal widths, matrix by matrix."""
    key, depth = gaussian.key(seed, "finite width"), len(n) - 1
    W = [gaussian.normal(key, k, (n[k], n[k + 1])) * (2 / n[k]) ** 0.5 for k in range(depth)]
    x, dr = gaussian.normal(key, depth, (2, 1, n[0]))
    return study.backpropagate(W, x, "relu", cotangent=dr / np.linalg.norm(dr))


def law(activation: str, weights: str, width: int, narrow_width: int, layers: int):
    """The exact law of ln of the squared gain, of networks alive."""
    widths = layer_widths(width, narrow_width, layers)
    return finite_width.backward_law(widths, activation, weights, SCALES[activation])


def distances(gains: pd.DataFrame) -> pd.DataFrame:
    """Kolmogorov and Smirnov's distance from the exact law at full depth, kind by kind; the last
    row is of all networks, each at its place in its own law."""
    own = gains[(gains.layers == gains.depth) & (gains.layers_alive == gains.depth)]
    kinds = own[(own.narrow_width > 7)].groupby(KIND)  # a few narrow layers: no smooth density
    places = [law(*kind).cdf(LN * group.log10_gain.to_numpy()) for kind, group in kinds]
    found = []
    for place in map(np.sort, [*places, np.concatenate(places)]):
        steps = np.arange(len(place) + 1) / len(place)
        found.append((len(place), max((steps[1:] - place).max(), (place - steps[:-1]).max())))
    return pd.DataFrame(found, columns=["networks", "distance"])


def _follows(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: the distance of all networks, with Massart's band (1990)."""
    n, d = distances(tables["gains"]).iloc[-1]
    half = (np.log(2 / 0.05) / (2 * n)) ** 0.5
    return Estimate(d, max(0.0, d - half), d + half, int(n))


def _exception(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: the least p-value of a kind, by Massart's bound, times the number of kinds."""
    own = distances(tables["gains"]).iloc[:-1]
    most = min(2 * float((own.networks * own.distance**2).max()), 700.0)
    p = min(1.0, float(2 * len(own) * np.exp(-most)))
    return Estimate(p, p, p, int(own.networks.sum()))


def he(tables: dict[str, pd.DataFrame], which: str) -> pd.DataFrame:
    """He networks that are alive, by a query."""
    own = tables["gains"].query(f"weights == 'gaussian' and activation == 'relu' and {which}")
    return own.loc[own.layers_alive == own.depth, ["seed", "log10_gain"]]


def _ratio(which: str, widths: list[int]):
    """Judge: mean ln G of networks over that of the exact law of these widths."""
    expected = finite_width.backward_law(widths).mean / LN
    return lambda tables: bootstrap_over_seeds(
        he(tables, which), lambda f: f.log10_gain.mean() / expected
    )


def _average(which: str):
    """Judge: log10 of the average of G."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = he(tables, which)
        top = own.log10_gain.max()
        with np.errstate(under="ignore"):
            own = own.assign(share=100 ** (own.log10_gain - top))
            return bootstrap_over_seeds(own, lambda f: float(2 * top + np.log10(f.share.mean())))

    return judge


def _deaths(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: networks dead over those expected, each width at its half-life."""
    own = tables["gains"].query("width < 10")
    half_life = (2.0**own.width * np.log(2)).round().astype(int)
    chance = [dying.born_dead([n] * d) for n, d in zip(own.width, half_life, strict=True)]
    expected = sum(chance)
    half = 1.96 * sum(p * (1 - p) for p in chance) ** 0.5 / expected
    ratio = float((own.layers_alive < half_life).sum() / expected)
    return Estimate(ratio, ratio - half, ratio + half, len(own))


DEEP = "width == 64 and layers == depth"
UNEQUAL = layer_widths(128, 8, 100)
MEAN_WIDTH = [128, *[round(float(np.mean(UNEQUAL[1:-1])))] * 99, 128]

CLAIMS = [
    Claim(
        "the log gradient follows the exact law",
        "All kinds at full depth, each network at its place in its own law: largest gap between "
        "the measured and the exact distribution; below 0.1.",
        below(0.1),
        _follows,
    ),
    Claim(
        "no kind of network is an exception",
        "The least p-value of that gap among the kinds, times their number; above 1e-3, the "
        "family-wise false-alarm rate.",
        above(1e-3),
        _exception,
    ),
    Claim(
        "He initialisation preserves the typical gradient",
        "He-ReLU, width 64, deepest networks: decades that the gradient norm gains, median; "
        "within a factor of ten.",
        within(-1, 1),
        lambda tables: median(he(tables, DEEP).log10_gain),
    ),
    Claim(
        "He initialisation preserves the mean squared gradient",
        "He-ReLU, half as many layers as units: log10 of the average squared gain of all such "
        "networks; 0 within a factor of two.",
        within(-np.log10(2), np.log10(2)),
        _average("2 * layers == width"),
    ),
    Claim(
        "an average over networks shows that mean",
        "He-ReLU, width 64, deepest networks: the same, though the mean is 1; within a factor of "
        "ten.",
        within(-1, 1),
        _average(DEEP),
    ),
    Claim(
        "depth over width alone decides",
        "He-ReLU, 8 times as deep as wide: mean ln G at width 256 over that of the law of width "
        "64; within 10 % of 1.",
        within(0.9, 1.1),
        _ratio("width == 256 and layers == 2048", [64] * 513),
    ),
    Claim(
        "a bottleneck costs what its 1/n says",
        "He-ReLU, 100 layers of width 128, every tenth of width 8: mean ln G over that of the "
        "exact law, a sum over layers; within 10 % of 1.",
        within(0.9, 1.1),
        _ratio("narrow_width == 8", UNEQUAL),
    ),
    Claim(
        "the mean width decides",
        "The same networks: mean ln G over that of networks of their mean width; within 10 % of 1.",
        within(0.9, 1.1),
        _ratio("narrow_width == 8", MEAN_WIDTH),
    ),
    Claim(
        "networks are born dead as often as 1 - (1 - 2^-n)^L",
        "He-ReLU of width below 10, L its half-life: dead networks over those expected; within "
        "10 % of 1.",
        within(0.9, 1.1),
        _deaths,
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Typical gradients against depth, against the sum of 1/n, and shares of dead networks."""
    gains, points, deaths = tables["gains"], [], []
    alive = gains[(gains.layers_alive == gains.depth) & (gains.width > 9)]
    for kind, own in alive.groupby(KIND, sort=False):
        found, exact = median(own.log10_gain), law(*kind)
        ratio = sum(1 / n for n in layer_widths(*kind[2:])[1:])
        points.append((*kind, ratio, found.value, found.low, found.high, exact.median / LN))
    for n, own in gains[gains.width < 10].groupby("width"):
        for depth in np.unique(np.geomspace(1, 2 ** (n + 1), 8).astype(int)):
            share, expected = (own.layers_alive < depth).mean(), dying.born_dead([n] * int(depth))
            half = 1.96 * (expected * (1 - expected) / len(own)) ** 0.5
            deaths.append((n, depth, share, half, expected))
    typical = he(tables, DEEP).log10_gain.median()
    return gradients_at_finite_width(
        pd.DataFrame(points, columns=[*KIND, "ratio", "value", "low", "high", "theory"]),
        pd.DataFrame(deaths, columns=["width", "depth", "value", "half", "theory"]),
        "The mean gradient is preserved, the typical one vanishes: depth over width decides"
        if typical < -1
        else "The typical gradient at finite width",
        "Marks: median over networks alive with its 95 % order-statistic interval (shares: 95 % "
        f"about the theory); {gains.seed.nunique()} networks, float32, no bias, critical scale "
        "(σ_w = √2; linear 1).\nLines, no free offset: the median of the exact law of each width; "
        "right, 1 − (1 − 2⁻ⁿ)^L. The mean of the squared gradient is 1 everywhere (dashed).",
    )
