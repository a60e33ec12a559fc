"""Laws of number formats and of ReLU'(0): Bertoin."""

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, every, mean_of, seeds, share_of
from experiments.laws.walks import HE, input_gradient
from study.core.blocks import Dense
from study.sampling import gaussian
from study.theory.finite_width import backward_law
from study.theory.maps import gradient_factor
from study.theory.rounding import cancellation, underflow

# --- ReLU'(0) ------------------------------------------------------------------------------------


def _below_dead(count: int, kink: float) -> np.ndarray:
    """Growth of the squared gradient through 20 He layers above a dead one, ReLU'(0) = kink."""
    growths = []
    for seed in seeds(count):
        key = gaussian.key(seed, "dead layer")
        weights = [gaussian.normal(key, k, (64, 64)) * math.sqrt(2 / 64) for k in range(21)]
        dead, *layers = (Dense(W, "relu", kink=kink) for W in (-np.abs(weights[0]), *weights[1:]))
        r = dead.phi(dead.up(np.abs(gaussian.normal(key, 21, (1, 64)))))
        dr = gaussian.normal(key, 22, (1, 64))
        # Weight gradients are 0 there either way, as r is: dC/dr tells the two apart.
        below = input_gradient(layers, r, dr)
        growths.append(np.vdot(below, below) / np.vdot(dr, dr))
    return np.array(growths)


def _slope_one(factor: int) -> Finding:
    expected = backward_law([64] * 21, "linear", sigma_w=HE).mean
    return mean_of(np.log(_below_dead(250 * factor, 1.0)), expected, OFF * expected)


def _slope_zero(factor: int) -> Finding:
    wrong = gradient_factor("linear", 1.0, HE) ** 20
    return every(_below_dead(5 * factor, 0.0), 0.0, wrong, tolerance=0.0)


# --- How often a pre-activation is exactly 0 -----------------------------------------------------

PRODUCTS = 10
"""Terms of a dot product."""

SMALL = 2.0**-12
"""Scale of the pre-activations that mixed precision is tried on."""

_BLOCK = 500_000  # dot products a seed


@lru_cache(maxsize=4)  # two laws in float32, at two scales
def _zeros(blocks: int, accumulated: str, stored: str, scale: float) -> int:
    """How many of ``blocks`` times `_BLOCK` dot products of normals are exactly 0."""
    drawn = np.float64 if accumulated == "float64" else np.float32
    count = 0
    for seed in seeds(blocks):
        key = gaussian.key(seed, "dot products")
        total = np.zeros(_BLOCK, accumulated)
        for k in range(PRODUCTS):
            a, w = gaussian.normal(key, k, (2, _BLOCK), drawn)
            w *= drawn(scale / math.sqrt(PRODUCTS))
            total += (a * w).astype(accumulated)
        with np.errstate(under="ignore"):  # z that is stored as 0 is the point here
            count += int(np.count_nonzero(total.astype(stored) == 0))
    return count


def _share(
    factor: int, dtype: str, expected: float, wrong: float, stored: str = "", scale: float = 1.0
) -> Finding:
    """In the format of the sums, unless z is stored in another."""
    count = _zeros(8 * factor, dtype, stored or dtype, scale)
    return share_of(count, 8 * factor * _BLOCK, expected, wrong)


def _half(factor: int) -> Finding:
    expected = cancellation(PRODUCTS, "float16")
    return _share(factor, "float16", expected, expected / 2)


def _wider(factor: int, dtype: str) -> Finding:
    wrong = cancellation(PRODUCTS, "float16")
    return _share(factor, dtype, cancellation(PRODUCTS, dtype), wrong)


def _mixed(factor: int) -> Finding:
    expected = underflow(PRODUCTS, "float16", SMALL)
    return _share(factor, "float32", expected, 2 * expected, "float16", SMALL)


MEASURES = {
    "relu slope one": _slope_one,
    "relu slope zero": _slope_zero,
    "half precision zeros": _half,
    "single precision zeros": lambda factor: _wider(factor, "float32"),
    "double precision zeros": lambda factor: _wider(factor, "float64"),
    "mixed precision zeros": _mixed,
}
