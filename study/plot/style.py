"""What all figures share: sizes, a colour and a mark an activation, symbols, float ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from study.core.activations import TABLE
from study.plot.floats import FLOAT32_DECADES, FLOAT64_DECADES

COLOURS = {name: row.look.colour for name, row in TABLE.items()}
MARKS = {name: row.look.marker for name, row in TABLE.items()}
NAMES = {name: row.label for name, row in TABLE.items()}
FACTOR_COLOURS = {"derivative": "#882255", "weights": "#DDAA33", "both": "black"}
SYMBOLS = {
    "layer": r"layer $k$, input to output",
    "depth": "depth (layers)",
    "sigma_w": r"$\sigma_w$",
    "sigma_b": r"$\sigma_b$",
    "step": "step of training",
    "loss": "training loss",
    "accuracy": "held-out accuracy",
    "rank": r"rank $k$",
    "decades": "decades gained from output to input",
    "log10_decay": "decades gained from output to input",
    "log10_grad_norm": r"$\log_{10}\,\|\partial C/\partial W^{(k)}\|$",
    "log10_delta_norm": r"$\log_{10}\,\|\partial C/\partial z^{(k+1)}\|$",
    "log10_upstream_norm": r"$\log_{10}\,\|\partial C/\partial r^{(k+1)}\|$",
    "log10_signal_norm": r"$\log_{10}\,\|r^{(k+1)}\|$",
    "log10_weight_norm": r"$\log_{10}\,\|W^{(k)}\|$",
    "log10_singular_value": r"$\log_{10}\,s_k$",
}
"""What a column is called on an axis."""

WIDTH = 178 / 25.4
"""Of a figure across the paper's two columns, in inches: a point is a point in print."""
COLUMN = 85 / 25.4
"""Of a figure in one column."""
SMALL = 6.2
"""In points; nothing is smaller, but an index within its formula."""

DECADES = LinearSegmentedColormap.from_list(
    "decades", ["#08204d", "#3b6ea8", "#a9b1b8", "#f0a860", "#fff3d0"]
)
"""Ever lighter, so that it reads in grey; the hue turns where the gradient stays."""

_OWN = {
    "font.family": "DejaVu Sans",
    "axes.titlepad": 4,
    "axes.titlelocation": "left",
    "axes.labelpad": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "figure.figsize": (COLUMN, 2.4),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "svg.fonttype": "path",
}
for _axis in ("xtick", "ytick"):
    _OWN |= {f"{_axis}.major.{what}": size for what, size in (("size", 2.5), ("width", 0.6))}
    _OWN |= {f"{_axis}.minor.{what}": size for what, size in (("size", 1.5), ("width", 0.5))}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this context: seaborn's style for paper, in letters of 6.6 to 7.2 points."""
    import seaborn as sns  # 1.6 s, which those who want the colours need not wait for

    context = sns.plotting_context("paper", font_scale=0.75)
    with mpl.rc_context(sns.axes_style("ticks") | context | _OWN):
        yield


def panels(rows: int, columns: int, height: float, **shared) -> tuple[Figure, np.ndarray]:
    """A grid of panels laid out without overlap, ``height`` inches high and as wide as the text."""
    with house_style():
        return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **shared)


def logarithmic(ax: Axes, which: str) -> None:
    """Make the axes named, "x", "y" or "xy", logarithmic, with plain numbers."""
    for name in which:
        ax.set(**{f"{name}scale": "log"})
        axis = ax.xaxis if name == "x" else ax.yaxis
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter(NullFormatter())


def axis_name(column: str) -> str:
    """What a column is called on an axis."""
    return SYMBOLS.get(column, column.replace("_", " "))


def called(column: str, value: object) -> str:
    """What a value of a column is called in a title or at a curve.

    >>> called("activation", "relu"), called("sigma_w", 2**0.5), called("depth", 1000)
    ('ReLU', '$\\\\sigma_w$ = 1.41', 'depth 1,000')
    """
    if column == "activation":
        return NAMES.get(str(value), str(value))
    if not isinstance(value, int | float | np.number):
        return str(value)
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"
    name = axis_name(column)
    return f"{name} = {number}" if name.startswith("$") else f"{column} {number}"


def label_ends(ax: Axes, ends: list[tuple[float, str, object]], x: float) -> None:
    """Write (height, text, colour) at x, moved apart where they would overlap."""
    to_axes = ax.transData + ax.transAxes.inverted()
    placed = sorted(ends, key=lambda end: end[0])
    heights = np.array([to_axes.transform((x, y))[1] for y, _, _ in placed]).clip(0.02, 0.98)
    gap = 8 / (ax.get_window_extent().height * 72 / ax.figure.dpi)
    for _ in range(200):
        for i in range(1, len(heights)):
            lack = max(0.0, gap - (heights[i] - heights[i - 1]))
            heights[i - 1 : i + 1] += [-lack / 2, lack / 2]
    heights -= max(0.0, heights[-1] - 1.0)  # within the panel, at its lower end above all
    heights += max(0.0, 0.02 - heights[0])
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        ax.annotate(
            text, (x, height), xycoords=("data", "axes fraction"), xytext=(4, 0), color=colour,
            textcoords="offset points", va="center", fontsize=SMALL, annotation_clip=False,
        )  # fmt: skip


def shade_float_ranges(ax: Axes) -> None:
    """Grey where a plain float32, and darker where a plain float64, leaves its normal range."""
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    for ends, grey, name in (
        (FLOAT32_DECADES, "#f0f0f0", "float32"),
        (FLOAT64_DECADES, "#dcdcdc", "float64"),
    ):
        for end, edge, word, side in (
            (ends[0], low, "below", "top"),
            (ends[1], high, "beyond", "bottom"),
        ):
            outside = edge - end if word == "beyond" else end - edge
            if outside <= 0:
                continue
            ax.axhspan(end, edge, color=grey, lw=0, zorder=-2)
            if outside > 0.07 * (high - low):  # room for a line of text
                ax.text(
                    0.02, end, f"{word} {name}", transform=ax.get_yaxis_transform(), va=side,
                    fontsize=SMALL, color="#666666", zorder=-1,
                )  # fmt: skip
