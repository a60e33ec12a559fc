"""Estimators that several experiments share: from rows, one a network or a seed, to an Estimate."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from study.statistics.claims import Estimate, confidence, median_rank

NEAR = 0.1  # a depth is theory's if it is off by no more than this, over theory's


def medians(
    frame: pd.DataFrame, keys: Sequence[str], value: str, sort: bool = False
) -> pd.DataFrame:
    """The median of a column in each group, with its 95 % order-statistic interval.

    The keys, value, low and high; groups sorted, or in the order in which they occur.

    >>> frame = pd.DataFrame({"depth": [1, 1, 2], "decay": [0.0, 2.0, 5.0]})
    >>> medians(frame, ["depth"], "decay")
       depth  value  low  high
    0      1    1.0  0.0   2.0
    1      2    5.0  5.0   5.0
    """
    keys = list(keys)
    codes = frame.groupby(keys, sort=sort, observed=True).ngroup().to_numpy()
    values = frame[value].to_numpy(float)
    # One sort serves all groups: a million rows take a fraction of a second.
    order = np.lexsort((values, codes))  # by group, within a group by value
    values = values[order]
    count = np.bincount(codes)
    start = np.cumsum(count) - count
    rank = median_rank(count)  # one call for all sizes
    lower = values[start + (count - 1) // 2]
    upper = values[start + count // 2]
    groups = frame.iloc[order[start]][keys].reset_index(drop=True)
    return groups.assign(
        # Two that are both -inf have no difference.
        value=np.where(lower == upper, lower, 0.5 * (lower + upper)),
        low=values[start + rank - 1],
        high=values[start + count - rank],
    )


def resampled(
    table: pd.Series | pd.DataFrame,
    statistic: Callable[[np.ndarray], float],
    resamples: int = 2000,
) -> Estimate:
    """A statistic and its interval (`confidence`), by resampling seeds with replacement.

    A seed brings all its rows and, drawn twice, counts as two. Percentiles are widened as
    Student's t is to the normal (Hesterberg 2015), without which 20 seeds give too narrow an
    interval; they end at the farthest resample. The same table always gives the same interval.

    Parameters
    ----------
    table : one row or more for each of two seeds or more, which the index names
    statistic : of an array (rows,) or (rows, columns); infinite is allowed, NaN is not

    Examples
    --------
    >>> resampled(pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9]), np.mean).value
    2.0
    """
    from scipy.special import ndtr, stdtrit  # slow to import, and every worker loads this module

    values = table.to_numpy()
    rows = list(table.groupby(level=0, sort=True).indices.values())
    n = len(rows)
    if n < 2:
        raise ValueError(f"seed has {n} different values; allowed: at least 2")
    picks = np.random.default_rng(0).integers(n, size=(resamples, n))
    samples = (values[np.concatenate([rows[k] for k in picked])] for picked in picks)
    draws = np.array([statistic(sample) for sample in samples])
    if np.isnan(draws).any():
        raise ValueError("statistic is NaN in a resample; allowed: numbers and infinities")
    tail = ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence()) / 2))
    # An observed value, not a mean of two: infinities have no mean.
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(statistic(values)), float(low), float(high), n)


def mean(values: pd.Series) -> Estimate:
    """The mean over seeds, which the index names and which are resampled."""
    return resampled(values, np.mean)


def root_mean_square(deviations: pd.DataFrame) -> Estimate:
    """The root mean square, over columns, of the columns' means; a row a seed.

    >>> root_mean_square(pd.DataFrame({"a": [0.0, 2.0], "b": [-1.0, -1.0]})).value
    1.0
    """
    return resampled(deviations, lambda rows: np.sqrt((rows.mean(axis=0) ** 2).mean()))


def near(medians: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Which are within `NEAR` of what is expected, infinite ones included."""
    return np.isclose(medians, expected, rtol=NEAR, atol=0)


def share_near(values: pd.DataFrame, expected: pd.Series) -> Estimate:
    """The share of columns whose median over seeds, the rows, is `near` what is expected.

    >>> depths = pd.DataFrame({"a": [98.0, 103.0], "b": [50.0, 51.0], "c": [np.inf, np.inf]})
    >>> round(share_near(depths, pd.Series({"a": 100.0, "b": 100.0, "c": np.inf})).value, 3)
    0.667
    """
    expected = expected[values.columns].to_numpy()
    return resampled(values, lambda rows: near(np.median(rows, axis=0), expected).mean())
