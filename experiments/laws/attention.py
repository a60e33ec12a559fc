"""Laws of transformers whose attention is uniform: Noci, Xiong.

Means of squares and products are exact at any width; where gradients go through layer
normalisation, the theory is that of infinite width. ``study.theory.transformers`` derives them.
"""

import math

import numpy as np

from experiments.laws.law import NARROW, Law, Measure
from experiments.laws.walks import HE, Weights, growths, side_by_side, unit
from study.core.backprop import Layer, forward
from study.engines.transformer import Transformer
from study.engines.transformer import Weights as Matrices

TOKENS = 4
DEEP = 10


def _layers(weights: Weights, width: int, blocks: int, **fields: object) -> list[Layer]:
    """Blocks of uniform attention."""
    net = Transformer(blocks=blocks, width=width, heads=1, logits=0.0, **fields)
    layers = []
    for _ in range(blocks):
        sizes = [(1, 3, 1.0), (1, 1, 1.0), (1, 4, 1.0), (4, 1, HE)][: 4 if net.mlp else 2]
        matrices = (weights(width * i, width * o, scale) for i, o, scale in sizes)
        layers += net.block(Matrices(*matrices))
    return layers


def _alone(weights: Weights, n: int) -> tuple[list[Layer], np.ndarray, np.ndarray]:
    """Attention alone, branches of 1/sqrt L: its layers, tokens of mean square 1, a cotangent."""
    x, dr = weights.ends(TOKENS, n)
    layers = _layers(weights, n, DEEP, norm="none", mlp=False, branch=DEEP**-0.5)
    return layers, unit(x), dr


@side_by_side("tokens", lambda n: 3 * TOKENS * n)
def _products(weights: Weights, n: int) -> np.ndarray:
    """The mean product of two tokens."""
    layers, x, _ = _alone(weights, n)
    _, top = forward(layers, x)
    square_of_sum = np.sum(top.sum(axis=1) ** 2, axis=-1)
    sum_of_squares = np.sum(top**2, axis=(1, 2))
    return (square_of_sum - sum_of_squares) / (TOKENS * (TOKENS - 1) * n)


@side_by_side("gradient", lambda n: 3 * TOKENS * n)
def _gradient(weights: Weights, n: int) -> np.ndarray:
    """Growth of the squared gradient."""
    return np.exp(growths(*_alone(weights, n))[0])


@side_by_side("post-LN", lambda n: 8 * n)
def _post(weights: Weights, n: int) -> np.ndarray:
    """ln of what two equal tokens' opposite gradients, squared, lose in 4 blocks of post-LN."""
    x, dr = weights.ends(1, n)
    layers = _layers(weights, n, 4, norm="post")
    return growths(layers, np.repeat(unit(x), 2, axis=1), np.concatenate([dr, -dr], axis=1))[0]


def _pre(of: str) -> Measure:
    """A token in pre-LN: growth of its square, or ln of the growth of its squared gradient."""

    @side_by_side(f"pre-LN {of}", lambda n: 4 * n)
    def measure(weights: Weights, n: int) -> np.ndarray:
        x, dr = weights.ends(1, n)
        down, up = growths(_layers(weights, n, DEEP, norm="pre"), unit(x), dr)
        return np.exp(up) if of == "signal" else down

    return measure


SHARED = (1 + 1 / DEEP) ** DEEP - 1

LAWS = {
    "uniform attention tokens": Law(
        measure=_products, sizes=NARROW, networks=2000, exact=lambda n: SHARED / TOKENS
    ),
    "uniform attention gradient": Law(
        measure=_gradient, sizes=NARROW, networks=500, exact=lambda n: 1 + SHARED / TOKENS
    ),
    "post-LN halves": Law(measure=_post, networks=600, limit=-4 * math.log(2)),
    "pre-LN signal": Law(
        measure=_pre("signal"), sizes=NARROW, networks=500, exact=lambda n: 2.0 * DEEP + 1
    ),
    "pre-LN gradient": Law(measure=_pre("gradient"), networks=400, limit=math.log(2 * DEEP + 1)),
}
