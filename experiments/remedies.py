"""For how many layers each of the usual remedies keeps the gradient within three decades."""

from functools import cache

import numpy as np
import pandas as pd

import study
from study import gaussian, images, theory
from study.blocks import BATCH, UNITS, Block, all_gradients, clipped, log10_decays
from study.claims import (
    Claim,
    Estimate,
    above,
    below,
    bootstrap_over_seeds,
    median_interval,
    within,
)
from study.plotting.remedies import layers_kept
from study.theory.residual import branch_scales, growth, normalised_scales

QUESTION = "Which remedies keep the gradient within a factor of 1,000, and for how many layers?"

WIDTH, EXAMPLES, DECADES, HE = 256, 16, 3.0, 2**0.5
DEPTHS = [1, *(round(2 ** (k / 2)) for k in range(2, 25))]
"""Half octaves down to theory's horizon."""
CHAINS = {
    f"{name}, {called}": (name, law, scale)
    for name in ("relu", "sigmoid", "tanh", "selu", "gelu")
    for called, law, scale in (
        ("PyTorch default", "uniform", 3**-0.5),
        ("LeCun", "gaussian", 1.0),
        ("Xavier", "uniform", 1.0),
        ("He", "gaussian", HE),
        ("critical", "gaussian", theory.critical_sigma_w(name)),
        ("orthogonal", "orthogonal", HE if name == "relu" else 1.0),
    )
    if (name, called) not in (("relu", "critical"), ("tanh", "critical"))  # He's and LeCun's
}
"""Plain networks: activation, law of the weights, sigma_w."""
BRANCH = Block("relu", residual=True, sigma_w=HE)
BLOCKS = {
    "relu, BatchNorm": (Block("relu", BATCH), "undamped"),
    "tanh, BatchNorm": (Block("tanh", BATCH), "undamped"),
    "relu, LayerNorm": (Block("relu", UNITS), "undamped"),
    "tanh, LayerNorm": (Block("tanh", UNITS), "undamped"),
    "relu, residual": (BRANCH, "undamped"),
    "tanh, residual": (Block("tanh", residual=True), "undamped"),
    "relu, residual × 1/√L": (BRANCH, "1/sqrt(L)"),
    "relu, residual × 1/l": (BRANCH, "1/l"),
    "relu, residual × 1/L": (BRANCH, "1/L"),
    "relu, residual × 0": (BRANCH, "zero"),
    "relu, residual BatchNorm": (Block("relu", BATCH, True, sigma_v=HE), "undamped"),
}
"""Kind of block, and schedule of the branch scales."""
CLIPPED = "sigmoid, LeCun, clipped"
GROUP = dict.fromkeys(CHAINS, "initialiser") | dict.fromkeys(BLOCKS, "block")
GROUP |= {CLIPPED: "clipping"}
CAPS = {"initialiser": 2048, "block": 1024, "clipping": 64}

GRID = {
    preset: [
        {"inputs": inputs, "seed": seed, "depths": [d for d in DEPTHS if d <= deepest]}
        for inputs, count in (("random", seeds), ("digits", seeds // 2))
        for seed in range(count)
    ]
    for preset, seeds, deepest in (("quick", 6, 64), ("paper", 16, 2048))
}

COLUMNS = {
    "inputs": "random: standard normal; digits: MNIST images, projected to the width at random [-]",
    "remedy": "activation and remedy; l: the block, L: the number of blocks [-]",
    "group": "initialiser: of a plain network; block: another architecture; clipping [-]",
    "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖; no deeper rows once it has passed 6 [log10]",
    "depth_kept": "where this network's |log10_decay| first exceeds 3, linear between depths; the "
    "deepest one where it never does [layers]",
    "censored": "whether it never does [-]",
    "expected_depth": "where theory's does; inf beyond its horizon [layers]",
    "clip_factor": "what clipping multiplied the gradients by [1]",
    "ratio_change": "largest relative change of the ratio of a gradient's norm to the last's [1]",
}


def cost(inputs: str, seed: int, depths: list[int]) -> tuple[float, int]:
    """Core-seconds; bytes, mostly the traces of residual batch normalisation."""
    traced = sum(d for d in depths if d <= CAPS["block"])
    return 0.3 + 3e-3 * max(depths), 40_000_000 + 9 * traced * EXAMPLES * WIDTH


def measure(inputs: str, seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every remedy of one seed, to some four times the depth that theory gives it."""

    def normal(purpose: str, layer: int, rows: int) -> np.ndarray:
        key = gaussian.key(seed, "remedies", purpose)
        return gaussian.normal(key, layer, (rows, WIDTH), np.float32)

    def weights(k: int) -> np.ndarray:
        return normal("weights", k, WIDTH) / np.float32(WIDTH**0.5)

    x, u = normal("inputs", 0, EXAMPLES), normal("cotangent", 0, EXAMPLES)
    if inputs == "digits":
        pixels = images.sample(seed, EXAMPLES)[0].astype(np.float32)
        x = pixels @ normal("stem", 0, pixels.shape[1]) / np.float32(pixels.shape[1] ** 0.5)
    cells = {name: [d for d in depths if d <= reach(name)] or depths[:1] for name in GROUP}
    found = _chains(seed, x[:1].astype(float), [(n, d) for n in CHAINS for d in cells[n]])
    for block in dict.fromkeys(block for block, _ in BLOCKS.values()):
        own = [(n, d) for n, (kind, _) in BLOCKS.items() if kind == block for d in cells[n]]
        scales = [branch_scales(BLOCKS[n][1], d) for n, d in own]
        batch = EXAMPLES if block.axis == BATCH else 1
        decays = log10_decays(block, weights, scales, x[:batch], u[:batch])
        found |= zip(own, decays, strict=True)
    clips = []
    for d in cells[CLIPPED]:
        layers, ends = [weights(k).astype(float) for k in range(d)], (x[:1], u[:1])
        plain = all_gradients(Block("sigmoid"), layers, *(end.astype(float) for end in ends))
        before, after = ([*map(np.linalg.norm, g)] for g in (plain, clipped(plain, 1.0)))
        found[CLIPPED, d] = np.log10(after[0] / after[-1])
        ratios = np.array(after) / after[-1] / (np.array(before) / before[-1])
        clips.append((inputs, seed, d, after[-1] / before[-1], np.abs(ratios - 1).max()))
    rows = [(inputs, n, d, seed, found[n, d]) for n in GROUP for d in cells[n]]
    table = pd.DataFrame(rows, columns=["inputs", "remedy", "depth", "seed", "log10_decay"])
    lost = (table.log10_decay.abs() > 2 * DECADES).groupby(table.remedy).cumsum()
    kept = [
        (inputs, n, GROUP[n], seed, *crossing(own.depth, own.log10_decay.abs()), expected_depth(n))
        for n, own in table.groupby("remedy", sort=False)
    ]
    names = ["inputs", "remedy", "group", "seed", "depth_kept", "censored", "expected_depth"]
    return {
        "decays": table[lost <= 1],
        "remedies": pd.DataFrame(kept, columns=names),
        "clipping": pd.DataFrame(
            clips, columns=["inputs", "seed", "depth", "clip_factor", "ratio_change"]
        ),
    }


def _chains(seed: int, x: np.ndarray, cells: list[tuple[str, int]]) -> dict:
    """log10 of the decay of plain networks, each (remedy, depth)."""
    nets = [
        study.Network(a, d, WIDTH, s, weights=law) for n, d in cells for a, law, s in [CHAINS[n]]
    ]
    df = study.profile(nets, [seed], inputs=x)
    steps = (df.log10_derivative_factor + df.log10_weight_factor).to_numpy()
    ends = np.cumsum([net.depth for net in nets])
    return dict(zip(cells, np.add.reduceat(steps, np.append(0, ends[:-1])), strict=True))


def crossing(depths, decades) -> tuple[float, bool]:
    """Where |decades| first exceeds DECADES; the last depth, and True, if nowhere."""
    d, y = np.append(0.0, depths), np.append(0.0, decades)
    if not (y > DECADES).any():
        return float(d[-1]), True
    k = int(np.argmax(y > DECADES))
    share = (DECADES - y[k - 1]) / (y[k] - y[k - 1])  # 0 where all is lost at once
    return float(d[k - 1] + share * (d[k] - d[k - 1])), False


def expected_decay(remedy: str, depth: int) -> float:
    """log10 of the decay as theory has it: exact at this width for ReLU of Gaussian or orthogonal
    weights, else of infinite width."""
    if remedy in CHAINS:
        name, law, scale = CHAINS[remedy]
        if name == "relu" and law != "uniform":
            square = theory.finite_width.backward_law([WIDTH] * (depth + 1), name, law, scale).mean
        else:
            square = np.log(_chi(name, scale, _enough(depth))[:depth]).sum()
    else:
        block, schedule = BLOCKS[remedy]
        if block.residual:
            fixed = schedule != "1/sqrt(L)" and schedule != "1/L"
            square = _growth(block, schedule, _enough(depth) if fixed else depth)[depth - 1]
        else:
            of_batch, name = block.axis == BATCH, block.activation
            norms = theory.normalised
            factor = norms.batch_norm_factor if of_batch else norms.layer_norm_factor
            limit, own = factor(name), factor(name, EXAMPLES) if of_batch else factor(name)
            # The first layer divides by the spread of the input, 1, and not by phi's.
            first = theory.gradient_factor(name, 1.0, 1.0) / limit
            square = depth * np.log(own) + np.log(first)
    return float(square / 2 / np.log(10))


def _enough(depth: int) -> int:
    """Layers to compute at once, so that the next depths need no more."""
    return next(layers for layers in (64, 512, DEPTHS[-1]) if layers >= depth)


@cache
def _chi(activation: str, sigma_w: float, layers: int) -> np.ndarray:
    return theory.trajectory(activation, sigma_w, 0.0, layers).chi


@cache
def _growth(block: Block, schedule: str, depth: int) -> np.ndarray:
    scales = normalised_scales(depth) if block.axis else branch_scales(schedule, depth)
    return growth(scales, block.activation, block.sigma_w, block.sigma_v).log_gradient


@cache
def expected_depth(remedy: str) -> float:
    """Theory's depth, from the same depths by the same rule; inf beyond their end."""
    name, decades = "sigmoid, LeCun" if remedy == CLIPPED else remedy, []  # it changes no ratio
    for depth in DEPTHS:
        decades.append(abs(expected_decay(name, depth)))
        if decades[-1] > DECADES:
            return crossing(DEPTHS[: len(decades)], decades)[0]
    return np.inf


def reach(remedy: str) -> float:
    """The deepest network of a remedy."""
    return min(4 * expected_depth(remedy), CAPS[GROUP[remedy]])


def kept(decays: pd.DataFrame) -> Estimate:
    """The depth at which the median over seeds of |log10_decay| first exceeds DECADES.

    Its interval ends where the upper and the lower end of the median's do, so that it holds
    whatever the law of the decay. Where the median never does, the value is the deepest network's
    depth, and means "at least"; where its lower end does not, the interval has no upper end.
    """
    wide = decays.pivot(index="depth", columns="seed", values="log10_decay").abs()
    at = [median_interval(row) for row in wide.fillna(np.inf).to_numpy()]
    value, low, high = (
        crossing(wide.index, [getattr(e, end) for e in at]) for end in ("value", "high", "low")
    )
    return Estimate(value[0], low[0], np.inf if high[1] else high[0], wide.shape[1])


def summary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a remedy and kind of inputs: depth kept, its interval, theory's; and its fate."""
    about = tables["remedies"].groupby(["inputs", "remedy"], sort=False).first()
    rows = []
    for key, own in tables["decays"].groupby(["inputs", "remedy"], sort=False):
        found, at, deepest = kept(own), about.loc[key], own.depth.max()
        fate = "vanishes" if own[own.depth == deepest].log10_decay.median() < 0 else "explodes"
        fate = "kept" if found.value == deepest else fate
        rows.append((*key, at.group, found.value, found.low, found.high, at.expected_depth, fate))
    columns = ["inputs", "remedy", "group", "value", "low", "high", "expected", "fate"]
    return pd.DataFrame(rows, columns=columns)


def _kept(remedy: str):
    """Judge: the depth down to which a remedy keeps the gradient, on random inputs."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["decays"]
        return kept(own[(own.inputs == "random") & (own.remedy == remedy)])

    return judge


def _ratio_change(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: log10 of the largest change over depths, its median over seeds."""
    worst = tables["clipping"].groupby(["inputs", "seed"]).ratio_change.max()
    return median_interval(np.log10(np.maximum(worst, 1e-17)))


def _beside_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: median over remedies of the |relative| distance of the median depth from theory's."""
    own = tables["remedies"]
    own = own[(own.inputs == "random") & (4 * own.expected_depth <= CAPS["block"])]
    expected = own.groupby("remedy").expected_depth.first()
    wide = own.pivot(index="seed", columns="remedy", values="depth_kept")[expected.index]

    def distance(frame: pd.DataFrame) -> float:
        off = frame[expected.index].median().to_numpy() / expected.to_numpy() - 1
        return float(np.median(np.abs(off)))

    return bootstrap_over_seeds(wide.reset_index(), distance, resamples=500)


def _images_over_random(remedy: str):
    """Judge: depth kept on images over that on random inputs."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["decays"]
        top, bottom = (
            kept(own[(own.inputs == inputs) & (own.remedy == remedy)])
            for inputs in ("digits", "random")
        )
        ends = top.low / bottom.high, top.high / bottom.low
        return Estimate(top.value / bottom.value, *ends, min(top.n, bottom.n))

    return judge


SAYINGS = {
    "ReLU solves vanishing gradients": ("relu, PyTorch default", above(100)),
    "Xavier keeps tanh's gradient": ("tanh, Xavier", above(1000)),
    "He keeps ReLU's gradient": ("relu, He", above(1000)),
    "SELU is self-normalising, its gradient too": ("selu, LeCun", above(1000)),
    "orthogonal weights keep the gradient, sigmoid's too": ("sigmoid, orthogonal", above(100)),
    "BatchNorm prevents exploding gradients": ("relu, BatchNorm", above(100)),
    "LayerNorm keeps ReLU's gradient": ("relu, LayerNorm", above(1000)),
    "residual connections alone keep the gradient": ("relu, residual", above(100)),
    "branches scaled by 1/√L keep it at any depth": ("relu, residual × 1/√L", above(1000)),
    "BatchNorm in residual branches keeps it": ("relu, residual BatchNorm", above(1000)),
    "clipping cures vanishing": (CLIPPED, above(100)),
    "sigmoid vanishes at any weight scale": ("sigmoid, critical", below(100)),
}
"""Sayings, the remedy that each is about and the depth that it means, at the least."""

CLAIMS = [
    Claim(
        saying,
        f"{remedy}: depth at which the median over seeds of |log10| of the gradient's decay first "
        f"exceeds {DECADES:g}; at least that where the interval has no upper end.",
        threshold,
        _kept(remedy),
        about="saying",
    )
    for saying, (remedy, threshold) in SAYINGS.items()
] + [
    Claim(
        "clipping changes no ratio of layers",
        "log10 of the largest relative change of any gradient's norm over the last one's; median "
        "over networks.",
        below(-12),
        _ratio_change,
    ),
    Claim(
        "the depths are theory's",
        "Remedies that theory gives at most a quarter of the depth measured: |measured / expected "
        "- 1| of the median depth kept, the median over remedies.",
        below(0.05),
        _beside_theory,
    ),
    Claim(
        "images do not change the depth",
        "ReLU with BatchNorm: depth kept on MNIST digits over that on random inputs.",
        within(0.8, 1.25),
        _images_over_random("relu, BatchNorm"),
    ),
]


def figure(tables: dict[str, pd.DataFrame]):
    """Depth kept, a row a remedy."""
    found = summary(tables)
    lost = found[(found.inputs == "random") & (found.high < 100)]
    seeds = tables["remedies"].groupby("inputs").seed.nunique()
    return layers_kept(
        found,
        DEPTHS[-1],
        f"{len(lost)} of {found.remedy.nunique()} remedies let the gradient vanish or explode "
        "within 100 layers",
        "Depth at which the median of |log10(‖dC/dr⁰‖ / ‖dC/dr^depth‖)| first exceeds "
        f"{DECADES:g}: a factor of 1,000 lost or gained. Whiskers: 95 % interval over "
        f"{seeds['random']} seeds; open marks: MNIST digits, {seeds['digits']} seeds.\n"
        "Triangles: at least that, the deepest networks measured. Black: theory, no free offset "
        f"(ReLU of Gaussian or orthogonal weights: exact at width {WIDTH}; else infinite width); "
        f"at the edge: beyond\n{DEPTHS[-1]:,} layers. l: the block, L: the number of blocks. "
        f"BatchNorm over {EXAMPLES} examples. Clipping: of the gradients of all weights and "
        "signals together, to norm 1.",
    )
