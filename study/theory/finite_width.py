"""The exact law of a gradient's size at finite width: linear and ReLU networks, any scale.

Mean-field theory gives the mean of a squared norm; the norm that one sees is another matter. For
bias-free networks its logarithm is a sum of independent terms, one a layer (Hanin and Nica 2018):
for critical ("He") ReLU close to normal with mean -5L/(2n) and variance 5L/n, although E G = 1.
With B ~ Binomial(n, 1/2) active units, B > 0 (else the layer is dead), a layer's factor is

    masked      2 chi^2_B / n          ReLU, Gaussian weights: spherical * plain, independent
    spherical   2 Beta(B/2, (n-B)/2)   ReLU, orthogonal weights; the mask of a random direction
    plain       chi^2_n / n            no activation, Gaussian weights

Widths n_0, ..., n_L are those of r^(0), ..., r^(L). SQUARED norms, natural logarithms.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import scipy
from numpy.polynomial.polynomial import polyval

from study.theory.maps import ActivationLike, positive, row_of
from study.tools.checks import bad, integer, items, one_of, real
from study.tools.elementary import Array, root

# Coefficients of 1 / x^(2k+1) in ln Gamma and of 1 / x^(2k) in the digamma function.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_DIGAMMA = (0.0, -1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760)
_LARGE = 16.0  # from here on the six terms are exact to rounding
_TAIL = 33.0  # e^-33 = 5e-15 of the probability is left out on either side
_SMOOTH = 1e-13  # the characteristic function is cut where it has fallen to this
_TERMS = 2 ** np.arange(6, 13)


@dataclass(frozen=True)
class NormLaw:
    """The law of ln G = log_expectation + a sum of independent logs, one for each width listed.

    Given that no layer is dead; only the expectation counts dead networks, as G = 0. SQUARED norms.

    Attributes
    ----------
    log_expectation : ln E G, to which the weights' scale contributes; dead networks counted as 0
    spherical, plain : widths of the layers of each kind; a masked one is in both

    >>> law = NormLaw(0.0, spherical=(2, 2, 3), plain=(2, 2, 3))
    >>> round(law.mean, 6), round(law.alive, 6), round(float(law.cdf(-1.0)), 9)
    (-2.412517, 0.492188, 0.612513833)
    """

    log_expectation: float
    spherical: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()

    def _total(self, spherical: Callable, plain: Callable, start: Array) -> Array:
        """start plus what each layer adds by its kind, found once a width."""
        kinds = ((spherical, self.spherical), (plain, self.plain))
        return sum((k * f(n) for f, widths in kinds for n, k in Counter(widths).items()), start)

    @cached_property
    def _cumulants(self) -> Array:
        return self._total(spherical_cumulants, plain_cumulants, np.zeros(2))

    @property
    def mean(self) -> float:
        """E ln G; its exponential is the typical squared norm."""
        return self.log_expectation + float(self._cumulants[0])

    @property
    def variance(self) -> float:
        """Var ln G, whatever the weights' scale."""
        return float(self._cumulants[1])

    @property
    def alive(self) -> float:
        """Probability that every ReLU layer has an active unit (1 without ReLU)."""
        return math.exp(log_alive(self.spherical))

    def _log_moment(self, t: Array) -> Array:
        """ln E exp(t (ln G - log_expectation)) of the living."""
        return self._total(
            lambda n: log_spherical_moment(n, t),
            lambda n: log_gamma_ratio(n / 2, t),
            np.zeros_like(t),
        )

    @cached_property
    def _support(self) -> tuple[float, float]:
        """Its ends, but for e^-33 of the probability, less log_expectation."""
        # Chernoff: P(ln G < x) <= E exp(t ln G) exp(-t x) for t < 0, and so above for t > 0.
        t = 2.0 ** np.arange(-1, 5) / math.sqrt(self.variance)
        # A chi^2 of m degrees of freedom has no moment of order -m/2.
        fewest = min([active_units(n)[0][0] for n in self.spherical] + [*self.plain])
        lowest = -np.minimum(t, 0.49 * fewest)
        low = np.max((self._log_moment(lowest) + _TAIL) / lowest)
        high = np.min((self._log_moment(t) + _TAIL) / t)
        return float(low), float(high)

    @cached_property
    def _series(self) -> tuple[Array, Array]:
        """Frequencies and Fourier coefficients on the support."""
        low, high = self._support
        step = 2 * math.pi / (high - low)
        # The frequency at the end first: whether all those before it are needed is soon seen.
        for terms in _TERMS:
            last = self._log_moment(np.array([1j * step * terms]))
            if float(last.real[0]) < math.log(_SMOOTH):
                frequencies = step * np.arange(1, terms + 1)
                with np.errstate(under="ignore"):
                    return frequencies, np.exp(self._log_moment(1j * frequencies))
        raise ValueError(
            f"widths {sorted({*self.spherical, *self.plain})}: ln G has no smooth density; "
            "allowed: more or wider layers"
        )

    def cdf(self, x: float | Array) -> float | Array:
        """P(ln G <= x), to 1e-13, by the Fourier series of the characteristic function.

        ValueError for a few narrow orthogonal layers, which have atoms (all units active) or edges.
        """
        x = np.asarray(x, float) - self.log_expectation
        if self.variance == 0:
            return np.where(x < 0, 0.0, 1.0)[()]
        low, high = self._support
        frequencies, coefficients = self._series
        inside = np.clip(x, low, high)
        waves = np.exp(-1j * low * frequencies) - np.exp(-1j * inside[..., None] * frequencies)
        total = (waves @ (coefficients / (1j * frequencies))).real
        return np.clip(((inside - low) + 2 * total) / (high - low), 0.0, 1.0)[()]

    def quantile(self, p: float) -> float:
        """The x with P(ln G <= x) = p, for p between 1e-10 and 1 - 1e-10."""
        p = real("p", p, 1e-10, 1 - 1e-10)
        if self.variance == 0:
            return self.log_expectation
        low, high = (end + self.log_expectation for end in self._support)
        return root(lambda x: self.cdf(x) - p, low, high, 1e-13 * (high - low))

    @property
    def median(self) -> float:
        """Median of ln G."""
        return self.quantile(0.5)


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

    >>> he = forward_law([100] * 1001)                   # depth 1000, width 100
    >>> round(he.mean, 3), round(he.variance, 2), round(he.log_expectation, 9)
    (-25.421, 51.94, 0.0)
    >>> round(he.median / (2 * math.log(10)), 2)         # half of all gradient norms are below 10^
    -5.52
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
        log_expectation -= math.log(2)  # of the mask above the weights left out
    return net.law(log_expectation, plain=n[1:-1])


class _Network(NamedTuple):
    widths: tuple[int, ...]
    relu: bool
    gaussian: bool
    log_gain: float  # ln E of the squared norm's factor in a square layer

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


@lru_cache(maxsize=64)
def active_units(n: int) -> tuple[Array, Array]:
    """The values of B ~ Binomial(n, 1/2), B > 0, and their probabilities, to 1e-13."""
    # Outside ten standard deviations of its mean is less than 1e-22 of the probability. By ratios:
    # log-factorials of a million carry errors of 1e-9.
    least = max(0, n // 2 - math.ceil(5 * math.sqrt(n)) - 1)
    units = np.arange(least, n - least + 1.0)
    weights = np.cumprod(np.append(1.0, (n - units[:-1]) / (units[:-1] + 1)))
    weights += weights[::-1]
    alive = units > 0
    return units[alive], weights[alive] / weights[alive].sum()


def log_alive(widths: Iterable[int]) -> float:
    """ln of the probability that no layer is dead: keeps the rare deaths of wide layers."""
    return math.fsum(math.log1p(-(0.5**n)) for n in widths)


def digamma_excess(x: Array | float) -> Array:
    """psi(x) - ln x, about -1 / (2 x), to full relative accuracy."""
    x = np.asarray(x, float)
    large = np.maximum(x, _LARGE)
    series = polyval(large**-2, _DIGAMMA) - 0.5 / large
    return np.where(x < _LARGE, scipy.special.digamma(x) - np.log(x), series)


@lru_cache(maxsize=1024)
def masked_cumulants(n: int) -> Array:
    """Mean and variance of ln(2 chi^2_B / n): -5/(2n) - 49/(12 n^2) and 5/n + 37/(2 n^2), ...

    >>> masked_cumulants(100).round(9)
    array([-0.02542089,  0.05193999])
    """
    units, p = active_units(n)
    mean = np.log1p((2 * units - n) / n) + digamma_excess(units / 2)  # of ln X, given B
    variance = scipy.special.polygamma(1, units / 2)
    return np.array([p @ mean, p @ (variance + (mean - p @ mean) ** 2)])


@lru_cache(maxsize=1024)
def plain_cumulants(n: int) -> Array:
    """Mean and variance of ln(chi^2_n / n): -1/n and 2/n to leading order."""
    return np.array([digamma_excess(n / 2), scipy.special.polygamma(1, n / 2)])


def spherical_cumulants(n: int) -> Array:
    """Mean and variance of ln(2 Beta(B/2, (n-B)/2)): -3/(2n), 3/n, ..."""
    return masked_cumulants(n) - plain_cumulants(n)


def log_gamma_ratio(x: Array | float, t: Array) -> Array:
    """ln Gamma(x + t) - ln Gamma(x) - t ln x for x > 0 and real or complex t, broadcast.

    Large x by the difference of Stirling's series, which does not cancel.
    """
    # Of x + t, too, the series knows nothing while it is small.
    near = np.minimum(x, x + np.real(t)) < _LARGE
    small = np.where(near, x, _LARGE)
    large = np.where(near, _LARGE, x)
    little = np.where(near, t, 0)
    t = np.where(near, 0, t)
    above = large + t
    series = (above - 0.5) * scipy.special.log1p(t / large) - t
    series = series + (
        polyval(above**-2, _STIRLING) / above - polyval(large**-2, _STIRLING) / large
    )
    direct = scipy.special.loggamma(small + little) - scipy.special.gammaln(small)
    return np.where(near, direct - little * np.log(small), series)


def log_spherical_moment(n: int, t: Array) -> Array:
    """ln E (2 Beta(B/2, (n-B)/2))^t given B > 0; real parts of t above -1/2."""
    units, p = active_units(n)
    t = np.asarray(t)[..., None]
    terms = log_gamma_ratio(units / 2, t) - log_gamma_ratio(n / 2, t)
    with np.errstate(under="ignore"):
        return np.log(np.exp(terms + t * np.log(2 * units / n)) @ p)
