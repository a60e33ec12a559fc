"""Transformers at initialisation: how alike their tokens become, and what the gradient makes of it.

At infinite width, with T tokens, let p be the mean square of a token per unit and c that of the
product of two, g = p - c; P and C the same of their gradients. If attention is uniform (queries and
keys are small, or the tokens alike: Noci et al. 2022, section 3), a branch adds, times branch^2::

    attention     m = p - g (T-1)/T to p, 0 to g;       M = (P + (T-1) C)/T to P and C
    perceptron    p to p, E (phi(u) - phi(v))^2 / 2 E phi^2 to g;
                  chi P to P, E phi'(u) phi'(v) / E phi^2 times C to C

with u and v of correlation c/p and chi = E phi'^2 / E phi^2: it is 1 for ReLU. Layer normalisation
divides the branch's input by sqrt p (pre-LN), or its output (post-LN), and the gradient with it.
So g stays and p grows: tokens become alike unless branches are scaled by 1/sqrt L (Noci et al.)::

    1 - c/p    falls as l^(-1/2) in pre-LN,    halves with each block in post-LN

In post-LN the gradient's mean over tokens, M, is doubled and divided by 2: it stays; what differs,
P - C, halves with each block (Xiong et al. 2020, section 3.3, has it so of all). Independent
gradients of T tokens thus lose a factor T in square, within some log2 T blocks, and no more. In
pre-LN P falls from block to block as 1/p, as 1/l. Gradients of matrices follow, with n units::

    ||dC/dW||^2 / n^2    value, output (T branch)^2 m M;    hidden T branch^2 (chi p P + ...);  ...
    query, key           branch^2 (p P + (T-1) c C) g^2 (T-1)/T, small logits: they fall as g^2
"""

from typing import NamedTuple

import numpy as np

from study.core.activations import Activation
from study.theory.blocks import arc_cosine
from study.theory.maps import (
    ActivationLike,
    gradient_factor,
    half_square_step,
    overlap,
    row_of,
    variance_map,
)
from study.tools.checks import bad, integer, one_of
from study.tools.elementary import Array


class Blocks(NamedTuple):
    """Entry k is about block k, 0 next to the input; log10 of Frobenius norms."""

    log10_difference: Array  # (blocks,), of ||r - mean over tokens|| / ||r|| of the block's input
    log10_upstream: Array  # (blocks,), of dC/dr at its output, over that at the network's
    log10_norms: Array  # (blocks, 6), of dC/dW: query, key, value, output, hidden, top


class Signal(NamedTuple):
    """What a branch meets on the way up."""

    p: float  # of its input, normalised where it is
    gap: float
    before: float  # by what the square is divided there, 1 without normalisation
    after: float  # and after the branch has been added


MOST = 1000  # blocks, so that the gap of post-LN stays in the float range
# Up to here phi is as good as straight between two tokens: its kinks count by the root of it.
SMALL = 1e-10


def transformer(
    blocks: int,
    tokens: int,
    width: int,
    norm: str,
    branch: float = 1.0,
    activation: ActivationLike = "relu",
) -> Blocks:
    """The norms of a transformer with skip connections, of independent tokens of mean square 1.

    Each token's gradient at the output is independent of the others', all together of norm 1.
    Weights are such that a branch passes on a variance of 1, times branch^2; ``norm`` says where
    layer normalisation stands, "pre", "post" or "none", the last of scale-free activations alone.

    In post-LN tokens become alike, and queries far from the input get no gradient; values do:

    >>> norms = transformer(100, tokens=8, width=64, norm="post").log10_norms
    >>> norms[[0, -1]][:, [0, 2]].round(1).tolist()
    [[0.1, 0.5], [-29.1, 0.8]]
    """
    row = row_of(activation)
    if one_of("norm", norm, ("pre", "post", "none")) == "none" and not row.scale_free:
        raise bad("activation", row.name, "a scale-free one where nothing is normalised")
    integer("tokens", tokens, 2)
    signals, top = _up(row, integer("blocks", blocks, 1, MOST), tokens, norm, branch)
    squares, upstream = _down(row, signals, 1 / top, tokens, branch)
    p, gap, *_ = np.transpose(signals[::2])  # attention's
    apart = gap / p * (tokens - 1) / tokens
    norms = np.log10(branch**2 * width / tokens * squares) / 2
    norms[:, :2] += np.log10(gap)[:, None]  # its square would leave the float range
    return Blocks(np.log10(apart) / 2, np.log10(upstream) / 2, norms)


def _down(
    row: Activation, signals: list[Signal], P: float, tokens: int, branch: float
) -> tuple[Array, Array]:
    """Of each block the squares of its gradients, and P at its output; of queries and keys over
    g^2."""
    power = float(variance_map(row, 1.0, 1.0))
    chi = float(gradient_factor(row, 1.0, 1.0)) / power
    others = tokens - 1
    C = 0.0
    upstream = np.empty(len(signals) // 2)
    squares = np.empty((len(signals) // 2, 6))
    for k in reversed(range(len(signals))):
        if k % 2 == 1:
            upstream[k // 2] = P
        p, gap, before, after = signals[k]
        P, C = P / after, C / after
        if k % 2 == 0:
            mean = (P + others * C) / tokens
            value = tokens**2 * (p - gap * others / tokens) * mean
            query = (p * P + others * (p - gap) * C) * others / tokens
            squares[k // 2, :4] = query, query, value, value
            to_P = to_C = mean
        else:
            step, both = (x / power for x in _bent(row, gap / p))
            squares[k // 2, 4] = tokens * (p * chi * P + others * (p - gap) * both * C)
            squares[k // 2, 5] = 4 * power * tokens * (p * P + others * p * (1 - step) * C)
            to_P, to_C = chi * P, both * C
        P += branch**2 * to_P / before
        C += branch**2 * to_C / before
    return squares, upstream


def _up(
    row: Activation, blocks: int, tokens: int, norm: str, branch: float
) -> tuple[list[Signal], float]:
    """What each branch meets, and by what the output is divided, squared."""
    power = float(variance_map(row, 1.0, 1.0))
    p = gap = 1.0
    signals = []
    for k in range(2 * blocks):
        before = p if norm == "pre" else 1.0
        p_in, gap_in = p / before, gap / before
        if k % 2 == 0:
            p += branch**2 * (p_in - gap_in * (tokens - 1) / tokens)
        else:
            gap += branch**2 * p_in * _bent(row, gap_in / p_in)[0] / power
            p += branch**2 * p_in
        after = p if norm == "post" else 1.0
        p, gap = p / after, gap / after
        signals.append(Signal(p_in, gap_in, before, after))
    return signals, p if norm == "pre" else 1.0


def _bent(row: Activation, gap: float) -> tuple[float, float]:
    """E (phi(u) - phi(v))^2 / 2 and E phi'(u) phi'(v), of variance 1 and correlation 1 - gap."""
    if row.name == "relu":
        share, closing = arc_cosine(gap)
        return (gap - closing) / 2, share / 2
    if gap < SMALL:
        slope = float(gradient_factor(row, 1.0, 1.0))
        return slope * gap, slope
    return half_square_step(row, 1.0, gap), overlap(row, 1.0, gap)
