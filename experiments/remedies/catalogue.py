"""The table of remedies against vanishing and exploding gradients; each measured and by theory.

A remedy's name is that of its activation and what is done about it. Plain networks have an
initialiser: a law of the weights and their sigma_w. Other architectures have a `Block` and a
schedule of branch scales. Clipping is of a plain network's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from study import theory
from study.core.activations import Array
from study.core.backprop import Layer, backward, forward, weight_gradient
from study.core.blocks import BATCH, UNITS, Dense, Linear, Normalised, Residual
from study.core.network import Network
from study.engines.profile import profile
from study.engines.pullback import pullback
from study.sampling.draws import Draws
from study.statistics.summaries import gains, lost_at
from study.theory.blocks import branch_scales, growth, normalised_scales

WIDTH = 256
EXAMPLES = 16
"""Behind a batch normalisation."""
DECADES = 3.0
"""The factor of 1,000 that may be lost or gained."""
HE = 2**0.5
DEPTHS = [1, *(round(2 ** (k / 2)) for k in range(2, 25))]
"""Half octaves down to theory's horizon."""


class Chain(NamedTuple):
    """A plain network: its activation and initialiser."""

    activation: str
    law: str
    sigma_w: float


INITIALISERS = {
    "PyTorch default": ("uniform", 3**-0.5),
    "LeCun": ("gaussian", 1.0),
    "Xavier": ("uniform", 1.0),
    "He": ("gaussian", HE),
}
CHAINS = {}
for name in ("relu", "sigmoid", "tanh", "selu", "gelu"):
    for called, initialiser in INITIALISERS.items():
        CHAINS[f"{name}, {called}"] = Chain(name, *initialiser)
    if name not in ("relu", "tanh"):  # critical is He's and LeCun's
        critical = theory.critical_sigma_w(name)
        CHAINS[f"{name}, critical"] = Chain(name, "gaussian", critical)
    CHAINS[f"{name}, orthogonal"] = Chain(name, "orthogonal", HE if name == "relu" else 1.0)


class Block(NamedTuple):
    """A layer, r -> phi(norm(r W)), or a residual branch, alpha sigma_v phi(norm(sigma_w r W)) V.

    norm is nothing, or a normalisation over the axis `BATCH` or `UNITS`.
    """

    activation: str
    axis: int | None = None
    residual: bool = False
    sigma_w: float = 1.0
    sigma_v: float = 1.0

    def layer(self, draws: Draws, k: int, alpha: Array) -> Layer:
        """The k-th, with branch scales (networks, 1, 1)."""
        W = draws.weights(2 * k if self.residual else k)
        if self.axis is None:
            hidden = Dense(W, self.activation, scale=self.sigma_w)
        else:
            hidden = Normalised(W, self.activation, self.axis)
        if not self.residual:
            return hidden
        return Residual([hidden, Linear(draws.weights(2 * k + 1), alpha * self.sigma_v)])


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
GROUP[CLIPPED] = "clipping"
"""Every remedy: the kind that it is of."""
CAPS = {"initialiser": 2048, "block": 1024, "clipping": 64}
"""The deepest networks of each kind."""


def chain_profiles(draws: Draws, x: Array, depths: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """The frame of plain networks on one seed's weights, with their remedy.

    Parameters
    ----------
    draws : of width `WIDTH`
    x : (1, WIDTH) array
    depths : of each remedy
    """
    cells = [(name, depth) for name in CHAINS for depth in depths[name]]
    nets = []
    for name, depth in cells:
        activation, law, sigma_w = CHAINS[name]
        nets.append(Network(activation, depth, WIDTH, sigma_w, weights=law))
    frame = profile(nets, [draws.seed], inputs=x.astype(float))
    remedies = np.repeat([name for name, _ in cells], [depth for _, depth in cells])
    return frame.assign(remedy=remedies)


def decays(
    profiles: pd.DataFrame, draws: Draws, x: Array, u: Array, depths: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], float]:
    """log10 of ||dC/dr^(0)|| / ||dC/dr^(depth)|| of networks on one seed's weights.

    Parameters
    ----------
    profiles : of the plain networks
    x, u : (EXAMPLES, WIDTH) arrays
        Inputs and cotangents; only a batch normalisation uses more than the first.

    Returns
    -------
    dict from (remedy, depth), but for clipping, to the decay, norms not squared.
    """
    plain = gains(profiles)
    values = dict(zip(zip(plain.remedy, plain.depth, strict=True), plain.log10_gain, strict=True))
    for block in dict.fromkeys(block for block, _ in BLOCKS.values()):
        names = [name for name, (kind, _) in BLOCKS.items() if kind == block]
        cells = [(name, depth) for name in names for depth in depths[name]]
        values |= block_decays(block, cells, draws, x, u)
    return values


def block_decays(
    block: Block, cells: list[tuple[str, int]], draws: Draws, x: Array, u: Array
) -> dict[tuple[str, int], float]:
    """The same of networks of one kind of block, which walk through the same weights."""
    cells = sorted(cells, key=lambda cell: -cell[1])
    depths = np.array([depth for _, depth in cells])
    batch = EXAMPLES if block.axis == BATCH else 1
    scales = np.ones((len(cells), depths[0], 1, 1))
    for row, (name, depth) in zip(scales, cells, strict=True):
        row[:depth, 0, 0] = branch_scales(BLOCKS[name][1], depth)

    def layer(k: int, count: int) -> Layer:
        return block.layer(draws, k, scales[:count, k])

    norms = pullback(layer, depths, x[:batch], u[:batch]).log10_norms()
    start = 0.5 * math.log10(np.vdot(u[:batch], u[:batch]))
    return dict(zip(cells, norms - start, strict=True))


def clipping(draws: Draws, x: Array, u: Array, depth: int) -> tuple[float, float, float]:
    """The decay of `CLIPPED`; the factor of all its gradients; the largest change of a ratio.

    Ratios are those of a gradient's norm to the last one's, and change relatively. Clipping is of
    dC/dr^(0), of every dC/dW^(k) and of dC/dr^(depth) together.
    """
    layers = [Dense(draws.weights(k).astype(float), "sigmoid") for k in range(depth)]
    trace, _ = forward(layers, x[:1].astype(float))
    cotangent = u[:1].astype(float)
    steps = list(backward(trace, cotangent))
    gradients = [weight_gradient(step.r, step.delta) for step in reversed(steps)]
    gradients = [steps[-1].dr, *gradients, cotangent]
    before = np.array([np.linalg.norm(gradient) for gradient in gradients])
    after = np.array([np.linalg.norm(gradient) for gradient in clipped(gradients, 1.0)])
    ratios = after / after[-1] / (before / before[-1])
    return np.log10(after[0] / after[-1]), after[-1] / before[-1], np.abs(ratios - 1).max()


def clipped(gradients: Sequence[Array], limit: float) -> list[Array]:
    """All gradients times min(1, limit / their common norm): clipping (Pascanu et al. 2013).

    >>> [g.tolist() for g in clipped([np.array([3.0]), np.array([0.0, 4.0])], 1.0)]
    [[0.6000000000000001], [0.0, 0.8]]
    """
    norm = math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in gradients))
    return [gradient * min(1.0, limit / norm) for gradient in gradients]


def expected_decay(remedy: str, depth: int) -> float:
    """log10 of the decay as theory has it: exact at this width for ReLU of Gaussian or orthogonal
    weights, else of infinite width.

    >>> round(expected_decay("relu, Xavier", 100), 2), round(100 * math.log10(0.5) / 2, 2)
    (-15.05, -15.05)
    """
    if remedy in CHAINS:
        log_square = chain_growth(CHAINS[remedy], depth)
    else:
        block, schedule = BLOCKS[remedy]
        expected = residual_growth if block.residual else normalised_growth
        log_square = expected(block, schedule, depth)
    return float(log_square / 2 / np.log(10))


def chain_growth(chain: Chain, depth: int) -> float:
    """ln of the squared gradient's growth in a plain network."""
    if chain.activation == "relu" and chain.law != "uniform":
        widths = [WIDTH] * (depth + 1)
        return theory.finite_width.backward_law(widths, *chain).mean
    chi = _chi(chain.activation, chain.sigma_w, _enough(depth))
    return np.log(chi[:depth]).sum()


def residual_growth(block: Block, schedule: str, depth: int) -> float:
    """The same of residual blocks."""
    follows_depth = schedule in ("1/sqrt(L)", "1/L")
    return _growth(block, schedule, depth if follows_depth else _enough(depth))[depth - 1]


def normalised_growth(block: Block, schedule: str, depth: int) -> float:
    """The same of normalised layers, whatever the schedule."""
    name = block.activation
    if block.axis == BATCH:
        limit = theory.blocks.batch_norm_factor(name)
        factor = theory.blocks.batch_norm_factor(name, EXAMPLES)
    else:
        limit = factor = theory.blocks.layer_norm_factor(name)
    # The first layer divides by the spread of the input, 1, and not by phi's.
    first = theory.gradient_factor(name, 1.0, 1.0) / limit
    return depth * np.log(factor) + np.log(first)


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
    name = "sigmoid, LeCun" if remedy == CLIPPED else remedy  # clipping changes no ratio
    decades = []
    for depth in DEPTHS:
        decades.append(abs(expected_decay(name, depth)))
        if decades[-1] > DECADES:
            return lost_at(DEPTHS[: len(decades)], decades, DECADES)[0]
    return math.inf


def reach(remedy: str) -> float:
    """The deepest network of a remedy: some four times the depth that theory gives it."""
    return min(4 * expected_depth(remedy), CAPS[GROUP[remedy]])
