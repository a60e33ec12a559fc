"""Claims, the thresholds they were made with, and what the data say of them.

A claim is supported if the whole interval of its estimate lies where the claim is true, refuted if
all of it lies where it is false, and inconclusive otherwise; negligible, whichever it is, if all of
it lies where an effect would not matter; and of networks that did not train nothing is said but
that. Networks with the same seed share their weights, so that only seeds are independent: they are
resampled, never rows.

The claims of an experiment are read together, so that they share an error of 5 %: the intervals are
Holm's (1979), each as wide as the claims that are not yet decided ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from study.tools.checks import bad, one_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "experiment": "which experiment's claim [-]",
    "claim": "its short name [-]",
    "about": "the part of the derivation it bears on, A1 to C2; saying: a popular saying; or "
    "nothing [-]",
    "source": "who says it, of a saying [-]",
    "statement": "the claim in a sentence, with what is estimated [-]",
    "threshold": "where the claim is true, stated beforehand [that of the estimate]",
    "negligible": "values whose effect would not matter, stated beforehand; where the threshold is "
    "such a size itself, none [that of the estimate]",
    "estimate": "the estimate; none where the networks did not train [as the statement says]",
    "low": "lower end of its confidence interval [that of the estimate]",
    "high": "upper end of its confidence interval [that of the estimate]",
    "level": "confidence of the interval: Holm's, so that the claims of an experiment miss with "
    "5 % together [1]",
    "n_seeds": "independent seeds behind the estimate [seeds]",
    "verdict": "supported, refuted, negligible, inconclusive or did not train [-]",
}
"""The table of claims: what `judge_all` returns."""

VERDICTS = ("supported", "refuted", "negligible", "inconclusive", "did not train")
ABOUT = ("", "A1", "A2", "A3", "A4", "B1", "B2", "C1", "C2", "saying")
"""What a claim may be about; `study.report.pages` says what the letters stand for."""

ERROR = 0.05
"""Probability that any of an experiment's intervals misses its true value."""
LEARNED = 0.5
"""Share of the networks behind an estimate that must have learned."""

_confidence = ContextVar("confidence", default=1 - ERROR)


def confidence() -> float:
    """What an interval is asked to have, here and now."""
    return _confidence.get()


@contextmanager
def at_level(level: float) -> Iterator[None]:
    """Within it, intervals have that confidence.

    >>> with at_level(0.99):
    ...     median_interval(np.arange(1.0, 21.0))
    Estimate(value=10.5, low=4.0, high=17.0, n=20, learned=1.0)
    """
    token = _confidence.set(level)
    try:
        yield
    finally:
        _confidence.reset(token)


@dataclass(frozen=True)
class Estimate:
    """A number from data, its interval, which may be infinite, and how many seeds gave it.

    ``learned`` is the share of the networks behind it that learned, where it is about what training
    does; below `LEARNED` the number may be NaN.

    >>> Estimate(0.5, low=0.4, high=0.6, n=20).n
    20
    """

    value: float
    low: float
    high: float
    n: int
    learned: float = 1.0

    def __post_init__(self) -> None:
        if self.learned < LEARNED:
            return
        if math.isnan(self.value) or not self.low <= self.high:
            described = f"{self.value} in [{self.low}, {self.high}]"
            raise bad("estimate", described, "numbers with low <= high")


@dataclass(frozen=True)
class Threshold:
    """The values for which a claim is true: those from `low` to `high`.

    >>> str(within(-1, 1))
    'within -1 to 1'
    """

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
    """The claim is true of values below `limit`.

    >>> str(below(-38))
    'below -38'
    """
    return Threshold(high=limit)


def above(limit: float) -> Threshold:
    """The claim is true of values above `limit`.

    >>> str(above(38))
    'above 38'
    """
    return Threshold(low=limit)


within = Threshold
"""The claim is true of values between two."""


def verdict(estimate: Estimate, threshold: Threshold, negligible: Threshold | None = None) -> str:
    """One of `VERDICTS`, of an estimate that is to lie in ``threshold``.

    >>> [verdict(Estimate(x, x - 2, x + 2, 20), below(25)) for x in (20, 30, 24)]
    ['supported', 'refuted', 'inconclusive']
    >>> verdict(Estimate(0.3, 0.1, 0.5, 20), above(0), negligible=within(-1, 1))
    'negligible'
    """
    if estimate.learned < LEARNED:
        return "did not train"
    if negligible and negligible.low < estimate.low and estimate.high < negligible.high:
        return "negligible"
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
    about : the claim of the derivation that it bears on, "A1" to "C2", or "saying" if it is a
        popular saying as its holders would put it, so that "refuted" contradicts them
    source : who says it and where, of a saying
    negligible : values too near to no effect to matter, if the threshold is not such a size itself

    Examples
    --------
    >>> claim = Claim(
    ...     name="the gradient vanishes",
    ...     statement="Median decades that it gains; beyond float32.",
    ...     threshold=below(-38),
    ...     judge=lambda tables: median_interval(tables["gains"]["decades"]),
    ... )
    """

    name: str
    statement: str
    threshold: Threshold
    judge: Callable[[Mapping[str, pd.DataFrame]], Estimate]
    about: str = ""
    source: str = ""
    negligible: Threshold | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, Threshold):
            allowed = "below(x), above(x), within(x, y)"
            raise bad(f"threshold of claim {self.name!r}", self.threshold, allowed)
        one_of(f"about of claim {self.name!r}", self.about, ABOUT)
        if (self.about == "saying") != bool(self.source):
            allowed = "who says it and where, of a saying; nothing of another claim"
            raise bad(f"source of claim {self.name!r}", self.source, allowed)


def median_interval(values: np.ndarray, level: float | None = None) -> Estimate:
    """The median of independent values and its order-statistic interval; see `median_rank`.

    ``level`` is by default what is asked for (`confidence`). Of no values nothing is said, as of
    networks that did not train.

    >>> median_interval(np.arange(1.0, 21.0))
    Estimate(value=10.5, low=6.0, high=15.0, n=20, learned=1.0)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0, learned=0.0)
    k = int(median_rank(n, confidence() if level is None else level))
    return Estimate(float(np.median(ordered)), float(ordered[k - 1]), float(ordered[n - k]), n)


def median_rank(n: int | np.ndarray, level: float = 1 - ERROR) -> np.ndarray:
    """The k of the interval from the k-th smallest to the k-th largest of n values.

    It holds the median of the law with at least that probability whatever the law, heavy tails and
    infinities included (David & Nagaraja 2003, section 7.1). Where k = 1 gives less, as it does of
    5 values or fewer at 0.95, it is the range.
    """
    from scipy.stats import binom  # slow to import

    return np.maximum(binom.ppf((1 - level) / 2, n, 0.5), 1).astype(int)


def judge_all(experiment: Any, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Judge the claims of what has a name and claims by its tables: a row each, with `COLUMNS`.

    Holm's step-down procedure: all claims are judged with intervals that miss together with
    probability `ERROR`; the error of those that are decided goes to the rest, which are judged
    again.
    """
    import pandas as pd  # half a second, which `study list` need not wait for

    rows: dict[str, Any] = {}
    undecided = list(experiment.claims)
    while undecided:
        with at_level(1 - ERROR / len(undecided)):
            judged = {claim.name: _judge(experiment, claim, tables) for claim in undecided}
        rows |= judged
        left = [claim for claim in undecided if judged[claim.name]["verdict"] == "inconclusive"]
        if len(left) == len(undecided):
            break
        undecided = left
    in_order = [rows[claim.name] for claim in experiment.claims]
    return pd.DataFrame(in_order, columns=list(COLUMNS))


def _judge(experiment: Any, claim: Claim, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """A row of the table of claims, its interval of the present level."""
    estimate = claim.judge(tables)
    return {
        "experiment": experiment.name,
        "claim": claim.name,
        "about": claim.about,
        "source": claim.source,
        "statement": claim.statement,
        "threshold": str(claim.threshold),
        "negligible": str(claim.negligible or ""),
        "estimate": float(estimate.value),
        "low": float(estimate.low),
        "high": float(estimate.high),
        "level": round(confidence(), 6),
        "n_seeds": int(estimate.n),
        "verdict": verdict(estimate, claim.threshold, claim.negligible),
    }
