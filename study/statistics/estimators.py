"""Estimators that several experiments share: from rows, one a network or a seed, to an Estimate.

Where seeds are resampled, values come as a Series or a frame whose index holds the seeds, a row a
seed. The distance from a law is for independent networks, each with a seed of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    for group, own in frame.groupby(keys, sort=False):
        for column in columns:
            found = median_interval(own[column])
            rows.append((*group, column, found.value, found.low, found.high))
    return pd.DataFrame(rows, columns=[*keys, called, "value", "low", "high"])


def worst(values: pd.Series, seeds: pd.Series) -> Estimate:
    """The largest of all values: one refutes what is said of every one, so it has no interval.

    >>> worst(pd.Series([1.0, 3.0, 2.0]), pd.Series([0, 0, 1]))
    Estimate(value=3.0, low=3.0, high=3.0, n=2)
    """
    value = float(values.max())
    return Estimate(value, value, value, seeds.nunique())


def mean(values: pd.Series, unit: float = 1.0) -> Estimate:
    """The mean over seeds, which are resampled, in units of ``unit``.

    >>> mean(pd.Series([1.0, 2.0, 3.0], index=[0, 1, 2]), unit=2.0).value
    1.0
    """
    frame = pd.DataFrame({"seed": values.index, "value": values.to_numpy()})
    return bootstrap_over_seeds(frame, lambda f: float(f["value"].mean() / unit))


def log10_mean_square(decades: pd.Series) -> Estimate:
    """log10 of the mean over seeds of the square of 10^decades, in or outside the float range.

    Nothing more than 150 decades below the largest plays a part.

    >>> log10_mean_square(pd.Series([-500.0, -500.0])).value
    -1000.0
    """
    top = decades.max()
    with np.errstate(under="ignore"):
        share = 100 ** (decades.to_numpy() - top)
        frame = pd.DataFrame({"seed": decades.index, "share": share})
        return bootstrap_over_seeds(frame, lambda f: float(2 * top + np.log10(f["share"].mean())))


def farthest(off: pd.DataFrame) -> Estimate:
    """The largest column mean of deviations, in absolute value; a row a seed."""
    values, frame = off.to_numpy(), pd.DataFrame({"seed": off.index, "row": range(len(off))})
    return bootstrap_over_seeds(frame, lambda f: float(np.abs(values[f["row"]].mean(axis=0)).max()))


def root_mean_square(off: pd.DataFrame) -> Estimate:
    """The root mean square, over columns, of the columns' means of deviations; a row a seed."""
    columns = list(range(off.shape[1]))
    frame = off.set_axis(columns, axis=1).rename_axis("seed").reset_index()
    return bootstrap_over_seeds(frame, lambda f: float((f[columns].mean() ** 2).mean() ** 0.5))


def happened(hits: Sequence[bool], chances: Sequence[float]) -> Estimate:
    """How often something happened over how often it was expected, with 95 % by its variance.

    Parameters
    ----------
    hits : whether it did, of independent networks
    chances : the probability that it would, of each

    Examples
    --------
    >>> happened([True, False, False, True], [0.5] * 4).value
    1.0
    """
    expected = sum(chances)
    half = 1.96 * sum(p * (1 - p) for p in chances) ** 0.5 / expected
    ratio = float(sum(hits) / expected)
    return Estimate(ratio, ratio - half, ratio + half, len(hits))


def distance(places: np.ndarray) -> float:
    """Kolmogorov and Smirnov's distance of values from a law, by their places F(value) in it.

    >>> round(distance(np.array([0.1, 0.5, 0.7])), 12)
    0.3
    """
    places = np.sort(places)
    steps = np.arange(len(places) + 1) / len(places)
    return float(max((steps[1:] - places).max(), (places - steps[:-1]).max()))


def distance_interval(places: np.ndarray) -> Estimate:
    """That distance, with the 95 % band of the empirical distribution (Massart 1990)."""
    d, half = distance(places), math.sqrt(math.log(2 / 0.05) / (2 * len(places)))
    return Estimate(d, max(0.0, d - half), d + half, len(places))


def least_p_value(kinds: Sequence[np.ndarray]) -> Estimate:
    """The least p-value of any kind's distance, by Massart's bound, times the number of kinds.

    A bound on the probability that right laws of all kinds would have given one distance as large.
    """
    most = min(max(2 * len(own) * distance(own) ** 2 for own in kinds), 700.0)
    p = min(1.0, 2 * len(kinds) * math.exp(-most))
    return Estimate(p, p, p, sum(map(len, kinds)))
