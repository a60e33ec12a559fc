"""Second moments of a gradient's size, for weights of any symmetric law; drift and spread.

What the weights' law changes beyond its variance is the fourth moment. With masks that are fair
coins (``layer_law``), kurtosis kappa = E w^4 / (E w^2)^2 and rho = mu_2 / mu_1^2 from the slopes,
mu_k = E phi'^2k, one layer takes M = E ||v||^4 / (E ||v||^2)^2 and Q = E ||v||_4^4 / (E ||v||^2)^2
to

    Q' = rho (3 M + (kappa - 3) Q) / n'          M' = Q' + (1 - 1/n') M

exactly: the vector v must be spread over many units for the kurtosis to average out, and Q says
how far it is. For Gaussian weights M' / M = 1 + (3 rho - 1) / n': 1 + 5/n for ReLU (Hanin and
Nica 2018), 1 + 2/n without activation. Activations: linear, relu, leaky_relu (scale-free ones).

>>> round(log_second_moment_ratio([50] * 51), 6), round(50 * math.log(1 + 5 / 50), 6)
(4.765509, 4.765509)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from study.checks import one_of
from study.core.activations import TABLE
from study.theory import checks

KURTOSIS = {"gaussian": 3.0, "uniform": 1.8}
"""E w^4 / (E w^2)^2 of the laws of weights that the study draws independently."""

_SCALE_FREE = tuple(name for name, row in TABLE.items() if row.scale_free)


class Shift(NamedTuple):
    """What is to be added to a mean and to a variance of ln G."""

    mean: float
    variance: float


class Spread(NamedTuple):
    """The summary law: ln G = L ln chi + N(-drift L/n, spread L/n), to leading order in 1/n."""

    drift: float
    spread: float


def _rho(activation: str, k: int = 2) -> float:
    """mu_k / mu_1^k of the slopes."""
    below, above = TABLE[one_of("activation", activation, _SCALE_FREE)].slopes_at_zero
    return 2 ** (k - 1) * (below ** (2 * k) + above ** (2 * k)) / (below**2 + above**2) ** k


def log_second_moment_ratio(
    widths: Sequence[int], activation: str = "relu", kurtosis: float = 3.0
) -> float:
    """ln (E G^2 / (E G)^2) for G = ||r^(L)||^2 / ||r^(0)||^2, exact at any width.

    Parameters
    ----------
    widths : sequence of int
        n_0, ..., n_L, the input's first. The input's direction is uniform on the sphere.
    activation : str
        A scale-free row of the table, on every layer. Bias-free.
    kurtosis : float
        Of the weights, which are independent, symmetric and without atoms; at least 1. See
        `KURTOSIS`. The weights' scale does not matter.

    Returns
    -------
    float
        Natural logarithm. Dead networks count as G = 0.

    Notes
    -----
    Do not compare with a sample mean of G^2 where this exceeds 2: the tail is too heavy.
    """
    widths = checks.widths(widths)
    rho, kappa = _rho(activation), checks.number("kurtosis", kurtosis, low=1.0)
    fourth, log_second = 3 / (widths[0] + 2), 0.0  # Q / M, and ln M
    for n in widths[1:]:
        fourth = rho * (3 + (kappa - 3) * fourth) / n
        step = fourth + 1 - 1 / n
        fourth /= step
        log_second += math.log(step)
    return log_second


def kurtosis_shift(widths: Sequence[int], activation: str, kurtosis: float) -> Shift:
    """What the kurtosis adds to mean and variance of ln G, per network, to second order.

    A layer's factor is a mean of n terms d (w.v)^2. To leading order its variance changes by
    (kappa - 3) rho f / n, where f = ||v||_4^4 / ||v||^4 is 3 rho / n but at the input, and the
    mean of ln G by minus half that. The next order, relative 1/n, comes from the third moment
    (rho_3 = mu_3 / mu_1^3) and from f, which is a ratio itself and covaries with the layer before.
    It matters: for ReLU and uniform weights the mean's shift is a share 8.4/n smaller. Errors are
    O(1 / n^4) a layer. To be added to the laws of ``finite_width``, those of Gaussian weights.

    >>> shift = kurtosis_shift([40] * 101, "relu", KURTOSIS["uniform"])
    >>> round(shift.mean, 3), round(shift.variance, 3)
    (0.362, -0.765)
    """
    widths = checks.widths(widths)
    rho, excess = _rho(activation), checks.number("kurtosis", kurtosis, low=1.0) - 3
    rho_3 = _rho(activation, 3)
    variance, third = 3 * rho - 1, 15 * rho_3 - 3 * rho  # of d (w.v)^2, without f; E Y^3 - E Y^2
    f, covariance, mean_shift, variance_shift = 3 / (widths[0] + 2), 0.0, 0.0, 0.0
    for n in widths[1:]:
        unit = excess * rho / n
        mean_shift -= unit * f / 2 * (1 - 2 * (third / (3 * rho) - 1.5 * variance) / n)
        variance_shift += unit * f * (1 + (5 * variance - third / rho) / n) - unit * covariance
        covariance = (third - 6 * rho * variance) / n**2  # of f and ln of this layer's factor
        f = (rho * (3 + excess * f) + (9 * rho * variance - 2 * third) / n) / n
    return Shift(mean_shift, variance_shift)


def drift_and_spread(activation: str, weights: str = "gaussian") -> Spread:
    """The constants a and c of ln G = L ln chi + N(-a L/n, c L/n), where they are known exactly.

    c = 3 mu_2 / mu_1^2 - 1 for independent weights of any symmetric law, 3 mu_2 / mu_1^2 - 3 for
    orthogonal ones, and a = c / 2: scale-free activations only. Elsewhere q fluctuates too, and
    correlates between layers.

    >>> drift_and_spread("relu"), drift_and_spread("relu", "orthogonal").spread
    (Spread(drift=2.5, spread=5.0), 3.0)
    """
    one_of("weights", weights, (*KURTOSIS, "orthogonal"))
    spread = 3 * _rho(activation) - (3 if weights == "orthogonal" else 1)
    return Spread(spread / 2, spread)
