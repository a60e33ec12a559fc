"""Gradient norms as tables keep them: a few layers of each network, nine significant digits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from study.records.columns import PROFILE_COLUMNS, Column

DIGITS = 9
TOLERANCE = 2.0 * 10.0 ** (1 - DIGITS)
"""Numbers that are equal but for their last bits may be rounded apart."""

_OF_A_LAYER = [*PROFILE_COLUMNS][[*PROFILE_COLUMNS].index("layer") + 1 :]
COLUMNS: dict[str, Column] = {
    name: PROFILE_COLUMNS[name]._replace(
        meaning=f"{PROFILE_COLUMNS[name].meaning}; {DIGITS} significant digits",
        tolerance=TOLERANCE,
    )
    for name in _OF_A_LAYER
    if "float64" in PROFILE_COLUMNS[name].type
}
"""What the table's rounded columns mean."""


def recorded_layers(depth: int, layers: str | int = "all") -> np.ndarray:
    """The layers that become rows: all, or about so many, log-spaced from both ends.

    >>> recorded_layers(1000, 7).tolist()
    [0, 7, 62, 500, 937, 992, 999]
    """
    if layers == "all" or layers >= depth:
        return np.arange(depth)
    half = (layers + 1) // 2
    near = np.geomspace(1, depth / 2, half).round().astype(int) - 1
    return np.unique(np.concatenate([near[: layers - half], depth - 1 - near]))


def gradient_norms(frame: pd.DataFrame, layers: int) -> pd.DataFrame:
    """The rows of some layers of each network, with the frame's columns and what else it has.

    Parameters
    ----------
    frame : as `study.profile` returns it, and columns that tell networks apart
    layers : how many a network, about (`recorded_layers`)

    Examples
    --------
    >>> import study
    >>> df = study.profile(study.Network("tanh", depth=100, width=16), seeds=range(2))
    >>> gradient_norms(df, 3)[["seed", "layer"]].to_numpy().tolist()
    [[0, 0], [0, 50], [0, 99], [1, 0], [1, 50], [1, 99]]
    """
    kept = {depth: recorded_layers(int(depth), layers) for depth in frame.depth.unique()}
    mask = np.zeros(len(frame), bool)
    for depth, at in kept.items():
        mask |= (frame.depth == depth) & frame.layer.isin(at)
    rows = frame[mask].reset_index(drop=True)
    for name in COLUMNS:
        rows[name] = [float(f"{value:.{DIGITS}g}") for value in rows[name]]
    others = [name for name in rows if name not in PROFILE_COLUMNS]
    return rows[[*others, *[name for name in PROFILE_COLUMNS if name in rows]]]
