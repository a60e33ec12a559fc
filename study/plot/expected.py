"""What theory expects of the networks of a frame, as frames of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from study.plot.frames import need
from study.theory.decay import derivative_decades, gradient_decades
from study.theory.maps import trajectory
from study.theory.moments import KURTOSIS
from study.theory.weight_gradient import log10_norms


def networks(df: pd.DataFrame, needed: Sequence[str], by: Sequence[str]) -> Iterator[dict]:
    """The distinct networks of a frame, with the mapped columns."""
    need(df, needed, ", of theory = True")
    names = [*needed, *by, *(name for name in ("sigma_b", "weights") if name in df)]
    for net in df[list(dict.fromkeys(names))].drop_duplicates().to_dict("records"):
        yield {"sigma_b": 0.0} | net


def _places(first: int, last: int) -> np.ndarray:
    """Layers or depths, enough for a line."""
    return np.unique(np.linspace(first, last, 60).round().astype(int))


def profile(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """log10_grad_norm layer by layer: mean field, with the width's own drift where it is known."""
    lines = []
    for net in networks(df, ("activation", "sigma_w", "depth", "width"), by):
        layers = _places(0, net["depth"] - 1)
        law = net.get("weights", "gaussian")
        of = [net[name] for name in ("activation", "sigma_w", "sigma_b", "depth", "width")]
        norms = log10_norms(*of, layers, law if law in KURTOSIS else None)
        lines.append(pd.DataFrame({**net, "layer": layers, "log10_grad_norm": norms}))
    return pd.concat(lines, ignore_index=True)


def depth(df: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Decades gained from output to input, against depth up to the deepest; see `theory.decay`."""
    need(df, ["depth"])
    lines = []
    depths = _places(1, df["depth"].max())
    for net in networks(df.drop(columns="depth"), ("activation", "sigma_w", "width"), by):
        of = net["activation"], net["sigma_w"]
        if net["activation"] in ("relu", "linear") and net["sigma_b"] == 0:
            gained = gradient_decades(*of, depths[-1], net["width"], depths)
        else:
            chi = trajectory(*of, net["sigma_b"], int(depths[-1])).chi
            gained = np.cumsum(0.5 * np.log10(chi))[depths - 1]
        lines.append(pd.DataFrame({**net, "depth": depths, value: gained}))
    return pd.concat(lines, ignore_index=True)


def factors(df: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Decades a layer by the derivative, by the weights and by both, layer by layer."""
    lines = []
    for net in networks(df, ("activation", "sigma_w", "depth"), by):
        layers = _places(0, net["depth"] - 1)
        of = [net[name] for name in ("activation", "sigma_w", "sigma_b", "depth")]
        taken = derivative_decades(*of)[layers]
        given = np.full(len(layers), np.log10(net["sigma_w"]))
        for part, each in (("derivative", taken), ("weights", given), ("both", taken + given)):
            line = {**net, "factor": part, "layer": layers, "decades_a_layer": each}
            lines.append(pd.DataFrame(line))
    return pd.concat(lines, ignore_index=True)
