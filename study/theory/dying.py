"""Born dead: the probability that a ReLU layer has no active unit, and all gradients are zero.

For one input and weights (and biases, if any) of a symmetric law without atoms, the n units of a
layer are active or not like fair coins, whatever the scale; so a layer is dead with probability
2^-n, and that is independent of the other layers (Lu, Shin, Su and Karniadakis 2019).

This is about ONE input. A network dead for every input is rarer: for it the same number is an
upper bound only, reached in the limit of great depth.

>>> round(born_dead([5] * 100), 4), round(born_dead([10] * 1000), 4)
(0.9582, 0.6236)
>>> smallest_width(depth=10_000, probability=1e-3)
24
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from study.theory import checks


def born_dead(widths: Sequence[int]) -> float:
    """1 - prod (1 - 2^-n): the probability that some ReLU layer is dead for a given input.

    Parameters
    ----------
    widths : sequence of int
        Of the layers that ReLU acts on: neither the input nor a linear readout.

    >>> born_dead([1]), round(born_dead([2, 2]), 12), born_dead([64])
    (0.5, 0.4375, 5.421010862427522e-20)
    """
    return -math.expm1(log_alive(checks.widths(widths, at_least=1)))


def log_alive(widths: Sequence[int]) -> float:
    """ln of the probability that no layer is dead: keeps the rare deaths of wide layers."""
    return math.fsum(math.log1p(-(0.5**n)) for n in widths)


def smallest_width(depth: int, probability: float) -> int:
    """The least n at which ``depth`` layers of width n are dead with at most this probability.

    About log2(depth / probability).
    """
    depth = checks.count("depth", depth)
    probability = checks.positive("probability", probability, below=1.0)
    n = 1
    while -math.expm1(depth * log_alive([n])) > probability:
        n += 1
    return n
