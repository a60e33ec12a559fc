"""Estimators that several experiments share: from rows, one a network or a seed, to an Estimate."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from study.statistics.claims import Estimate, median_rank, percentile_interval

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
    order = np.lexsort((values, codes))
    values = values[order]
    count = np.bincount(codes)
    start = np.cumsum(count) - count
    rank = median_rank(count)
    lower = values[start + (count - 1) // 2]
    upper = values[start + count // 2]
    groups = frame.iloc[order[start]][keys].reset_index(drop=True)
    return groups.assign(
        # Two that are both -inf have no difference.
        value=np.where(lower == upper, lower, 0.5 * (lower + upper)),
        low=values[start + rank - 1],
        high=values[start + count - rank],
    )


def worst(values: pd.Series, seeds: pd.Series) -> Estimate:
    """The largest of all values: one refutes what is said of every one, so it has no interval.

    >>> worst(pd.Series([1.0, 3.0, 2.0]), pd.Series([0, 0, 1]))
    Estimate(value=3.0, low=3.0, high=3.0, n=2, learned=1.0)
    """
    value = float(values.max())
    return Estimate(value, value, value, seeds.nunique())


def resampled(
    table: pd.Series | pd.DataFrame,
    statistic: Callable[[np.ndarray], float],
    resamples: int = 2000,
) -> Estimate:
    """A statistic of an array (seeds,) or (seeds, columns); seeds, the index, are resampled.

    >>> resampled(pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9]), np.mean).value
    2.0
    """
    values = table.to_numpy()
    rows = list(table.groupby(level=0, sort=True).indices.values())
    return percentile_interval(
        lambda picked: float(statistic(values[np.concatenate([rows[k] for k in picked])])),
        float(statistic(values)),
        len(rows),
        resamples,
    )


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
