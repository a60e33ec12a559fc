"""Born dead: the probability that a ReLU layer has no active unit, and all gradients are zero.

For ONE input and weights (and biases) of a symmetric law without atoms, the n units of a layer are
fair coins whatever the scale, so a layer is dead with probability 2^-n, independently of the others
(Lu, Shin, Su and Karniadakis 2019). Death for every input is rarer.

>>> round(born_dead([5] * 100), 4), round(born_dead([10] * 1000), 4)
(0.9582, 0.6236)
"""

import math
from collections.abc import Sequence

from study.theory.layer_law import checked_widths


def born_dead(widths: Sequence[int]) -> float:
    """1 - prod (1 - 2^-n), n the widths of the layers that ReLU acts on."""
    return -math.expm1(log_alive(checked_widths(widths, at_least=1)))


def log_alive(widths: Sequence[int]) -> float:
    """ln of the probability that no layer is dead: keeps the rare deaths of wide layers."""
    return math.fsum(math.log1p(-(0.5**n)) for n in widths)
