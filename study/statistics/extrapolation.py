"""Laws of a limit: estimates at several sizes, extrapolated in powers of 1 / size, and judged.

A statistic of networks of width n is limit + c / n + ..., so that at any one width it differs from
the limit by more than chance as soon as there are networks enough. From independent estimates at
three sizes or more weighted least squares find the limit and c, each with its error, and what
remains of the estimates says whether the powers suffice.

Scores are those of a normal law: the z whose two-sided probability is that of Student's t or of
chi^2, so that one critical value serves all.

>>> from numpy.random import default_rng
>>> sizes = [64, 128, 256]
>>> draws = [2 + 3 / n + default_rng(n).normal(size=10_000) for n in sizes]
>>> fit = extrapolated(sizes, [mean_of(values) for values in draws])
>>> abs(fit.limit.score(2.0)) < 3 < abs(fit.limit.score(2.2)), abs(fit.misfit) < 3
(True, True)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from study.tools.checks import bad

_LEAST = 1e-300  # a probability; its score is 37


class Mean(NamedTuple):
    """An estimate, its standard error and the error's degrees of freedom."""

    value: float
    error: float
    freedom: float

    def score(self, expected: float) -> float:
        """How far the estimate is above this number, as a normal score."""
        t = (self.value - expected) / self.error
        return math.copysign(_score(2 * special.stdtr(self.freedom, -abs(t))), t)

    def interval(self, critical: float) -> tuple[float, float]:
        """The numbers whose scores are at most the critical one."""
        # The t of that score.
        half = -special.stdtrit(self.freedom, special.ndtr(-critical)) * self.error
        return self.value - half, self.value + half


class Fit(NamedTuple):
    """What estimates at several sizes tend to."""

    limit: Mean
    offset: Mean  # the coefficient of the first power of 1 / size
    # The score of what the fit leaves, signed as it is at the second size; 0 if nothing can be.
    misfit: float


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of independent values; of squares of deviations, their variance."""
    values = np.asarray(values, float)
    return Mean(
        float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1
    )


def deviations(values: Sequence[float]) -> np.ndarray:
    """Numbers whose mean is the values' variance, and whose scatter is that of the variance."""
    values = np.asarray(values, float)
    return (values - values.mean()) ** 2 * len(values) / (len(values) - 1)


def extrapolated(
    sizes: Sequence[int], means: Sequence[Mean], powers: Sequence[float] = (1,)
) -> Fit:
    """Fit limit + sum c_p / size^p by weighted least squares; chosen before the data are seen.

    The errors' degrees of freedom are Welch's and Satterthwaite's.
    """
    if len(sizes) <= len(powers) or len(sizes) != len(means):
        raise bad("sizes", tuple(sizes), f"one for each mean, at least {len(powers) + 1}")
    values, errors, freedom = np.array(means).T
    # Columns: limit, c_1, c_2, ...
    basis = np.power.outer(1 / np.asarray(sizes, float), [0, *powers])
    scale = basis.max(axis=0)
    weighted = basis / scale / errors[:, None]  # each size counts by its own error
    solve = np.linalg.pinv(weighted) / scale[:, None] / errors  # linear: errors propagate exactly
    coefficients = solve @ values
    parts = (solve * errors) ** 2
    variance = parts.sum(axis=1)
    of_both = zip(
        coefficients, np.sqrt(variance), variance**2 / (parts**2 / freedom).sum(axis=1), strict=True
    )
    limit, offset, *_ = (Mean(*map(float, one)) for one in of_both)
    left = len(sizes) - len(solve)
    misfit = 0.0
    if left:
        rest = (values - basis @ coefficients) / errors
        misfit = _score(special.fdtrc(left, freedom.min(), np.sum(rest**2) / left))
        misfit = math.copysign(misfit, rest[1])
    return Fit(limit, offset, misfit)


def joint(scores: Sequence[float]) -> float:
    """The score of several independent ones together, by chi^2; its sign is that of their sum."""
    scores = np.asarray(scores)
    return math.copysign(_score(special.chdtrc(len(scores), np.sum(scores**2))), scores.sum())


def _score(probability: float) -> float:
    return float(-special.ndtri(max(probability, _LEAST) / 2))
