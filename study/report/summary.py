"""A network in words: what its gradient does, a dozen of its layers, and what would keep it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.core.network import Network
from study.theory.maps import trajectory

KEPT = 3.0
"""Decades: a gradient that changes by no more on its way, a factor of 1,000, is kept."""
ROWS = 11
"""Of the table, and marks of theory."""


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
        if abs(change) <= KEPT:
            return "keeps"
        return "vanishes" if change < 0 else "explodes"


def summarise(frame: pd.DataFrame) -> Summary:
    """Summarise the profile of one network, a frame of `study.profile`.

    >>> import study
    >>> net = study.Network(activation="sigmoid", depth=100, width=64, sigma_w=1.0)
    >>> summary = summarise(study.profile(net, seeds=range(3)))
    >>> summary.verdict, list(summary.layers["float32"][[0, 99]])
    ('vanishes', ['underflow', 'ok'])
    >>> print(in_words(summary).partition(" (")[0])
    The gradient vanishes: it loses 62.99 decades from output to input, 0.63 a layer
    """
    depth = int(frame["layer"].max()) + 1

    def by_seed(column: str) -> np.ndarray:
        return frame[column].to_numpy().reshape(-1, depth)

    steps = by_seed("log10_derivative_factor") + by_seed("log10_weight_factor")
    # Below a layer that has let nothing through, a factor is 0 / 0: nothing is left there either.
    steps[np.isnan(steps)] = -np.inf
    gained = steps[:, ::-1].cumsum(axis=1)[:, ::-1]
    norms = by_seed("log10_grad_norm")
    columns = {
        "layer": np.arange(depth),
        "change": np.median(gained, axis=0),
        "median": np.median(norms, axis=0),
        "low": norms.min(axis=0),
        "high": norms.max(axis=0),
        "float32": _plain(by_seed("status"), ("float32", "float64")),
        "float64": _plain(by_seed("status"), ("float64",)),
    }
    down = gained[:, 0]
    change = (float(np.median(down)), float(down.min()), float(down.max()))
    return Summary(pd.DataFrame(columns), len(down), change)


def _plain(status: np.ndarray, formats: tuple[str, ...]) -> np.ndarray:
    """What a plain run had in most seeds; what leaves a wider format's range leaves this one's."""
    states = np.full(status.shape[1], "ok", dtype=object)
    for what in ("underflow", "overflow"):
        left = np.isin(status, [f"{name}_{what}" for name in formats])
        states[left.mean(axis=0) > 0.5] = what
    states[(status == "dead").mean(axis=0) >= 0.5] = "dead"
    return states


def in_words(summary: Summary) -> str:
    """Say in a few sentences what the gradient does, and where plain floats lose it."""
    return " ".join([_change(summary), *_floats(summary.layers)])


def _change(summary: Summary) -> str:
    change, lowest, highest = summary.change
    many = summary.seeds > 1
    if summary.verdict == "is dead":
        dead = (summary.layers["float64"] == "dead").sum()
        share = f"half of {summary.seeds} seeds, or more" if many else "one seed"
        return (
            "The gradient is dead: exactly zero at the first weights, and in "
            f"{dead:,} of {summary.depth:,} layers ({share})."
        )
    spread = f"median of {summary.seeds} seeds; lowest {lowest:+.4g}, highest {highest:+.4g}"
    kept = summary.verdict == "keeps"
    does = "keeps its size within a factor of 1,000" if kept else summary.verdict
    turn, fades = ("loses", "fades") if change < 0 else ("gains", "grows")
    words = (
        f"The gradient {does}: it {turn} {abs(change):.4g} decades from output to input, "
        f"{abs(change) / summary.depth:.3g} a layer ({spread if many else 'one seed'})."
    )
    norms = summary.layers["median"]
    if not kept and abs(norms.iloc[0] - norms.iloc[-1]) < 0.1 * abs(change):
        words += (
            f" The signal {fades} on its way up as the gradient does on its way down, so that "
            "dC/dW is about the same in every layer."
        )
    return words


def _floats(layers: pd.DataFrame) -> list[str]:
    """Where a plain run leaves the range of its format; what two formats share is said once."""
    sentences: dict[str, list[str]] = {}
    for name in ("float32", "float64"):
        lost = [
            _lost((layers[name] == what).to_numpy(), what) for what in ("underflow", "overflow")
        ]
        if any(lost):
            sentences.setdefault(" and ".join(filter(None, lost)), []).append(name)
    if not sentences and (layers["float32"] == "ok").any():
        zero = " that is not zero" if (layers["float32"] == "dead").any() else ""
        return [f"Plain float32 holds dC/dW in every layer{zero}."]
    return [f"In plain {' and '.join(names)}, dC/dW {lost}." for lost, names in sentences.items()]


def _lost(where: np.ndarray, what: str) -> str:
    """In which layers a plain run leaves its range; nothing where it does not."""
    count = int(where.sum())
    above = len(where) - count
    if count == 0:
        return ""
    if above == 0:
        return f"{what}s in every layer"
    if where[:count].all():
        layers = f"{above:,} layer{'s' * (above > 1)}"
        return f"{what}s from layer {count - 1:,} down, {layers} below the output"
    return f"{what}s in {count:,} of {len(where):,} layers"


def table(summary: Summary, theory: pd.DataFrame, width: int) -> str:
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
    heads = {"layer": "layer", "change": "since output", "median": "median"}
    if width >= 79:
        heads |= {"low": "lowest", "high": "highest"}
    heads |= {"theory": "theory", "float32": "float32", "float64": "float64"}
    rows = summary.layers.iloc[chosen(summary.depth, ROWS)]
    rows = rows.assign(theory=rows["layer"].map(theory.set_index("layer")["value"]))
    text = rows[list(heads)].to_string(
        index=False,
        header=list(heads.values()),
        formatters=["{:,}".format, *[_number] * (len(heads) - 3), str, str],
        col_space=[7, 13, *[8] * (len(heads) - 4), 9, 9],
        na_rep="-",
    )
    norms = 9 * (len(heads) - 4)
    return f"{'decades gained':>21}{'log10 |dC/dW|':^{norms}}      plain run in\n{text}"


def _number(value: float) -> str:
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"


def chosen(depth: int, count: int) -> list[int]:
    """Layers from the first to the last, evenly spaced, at most so many.

    >>> chosen(1000, 3), chosen(2, 9)
    ([0, 500, 999], [0, 1])
    """
    return [int(k) for k in np.unique(np.linspace(0, depth - 1, count).round())]


def advice(summary: Summary, best: Summary, net: Network, critical: float) -> str:
    """Say in a sentence what would keep the gradient of a network.

    Parameters
    ----------
    summary, best : what it does, and what it does at `critical`, the sigma_w at which chi = 1
    """
    if summary.verdict == "keeps":
        return "nothing, the gradient is kept"
    scale = "" if net.sigma_w == critical else "--sigma-w critical"
    left = best.change[0]
    if best.verdict == "keeps":
        return f"{scale}: the gradient of the same networks is then kept ({left:+.3g} decades)"
    if best.verdict == "is dead":
        also = f"{scale} and " if scale else ""
        return f"{also}a larger --width: in so narrow a layer all units fall silent"
    also = f"{scale}, which leaves {left:+.3g} decades, and " if scale else ""
    width = _width_that_keeps(left, net, critical)
    if width is None:
        return f"{also}fewer layers or residual connections: no width would keep it"
    return f"{also}--width {width} or more: the rest is of finite width, and falls as 1 / width"


def _width_that_keeps(left: float, net: Network, critical: float) -> int | None:
    """The width at which a critical network that gains `left` decades would keep its gradient.

    What finite width adds to the decades of infinite width is in proportion to 1 / width.
    """
    aim = KEPT - 0.5  # so that a width just large enough has some to spare
    chi = trajectory(net.activation, critical, net.sigma_b, net.depth).chi
    infinite = float(np.log10(chi).sum() / 2)
    if abs(infinite) >= aim:
        return None
    width = net.width * (left - infinite) / (math.copysign(aim, left) - infinite)
    unit = 10 ** max(0, math.floor(math.log10(width)) - 1)  # two digits are known, if that
    return math.ceil(width / unit) * unit
