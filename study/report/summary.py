"""What a profile says: a verdict in words, and a dozen rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

KEPT = 3.0
"""Decades: a gradient that changes by no more on its way, a factor of 1,000, is kept."""
ROWS = 11
"""Of the table, and marks of theory."""

_FORMATS = {"float32": ("float32", "float64"), "float64": ("float64",)}
"""What leaves the range of float64 leaves that of float32 as well."""


class Summary(NamedTuple):
    """The gradients of one network over its seeds; decades are log10 of a norm."""

    layers: pd.DataFrame
    """A row a layer: layer; change, decades that dC/dr^(k) has gained on its way from the output
    (median over seeds); median, low and high over seeds of log10 ||dC/dW^(k)||; and float32 and
    float64, what a plain run would have had in most seeds: ok, underflow, overflow or dead."""
    seeds: int
    change: tuple[float, float, float]
    """Decades gained from output to input: median, lowest and highest of the seeds."""

    @property
    def depth(self) -> int:
        """Number of weight matrices."""
        return len(self.layers)

    @property
    def verdict(self) -> str:
        """Keeps, vanishes, explodes or is dead: by the median seed."""
        change = self.change[0]
        if change == -math.inf or self.layers["median"].iloc[0] == -math.inf:
            return "is dead"
        return "keeps" if abs(change) <= KEPT else "vanishes" if change < 0 else "explodes"


def summarise(frame: pd.DataFrame) -> Summary:
    """Summarise the profile of one network.

    Parameters
    ----------
    frame : as `study.profile` returns it for one network

    Examples
    --------
    >>> import study
    >>> net = study.Network(activation="sigmoid", depth=100, width=64, sigma_w=1.0)
    >>> found = summarise(study.profile(net, seeds=range(3)))
    >>> found.verdict, round(found.change[0]), list(found.layers["float32"][[0, 99]])
    ('vanishes', -63, ['underflow', 'ok'])
    """
    depth = int(frame["layer"].max()) + 1
    seeds = len(frame) // depth

    def by_seed(values: pd.Series) -> np.ndarray:
        return values.to_numpy().reshape(seeds, depth)

    steps = by_seed(frame["log10_derivative_factor"] + frame["log10_weight_factor"])
    # Below a layer that has let nothing through, a factor is 0 / 0: nothing is left there either.
    gained = np.nan_to_num(steps, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    gained = gained[:, ::-1].cumsum(axis=1)[:, ::-1]
    norms, status = by_seed(frame["log10_grad_norm"]), by_seed(frame["status"])
    columns = {
        "layer": np.arange(depth),
        "change": np.median(gained, axis=0),
        "median": np.median(norms, axis=0),
        "low": norms.min(axis=0),
        "high": norms.max(axis=0),
    }
    for name, wide in _FORMATS.items():
        columns[name] = np.full(depth, "ok", dtype=object)
        for what in ("underflow", "overflow"):
            most = np.isin(status, [f"{each}_{what}" for each in wide]).mean(axis=0) > 0.5
            columns[name][most] = what
        columns[name][(status == "dead").mean(axis=0) >= 0.5] = "dead"
    down = gained[:, 0]
    change = float(np.median(down)), float(down.min()), float(down.max())
    return Summary(pd.DataFrame(columns), seeds, change)


def in_words(found: Summary) -> str:
    """Say in a few sentences what the gradient does, and where plain floats lose it.

    Examples
    --------
    >>> import study
    >>> net = study.Network(activation="sigmoid", depth=100, width=64, sigma_w=1.0)
    >>> print(in_words(summarise(study.profile(net, seeds=range(3)))).partition(" (")[0])
    The gradient vanishes: it loses 62.99 decades from output to input, 0.63 a layer
    """
    return " ".join([_change(found), *_floats(found.layers)])


def _change(found: Summary) -> str:
    change, lowest, highest = found.change
    about = f"median of {found.seeds} seeds; lowest {lowest:+.4g}, highest {highest:+.4g}"
    about = about if found.seeds > 1 else "one seed"
    if found.verdict == "is dead":
        share = f"half of {found.seeds} seeds, or more" if found.seeds > 1 else "one seed"
        dead = int((found.layers["float64"] == "dead").sum())
        return (
            "The gradient is dead: exactly zero at the first weights, and in "
            f"{dead:,} of {found.depth:,} layers ({share})."
        )
    turn = "loses" if change < 0 else "gains"
    words = "keeps its size within a factor of 1,000" if found.verdict == "keeps" else found.verdict
    words = (
        f"The gradient {words}: it {turn} {abs(change):.4g} decades from output to input, "
        f"{abs(change) / found.depth:.3g} a layer ({about})."
    )
    norms = found.layers["median"]
    if found.verdict != "keeps" and abs(norms.iloc[0] - norms.iloc[-1]) < 0.1 * abs(change):
        fades = "fades" if change < 0 else "grows"
        words += (
            f" The signal {fades} on its way up as the gradient does on its way down, so that "
            "dC/dW is about the same in every layer."
        )
    return words


def _floats(layers: pd.DataFrame) -> list[str]:
    """Where a plain run leaves the range of its format; what two formats share is said once."""
    said: dict[str, list[str]] = {}
    for name in _FORMATS:
        lost = [_lost(layers[name] == f"{what}flow", what) for what in ("under", "over")]
        if any(lost):
            said.setdefault(" and ".join(filter(None, lost)), []).append(name)
    if not said and (layers["float32"] == "ok").any():
        zero = " that is not zero" if (layers["float32"] == "dead").any() else ""
        return [f"Plain float32 holds dC/dW in every layer{zero}."]
    return [f"In plain {' and '.join(names)}, dC/dW {lost}." for lost, names in said.items()]


def _lost(where: pd.Series, what: str) -> str:
    at = np.flatnonzero(where)
    if len(at) == len(where):
        return f"{what}flows in every layer"
    if len(at) and at[-1] == len(at) - 1:
        above = len(where) - len(at)
        layers = f"{above:,} layer{'s' * (above > 1)}"
        return f"{what}flows from layer {at[-1]:,} down, {layers} below the output"
    return f"{what}flows in {len(at):,} of {len(where):,} layers" if len(at) else ""


def table(found: Summary, theory: pd.DataFrame, width: int) -> str:
    """Return some layers as text, evenly spaced, `ROWS` at most.

    Parameters
    ----------
    theory : columns layer and value, log10 of the norm that is expected; with those layers, or
        empty
    width : characters in a line; below 79 the lowest and the highest seed are left out

    Examples
    --------
    >>> import study
    >>> net = study.Network(activation="sigmoid", depth=2, width=64, sigma_w=1.0)
    >>> none = pd.DataFrame({"layer": [], "value": []})
    >>> print(table(summarise(study.profile(net)), none, 60))
           decades gained  log10 |dC/dW|         plain run in
      layer  since output   median   theory   float32   float64
          0         -1.17    -0.29        -        ok        ok
          1         -0.55     0.01        -        ok        ok
    """
    seeds = ["lowest", "highest"] if width >= 79 else []
    norms = ["median", *seeds, "theory"]
    heads = "".join(f"{head:>9}" for head in norms) + "   float32   float64"
    rows = [
        f"{'decades gained':>21}{'log10 |dC/dW|':^{9 * len(norms)}}      plain run in",
        f"{'layer':>7}{'since output':>14}{heads}",
    ]
    expected = dict(zip(theory["layer"], theory["value"], strict=True))
    for layer in chosen(found.depth, ROWS):
        row = found.layers.iloc[layer].rename({"low": "lowest", "high": "highest"})
        row["theory"] = expected.get(layer, math.nan)
        cells = "".join(f"{_number(row[name]):>9}" for name in norms)
        floats = f"{row['float32']:>10}{row['float64']:>10}"
        rows.append(f"{layer:>7,}{_number(row['change']):>14}{cells}{floats}")
    return "\n".join(rows)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def chosen(depth: int, count: int) -> list[int]:
    """Return layers from the first to the last, evenly spaced, at most so many.

    >>> chosen(1000, 3), chosen(2, 9)
    ([0, 500, 999], [0, 1])
    """
    return [int(k) for k in np.unique(np.linspace(0, depth - 1, count).round())]
