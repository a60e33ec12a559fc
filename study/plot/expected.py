"""What theory expects of the networks of a frame, as frames of lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.theory.decay import derivative_decades, gradient_decades
from study.theory.maps import trajectory
from study.theory.moments import KURTOSIS
from study.theory.weight_gradient import log10_norms

_POINTS = 60
"""Of a line."""


def networks(df: pd.DataFrame, needed: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """The distinct networks of a frame, with the mapped columns.

    Raises
    ------
    ValueError
        Naming a column without which theory knows nothing of them.
    """
    for name in needed:
        if name not in df:
            there = ", ".join(map(str, df.columns))
            raise ValueError(f"column {name!r} is missing, of theory = True; there are: {there}")
    known = ("sigma_b", "weights")
    names = dict.fromkeys([*needed, *(name for name in known if name in df), *by])
    return df[list(names)].drop_duplicates()


def profile(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """log10_grad_norm layer by layer: mean field, with the width's own drift where it is known."""
    lines = []
    for net in networks(df, ("activation", "sigma_w", "depth", "width"), by).to_dict("records"):
        layers = np.unique(np.linspace(0, net["depth"] - 1, _POINTS).round().astype(int))
        law = net.get("weights", "gaussian")
        norms = log10_norms(
            net["activation"], net["sigma_w"], net.get("sigma_b", 0.0), net["depth"], net["width"],
            layers, law if law in KURTOSIS else None,
        )  # fmt: skip
        lines.append(pd.DataFrame({**net, "layer": layers, "log10_grad_norm": norms}))
    return pd.concat(lines, ignore_index=True)


def depth(df: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Decades gained from output to input, against depth up to the deepest."""
    lines = []
    needed = ("activation", "sigma_w", "width")
    for net in networks(df.drop(columns="depth"), needed, by).to_dict("records"):
        depths = np.unique(np.linspace(1, df["depth"].max(), _POINTS).round().astype(int))
        gained = decades(
            net["activation"], net["sigma_w"], net.get("sigma_b", 0.0), net["width"], depths
        )
        lines.append(pd.DataFrame({**net, "depth": depths, value: gained}))
    return pd.concat(lines, ignore_index=True)


def decades(
    activation: str, sigma_w: float, sigma_b: float, width: int, depths: np.ndarray
) -> np.ndarray:
    """What a gradient gains in networks of these depths, see `study.theory.decay`.

    >>> decades("sigmoid", 1.0, 0.0, 256, np.array([1, 100])).round(2).tolist()
    [-0.67, -62.75]
    """
    if activation in ("relu", "linear") and sigma_b == 0:
        return gradient_decades(activation, sigma_w, int(max(depths)), width, depths)
    chi = trajectory(activation, sigma_w, sigma_b, int(max(depths))).chi
    return np.cumsum(0.5 * np.log10(chi))[np.asarray(depths) - 1]


def factors(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Decades a layer by the derivative, by the weights and by both, layer by layer."""
    lines = []
    for net in networks(df, ("activation", "sigma_w", "depth"), by).to_dict("records"):
        layers = np.unique(np.linspace(0, net["depth"] - 1, _POINTS).round().astype(int))
        taken = derivative_decades(
            net["activation"], net["sigma_w"], net.get("sigma_b", 0.0), net["depth"]
        )[layers]
        given = np.full(len(layers), np.log10(net["sigma_w"]))
        parts = {"derivative": taken, "weights": given, "both": taken + given}
        for part, values in parts.items():
            lines.append(
                pd.DataFrame({**net, "factor": part, "layer": layers, "decades_a_layer": values})
            )
    return pd.concat(lines, ignore_index=True)
