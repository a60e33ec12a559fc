"""Frames before they are drawn: what must be there, what must not be mixed, seeds to intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from study.tools.checks import bad, nearest

NETWORK = ("activation", "sigma_w", "sigma_b", "weights", "dtype", "kink", "width", "depth")
VARIED = (*NETWORK, "inputs", "remedy", "format", "method", "scale", "rate", "step", "parameter")
"""Columns that tell networks, or moments of their training, apart: none may be averaged over."""
FACTORS = ["log10_derivative_factor", "log10_weight_factor"]


def read(df: pd.DataFrame | str | Path) -> pd.DataFrame:
    """The frame itself, or that of a CSV."""
    return pd.read_csv(df) if isinstance(df, str | Path) else df


def need(df: pd.DataFrame, names: Sequence[str], of: str = "") -> None:
    """Refuse a frame that has no rows or lacks a column."""
    if len(df) == 0:
        raise ValueError("the frame has 0 rows; allowed: at least one")
    for name in names:
        if name not in df:
            there = ", ".join(map(str, df.columns)) + nearest(name, map(str, df.columns))
            raise ValueError(f"column {name!r} is missing{of}; there are: {there}")


def mixed(df: pd.DataFrame, by: Sequence[str], axes: Sequence[str]) -> list[str]:
    """The columns that tell networks apart which one curve would hold."""
    # A frame of torch has a row a parameter: activations and formats may change along its layers.
    names = ("parameter", "step") if "name" in df else VARIED
    names = [name for name in names if name in df and name not in (*by, *axes)]
    others = [name for name in names if df[name].nunique() > 1]
    by = [name for name in (*by, *axes[:1]) if name in df]
    if not others or not by:
        return others
    kinds = df[[*by, *others]].drop_duplicates().groupby(by, observed=True)[others].nunique()
    return [name for name in others if kinds[name].max() > 1]


def reduced(
    df: pd.DataFrame,
    axes: Sequence[str],
    value: str,
    mapped: Mapping[str, str | None],
    interval: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """What is drawn: a row for each of the axes and mapped columns, with value, low and high.

    Parameters
    ----------
    df : any frame
    axes, value : columns it must have
    mapped : "hue", "style", "col", "row" -> a column or None
    interval : columns of a frame that is reduced already; else seeds are, see `medians`

    Raises
    ------
    ValueError
        Naming a column that is missing, one that mixes networks, or why nothing can be drawn.
    """
    need(df, [*axes, value, *(interval or ())])
    for role, name in mapped.items():
        if name is not None and name not in df:
            raise bad(role, name, ", ".join(map(str, df.columns)) + nearest(name, df.columns))
    by = [name for name in dict.fromkeys(mapped.values()) if name is not None]
    for name in mixed(df, by, [*axes, value]):
        kinds = sorted(df[name].unique())
        some = ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in kinds[:6])
        raise ValueError(
            f"column {name!r} mixes {len(kinds)} values ({some}{', ...' * (len(kinds) > 6)}) "
            f"in one curve; allowed: hue, style, col or row = {name!r}, or rows of one value"
        )
    if not pd.api.types.is_numeric_dtype(df[value]):
        raise ValueError(f"column {value!r} holds {df[value].dtype}; allowed: numbers")
    if not np.isfinite(df[value]).any():
        dead = np.isneginf(df[value]).sum()
        raise ValueError(
            f"column {value!r} has no finite value in {len(df)} rows ({dead} are -inf, gradients "
            "of exactly zero: dead networks); allowed: at least one"
        )
    keys = list(dict.fromkeys([*axes, *by]))
    rows = df[df[value].notna()]
    if interval is None:
        return medians(rows, keys, value)
    low, high = interval
    return rows[keys].assign(value=rows[value], low=rows[low], high=rows[high])


def medians(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Median and its 95 % order-statistic interval in each group; the range below 6 values.

    Examples
    --------
    >>> frame = pd.DataFrame({"depth": [1, 1, 2], "decay": [0.0, 2.0, 5.0]})
    >>> medians(frame, ["depth"], "decay")
       depth  value  low  high
    0      1    1.0  0.0   2.0
    1      2    5.0  5.0   5.0
    """
    codes = frame.groupby(keys, sort=True, observed=True).ngroup().to_numpy()
    values = frame[value].to_numpy(float)
    # One sort serves all groups: a million rows take a fraction of a second.
    order = np.lexsort((values, codes))
    values = values[order]
    count = np.bincount(codes)
    start = np.cumsum(count) - count
    rank = np.maximum(stats.binom.ppf(0.025, count, 0.5).astype(int), 1)
    lower = values[start + (count - 1) // 2]
    upper = values[start + count // 2]
    return (
        frame.iloc[order[start]][keys]
        .reset_index(drop=True)
        .assign(
            # Two that are both -inf have no difference.
            value=np.where(lower == upper, lower, 0.5 * (lower + upper)),
            low=values[start + rank - 1],
            high=values[start + count - rank],
        )
    )


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
    need(df, ["layer", *FACTORS], ", of 'decades'")
    df = df.assign(seed=df.get("seed", 0))
    keys = [name for name in (*VARIED, "seed") if name in df]
    # Below a layer that lets nothing through a factor is 0 / 0; the -inf above it stays.
    gained = df[FACTORS].fillna(0.0).sum(axis=1)
    if "log10_upstream_norm" in df:  # the end layers suffice
        frame = df.assign(decades=gained + df.log10_upstream_norm).sort_values("layer")
        first = frame.drop_duplicates(keys, keep="first")[[*keys, "decades"]]
        last = frame.drop_duplicates(keys, keep="last")[[*keys, "log10_upstream_norm"]]
        both = first.merge(last, on=keys)
        both["decades"] = both.decades.fillna(-np.inf) - both.pop("log10_upstream_norm")
        return both
    networks = df[[*keys, "layer"]].assign(decades=gained).groupby(keys, sort=False)
    if (networks.layer.size() != networks.layer.max() + 1).any():
        raise ValueError(
            "column 'layer' leaves out layers, so that factors have no sum; allowed: all layers, "
            "or a frame with log10_upstream_norm"
        )
    return networks.decades.sum().reset_index()
