"""The table of remedies against vanishing and exploding gradients; each measured and by theory.

A remedy's name is that of its activation and what is done about it. Plain networks have an
initialiser: a law of the weights and their sigma_w. Other architectures have a `Block` and a
schedule of branch scales. Clipping is of a plain network's gradients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
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
from study.statistics.summaries import lost_at
from study.theory.blocks import branch_scales, growth, normalised_scales

WIDTH = 256
EXAMPLES = 16  # behind a batch normalisation
DECADES = 3.0  # the factor of 1,000 that may be lost or gained
HE = 2**0.5
DEPTHS = [1, *(round(2 ** (k / 2)) for k in range(2, 25))]  # half octaves down to theory's horizon

INITIALISERS = {
    "PyTorch default": ("uniform", 3**-0.5),
    "LeCun": ("gaussian", 1.0),
    "Xavier": ("uniform", 1.0),
    "He": ("gaussian", HE),
}
CHAINS = {}  # the activation, weight law and sigma_w of plain networks
for name in ("relu", "sigmoid", "tanh", "selu", "gelu"):
    for called, initialiser in INITIALISERS.items():
        CHAINS[f"{name}, {called}"] = (name, *initialiser)
    if name not in ("relu", "tanh"):  # critical is He's and LeCun's
        CHAINS[f"{name}, critical"] = (name, "gaussian", theory.critical_sigma_w(name))
    CHAINS[f"{name}, orthogonal"] = (name, "orthogonal", HE if name == "relu" else 1.0)


class Block(NamedTuple):
    """A layer, r -> phi(norm(r W)), or a residual branch, alpha sigma_v phi(norm(sigma_w r W)) V.

    norm is nothing, or a normalisation over the axis `BATCH` or `UNITS`.
    """

    activation: str
    axis: int | None = None
    residual: bool = False
    sigma_w: float = 1.0
    sigma_v: float = 1.0

    def layer(self, weights: Callable[[int], Array], scales: Array, k: int, count: int) -> Layer:
        """The k-th of the first so many networks, with branch scales (networks, depth, 1, 1)."""
        W = weights(2 * k if self.residual else k)
        if self.axis is None:
            hidden = Dense(W, self.activation, scale=self.sigma_w)
        else:
            hidden = Normalised(W, self.activation, self.axis)
        if not self.residual:
            return hidden
        alpha = scales[:count, k] * self.sigma_v
        return Residual([hidden, Linear(weights(2 * k + 1), alpha)])


BRANCH = Block("relu", residual=True, sigma_w=HE)
# Kind of block, and schedule of the branch scales.
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
CLIPPED = "sigmoid, LeCun, clipped"
# Every remedy: the kind that it is of.
GROUP = dict.fromkeys(CHAINS, "initialiser") | dict.fromkeys(BLOCKS, "block")
GROUP[CLIPPED] = "clipping"
CAPS = {"initialiser": 2048, "block": 1024, "clipping": 64}  # the deepest networks of each kind


def chain_profiles(draws: Draws, x: Array, depths: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """The frame of plain networks of each remedy's depths on one seed's weights and one input."""
    frames = []
    for name, (activation, law, sigma_w) in CHAINS.items():
        # Each remedy alone: beside deep networks shallow ones would be walked to their end.
        kind = Network(activation, 1, WIDTH, sigma_w, weights=law, dtype="float32")
        nets = [replace(kind, depth=depth) for depth in depths[name]]
        frame = profile(nets, [draws.seed], inputs=x)
        frames.append(frame.assign(remedy=name))
    return pd.concat(frames, ignore_index=True)


def block_decays(
    draws: Draws, x: Array, u: Array, depths: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], float]:
    """log10 of ||dC/dr^(0)|| / ||dC/dr^(depth)|| of each (remedy, depth), not squared.

    ``x`` and ``u`` are (EXAMPLES, WIDTH) inputs and cotangents; only a batch normalisation uses
    more than the first.
    """
    values = {}
    weights = cache(draws.weights)  # what the residual kinds hold at once serves the others, too
    for block in dict.fromkeys(kind for kind, _ in BLOCKS.values()):
        # Networks of one kind walk through the same weights, the deepest first.
        names = [name for name, (kind, _) in BLOCKS.items() if kind == block]
        cells = [(name, depth) for name in names for depth in depths[name]]
        cells.sort(key=lambda cell: -cell[1])  # pullback wants the deepest first
        reached = np.array([depth for _, depth in cells])
        batch = EXAMPLES if block.axis == BATCH else 1
        scales = np.ones((len(cells), reached[0], 1, 1))
        for row, (name, depth) in zip(scales, cells, strict=True):
            row[:depth, 0, 0] = branch_scales(BLOCKS[name][1], depth)
        layer = partial(block.layer, weights, scales)
        each = np.repeat(x[None, :batch], len(cells), axis=0)
        norms = pullback(layer, reached, each, u[:batch]).log10_norms()
        start = 0.5 * math.log10(np.vdot(u[:batch], u[:batch]))  # the norm at the output
        values |= zip(cells, norms - start, strict=True)
    return values


def clipping(draws: Draws, x: Array, u: Array, depth: int) -> tuple[float, float, float]:
    """The decay of `CLIPPED`; the factor of all its gradients; the largest change of a ratio.

    Ratios are those of a gradient's norm to the last one's, and change relatively. Clipped to a
    common norm of 1 are dC/dr^(0), every dC/dW^(k) and dC/dr^(depth) together (Pascanu et al.
    2013).
    """
    layers = [Dense(draws.weights(k).astype(float), "sigmoid") for k in range(depth)]
    trace, _ = forward(layers, x[:1].astype(float))
    cotangent = u[:1].astype(float)
    steps = list(backward(trace, cotangent))
    gradients = [weight_gradient(step.r, step.delta) for step in reversed(steps)]
    gradients = [steps[-1].dr, *gradients, cotangent]
    before = np.array([np.linalg.norm(gradient) for gradient in gradients])
    # One factor for all.
    share = min(1.0, 1 / math.sqrt(sum(np.vdot(gradient, gradient) for gradient in gradients)))
    after = np.array([np.linalg.norm(share * gradient) for gradient in gradients])
    ratios = after / after[-1] / (before / before[-1])
    return np.log10(after[0] / after[-1]), after[-1] / before[-1], np.abs(ratios - 1).max()


def expected_decay(remedy: str, depth: int) -> float:
    """log10 of the decay as theory has it: exact at this width for ReLU of Gaussian or orthogonal
    weights, else of infinite width.

    >>> round(expected_decay("relu, Xavier", 100), 2), round(100 * math.log10(0.5) / 2, 2)
    (-15.05, -15.05)
    """
    if remedy in BLOCKS:
        block, schedule = BLOCKS[remedy]
        if block.residual:
            # Where no scale depends on the number of blocks, enough of them for the next depths.
            enough = next(blocks for blocks in (64, 512, DEPTHS[-1]) if blocks >= depth)
            blocks = depth if schedule in ("1/sqrt(L)", "1/L") else enough
            log_square = _residual_growth(block, schedule, blocks)[depth - 1]
        else:
            log_square = _normalised_growth(block, depth)
    else:
        activation, law, sigma_w = CHAINS[remedy]
        if activation == "relu" and law != "uniform":
            widths = [WIDTH] * (depth + 1)
            # Exact at this width.
            log_square = theory.finite_width.backward_law(widths, activation, law, sigma_w).mean
        else:
            chi = theory.trajectory(activation, sigma_w, 0.0, depth).chi
            log_square = np.log(chi).sum()
    return float(log_square / 2 / np.log(10))


@cache
def _residual_growth(block: Block, schedule: str, depth: int) -> Array:
    scales = normalised_scales(depth) if block.axis else branch_scales(schedule, depth)
    return growth(scales, block.activation, block.sigma_w, block.sigma_v).log_gradient


def _normalised_growth(block: Block, depth: int) -> float:
    name = block.activation
    if block.axis == BATCH:
        limit = theory.blocks.batch_norm_factor(name)
        factor = theory.blocks.batch_norm_factor(name, EXAMPLES)
    else:
        limit = factor = theory.blocks.layer_norm_factor(name)
    # The first layer divides by the spread of the input, 1, and not by phi's.
    first = theory.gradient_factor(name, 1.0, 1.0) / limit
    return depth * np.log(factor) + np.log(first)


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
    # So that a theory that is off shows.
    return min(4 * expected_depth(remedy), CAPS[GROUP[remedy]])
