"""Gradients at two inputs of a plain He-ReLU network of finite width, to first order in 1/n.

At infinite width the mean inner product of the two gradients falls as l^-3 (``blocks.shattering``).
Finite networks add c / n, for two reasons, after Roberts, Yaida and Hanin (2022); docs/theory.md:

- the path: the correlation of the signals fluctuates, and so does the share of units that both
  activate;
- alignment: a gradient's part along a signal meets the units that this signal activates, so that no
  mask takes from it. It is 1/n of the gradient, and it stays.

The first is a share of the product, and falls with it; the second does not, and is all that is left
of the likeness of deep networks.
"""

import math
from typing import NamedTuple

import numpy as np

from study.theory.quadrature import panels
from study.tools.checks import integer, real
from study.tools.elementary import Array

_RADIAL = (1.0, 2.0, 8.0)  # E rho^0, rho^2, rho^4 of the radius of two independent standard normals


class _Averages(NamedTuple):
    """Over a layer's units, whose two pre-activations have unit variance and a correlation c."""

    share: float  # f, of one input's active units that the other activates, too
    share_slope: float  # df/dc, which is d^2 C / dc^2
    share_bend: float
    after: float  # C(c), the correlation of the signals
    bias: float  # n times the mean of that of finite width, less C(c)
    variance: float  # n times its variance
    covariance: float  # n times its covariance with f
    common: Array  # (2, 2), 2 E of g_a g_b where both inputs are active
    kept: tuple[Array, Array]  # (2, 2) of each input i, 2 E of relu(g_a) g_b where i is active


def shattering_offset(depth: int, c_0: float = 0.0) -> float:
    """n times what E <g_1, g_2> has beyond infinite width, g_i the gradients at two inputs.

    Parameters
    ----------
    depth : number of layers, bias-free ReLU at sigma_w^2 = 2 of width n far above depth
    c_0 : correlation of the inputs, which have the same norm

    The gradient at the output is a random unit vector, common to both.

    >>> round(shattering_offset(4), 2), round(shattering_offset(4, c_0=0.9), 2)
    (1.01, 0.71)
    """
    depth = integer("depth", depth, 1)
    c = real("c_0", c_0, -0.999999, 0.999999)
    layers = []
    correlations = []
    for _ in range(depth):
        correlations.append(c)
        layers.append(_averages(c))
        c = layers[-1].after
    return _by_path(layers) + _by_alignment(layers, correlations)


def _by_path(layers: list[_Averages]) -> float:
    """The product of shares, its mean to second order in the deviation d of the correlation."""
    product = 1.0
    mean_d = mean_d2 = 0.0
    excess = excess_d = 0.0  # of the product over its limit, and E of that times d
    for at in layers:
        product *= at.share
        slope = at.share_slope / at.share
        excess += slope * (mean_d + excess_d) + at.share_bend / at.share * mean_d2 / 2
        excess_d = at.share * (excess_d + slope * mean_d2) + at.covariance / at.share
        mean_d = at.share * mean_d + at.share_slope * mean_d2 / 2 + at.bias
        mean_d2 = at.share**2 * mean_d2 + at.variance
    return product * excess


def _by_alignment(layers: list[_Averages], correlations: list[float]) -> float:
    """From the output down, E dr_1 dr_2' = (P I + X_ab r_a r_b' / n + p I / n) / n."""
    P = 1.0
    p = 0.0
    X = np.zeros((2, 2))
    for at, c in zip(reversed(layers), reversed(correlations), strict=True):
        first, second = at.kept
        along = P * at.common + first.T @ X @ second  # E (dr_1 . r_a) (dr_2 . r_b)
        p = p * at.share + 2 * float(np.sum(X * at.common))
        P *= at.share
        gram = np.array([[1.0, c], [c, 1.0]])
        inverse = np.linalg.inv(gram)
        X = inverse @ (along - P * gram) @ inverse
    return p + float(np.sum(X * gram))


def _averages(c: float) -> _Averages:
    theta = math.acos(c)
    angle, weights = panels(np.array([theta - math.pi / 2, math.pi / 2]))
    x = np.cos(angle)
    y = np.cos(angle - theta)

    def both(a: int, b: int) -> float:
        """2 E g_1^a g_2^b where both are positive."""
        return float(_RADIAL[(a + b) // 2] * (weights @ (x**a * y**b)) / math.pi)

    share = both(0, 0)
    after = both(1, 1)
    # Of the sums over units 2 relu(g_1)^2, 2 relu(g_2)^2, 2 relu(g_1) relu(g_2) and of f.
    square_square = 2 * both(2, 2) - 1
    square_product = 2 * both(3, 1) - after
    product_product = 2 * both(2, 2) - after**2
    share_square = 2 * both(2, 0) - share
    share_product = 2 * both(1, 1) - share * after
    common = np.array([[both(2, 0), after], [after, both(0, 2)]])
    sine = math.sin(theta)
    return _Averages(
        share=share,
        share_slope=1 / (math.pi * sine),
        share_bend=c / (math.pi * sine**3),
        after=after,
        bias=after * (15 + square_square) / 4 - square_product,
        variance=product_product + after**2 * (5 + square_square) / 2 - 2 * after * square_product,
        covariance=share_product - after * share_square,
        common=common,
        kept=(
            np.array([[1.0, c], [after, both(0, 2)]]),
            np.array([[both(2, 0), after], [c, 1.0]]),
        ),
    )
