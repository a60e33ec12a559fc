"""Frames before they are drawn: what must be there, what must not be mixed, seeds to intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from study.checks import bad, nearest
from study.plot.style import COLOURS

NETWORK = ("activation", "sigma_w", "sigma_b", "weights", "dtype", "kink", "width", "depth")
VARIED = (*NETWORK, "inputs", "remedy", "format", "method", "scale", "rate", "step", "parameter")
"""Columns that tell networks, or moments of their training, apart: none may be averaged over."""


def read(df: pd.DataFrame | str | Path) -> pd.DataFrame:
    """The frame itself, or that of a CSV."""
    return pd.read_csv(df) if isinstance(df, str | Path) else df


def checked(
    df: pd.DataFrame, axes: Sequence[str], mapped: Mapping[str, str | None]
) -> tuple[pd.DataFrame, list[str]]:
    """The columns that are drawn, without gaps, and those among them that tell curves apart.

    Parameters
    ----------
    df : any frame
    axes : columns it must have; the last is the one drawn
    mapped : "hue", "style", "col", "row" -> a column or None

    Raises
    ------
    ValueError
        Naming a column that is missing, one that mixes networks, or why nothing can be drawn.
    """
    if len(df) == 0:
        raise ValueError("the frame has 0 rows; allowed: at least one")
    for name in axes:
        if name not in df:
            there = ", ".join(map(str, df.columns)) + nearest(name, map(str, df.columns))
            raise ValueError(f"column {name!r} is missing; there are: {there}")
    for role, name in mapped.items():
        if name is not None and name not in df:
            allowed = ", ".join(map(str, df.columns)) + nearest(name, map(str, df.columns))
            raise bad(role, name, allowed)
    by = list(dict.fromkeys(name for name in mapped.values() if name is not None))
    _refuse_mixed(df, by, axes)
    value = df[axes[-1]]
    if not pd.api.types.is_numeric_dtype(value):
        raise ValueError(f"column {axes[-1]!r} holds {value.dtype}; allowed: numbers")
    if not np.isfinite(value.to_numpy(float)).any():
        dead = int(np.isneginf(value.to_numpy(float)).sum())
        raise ValueError(
            f"column {axes[-1]!r} has no finite value in {len(df)} rows ({dead} are -inf, "
            "gradients of exactly zero: dead networks); allowed: at least one"
        )
    return df.loc[value.notna(), list(dict.fromkeys([*axes, *by]))], by


def mixed(df: pd.DataFrame, by: Sequence[str], axes: Sequence[str]) -> list[str]:
    """The columns that tell networks apart which one curve would hold."""
    # A frame of torch has a row a parameter: activations and formats may change along its layers.
    names = ("parameter", "step") if "name" in df else VARIED
    others = [
        name
        for name in names
        if name in df and name not in by and name not in axes and df[name].nunique() > 1
    ]
    by = [name for name in (*by, *axes[:1]) if name in df]
    if not others or not by:
        return others
    kinds = df[[*by, *others]].drop_duplicates().groupby(by, observed=True)[others].nunique()
    return [name for name in others if kinds[name].max() > 1]


def _refuse_mixed(df: pd.DataFrame, by: list[str], axes: Sequence[str]) -> None:
    for name in mixed(df, by, axes):
        values = sorted(df[name].unique())
        some = ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values[:6])
        raise ValueError(
            f"column {name!r} mixes {len(values)} values ({some}{', ...' * (len(values) > 6)}) "
            f"in one curve; allowed: hue, style, col or row = {name!r}, or rows of one value"
        )


def medians(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Median and its 95 % order-statistic interval in each group; the range below 6 values.

    Returns
    -------
    DataFrame with the keys, sorted, value, low, high and n, the number of values.

    Examples
    --------
    >>> frame = pd.DataFrame({"depth": [1, 1, 2], "decay": [0.0, 2.0, 5.0]})
    >>> medians(frame, ["depth"], "decay")
       depth  value  low  high  n
    0      1    1.0  0.0   2.0  2
    1      2    5.0  5.0   5.0  1
    """
    groups = frame.groupby(keys, sort=True, observed=True)
    codes = groups.ngroup().to_numpy()
    # One sort serves all groups: a million rows take a fraction of a second.
    order = np.lexsort((frame[value].to_numpy(float), codes))
    ordered = frame[value].to_numpy(float)[order]
    count = np.bincount(codes)
    start = np.cumsum(count) - count
    rank = np.maximum(stats.binom.ppf(0.025, count, 0.5).astype(int), 1)
    lower = ordered[start + (count - 1) // 2]
    upper = ordered[start + count // 2]
    # Two that are both -inf have no difference.
    middle = np.where(lower == upper, lower, 0.5 * (lower + upper))
    table = frame.iloc[order[start]][keys].reset_index(drop=True)
    low = ordered[start + rank - 1]
    high = ordered[start + count - rank]
    return table.assign(value=middle, low=low, high=high, n=count)


def reduced(
    df: pd.DataFrame,
    x: str,
    y: str,
    mapped: Mapping[str, str | None],
    interval: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """What is drawn: x, the mapped columns, value, low and high; see `checked` and `medians`."""
    frame, by = checked(df, [x, *(interval or ()), y], mapped)
    if interval is None:
        return medians(frame, list(dict.fromkeys([x, *by])), y)
    low, high = interval
    points = frame[list(dict.fromkeys([x, *by]))].copy()
    return points.assign(value=frame[y], low=frame[low], high=frame[high])


def decades(df: pd.DataFrame) -> pd.DataFrame:
    """What each network's gradient gained from output to input: a row a network and seed.

    log10 of ‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, under ``decades``; -inf below a true zero.

    Examples
    --------
    >>> import study
    >>> net = study.Network("sigmoid", depth=100, width=64, sigma_w=1.0)
    >>> decades(study.profile(net, seeds=[0])).decades.round().tolist()
    [-63.0]
    """
    factors = ["log10_derivative_factor", "log10_weight_factor"]
    for name in ("layer", *factors):
        if name not in df:
            there = ", ".join(map(str, df.columns))
            raise ValueError(f"column {name!r} is missing, of 'decades'; there are: {there}")
    df = df.assign(seed=df.get("seed", 0))
    keys = [name for name in (*VARIED, "seed") if name in df]
    # Below a layer that lets nothing through a factor is 0 / 0; the -inf above it stays.
    gained = df[factors].fillna(0.0).sum(axis=1)
    if "log10_upstream_norm" in df:  # the end layers suffice
        frame = df.assign(decades=gained + df.log10_upstream_norm).sort_values("layer")
        first = frame.drop_duplicates(keys, keep="first")[[*keys, "decades"]]
        last = frame.drop_duplicates(keys, keep="last")[[*keys, "log10_upstream_norm"]]
        both = first.merge(last, on=keys)
        both["decades"] = both.decades.fillna(-np.inf) - both.pop("log10_upstream_norm")
        return both
    frame = df[[*keys, "layer"]].assign(decades=gained)
    table = frame.groupby(keys, sort=False).agg(
        decades=("decades", "sum"), layers=("layer", "size"), last=("layer", "max")
    )
    if (table.layers != table["last"] + 1).any():
        raise ValueError(
            "column 'layer' leaves out layers, so that factors have no sum; allowed: all layers, "
            "or a frame with log10_upstream_norm"
        )
    return table.decades.reset_index()


def in_order(column: str, values: pd.Series) -> list:
    """The values of a column in the order of its panels and colours: numbers by size."""
    there = list(values.unique())
    if column == "activation":
        places = {name: i for i, name in enumerate(COLOURS)}
        return sorted(there, key=lambda name: places.get(name, len(places)))
    return sorted(there) if pd.api.types.is_numeric_dtype(values) else there
