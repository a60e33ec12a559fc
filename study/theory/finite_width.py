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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from study.activations import Array
from study.theory import checks, layer_law

_TAIL = 33.0  # e^-33 = 5e-15 of the probability is left out on either side
_SMOOTH = 1e-13  # the characteristic function is cut where it has fallen to this


@dataclass(frozen=True)
class NormLaw:
    """The law of ln G = log_scale + a sum of independent logs, one for each width listed.

    Made by :func:`forward_law`, :func:`backward_law` and :func:`weight_gradient_law`. Mean,
    variance, skewness, quantiles and samples are conditional on no layer being dead (``alive``,
    the probability of that); the two expectations count dead networks, G = 0, as well.

    Attributes
    ----------
    log_scale : float
        What the weights' scale contributes: ln E G but for the dead.
    masked, spherical, plain : tuple of int
        Widths of the layers of each kind, defined in ``layer_law``.
    """

    log_scale: float
    masked: tuple[int, ...] = ()
    spherical: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()

    @cached_property
    def _layers(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(width, how many) of the spherical and of the plain logs; a masked one is both."""
        spherical = Counter(self.spherical) + Counter(self.masked)
        plain = Counter(self.plain) + Counter(self.masked)
        return list(spherical.items()), list(plain.items())

    @cached_property
    def _cumulants(self) -> Array:
        total = np.zeros(3)
        for cumulants, layers in (
            (layer_law.masked_cumulants, self.masked),
            (layer_law.spherical_cumulants, self.spherical),
            (layer_law.plain_cumulants, self.plain),
        ):
            for n, times in Counter(layers).items():
                total += times * np.array(cumulants(n))
        return total

    @property
    def mean(self) -> float:
        """E ln G; its exponential is the typical squared norm."""
        return self.log_scale + float(self._cumulants[0])

    @property
    def variance(self) -> float:
        """Var ln G, whatever the weights' scale."""
        return float(self._cumulants[1])

    @property
    def skewness(self) -> float:
        """E (ln G - mean)^3 / variance^(3/2); negative; 0 where nothing is random."""
        return float(self._cumulants[2] / self.variance**1.5) if self.variance else 0.0

    @property
    def alive(self) -> float:
        """Probability that every ReLU layer has an active unit (1 without ReLU)."""
        return math.exp(sum(math.log1p(-(0.5**n)) for n in self.masked + self.spherical))

    @property
    def log_expectation(self) -> float:
        """ln E G, dead networks counted as 0."""
        return self.log_scale

    @property
    def log_second_moment(self) -> float:
        """ln E G^2, dead networks counted as 0; exceeds 2 ln E G by ~ 5 sum 1/n for ReLU."""
        excess = (
            sum(math.log1p(5 / n) for n in self.masked)
            + sum(math.log1p(3 / (n + 2)) for n in self.spherical)
            + sum(math.log1p(2 / n) for n in self.plain)
        )
        return 2 * self.log_scale + excess

    def _log_moment(self, t: Array) -> Array:
        """ln E exp(t (ln G - log_scale)) of the living."""
        spherical, plain = self._layers
        total = np.zeros_like(t)
        for n, times in spherical:
            total = total + times * layer_law.log_spherical_moment(n, t)
        for n, times in plain:
            total = total + times * layer_law.log_plain_moment(n, t)
        return total

    @cached_property
    def _series(self) -> tuple[float, float, Array, Array]:
        """Ends of the support (but for e^-33), frequencies and Fourier coefficients."""
        spread = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0]) / math.sqrt(self.variance)
        t = np.concatenate([-np.minimum(spread, 0.49), spread])
        # Chernoff: P(ln G < x) <= E exp(t ln G) exp(-t x) for t < 0, and so above for t > 0.
        bounds = (self._log_moment(t) + _TAIL) / t
        low, high = float(bounds[t < 0].max()), float(bounds[t > 0].min())
        terms = 64
        while True:
            frequencies = 2 * math.pi / (high - low) * np.arange(1, terms + 1)
            # The frequencies at the end first: whether they are needed is soon seen.
            if float(self._log_moment(1j * frequencies[-1:]).real[0]) < math.log(_SMOOTH):
                break
            terms *= 2
            if terms > 4096:
                raise ValueError(
                    f"widths {sorted({*self.masked, *self.spherical, *self.plain})}: ln G has "
                    "no smooth density; allowed: wider or more layers, or sample() in place of cdf"
                )
        with np.errstate(under="ignore"):
            return low, high, frequencies, np.exp(self._log_moment(1j * frequencies))

    def cdf(self, x: float | Array) -> float | Array:
        """P(ln G <= x) of the living, to 1e-12 (1e-10 beyond width 10^5).

        The characteristic function is known in closed form; its Fourier series on an interval
        that leaves out 1e-14 of the probability is summed. Widths below 50 with orthogonal
        weights may have atoms (all units active): then ValueError, see :meth:`sample`.
        """
        x = np.asarray(x, float) - self.log_scale
        if self.variance == 0:
            return np.where(x < 0, 0.0, 1.0)[()]
        low, high, frequencies, coefficients = self._series
        inside = np.clip(x, low, high)
        waves = np.exp(-1j * low * frequencies) - np.exp(-1j * inside[..., None] * frequencies)
        total = np.sum((waves * coefficients / (1j * frequencies)).real, axis=-1)
        return np.clip(((inside - low) + 2 * total) / (high - low), 0.0, 1.0)[()]

    def quantile(self, p: float) -> float:
        """The x with P(ln G <= x) = p, for p between 1e-10 and 1 - 1e-10."""
        if not (isinstance(p, float) and 1e-10 <= p <= 1 - 1e-10):
            raise ValueError(f"p = {p!r}; allowed: a float from 1e-10 to 1 - 1e-10")
        if self.variance == 0:
            return self.log_scale
        low, high = (end + self.log_scale for end in self._series[:2])
        return optimize.brentq(lambda x: self.cdf(x) - p, low, high, xtol=1e-13 * (high - low))

    @property
    def median(self) -> float:
        """Median of ln G."""
        return self.quantile(0.5)

    def lognormal_cdf(self, x: float | Array) -> float | Array:
        """The normal approximation of :meth:`cdf`, with the exact mean and variance."""
        if self.variance == 0:
            return self.cdf(x)
        with np.errstate(under="ignore"):
            return special.ndtr((np.asarray(x, float) - self.mean) / math.sqrt(self.variance))[()]

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """``size`` exact draws of ln G of the living, one chi^2 or beta variable a layer."""
        size = checks.count("size", size)
        total = np.full(size, self.log_scale)
        for n in self.masked + self.spherical:
            total += layer_law.draw_log_spherical(n, size, rng)
        for n in self.masked + self.plain:
            total += layer_law.draw_log_plain(n, size, rng)
        return total


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

    >>> round(backward_law([32] * 101).mean - forward_law([32] * 101).mean, 12)
    0.0
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
    checks.choice("activation", activation, ("relu", "linear"))
    checks.choice("weights", weights, ("gaussian", "orthogonal"))
    if weights == "orthogonal" and len(set(widths)) > 1:
        raise ValueError(f"widths = {widths}; allowed with orthogonal weights: all equal")
    gain = 2 * math.log(checks.positive("sigma_w", sigma_w))
    return widths, gain - math.log(2) if activation == "relu" else gain


def _orthogonal(widths: tuple[int, ...], activation: str, log_gain: float) -> NormLaw:
    spherical = widths[1:] if activation == "relu" else ()
    return NormLaw((len(widths) - 1) * log_gain, spherical=spherical)
