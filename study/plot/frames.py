"""Frames before they are drawn: what must be there, what must not be mixed, seeds to intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.statistics.estimators import medians
from study.statistics.summaries import VARIED, gains
from study.tools.checks import bad, nearest

ROLES = ("hue", "style", "col", "row")
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
    varied = ["parameter", "step"] if "name" in df else VARIED
    names = [name for name in varied if name in df and name not in (*by, *axes)]
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
    look: Mapping[str, Any],
    interval: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """What is drawn: a row for each of the axes and mapped columns, with value, low and high.

    ``look`` may map "hue", "style", "col" and "row" to columns; ``interval`` names two of a frame
    that is reduced already, else seeds are (`study.statistics.estimators.medians`). ValueError
    names a column that is missing, one that mixes networks, or why nothing can be drawn.
    """
    need(df, [*axes, value, *(interval or ())])
    mapped = {role: look[role] for role in ROLES if look.get(role) is not None}
    for role, name in mapped.items():
        if name not in df:
            raise bad(role, name, ", ".join(map(str, df.columns)) + nearest(name, df.columns))
    by = list(dict.fromkeys(mapped.values()))
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
    rows = df[df[value].notna()]  # NaN: not measured; -inf is a number, a true zero
    if interval is None:
        return medians(rows, keys, value, sort=True)
    low, high = interval
    return rows[keys].assign(value=rows[value], low=rows[low], high=rows[high])


def decades(df: pd.DataFrame) -> pd.DataFrame:
    """What each network's gradient gained from output to input, under ``decades``: see `gains`."""
    need(df, ["layer", "depth", *FACTORS], ", of 'decades'")
    return gains(df).rename(columns={"log10_gain": "decades"})
