"""What theory expects of the networks of a frame, as frames of lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from study.plot.frames import need
from study.theory.decay import derivative_decades, gradient_decades
from study.theory.maps import trajectory
from study.theory.moments import KURTOSIS
from study.theory.weight_gradient import log10_norms


def _lines(
    df: pd.DataFrame, needed: Sequence[str], by: Sequence[str], line: Callable[[dict], dict]
) -> pd.DataFrame:
    """The line of each distinct network of a frame, with the mapped columns."""
    need(df, needed, ", of theory = True")
    names = [*needed, *by, *(name for name in ("sigma_b", "weights") if name in df)]
    nets = df[list(dict.fromkeys(names))].drop_duplicates().to_dict("records")
    nets = [{"sigma_b": 0.0} | net for net in nets]
    return pd.concat([pd.DataFrame(net | line(net)) for net in nets], ignore_index=True)


def _places(first: int, last: int) -> np.ndarray:
    """Layers or depths, enough for a line."""
    return np.unique(np.linspace(first, last, 60).round().astype(int))


def profile(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """log10_grad_norm layer by layer: mean field, with the width's own drift where it is known."""
    columns = ["activation", "sigma_w", "depth", "width"]

    def line(net: dict) -> dict:
        layers = _places(0, net["depth"] - 1)
        law = net.get("weights", "gaussian")
        arguments = [net[name] for name in ("activation", "sigma_w", "sigma_b", "depth", "width")]
        norms = log10_norms(*arguments, layers, law if law in KURTOSIS else None)
        return {"layer": layers, "log10_grad_norm": norms}

    return _lines(df, columns, by, line)


def depth(df: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Decades gained from output to input, against depth up to the deepest; see `theory.decay`."""
    need(df, ["depth"])
    depths = _places(1, df["depth"].max())

    def line(net: dict) -> dict:
        activation, sigma_w = net["activation"], net["sigma_w"]
        if activation in ("relu", "linear") and net["sigma_b"] == 0:
            gained = gradient_decades(activation, sigma_w, depths[-1], net["width"], depths)
        else:
            chi = trajectory(activation, sigma_w, net["sigma_b"], int(depths[-1])).chi
            gained = np.cumsum(0.5 * np.log10(chi))[depths - 1]
        return {"depth": depths, value: gained}

    return _lines(df.drop(columns="depth"), ["activation", "sigma_w", "width"], by, line)


def factors(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The two factors of the norm in each layer, under the frame's own names."""
    columns = ["activation", "sigma_w", "depth"]

    def line(net: dict) -> dict:
        layers = _places(0, net["depth"] - 1)
        arguments = [net[name] for name in ("activation", "sigma_w", "sigma_b", "depth")]
        taken = derivative_decades(*arguments)[layers]
        given = np.full(len(layers), np.log10(net["sigma_w"]))
        return {"layer": layers, "log10_derivative_factor": taken, "log10_weight_factor": given}

    return _lines(df, columns, by, line)
