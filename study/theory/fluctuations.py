"""Drift and spread of a gradient at finite width, for any activation, to first order in 1/n.

The summary law of deep random networks is ln G = sum ln chi + N(-a L/n, c L/n). For scale-free
activations a and c are exact sums of independent layers (``finite_width``). Elsewhere the lengths
of the signals fluctuate as well, and chi follows them: docs/theory.md derives the recursions and
names their letters. After Roberts, Yaida and Hanin (2022), for every activation and off
criticality. SQUARED norms, natural logarithms; depths well below width.
"""

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from study.core.activations import TABLE, Activation
from study.theory.finite_width import checked_widths
from study.theory.maps import (
    LARGEST,
    ActivationLike,
    deviation,
    mean_of,
    positive,
    row_of,
    trajectory,
    within_range,
)
from study.tools.checks import bad, integer, real
from study.tools.elementary import Array

# E w^4 / (E w^2)^2 of the laws of weights that the study draws independently.
KURTOSIS = {"gaussian": 3.0, "uniform": 1.8}


class Gain(NamedTuple):
    """ln of the squared gradient norm at one layer over that at the output."""

    log_chi: float  # at infinite width
    mean: float  # to order 1/n, as the variance
    variance: float
    layers: int  # between

    @property
    def shift(self) -> float:
        """What finite width adds to the mean."""
        return self.mean - self.log_chi


class Fluctuations(NamedTuple):
    """Entry k belongs to the pre-activations made by W^(k); n times shifts and variances."""

    q: Array  # their variance at infinite width
    length_shift: Array  # of the mean of ln q_k
    length_variance: Array  # of ln q_k
    above: Array  # K: what a change of ln q_(k+1) does to ln chi of all layers above
    gain_shift: Array  # of ln chi
    gain_variance: Array  # of ln chi, with what the layer's noise does to all layers above
    layers: SimpleNamespace  # averages, named in docs/theory.md

    def gain(self, width: int, first: int = 0) -> Gain:
        """The law of ln(||dC/dr^(first)||^2 / ||dC/dr^(depth)||^2), to order 1/width."""
        width = integer("width", width, 1)
        depth = len(self.q)
        first = integer("first", first, 0, depth - 1)
        at = self.layers
        before = at.kappa[first] + at.slope[first] * self.above[first]
        variance = self.gain_variance[first:].sum() + before**2 * self.length_variance[first]
        log_chi = float(at.log_chi[first:].sum())
        mean = log_chi + float(self.gain_shift[first:].sum()) / width
        return Gain(log_chi, mean, float(variance) / width, depth - first)


def fluctuations(
    activation: ActivationLike,
    sigma_w: float,
    sigma_b: float = 0.0,
    *,
    depth: int,
    kurtosis: float = 3.0,
) -> Fluctuations:
    """First-order fluctuations of a network with square layers and independent weights.

    Parameters
    ----------
    sigma_w, sigma_b : standard deviations, Var W = sigma_w^2 / n, Var b = sigma_b^2
    depth : number of weight matrices
    kurtosis : of the weights, which are symmetric (`KURTOSIS`)

    The input has standard normal entries, dC/dr at the output is a uniform direction. Where q
    goes to 0 or inf only its logarithm matters, and its variance grows with depth.

    >>> law = fluctuations("relu", 2**0.5, depth=100).gain(width=1000)      # a and c: 5/2 and 5
    >>> round(law.mean, 9), round(law.variance, 9)
    (-0.25, 0.5)
    """
    row = row_of(activation)
    depth = integer("depth", depth, 1)
    excess = real("kurtosis", kurtosis, 1.0, LARGEST) - 3
    sw2 = positive("sigma_w", sigma_w) ** 2
    sb2 = deviation("sigma_b", sigma_b) ** 2
    q = within_range(trajectory(row, sigma_w, sigma_b, depth).q)
    first = 2 * (sw2 / (sw2 + sb2)) ** 2  # of a chi^2 with n degrees of freedom, over n
    return _solved(q, _averages(row, q, sw2, sb2), excess, first)


@np.errstate(under="ignore")  # what has died out is 0
def _solved(q: Array, at: SimpleNamespace, excess: float, first: float) -> Fluctuations:
    """The recursions x' = factor x + added; first: Var ln q_1."""
    # Edgeworth: the excess kurtosis of z is that of the weights times the signals' concentration.
    entering = _upwards(3.0, 0 * at.slope, at.concentration)
    fourth = excess * entering * at.share**2 / 6
    variance = _upwards(first, at.slope**2, at.noise)
    added = at.curvature * variance / 2 - at.noise / 2 + fourth * at.bend
    shift = _upwards(-first / 2, at.slope, added)
    above = _downwards(0.0, at.slope, at.kappa)
    along = _downwards(1.0, at.alpha, at.beta)  # U
    # W_ij^2, given z_i, has one more He_2(h_i) r_j^2 / |r|^2 term than normal weights: it counts
    # at once and in the layer above, as the gradient prefers units of large r_j.
    tied = _downwards(0.0, 0 * at.slope, at.share * at.kappa)
    by_kurtosis = fourth * at.gain_bend
    by_kurtosis += excess * (at.share * at.kappa + tied * (at.omega - 1))
    by_length = at.kappa * shift + at.kappa_2 * variance / 2
    by_direction = at.omega * (along - 1) + at.alpha * along + at.beta - along
    gain_shift = by_length + by_direction + by_kurtosis - at.baseline / 2
    gain_variance = at.baseline + 2 * above * at.covariance + above**2 * at.noise
    return Fluctuations(q, shift, variance, above, gain_shift, gain_variance, at)


def _upwards(start: float, factors: Array, added: Array) -> Array:
    """x_k that enters each layer, x_0 = start."""
    x = [start]
    for factor, term in zip(factors[:-1], added[:-1], strict=True):
        x.append(factor * x[-1] + term)
    return np.array(x)


def _downwards(start: float, factors: Array, added: Array) -> Array:
    """The same from the output down."""
    return _upwards(start, factors[::-1], added[::-1])[::-1]


def _integrands(row: Activation, x: Array) -> Array:
    phi = row.phi(x)
    slope = row.derivative(x)
    phi2 = phi**2
    slope2 = slope**2
    sizes = (phi2, x**2 * phi2, x**2 * x**2 * phi2, phi2**2)
    slopes = (slope2, x**2 * slope2, x**2 * x**2 * slope2, slope2**2)
    return np.array([*sizes, *slopes, phi2 * slope2, x * phi * slope])


def _averages(row: Activation, q: Array, sw2: float, sb2: float) -> SimpleNamespace:
    """Averages over pre-activations of variance q, an entry a layer; see docs/theory.md."""
    size, size_x2, size_x4, fourth, mu_1, across, mu_x4, mu_2, both, along = mean_of(
        row, partial(_integrands, row), q
    )
    V = sw2 * size + sb2
    weights = q - sb2  # the part of q that the weights make
    share = weights / q
    # Derivatives by ln q are moments with Hermite polynomials of h = x / sqrt q: q d/dq E f =
    # E f He_2(h) / 2 and q^2 d^2/dq^2 E f = E f He_4(h) / 4.
    slope = sw2 * (size_x2 / q - size) / 2 / V
    bend = sw2 * (size_x4 / q**2 - 6 * size_x2 / q + 3 * size) / 4 / V
    kappa = (across / q - mu_1) / 2 / mu_1
    gain_bend = (mu_x4 / q**2 - 6 * across / q + 3 * mu_1) / 4 / mu_1
    # Of y = W r, given z = y + b: mean share z, and a variance share sb2 that b has taken.
    square = share**2 * across + share * sb2 * mu_1 - (share * along) ** 2 / size
    return SimpleNamespace(
        log_chi=np.log(sw2 * mu_1),
        slope=slope,  # lambda
        curvature=slope + bend - slope**2,  # F''
        kappa=kappa,
        kappa_2=kappa + gain_bend - kappa**2,
        noise=(sw2 / V) ** 2 * (fourth - size**2),  # N
        covariance=sw2 * (both - mu_1 * size) / (mu_1 * V),  # C
        baseline=3 * mu_2 / mu_1**2 - 1,  # e
        alpha=(share * along) ** 2 / (size * weights * mu_1),
        beta=square / (weights * mu_1),
        omega=both / (size * mu_1),
        concentration=fourth / size**2,  # n sum r^4 / (sum r^2)^2 of the layer's signals
        share=share,  # of the weights in q; the rest is the bias's
        bend=bend,  # q^2 V'' / V
        gain_bend=gain_bend,  # the same of mu_1
    )


# --- The second order, of scale-free activations ---


class Shift(NamedTuple):
    """What is to be added to a mean and to a variance of ln G."""

    mean: float
    variance: float


def kurtosis_shift(widths: Sequence[int], activation: ActivationLike, kurtosis: float) -> Shift:
    """What the kurtosis adds to mean and variance of ln G, per network, to second order.

    Of scale-free activations, to be added to `finite_width`'s laws. kappa = E w^4 / (E w^2)^2
    averages out over the units that a vector v is spread over, f = ||v||_4^4 / ||v||^4: to leading
    order a layer's variance changes by (kappa - 3) rho f / n, rho = E phi'^4 / (E phi'^2)^2, f is
    3 rho / n but at the input, and the mean of ln G changes by minus half that; the next order
    comes from the third moment and from f, which covaries with the layer before.

    >>> shift = kurtosis_shift([40] * 101, "relu", KURTOSIS["uniform"])
    >>> round(shift.mean, 3), round(shift.variance, 3)
    (0.362, -0.765)
    """
    widths = checked_widths(widths)
    row = row_of(activation)
    if not row.scale_free:
        scale_free = [name for name, other in TABLE.items() if other.scale_free]
        raise bad("activation", row.name, ", ".join(scale_free))
    squares = np.square(row.slopes_at_zero)
    mu_1, mu_2, mu_3 = (float(np.mean(squares**k)) for k in (1, 2, 3))
    rho = mu_2 / mu_1**2
    excess = real("kurtosis", kurtosis, 1.0, LARGEST) - 3  # over the normal law's
    variance = 3 * rho - 1  # of Y = d (w.v)^2, without f
    third = 15 * mu_3 / mu_1**3 - 3 * rho  # E Y^3 - E Y^2
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
