"""Claims, the thresholds they were made with, and what the data say of them.

A claim is supported if the whole interval of its estimate lies where the claim is true, refuted if
all of it lies where it is false, and inconclusive otherwise. Networks with the same seed share
their weights, so that only seeds are independent: they are resampled, never rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from study.tools.checks import bad, one_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "experiment": "which experiment's claim [-]",
    "claim": "its short name [-]",
    "about": "the part of the derivation it bears on, A, B or C; saying: a popular saying; or "
    "nothing [-]",
    "statement": "the claim in a sentence, with what is estimated [-]",
    "threshold": "where the claim is true, stated beforehand [that of the estimate]",
    "estimate": "the estimate [as the statement says]",
    "low": "lower end of its confidence interval [that of the estimate]",
    "high": "upper end of its confidence interval [that of the estimate]",
    "n_seeds": "independent seeds behind the estimate [seeds]",
    "verdict": "supported, refuted or inconclusive [-]",
}
"""The table of claims: what `judge_all` returns."""

ABOUT = ("", "A", "B", "C", "saying")
"""What a claim may be about; `study.report.pages` says what the letters stand for."""


@dataclass(frozen=True)
class Estimate:
    """A number from data, its confidence interval, which may be infinite, and independent seeds."""

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if math.isnan(self.value) or not self.low <= self.high:
            described = f"{self.value} in [{self.low}, {self.high}]"
            raise bad("estimate", described, "numbers with low <= high")


@dataclass(frozen=True)
class Threshold:
    """The values for which a claim is true: those from `low` to `high`."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        unbounded = math.isinf(self.low) and math.isinf(self.high)
        if unbounded or not self.low < self.high:
            described = f"[{self.low}, {self.high}]"
            raise bad("threshold", described, "low < high, at least one of them finite")

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"below {self.high:.6g}"
        if math.isinf(self.high):
            return f"above {self.low:.6g}"
        return f"within {self.low:.6g} to {self.high:.6g}"


def below(limit: float) -> Threshold:
    """The claim is true of values below `limit`."""
    return Threshold(high=limit)


def above(limit: float) -> Threshold:
    """The claim is true of values above `limit`."""
    return Threshold(low=limit)


within = Threshold
"""The claim is true of values between two."""


def verdict(estimate: Estimate, threshold: Threshold) -> str:
    """Return "supported", "refuted" or "inconclusive".

    >>> [verdict(Estimate(x, x - 2, x + 2, 20), below(25)) for x in (20, 30, 24)]
    ['supported', 'refuted', 'inconclusive']
    """
    # An infinite bound is no boundary: a gradient of exactly zero, log10 = -inf, is below any.
    clears_low = threshold.low < estimate.low or math.isinf(threshold.low)
    clears_high = estimate.high < threshold.high or math.isinf(threshold.high)
    if clears_low and clears_high:
        return "supported"
    if estimate.high <= threshold.low or estimate.low >= threshold.high:
        return "refuted"
    return "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement that data can support or refute.

    Parameters
    ----------
    name : short name, unique in its experiment
    statement : the claim in a sentence, with what `judge` estimates
    threshold : where the claim is true, stated beforehand: `below`, `above` or `within`
    judge : from the experiment's tables to the `Estimate` that the threshold is compared with
    about : the claim of the derivation that it bears on, "A", "B" or "C", or "saying" if it is a
        popular saying as its holders would put it, so that "refuted" contradicts them
    """

    name: str
    statement: str
    threshold: Threshold
    judge: Callable[[Mapping[str, pd.DataFrame]], Estimate]
    about: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, Threshold):
            allowed = "below(x), above(x), within(x, y)"
            raise bad(f"threshold of claim {self.name!r}", self.threshold, allowed)
        one_of(f"about of claim {self.name!r}", self.about, ABOUT)


def bootstrap_over_seeds(
    frame: pd.DataFrame,
    statistic: Callable[[pd.DataFrame], float],
    resamples: int = 2000,
    seed_column: str = "seed",
) -> Estimate:
    """Estimate a statistic and its 95 % interval by resampling seeds with replacement.

    A seed brings all its rows and, drawn twice, counts as two: the column is renumbered in each
    resample. Percentiles are widened as Student's t is to the normal (Hesterberg 2015), without
    which 20 seeds give too narrow an interval. The same frame always gives the same interval.

    Parameters
    ----------
    frame : rows of any number of networks, of 2 or more seeds; it is copied once a resample
    statistic : from such a frame to a float; infinite is allowed, NaN is not

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"seed": range(20), "x": np.linspace(0.0, 1.0, 20)})
    >>> bootstrap_over_seeds(frame, lambda f: f["x"].mean()).value
    0.5
    """
    rows = list(frame.groupby(seed_column, sort=True).indices.values())

    def of_resample(picked: np.ndarray) -> float:
        sample = frame.take(np.concatenate([rows[k] for k in picked]))
        sample[seed_column] = np.repeat(np.arange(len(picked)), [len(rows[k]) for k in picked])
        return statistic(sample)

    return percentile_interval(of_resample, float(statistic(frame)), len(rows), resamples)


def percentile_interval(
    statistic: Callable[[np.ndarray], float], value: float, n: int, resamples: int = 2000
) -> Estimate:
    """The interval of `bootstrap_over_seeds`, of a statistic of n places drawn from 0 to n - 1.

    >>> x = np.linspace(0.0, 1.0, 20)
    >>> percentile_interval(lambda picked: x[picked].mean(), x.mean(), 20).value
    0.5
    """
    from scipy.special import ndtr, stdtrit  # as slow to import as pandas

    if n < 2:
        raise ValueError(f"seed has {n} different values; allowed: at least 2")
    picks = np.random.default_rng(0).integers(n, size=(resamples, n))
    draws = np.array([statistic(picked) for picked in picks])
    if np.isnan(draws).any():
        raise ValueError("statistic is NaN in a resample; allowed: numbers and infinities")
    tail = ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.025))
    # An observed value, not a mean of two: infinities have no mean.
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(value), float(low), float(high), n)


def median_interval(values: np.ndarray, level: float = 0.95) -> Estimate:
    """The median of independent values and its order-statistic interval; see `median_rank`.

    >>> median_interval(np.arange(1.0, 21.0))
    Estimate(value=10.5, low=6.0, high=15.0, n=20)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    k = int(median_rank(n, level))
    return Estimate(float(np.median(ordered)), float(ordered[k - 1]), float(ordered[n - k]), n)


def median_rank(n: int | np.ndarray, level: float = 0.95) -> np.ndarray:
    """The k of the interval from the k-th smallest to the k-th largest of n values.

    It holds the median of the law with probability at least ``level`` whatever the law, heavy tails
    and infinities included (David & Nagaraja 2003, section 7.1). Below 6 values, where k = 1 gives
    less than 0.95, it is the range.
    """
    from scipy.stats import binom  # slow to import

    return np.maximum(binom.ppf((1 - level) / 2, n, 0.5), 1).astype(int)


def judge_all(experiment: Any, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge the claims of what has a name and claims by its tables: a row each, with `COLUMNS`."""
    import pandas as pd  # half a second, which `study list` need not wait for

    rows = []
    for claim in experiment.claims:
        estimate = claim.judge(tables)
        rows.append(
            {
                "experiment": experiment.name,
                "claim": claim.name,
                "about": claim.about,
                "statement": claim.statement,
                "threshold": str(claim.threshold),
                "estimate": float(estimate.value),
                "low": float(estimate.low),
                "high": float(estimate.high),
                "n_seeds": int(estimate.n),
                "verdict": verdict(estimate, claim.threshold),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
