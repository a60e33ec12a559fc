"""The table of remedies against vanishing and exploding gradients; each measured and by theory.

A remedy's name is that of its activation and what is done about it. Plain networks have an
initialiser: a law of the weights and their sigma_w. Other architectures have a `Block` and a
schedule of branch scales. Clipping is of a plain network's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from study import theory
from study.core.activations import Array
from study.core.network import Network
from study.engines.blocks import BATCH, UNITS, Block, all_gradients, clipped, log10_decays
from study.engines.profile import profile
from study.sampling.draws import Draws
from study.statistics.depths import lost_at, median_lost_at
from study.theory.residual import branch_scales, growth, normalised_scales

WIDTH, EXAMPLES, DECADES, HE = 256, 16, 3.0, 2**0.5
"""Units; examples behind a batch normalisation; the factor of 1,000 that may be lost or gained."""
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
"""Every remedy: the kind that it is of."""
CAPS = {"initialiser": 2048, "block": 1024, "clipping": 64}
"""The deepest networks of each kind."""


def decays(draws: Draws, x: Array, u: Array, depths: Mapping[str, Sequence[int]]) -> dict:
    """log10 of ||dC/dr^(0)|| / ||dC/dr^(depth)|| of networks on one seed's weights.

    Parameters
    ----------
    draws : of width `WIDTH`
    x, u : (EXAMPLES, WIDTH) arrays
        Inputs and cotangents; only a batch normalisation uses more than the first.
    depths : of each remedy, but for clipping

    Returns
    -------
    dict from (remedy, depth) to the decay, norms not squared.
    """
    cells = [(name, d) for name in CHAINS for d in depths[name]]
    nets = [
        Network(a, d, WIDTH, s, weights=law) for name, d in cells for a, law, s in [CHAINS[name]]
    ]
    df = profile(nets, [draws.seed], inputs=x[:1].astype(float))
    steps = (df.log10_derivative_factor + df.log10_weight_factor).to_numpy()
    ends = np.cumsum([net.depth for net in nets])
    found = dict(zip(cells, np.add.reduceat(steps, np.append(0, ends[:-1])), strict=True))
    for block in dict.fromkeys(block for block, _ in BLOCKS.values()):
        cells = [(n, d) for n, (kind, _) in BLOCKS.items() if kind == block for d in depths[n]]
        scales = [branch_scales(BLOCKS[name][1], d) for name, d in cells]
        batch = EXAMPLES if block.axis == BATCH else 1
        own = log10_decays(block, draws.weights, scales, x[:batch], u[:batch])
        found |= zip(cells, own, strict=True)
    return found


def clipping(draws: Draws, x: Array, u: Array, depth: int) -> tuple[float, float, float]:
    """The decay of `CLIPPED`; the factor of all its gradients; the largest change of a ratio.

    Ratios are those of a gradient's norm to the last one's, and change relatively.
    """
    layers = [draws.weights(k).astype(float) for k in range(depth)]
    plain = all_gradients(Block("sigmoid"), layers, x[:1].astype(float), u[:1].astype(float))
    before, after = ([*map(np.linalg.norm, g)] for g in (plain, clipped(plain, 1.0)))
    ratios = np.array(after) / after[-1] / (np.array(before) / before[-1])
    return np.log10(after[0] / after[-1]), after[-1] / before[-1], np.abs(ratios - 1).max()


def expected_decay(remedy: str, depth: int) -> float:
    """log10 of the decay as theory has it: exact at this width for ReLU of Gaussian or orthogonal
    weights, else of infinite width.

    >>> round(expected_decay("relu, Xavier", 100), 2), round(100 * math.log10(0.5) / 2, 2)
    (-15.05, -15.05)
    """
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
            norms = theory.normalisation
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
def _chi(activation: str, sigma_w: float, layers: int) -> Array:
    return theory.trajectory(activation, sigma_w, 0.0, layers).chi


@cache
def _growth(block: Block, schedule: str, depth: int) -> Array:
    scales = normalised_scales(depth) if block.axis else branch_scales(schedule, depth)
    return growth(scales, block.activation, block.sigma_w, block.sigma_v).log_gradient


@cache
def expected_depth(remedy: str) -> float:
    """Where theory's decay first exceeds `DECADES`, by the rule of the measured one; or inf."""
    name, decades = "sigmoid, LeCun" if remedy == CLIPPED else remedy, []  # it changes no ratio
    for depth in DEPTHS:
        decades.append(abs(expected_decay(name, depth)))
        if decades[-1] > DECADES:
            return lost_at(DEPTHS[: len(decades)], decades, DECADES)[0]
    return math.inf


def reach(remedy: str) -> float:
    """The deepest network of a remedy: some four times the depth that theory gives it."""
    return min(4 * expected_depth(remedy), CAPS[GROUP[remedy]])


def summary(decays: pd.DataFrame, expected: Mapping[str, float]) -> pd.DataFrame:
    """One row a remedy and kind of inputs: depth kept, its interval, theory's; and its fate.

    Parameters
    ----------
    decays : columns inputs, remedy, depth, seed, log10_decay
    expected : theory's depth of each remedy

    Returns
    -------
    DataFrame with inputs, remedy, group, value, low, high and expected [layers], and fate: kept
    (down to the deepest network), vanishes or explodes.
    """
    rows = []
    for (inputs, remedy), own in decays.groupby(["inputs", "remedy"], sort=False):
        found, deepest = median_lost_at(own, DECADES), own.depth.max()
        fate = "vanishes" if own[own.depth == deepest].log10_decay.median() < 0 else "explodes"
        fate = "kept" if found.value == deepest else fate
        depths = found.value, found.low, found.high, expected[remedy]
        rows.append((inputs, remedy, GROUP[remedy], *depths, fate))
    columns = ["inputs", "remedy", "group", "value", "low", "high", "expected", "fate"]
    return pd.DataFrame(rows, columns=columns)
