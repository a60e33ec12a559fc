"""Gradients under weights of any symmetric law: what their fourth moment adds; drift and spread.

Of scale-free activations (linear, relu, leaky_relu), by the moments of their slopes: rho =
mu_2 / mu_1^2, mu_k = E phi'^2k. The kurtosis kappa = E w^4 / (E w^2)^2 averages out over the units
that a vector v is spread over, f = ||v||_4^4 / ||v||^4.
"""

from collections.abc import Sequence
from typing import NamedTuple

from study.core.activations import TABLE
from study.theory.finite_width import checked_widths
from study.theory.maps import LARGEST, ActivationLike, row_of
from study.tools.checks import bad, real

# E w^4 / (E w^2)^2 of the laws of weights that the study draws independently.
KURTOSIS = {"gaussian": 3.0, "uniform": 1.8}


class Shift(NamedTuple):
    """What is to be added to a mean and to a variance of ln G."""

    mean: float
    variance: float


def kurtosis_shift(widths: Sequence[int], activation: ActivationLike, kurtosis: float) -> Shift:
    """What the kurtosis adds to mean and variance of ln G, per network, to second order.

    To leading order a layer's variance changes by (kappa - 3) rho f / n, where f is 3 rho / n but
    at the input, and the mean of ln G by minus half that; the next order comes from the third
    moment and from f, which covaries with the layer before. To be added to `finite_width`'s laws.

    >>> shift = kurtosis_shift([40] * 101, "relu", KURTOSIS["uniform"])
    >>> round(shift.mean, 3), round(shift.variance, 3)
    (0.362, -0.765)
    """
    widths = checked_widths(widths)
    rho = _moment_ratio(activation, 2)
    excess = real("kurtosis", kurtosis, 1.0, LARGEST) - 3  # over the normal law's
    variance = 3 * rho - 1  # of Y = d (w.v)^2, without f
    third = 15 * _moment_ratio(activation, 3) - 3 * rho  # E Y^3 - E Y^2
    f = 3 / (widths[0] + 2)
    covariance = 0.0  # of f and ln of the factor of the layer before
    mean_shift = 0.0
    variance_shift = 0.0
    for n in widths[1:]:
        unit = excess * rho / n
        mean_shift -= unit * f / 2 * (1 - 2 * (third / (3 * rho) - 1.5 * variance) / n)
        variance_shift += unit * f * (1 + (5 * variance - third / rho) / n) - unit * covariance
        covariance = (third - 6 * rho * variance) / n**2
        f = (rho * (3 + excess * f) + (9 * rho * variance - 2 * third) / n) / n
    return Shift(mean_shift, variance_shift)


def _moment_ratio(activation: ActivationLike, k: int) -> float:
    """mu_k / mu_1^k of the squared slopes."""
    row = row_of(activation)
    if not row.scale_free:
        scale_free = [name for name, other in TABLE.items() if other.scale_free]
        raise bad("activation", row.name, ", ".join(scale_free))
    left, right = row.slopes_at_zero
    return 2 ** (k - 1) * (left ** (2 * k) + right ** (2 * k)) / (left**2 + right**2) ** k
