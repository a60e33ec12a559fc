"""Laws of number formats and of ReLU'(0): Bertoin."""

import math
from functools import partial

import numpy as np

from experiments.laws.law import OFF, Finding, mean_of, seeds, share_of
from experiments.laws.walks import HE, input_gradient, log_square, over_seeds
from study.core.blocks import Dense
from study.sampling import gaussian
from study.theory.finite_width import backward_law
from study.theory.rounding import cancellation, underflow


@over_seeds
def above_dead(seed: int, kink: float) -> float:
    """ln of the squared gradient's growth through 20 He layers above a dead one, by ReLU'(0)."""
    key = gaussian.key(seed, "dead layer")
    weights = [gaussian.normal(key, k, (64, 64)) * math.sqrt(2 / 64) for k in range(21)]
    dead, *layers = (Dense(W, "relu", kink=kink) for W in (-np.abs(weights[0]), *weights[1:]))
    r = dead.phi(dead.up(np.abs(gaussian.normal(key, 21, (1, 64)))))
    dr = gaussian.normal(key, 22, (1, 64))
    # Weight gradients are 0 there either way, as r is: dC/dr tells the two apart.
    return log_square(input_gradient(layers, r, dr)) - log_square(dr)


def _slope_one(factor: int) -> Finding:
    expected = backward_law([64] * 21, "linear", sigma_w=HE).mean
    return mean_of(above_dead(250 * factor, 1.0), expected, OFF * expected)


# --- How often a pre-activation is exactly 0 -----------------------------------------------------

PRODUCTS = 10
"""Terms of a dot product."""

SMALL = 2.0**-12
"""Scale of the pre-activations that mixed precision is tried on."""

_BLOCK = 500_000  # dot products a seed


def _zeros(accumulated: str, scale: float, expected: float, off: float, factor: int) -> Finding:
    """The share of dot products of normals that are exactly 0, stored in float16."""
    count = 0
    for seed in seeds(8 * factor):
        key = gaussian.key(seed, "dot products")
        total = np.zeros(_BLOCK, accumulated)
        for k in range(PRODUCTS):
            a, w = gaussian.normal(key, k, (2, _BLOCK), np.float32)
            w *= np.float32(scale / math.sqrt(PRODUCTS))
            total += (a * w).astype(accumulated)
        with np.errstate(under="ignore"):  # z that is stored as 0 is the point here
            count += int(np.count_nonzero(total.astype("float16") == 0))
    return share_of(count, 8 * factor * _BLOCK, expected, off * expected)


MEASURES = {
    "relu slope one": _slope_one,
    "half precision zeros": partial(_zeros, "float16", 1.0, cancellation(PRODUCTS, "float16"), 0.5),
    "mixed precision zeros": partial(
        _zeros, "float32", SMALL, underflow(PRODUCTS, "float16", SMALL), 2.0
    ),
}
