"""The exact law of a gradient's size at finite width: linear and ReLU networks, any scale.

Mean-field theory gives the mean of a squared norm; the norm that one sees is another matter. For
bias-free networks the logarithm of a squared norm is a sum of independent terms, one a layer
(``layer_law``; Hanin and Nica 2018), so its law is known exactly: for critical ("He") ReLU of
width n and depth L it is close to normal with mean -5L/(2n) and variance 5L/n, although
E G = 1 at every depth. The typical gradient vanishes, a rare one pays for the mean.

Widths n_0, ..., n_L are those of r^(0), ..., r^(L), the input's first. Masks of ReLU are drawn
afresh in each layer, as they are for one input. Everything is about SQUARED norms, in natural
logarithms: log10 of a norm is ln G / (2 ln 10).

>>> he = forward_law([100] * 1001)                   # depth 1000, width 100
>>> round(he.mean, 3), round(he.variance, 2), round(he.log_expectation, 9)
(-25.421, 51.94, 0.0)
>>> round(he.median / (2 * math.log(10)), 2)         # half of all gradient norms are below 10^
-5.52
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from study.checks import one_of
from study.theory import checks
from study.theory.norm_law import NormLaw


def forward_law(
    widths: Sequence[int],
    activation: str = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||r^(L)||^2 / ||r^(0)||^2, and of ||J v||^2 for any fixed unit vector v.

    Parameters
    ----------
    widths : sequence of int
        n_0, ..., n_L; all equal if the weights are orthogonal.
    activation : {"relu", "linear"}
        Of every layer.
    weights : {"gaussian", "orthogonal"}
        N(0, sigma_w^2 / fan_in), or sigma_w times a Haar-distributed orthogonal matrix.
    sigma_w : float
        Positive.

    Examples
    --------
    >>> law = forward_law([32] * 101)
    >>> round(law.mean, 3), round(law.variance, 2), round(law.alive, 9)
    (-8.254, 17.75, 0.999999977)
    """
    widths, log_gain = _checked(widths, activation, weights, sigma_w)
    if weights == "orthogonal":
        return _orthogonal(widths, activation, log_gain)
    scale = (len(widths) - 1) * log_gain + math.log(widths[-1] / widths[0])
    kind = "masked" if activation == "relu" else "plain"
    return NormLaw(scale, **{kind: widths[1:]})


def backward_law(
    widths: Sequence[int],
    activation: str = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||dC/dr^(0)||^2 for dC/dr^(L) uniform on the unit sphere. See `forward_law`.

    Not quite the forward law: the gradient meets the last mask first, as a direction without
    the spread of a chi^2, and ends in n_0 dimensions without a mask. For W^(k) at the bottom
    pass the widths from n_k on.

    >>> abs(backward_law([32] * 101).mean - forward_law([32] * 101).mean) < 1e-12    # if square
    True
    >>> round(backward_law([784, 100, 10]).log_expectation, 12)
    0.0
    """
    widths, log_gain = _checked(widths, activation, weights, sigma_w)
    if weights == "orthogonal":
        return _orthogonal(widths, activation, log_gain)
    scale = (len(widths) - 1) * log_gain
    if activation == "linear":
        return NormLaw(scale, plain=widths[:-1])
    return NormLaw(scale, masked=widths[1:-1], spherical=widths[-1:], plain=widths[:1])


def weight_gradient_law(
    widths: Sequence[int],
    layer: int,
    activation: str = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||dC/dW^(layer)||_F^2, for one input and dC/dr^(L) uniform on unit spheres.

    That is ||r^(layer)||^2 ||dC/dz^(layer+1)||^2, two independent factors. Its mean does not
    depend on the layer, if widths are equal: homogeneous networks vanish uniformly.

    >>> [round(weight_gradient_law([64] * 11, k).log_expectation, 6) for k in (0, 5, 9)]
    [-0.693147, -0.693147, -0.693147]
    """
    widths, log_gain = _checked(widths, activation, weights, sigma_w)
    layer = checks.count("layer", layer, low=0)
    depth = len(widths) - 1
    if layer >= depth:
        raise ValueError(f"layer = {layer}; allowed: from 0 to {depth - 1}, there are {depth}")
    relu = activation == "relu"
    scale = (depth - 1) * log_gain - (math.log(2) if relu else 0.0)
    if weights == "orthogonal":
        return NormLaw(scale, spherical=widths[1:] if relu else ())
    scale += math.log(widths[layer] / widths[0])
    between = widths[1 : layer + 1] + widths[layer + 1 : -1]
    if not relu:
        return NormLaw(scale, plain=between)
    return NormLaw(scale, masked=between, spherical=widths[-1:])


def _checked(
    widths: Sequence[int], activation: str, weights: str, sigma_w: float
) -> tuple[tuple[int, ...], float]:
    """The widths, and ln E of the squared norm's factor in a square layer."""
    widths = checks.widths(widths)
    one_of("activation", activation, ("relu", "linear"))
    one_of("weights", weights, ("gaussian", "orthogonal"))
    if weights == "orthogonal" and len(set(widths)) > 1:
        raise ValueError(f"widths = {widths}; allowed with orthogonal weights: all equal")
    gain = 2 * math.log(checks.positive("sigma_w", sigma_w))
    return widths, gain - math.log(2) if activation == "relu" else gain


def _orthogonal(widths: tuple[int, ...], activation: str, log_gain: float) -> NormLaw:
    spherical = widths[1:] if activation == "relu" else ()
    return NormLaw((len(widths) - 1) * log_gain, spherical=spherical)
