"""A network in words: what its gradient does, a dozen of its layers, and what would keep it."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.core.network import Network
from study.statistics.summaries import running_factors
from study.theory.maps import trajectory

KEPT = 3.0  # decades: a gradient that changes by no more on its way, a factor of 1,000, is kept
ROWS = 11  # of the table, and marks of theory


class Summary(NamedTuple):
    """The gradients of one network over its seeds; decades are log10 of a norm."""

    # A row a layer: layer; change, decades that dC/dr^(k) has gained on its way from the output
    # (median over seeds); median, low and high over seeds of log10 ||dC/dW^(k)||; and float32 and
    # float64, what a plain run would have had in most seeds: ok, underflow, overflow or dead.
    layers: pd.DataFrame
    seeds: int
    # Decades gained from output to input: median, lowest and highest of the seeds.
    change: tuple[float, float, float]

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
    change = running_factors(frame)[["derivative", "weights"]].sum(axis=1)
    by_layer = frame.assign(change=change).groupby("layer")
    layers = by_layer.log10_grad_norm.agg(["median", "min", "max"])
    layers = layers.rename(columns={"min": "low", "max": "high"})
    layers.insert(0, "change", by_layer.change.median())
    counts = pd.crosstab(frame.layer, frame.status)
    layers["float32"] = _plain(counts, ("float32", "float64"))
    layers["float64"] = _plain(counts, ("float64",))
    down = change[frame.layer == 0]
    return Summary(layers.reset_index(), len(down), (down.median(), down.min(), down.max()))


def _plain(counts: pd.DataFrame, formats: tuple[str, ...]) -> np.ndarray:
    """What a plain run had in most seeds; what leaves a wider format's range leaves this one's."""

    def share(*states: str) -> pd.Series:
        return counts.reindex(columns=states, fill_value=0).sum(axis=1) / counts.sum(axis=1)

    # Before the others: first come, first served by np.select.
    states = {"dead": share("dead") >= 0.5}
    for what in ("overflow", "underflow"):
        states[what] = share(*[f"{name}_{what}" for name in formats]) > 0.5
    return np.select(list(states.values()), list(states), "ok")


def in_words(summary: Summary) -> str:
    """Say in a few sentences what the gradient does, and where plain floats lose it."""
    change, lowest, highest = summary.change
    depth = len(summary.layers)
    if summary.verdict == "is dead":
        dead = (summary.layers["float64"] == "dead").sum()
        share = f"half of {summary.seeds} seeds, or more" if summary.seeds > 1 else "one seed"
        words = "The gradient is dead: exactly zero at the first weights, and in "
        return " ".join(
            [f"{words}{dead:,} of {depth:,} layers ({share}).", *_floats(summary.layers)]
        )
    spread = "one seed"
    if summary.seeds > 1:
        spread = f"median of {summary.seeds} seeds; lowest {lowest:+.4g}, highest {highest:+.4g}"
    is_kept = summary.verdict == "keeps"
    does = "keeps its size within a factor of 1,000" if is_kept else summary.verdict
    turn, fades = ("loses", "fades") if change < 0 else ("gains", "grows")
    words = (
        f"The gradient {does}: it {turn} {abs(change):.4g} decades from output to input, "
        f"{abs(change) / depth:.3g} a layer ({spread})."
    )
    norms = summary.layers["median"]
    if not is_kept and abs(norms.iloc[0] - norms.iloc[-1]) < 0.1 * abs(change):
        words += (
            f" The signal {fades} on its way up as the gradient does on its way down, so that "
            "dC/dW is about the same in every layer."
        )
    return " ".join([words, *_floats(summary.layers)])


def _floats(layers: pd.DataFrame) -> list[str]:
    """Where a plain run leaves the range of its format; what two formats share is said once."""
    formats: dict[str, list[str]] = {}
    for name in ("float32", "float64"):
        losses = [_lost(layers[name] == what, what) for what in ("underflow", "overflow")]
        if any(losses):
            formats.setdefault(" and ".join(filter(None, losses)), []).append(name)
    if not formats and (layers["float32"] == "ok").any():
        zero = " that is not zero" if (layers["float32"] == "dead").any() else ""
        return [f"Plain float32 holds dC/dW in every layer{zero}."]
    return [f"In plain {' and '.join(names)}, dC/dW {lost}." for lost, names in formats.items()]


def _lost(where: pd.Series, what: str) -> str:
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


def table(summary: Summary, theory: pd.Series, width: int) -> str:
    """Return some layers as text, evenly spaced, `ROWS` at most, in lines of so many characters.

    ``theory`` is log10 of the norm that is expected, by layer, and may be empty. Below a width of
    79 the lowest and the highest seed are left out.
    """
    seeds = {"low": "lowest", "high": "highest"} if width >= 79 else {}
    heads = {"layer": "layer", "change": "since output", "median": "median"} | seeds
    heads |= {"theory": "theory", "float32": "float32", "float64": "float64"}
    rows = summary.layers.iloc[chosen(len(summary.layers))].assign(theory=theory)
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


def chosen(depth: int, count: int = ROWS) -> list[int]:
    """Layers from the first to the last, evenly spaced, at most so many.

    >>> chosen(1000, 3), chosen(2, 9)
    ([0, 500, 999], [0, 1])
    """
    return [int(k) for k in np.unique(np.linspace(0, depth - 1, count).round())]


def advice(summary: Summary, best: Summary, net: Network, critical: float) -> str:
    """Say in a sentence what would keep the gradient of a network.

    ``best`` is what it does at ``critical``, the sigma_w at which chi = 1.
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
    # What is left is proportional to 1 / width.
    width = net.width * (left - infinite) / (math.copysign(aim, left) - infinite)
    unit = 10 ** max(0, math.floor(math.log10(width)) - 1)  # two digits are known, if that
    return math.ceil(width / unit) * unit
