"""A law: what a paper says, the number that theory expects, and how it is held against networks.

Each law names, before anything is measured, its regime, its tolerance and a WRONG number that the
same statistic must be able to tell from the right one: a test that cannot fail says nothing. It
agrees if the interval of the measurement, widened by the tolerance, holds the expected number; the
tolerance is 0 where the law is exact at the width and depth measured.

Intervals have the level 1 - `FALSE_ALARM`, so that the family of all laws raises a false alarm
with at most the sum of these (Bonferroni, whatever the dependence between laws). Independent are
the networks of different seeds alone: each value below is one seed's. Squared norms are heavy
tailed, so their logarithms are averaged, or medians taken.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from study.statistics.claims import Estimate, median_interval

FALSE_ALARM = 5e-6
"""Probability that a law that holds is said to disagree."""

OFF = 1.05
"""The factor of the usual wrong number."""

FIRST_SEED = 10_000
"""The first seed of the table: rows were designed on seeds from 0, and are judged on fresh ones."""


def seeds(count: int) -> range:
    """The first ``count`` seeds that judge."""
    return range(FIRST_SEED, FIRST_SEED + count)


@dataclass(frozen=True)
class Finding:
    """One law, measured."""

    expected: float
    estimate: Estimate
    tolerance: float
    wrong: float
    random: bool = True

    def agrees(self, number: float) -> bool:
        """Whether the measurement is compatible with this number."""
        low = self.estimate.low
        high = self.estimate.high
        if not self.random:  # the number must hold for the highest network and for the lowest
            low, high = high, low
        return low - self.tolerance <= number <= high + self.tolerance


def judged(finding: Finding) -> dict[str, object]:
    """What the table says of a finding: its numbers and both verdicts."""
    return {
        "expected": float(finding.expected),
        "measured": float(finding.estimate.value),
        "low": float(finding.estimate.low),
        "high": float(finding.estimate.high),
        "tolerance": float(finding.tolerance),
        "networks": finding.estimate.n,
        "random": finding.random,
        "verdict": "agrees" if finding.agrees(finding.expected) else "disagrees",
        "control_expected": float(finding.wrong),
        # The control is the same measurement, held against the wrong number.
        "control_verdict": "missed" if finding.agrees(finding.wrong) else "flagged",
    }


COLUMNS = {
    "law": "short name of the law [-]",
    "paper": "where it is from [-]",
    "statement": "the law in a sentence [-]",
    "regime": "the networks it is measured on, what is measured, the tolerance's form [-]",
    "popular_reading": "the reading that the law refutes, if there is one [-]",
    "expected": "what study.theory computes [as the regime says]",
    "measured": "mean, variance, median or share over networks [that of expected]",
    "low": "lower end of its interval; of the networks' range where nothing is left to chance "
    "[that of expected]",
    "high": "upper end [that of expected]",
    "tolerance": "stated beforehand; 0 where the law is exact [that of expected]",
    "networks": "independent networks, one seed each; or dot products [-]",
    "random": "whether the interval is a statistical one [-]",
    "verdict": "agrees, or disagrees: interval and tolerance do or do not hold expected [-]",
    "control": "what the wrong number of the negative control is [-]",
    "control_expected": "the wrong number [that of expected]",
    "control_verdict": "flagged, or missed: the measurement does or does not exclude it [-]",
}
"""The table's columns and their meaning."""


def mean_of(
    values: Sequence[float],
    expected: float,
    wrong: float | None = None,
    tolerance: float = 0.0,
    relative: float = 0.0,
) -> Finding:
    """The mean of the seeds' values, with Student's interval.

    The wrong number is 5 % off if none is given; ``relative`` is a tolerance over the expected
    number.
    """
    values = np.asarray(values, float)
    n = len(values)
    middle = float(values.mean())
    half = -special.stdtrit(n - 1, FALSE_ALARM / 2) * values.std(ddof=1) / math.sqrt(n)
    estimate = Estimate(middle, middle - half, middle + half, n)
    wrong = OFF * expected if wrong is None else wrong
    return Finding(expected, estimate, tolerance + relative * abs(expected), wrong)


def variance_of(
    values: Sequence[float], expected: float, wrong: float, tolerance: float = 0.0
) -> Finding:
    """The variance of the seeds' values, sums of many logarithms and so nearly normal.

    The interval of a chi^2, with fewer degrees of freedom where the tails are heavier: an excess
    kurtosis k multiplies the variance of the estimate by 1 + k / 2 (Box 1953).
    """
    values = np.asarray(values, float)
    n = len(values)
    variance = float(values.var(ddof=1))
    kurtosis = float(np.mean((values - values.mean()) ** 4)) / variance**2
    freedom = 2 * (n - 1) / max(2.0, kurtosis - 1)
    low = freedom * variance / special.chdtri(freedom, FALSE_ALARM / 2)
    high = freedom * variance / special.chdtri(freedom, 1 - FALSE_ALARM / 2)
    return Finding(expected, Estimate(variance, low, high, n), tolerance, wrong)


def median_of(values: Sequence[float], expected: float, wrong: float) -> Finding:
    """The median of the seeds' values, with an interval that assumes nothing of their law."""
    return Finding(expected, median_interval(values, 1 - FALSE_ALARM), 0.0, wrong)


def share_of(count: int, n: int, expected: float, wrong: float) -> Finding:
    """A share of the seeds, with the interval of Clopper and Pearson (1934)."""
    low = special.betaincinv(count, n - count + 1, FALSE_ALARM / 2) if count else 0.0
    high = special.betaincinv(count + 1, n - count, 1 - FALSE_ALARM / 2) if count < n else 1.0
    return Finding(expected, Estimate(count / n, low, high, n), 0.0, wrong)


def every(values: Sequence[float], expected: float, wrong: float, tolerance: float) -> Finding:
    """What holds for each network: the interval is the range of the values."""
    estimate = Estimate(float(np.median(values)), min(values), max(values), len(values))
    return Finding(expected, estimate, tolerance, wrong, random=False)
