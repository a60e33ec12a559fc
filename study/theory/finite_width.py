"""The exact law of a gradient's size at finite width: linear and ReLU networks, any scale.

Mean-field theory gives the mean of a squared norm; the norm that one sees is another matter. For
bias-free networks its logarithm is a sum of independent terms, one a layer (``norm_law``): for
critical ("He") ReLU close to normal with mean -5L/(2n) and variance 5L/n, although E G = 1.

Widths n_0, ..., n_L are those of r^(0), ..., r^(L). SQUARED norms, natural logarithms.

>>> he = forward_law([100] * 1001)                   # depth 1000, width 100
>>> round(he.mean, 3), round(he.variance, 2), round(he.log_expectation, 9)
(-25.421, 51.94, 0.0)
>>> round(he.median / (2 * math.log(10)), 2)         # half of all gradient norms are below 10^
-5.52
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from study.theory.maps import ActivationLike, positive, row_of
from study.theory.norm_law import NormLaw, log_alive
from study.tools.checks import bad, integer, items, one_of


def forward_law(
    widths: Sequence[int],
    activation: ActivationLike = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||r^(L)||^2 / ||r^(0)||^2, and of ||J v||^2 for any fixed unit vector v.

    Parameters
    ----------
    widths : n_0, ..., n_L; all equal if the weights are orthogonal
    activation : relu or linear
    weights : "gaussian", N(0, sigma_w^2 / fan_in), or "orthogonal", sigma_w times a Haar matrix
    sigma_w : above 0

    >>> law = forward_law([32] * 101)
    >>> round(law.mean, 3), round(law.variance, 2), round(law.alive, 9)
    (-8.254, 17.75, 0.999999977)
    """
    net = _network(widths, activation, weights, sigma_w)
    n = net.widths
    return net.law(net.depth * net.log_gain + math.log(n[-1] / n[0]), plain=n[1:])


def backward_law(
    widths: Sequence[int],
    activation: ActivationLike = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||dC/dr^(0)||^2 for dC/dr^(L) uniform on the unit sphere. See `forward_law`.

    Not quite the forward law: the gradient meets the last mask first, as a direction without
    the spread of a chi^2, and ends in n_0 dimensions without a mask.

    >>> round(backward_law([784, 100, 10]).log_expectation, 12)
    0.0
    """
    net = _network(widths, activation, weights, sigma_w)
    return net.law(net.depth * net.log_gain, plain=net.widths[:-1])


def weight_gradient_law(
    widths: Sequence[int],
    layer: int,
    activation: ActivationLike = "relu",
    weights: str = "gaussian",
    sigma_w: float = math.sqrt(2),
) -> NormLaw:
    """The law of ||dC/dW^(layer)||_F^2, for one input and dC/dr^(L) uniform on unit spheres.

    That is ||r^(layer)||^2 ||dC/dz^(layer+1)||^2, two independent factors. Its mean does not
    depend on the layer, if widths are equal: homogeneous networks vanish uniformly.

    >>> [round(weight_gradient_law([64] * 11, k).log_expectation, 6) for k in (0, 5, 9)]
    [-0.693147, -0.693147, -0.693147]
    """
    net = _network(widths, activation, weights, sigma_w)
    n = net.widths
    layer = integer("layer", layer, 0, net.depth - 1)
    log_expectation = (net.depth - 1) * net.log_gain + math.log(n[layer] / n[0])
    if net.relu:
        log_expectation -= math.log(2)  # of the mask above the weights that the gradient leaves out
    return net.law(log_expectation, plain=n[1:-1])


class _Network(NamedTuple):
    widths: tuple[int, ...]
    relu: bool
    gaussian: bool
    log_gain: float
    """ln E of the squared norm's factor in a square layer."""

    @property
    def depth(self) -> int:
        return len(self.widths) - 1

    def law(self, log_expectation: float, plain: tuple[int, ...]) -> NormLaw:
        """Masks are ReLU's alone, and only Gaussian weights change a direction's length."""
        spherical = self.widths[1:] if self.relu else ()
        return NormLaw(log_expectation, spherical, plain if self.gaussian else ())


def _network(
    widths: Sequence[int], activation: ActivationLike, weights: str, sigma_w: float
) -> _Network:
    widths = checked_widths(widths)
    slopes = exact_slopes(activation)
    if slopes is None:
        raise bad("activation", activation, "relu, linear")
    gaussian = one_of("weights", weights, ("gaussian", "orthogonal")) == "gaussian"
    if not gaussian and len(set(widths)) > 1:
        raise ValueError(f"widths = {widths}; allowed with orthogonal weights: all equal")
    log_gain = 2 * math.log(positive("sigma_w", sigma_w)) + math.log(sum(slopes) / 2)
    return _Network(widths, slopes == (0, 1), gaussian, log_gain)


def checked_widths(value: Sequence[int], at_least: int = 2) -> tuple[int, ...]:
    """Numbers of units n_0, ..., n_L, the input's first."""
    widths = items("widths", value, "a sequence of integers")
    if len(widths) < at_least:
        raise bad("widths", tuple(widths), f"at least {at_least} of them")
    return tuple(integer(f"widths[{k}]", n, 1) for k, n in enumerate(widths))


def exact_slopes(activation: ActivationLike) -> tuple[float, float] | None:
    """Slopes left and right of 0 where the law is known exactly: of ReLU and of no activation."""
    row = row_of(activation)
    known = row.scale_free and row.slopes_at_zero in ((0, 1), (1, 1))
    return row.slopes_at_zero if known else None


def born_dead(widths: Sequence[int]) -> float:
    """1 - prod (1 - 2^-n), n the widths of the layers that ReLU acts on.

    The probability that some layer has no active unit, and all gradients are zero, for ONE input
    and weights and biases of a symmetric law without atoms (Lu, Shin, Su and Karniadakis 2019).

    >>> round(born_dead([5] * 100), 4), round(born_dead([10] * 1000), 4)
    (0.9582, 0.6236)
    """
    return -math.expm1(log_alive(checked_widths(widths, at_least=1)))
