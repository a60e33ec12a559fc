"""The law of a squared norm after many independent layers: moments, distribution, quantiles.

ln G is a sum of independent terms whose laws are known (``layer_law``), so its cumulants are
sums, its characteristic function is a product, and its distribution one Fourier series away.

>>> law = NormLaw(0.0, spherical=(2, 2, 3), plain=(2, 2, 3))
>>> round(law.mean, 6), round(law.alive, 6), round(float(law.cdf(-1.0)), 9)
(-2.412517, 0.492188, 0.612513833)
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from study.core.activations import Array
from study.theory import layer_law
from study.theory.dying import log_alive
from study.tools.checks import real

_TAIL = 33.0  # e^-33 = 5e-15 of the probability is left out on either side
_SMOOTH = 1e-13  # the characteristic function is cut where it has fallen to this
_MOST_TERMS = 4096


@dataclass(frozen=True)
class NormLaw:
    """The law of ln G = log_scale + a sum of independent logs, one for each width listed.

    Given that no layer is dead; only the expectation counts dead networks, as G = 0. SQUARED norms.

    Attributes
    ----------
    log_scale : what the weights' scale contributes: ln E G, dead networks counted
    spherical, plain : widths of the layers of each kind of ``layer_law``; a masked one is in both
    """

    log_scale: float
    spherical: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()

    @cached_property
    def _cumulants(self) -> Array:
        total = np.zeros(2)
        for n, times in Counter(self.spherical).items():
            total += times * layer_law.spherical_cumulants(n)
        for n, times in Counter(self.plain).items():
            total += times * layer_law.plain_cumulants(n)
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
    def alive(self) -> float:
        """Probability that every ReLU layer has an active unit (1 without ReLU)."""
        return math.exp(log_alive(self.spherical))

    @property
    def log_expectation(self) -> float:
        """ln E G, dead networks counted as 0."""
        return self.log_scale

    def _log_moment(self, t: Array) -> Array:
        """ln E exp(t (ln G - log_scale)) of the living."""
        total = np.zeros_like(t)
        for n, times in Counter(self.spherical).items():
            total += times * layer_law.log_spherical_moment(n, t)
        for n, times in Counter(self.plain).items():
            total += times * layer_law.log_plain_moment(n, t)
        return total

    @cached_property
    def _support(self) -> tuple[float, float]:
        """Its ends, but for e^-33 of the probability, less log_scale."""
        # Chernoff: P(ln G < x) <= E exp(t ln G) exp(-t x) for t < 0, and so above for t > 0.
        t = 2.0 ** np.arange(-1, 5) / math.sqrt(self.variance)
        # A chi^2 of m degrees of freedom has no moment of order -m/2.
        fewest = min([layer_law.active_units(n)[0][0] for n in self.spherical] + [*self.plain])
        lowest = -np.minimum(t, 0.49 * fewest)
        low = np.max((self._log_moment(lowest) + _TAIL) / lowest)
        high = np.min((self._log_moment(t) + _TAIL) / t)
        return float(low), float(high)

    @cached_property
    def _series(self) -> tuple[Array, Array]:
        """Frequencies and Fourier coefficients on the support."""
        low, high = self._support
        terms = 64
        while True:
            frequencies = 2 * math.pi / (high - low) * np.arange(1, terms + 1)
            # The frequencies at the end first: whether they are needed is soon seen.
            last = self._log_moment(1j * frequencies[-1:])
            if float(last.real[0]) < math.log(_SMOOTH):
                break
            terms *= 2
            if terms > _MOST_TERMS:
                raise ValueError(
                    f"widths {sorted({*self.spherical, *self.plain})}: ln G has no smooth "
                    "density; allowed: more or wider layers"
                )
        with np.errstate(under="ignore"):
            return frequencies, np.exp(self._log_moment(1j * frequencies))

    def cdf(self, x: float | Array) -> float | Array:
        """P(ln G <= x), to 1e-13, by the Fourier series of the characteristic function.

        ValueError for a few narrow orthogonal layers, which have atoms (all units active) or edges.
        """
        x = np.asarray(x, float) - self.log_scale
        if self.variance == 0:
            return np.where(x < 0, 0.0, 1.0)[()]
        low, high = self._support
        frequencies, coefficients = self._series
        inside = np.clip(x, low, high)
        waves = np.exp(-1j * low * frequencies) - np.exp(-1j * inside[..., None] * frequencies)
        total = np.sum((waves * coefficients / (1j * frequencies)).real, axis=-1)
        return np.clip(((inside - low) + 2 * total) / (high - low), 0.0, 1.0)[()]

    def quantile(self, p: float) -> float:
        """The x with P(ln G <= x) = p, for p between 1e-10 and 1 - 1e-10."""
        p = real("p", p, 1e-10, 1 - 1e-10)
        if self.variance == 0:
            return self.log_scale
        low, high = self._support
        return scipy.optimize.brentq(
            lambda x: self.cdf(x) - p,
            low + self.log_scale,
            high + self.log_scale,
            xtol=1e-13 * (high - low),
        )

    @property
    def median(self) -> float:
        """Median of ln G."""
        return self.quantile(0.5)
