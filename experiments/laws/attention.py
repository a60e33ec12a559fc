"""Laws of transformers whose attention is uniform: Noci, Xiong.

Means of squares and products are exact at any width; where gradients go through layer
normalisation, the theory is that of infinite width. ``study.theory.transformers`` derives them.
"""

import math

import numpy as np

from experiments.laws.law import Law, Measure
from experiments.laws.walks import HE, Weights, gradients, log_square, side_by_side
from study.core.backprop import Layer, forward
from study.engines.transformer import Transformer
from study.engines.transformer import Weights as Matrices

NARROW = (32, 64, 128)
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


def _unit(x: np.ndarray) -> np.ndarray:
    """Tokens of mean square 1."""
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True))


def _alone(of: str) -> Measure:
    """Attention alone, branches of 1/sqrt L: the mean product of two tokens, or the growth of the
    squared gradient."""
    about = {"norm": "none", "mlp": False, "branch": DEEP**-0.5}

    def of_some(weights: Weights, n: int) -> np.ndarray:
        x, dr = _unit(weights.normal(TOKENS, n)), weights.normal(TOKENS, n)
        layers = _layers(weights, n, DEEP, **about)
        if of == "gradient":
            *_, below = gradients(layers, x, dr)
            return np.exp(log_square(below) - log_square(dr))
        _, top = forward(layers, x)
        total, own = np.sum(top.sum(axis=1) ** 2, axis=-1), np.sum(top**2, axis=(1, 2))
        return (total - own) / (TOKENS * (TOKENS - 1) * n)

    return lambda n, seeds: side_by_side(of, 3 * TOKENS * n, seeds, lambda w: of_some(w, n))


def _post(n: int, seeds: range) -> np.ndarray:
    """ln of what two equal tokens' opposite gradients, squared, lose in 4 blocks of post-LN."""

    def of_some(weights: Weights) -> np.ndarray:
        x, dr = _unit(weights.normal(1, n)), weights.normal(1, n)
        layers = _layers(weights, n, 4, norm="post")
        dr = np.concatenate([dr, -dr], axis=1)
        *_, below = gradients(layers, np.repeat(x, 2, axis=1), dr)
        return log_square(below) - log_square(dr)

    return side_by_side("post-LN", 8 * n, seeds, of_some)


def _pre(of: str) -> Measure:
    """A token in pre-LN: growth of its square, or ln of the growth of its squared gradient."""

    def of_some(weights: Weights, n: int) -> np.ndarray:
        x, dr = _unit(weights.normal(1, n)), weights.normal(1, n)
        layers = _layers(weights, n, DEEP, norm="pre")
        if of == "signal":
            return np.exp(log_square(forward(layers, x)[1]) - log_square(x))
        *_, below = gradients(layers, x, dr)
        return log_square(below) - log_square(dr)

    return lambda n, seeds: side_by_side(f"pre-LN {of}", 4 * n, seeds, lambda w: of_some(w, n))


SHARED = (1 + 1 / DEEP) ** DEEP - 1

LAWS = {
    "uniform attention tokens": Law(
        measure=_alone("tokens"), sizes=NARROW, networks=2000, exact=lambda n: SHARED / TOKENS
    ),
    "uniform attention gradient": Law(
        measure=_alone("gradient"), sizes=NARROW, networks=500, exact=lambda n: 1 + SHARED / TOKENS
    ),
    "post-LN halves": Law(
        measure=_post, sizes=(64, 128, 256), networks=600, limit=-4 * math.log(2)
    ),
    "pre-LN signal": Law(
        measure=_pre("signal"), sizes=NARROW, networks=500, exact=lambda n: 2.0 * DEEP + 1
    ),
    "pre-LN gradient": Law(
        measure=_pre("gradient"), sizes=(64, 128, 256), networks=400, limit=math.log(2 * DEEP + 1)
    ),
}
