"""The law of a squared norm after many independent layers: moments, distribution, samples.

ln G is a sum of independent terms whose laws are known (``layer_law``), so its cumulants are
sums, its characteristic function is a product, and its distribution one Fourier series away.
``finite_width`` says which network has which terms. Natural logarithms of SQUARED norms.

>>> law = NormLaw(0.0, masked=(2, 2, 3))
>>> round(law.mean, 6), round(law.alive, 6), round(float(law.cdf(-1.0)), 9)
(-2.412517, 0.492188, 0.612513833)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from study.core.activations import Array
from study.theory import checks, layer_law
from study.theory.dying import log_alive

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
        return math.exp(log_alive(self.masked + self.spherical))

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
        # A chi^2 of m degrees of freedom has no moment of order -m/2.
        fewest = min(
            [layer_law.active_units(n)[0][0] for n in self.masked + self.spherical]
            + [float(n) for n in self.plain]
        )
        t = np.concatenate([-np.minimum(spread, 0.49 * fewest), spread])
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
                    "no smooth density; allowed: more or wider layers (or use sample)"
                )
        with np.errstate(under="ignore"):
            return low, high, frequencies, np.exp(self._log_moment(1j * frequencies))

    def cdf(self, x: float | Array) -> float | Array:
        """P(ln G <= x) of the living, to 1e-13.

        The characteristic function is known in closed form; its Fourier series on an interval
        that leaves out 1e-14 of the probability is summed. A few narrow orthogonal layers have
        atoms (all units active) or edges: then ValueError, see :meth:`sample`.
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
