"""What theory expects of the networks of a frame, as frames of lines."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from study.plot.frames import FACTORS, need
from study.theory.fluctuations import KURTOSIS
from study.theory.gradient_norms import derivative_decades, gradient_decades, log10_norms
from study.theory.maps import trajectory


def lines(
    df: pd.DataFrame, line: Callable[[dict], dict], needed: Sequence[str], by: Sequence[str]
) -> pd.DataFrame:
    """The line of each distinct network of a frame, told by needed and mapped columns."""
    needed = ["activation", "sigma_w", *needed]
    need(df, needed, ", of theory = True")
    names = [*needed, *by, *(name for name in ("sigma_b", "weights") if name in df)]
    nets = df[list(dict.fromkeys(names))].drop_duplicates().assign(sigma_b=df.get("sigma_b", 0.0))
    parts = [pd.DataFrame(net | line(net)) for net in nets.to_dict("records")]
    return pd.concat(parts, ignore_index=True)


def places(first: int, last: int) -> np.ndarray:
    """Layers or depths, enough for a line."""
    return np.unique(np.linspace(first, last, 60).round().astype(int))


def profile(net: dict) -> dict:
    """log10_grad_norm layer by layer: mean field, with the width's own drift where it is known."""
    layers = places(0, net["depth"] - 1)
    law = net.get("weights", "gaussian")
    network = {name: net[name] for name in ("activation", "sigma_w", "sigma_b", "depth", "width")}
    norms = log10_norms(**network, layers=layers, weights=law if law in KURTOSIS else None)
    return {"layer": layers, "log10_grad_norm": norms}


def gained(net: dict, depths: np.ndarray) -> np.ndarray:
    """Decades gained from output to input at each depth, exact where that is known."""
    activation, sigma_w, sigma_b = net["activation"], net["sigma_w"], net["sigma_b"]
    if activation in ("relu", "linear") and sigma_b == 0:
        return gradient_decades(activation, sigma_w, depths[-1], net["width"], depths)
    # Of the squared norm, layer by layer.
    chi = trajectory(activation, sigma_w, sigma_b, int(depths[-1])).chi
    return np.cumsum(0.5 * np.log10(chi))[depths - 1]


def factors(net: dict) -> dict:
    """The two factors of the norm in each layer, under the frame's own names."""
    layers = places(0, net["depth"] - 1)
    network = [net[name] for name in ("activation", "sigma_w", "sigma_b", "depth")]
    taken = derivative_decades(*network)[layers]
    given = np.full(len(layers), np.log10(net["sigma_w"]))  # mean field's (2): no layer differs
    return {"layer": layers} | dict(zip(FACTORS, (taken, given), strict=True))
