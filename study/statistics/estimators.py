"""Estimators that several experiments share: from rows, one a network or a seed, to an Estimate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from study.statistics.claims import Estimate, bootstrap_over_seeds, median_interval


def medians(
    frame: pd.DataFrame, keys: list[str], columns: list[str], called: str = "column"
) -> pd.DataFrame:
    """The median of each column in each group, with its 95 % order-statistic interval.

    Returns
    -------
    DataFrame with the keys, the column's name under ``called``, value, low and high; a row a group
    and column, groups in the order in which they occur.

    Examples
    --------
    >>> frame = pd.DataFrame({"depth": [1, 1, 2, 2], "decay": [0.0, 2.0, 5.0, 5.0]})
    >>> medians(frame, ["depth"], ["decay"])
       depth column  value  low  high
    0      1  decay    1.0  0.0   2.0
    1      2  decay    5.0  5.0   5.0
    """
    rows = []
    for group, members in frame.groupby(keys, sort=False):
        for column in columns:
            estimate = median_interval(members[column])
            rows.append((*group, column, estimate.value, estimate.low, estimate.high))
    return pd.DataFrame(rows, columns=[*keys, called, "value", "low", "high"])


def worst(values: pd.Series, seeds: pd.Series) -> Estimate:
    """The largest of all values: one refutes what is said of every one, so it has no interval.

    >>> worst(pd.Series([1.0, 3.0, 2.0]), pd.Series([0, 0, 1]))
    Estimate(value=3.0, low=3.0, high=3.0, n=2)
    """
    value = float(values.max())
    return Estimate(value, value, value, seeds.nunique())


def resampled(
    table: pd.Series | pd.DataFrame,
    statistic: Callable[[np.ndarray], float],
    resamples: int = 2000,
) -> Estimate:
    """A statistic of an array whose rows are seeds, which are resampled.

    Parameters
    ----------
    table : a row a seed, which the index names
    statistic : of an array (seeds,) or (seeds, columns)

    Examples
    --------
    >>> resampled(pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9]), np.mean).value
    2.0
    """
    values = table.to_numpy()
    rows = pd.DataFrame({"seed": table.index, "row": range(len(table))})
    return bootstrap_over_seeds(
        rows, lambda f: float(statistic(values[f["row"]])), resamples=resamples
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
