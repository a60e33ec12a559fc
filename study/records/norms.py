"""Gradient norms as tables keep them: a few layers of each network, nine significant digits."""

import numpy as np
import pandas as pd

from study.core.columns import LAYER, PROFILE_COLUMNS, Column

DIGITS = 9
# Numbers that are equal but for their last bits may be rounded apart.
TOLERANCE = 2.0 * 10.0 ** (1 - DIGITS)
# What the rounded columns of every table ``gradient_norms`` mean.
COLUMNS: dict[str, Column] = {
    name: column._replace(
        meaning=f"{column.meaning}; {DIGITS} significant digits", tolerance=TOLERANCE
    )
    for name, column in LAYER.items()
    if column.type == "float64"
}


def recorded_layers(depth: int, layers: str | int = "all") -> np.ndarray:
    """The layers that become rows: all, or about so many, log-spaced from both ends.

    >>> recorded_layers(1000, 7).tolist()
    [0, 7, 62, 500, 937, 992, 999]
    """
    if isinstance(layers, str) or layers >= depth:  # "all"
        return np.arange(depth)
    half = (layers + 1) // 2
    # The ends are where profiles bend.
    near = np.geomspace(1, depth / 2, half).round().astype(int) - 1
    return np.unique(np.concatenate([near[: layers - half], depth - 1 - near]))


def thinned(frame: pd.DataFrame, layers: int) -> pd.DataFrame:
    """The rows of about so many layers of each network (`recorded_layers`)."""
    is_kept = np.zeros(len(frame), bool)
    for depth in frame.depth.unique():
        is_kept |= (frame.depth == depth) & frame.layer.isin(recorded_layers(int(depth), layers))
    return frame[is_kept].reset_index(drop=True)


def significant(values: pd.Series, digits: int) -> list[float]:
    """The values, rounded to so many significant digits.

    >>> significant(pd.Series([1234.5, 0.00012345, -np.inf]), 3)
    [1230.0, 0.000123, -inf]
    """
    return [float(f"{value:.{digits}g}") for value in values]


def gradient_norms(frame: pd.DataFrame, layers: int) -> pd.DataFrame:
    """The rows of about so many layers of each network (`recorded_layers`), rounded.

    `frame` is as `study.profile` returns it, and may have columns that tell networks apart.

    >>> import study
    >>> df = study.profile(study.Network("tanh", depth=100, width=16), seeds=range(2))
    >>> gradient_norms(df, 3)[["seed", "layer"]].to_numpy().tolist()
    [[0, 0], [0, 50], [0, 99], [1, 0], [1, 50], [1, 99]]
    """
    rows = thinned(frame, layers)
    for name in COLUMNS.keys() & {*rows}:
        rows[name] = significant(rows[name], DIGITS)
    others = [name for name in rows if name not in PROFILE_COLUMNS]
    return rows[[*others, *[name for name in PROFILE_COLUMNS if name in rows]]]
