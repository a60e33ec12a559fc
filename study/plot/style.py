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
    "width": "width",
    "sigma_w": r"$\sigma_w$",
    "sigma_b": r"$\sigma_b$",
    "step": "step of training",
    "loss": "training loss",
    "accuracy": "held-out accuracy",
    "rank": r"rank $k$",
    "decades": "decades gained from output to input",
    "decades_a_layer": "decades a layer",
    "log10_decay": "decades gained from output to input",
    "log10_grad_norm": r"$\log_{10}\,\|\partial C/\partial W^{(k)}\|$",
    "log10_delta_norm": r"$\log_{10}\,\|\partial C/\partial z^{(k+1)}\|$",
    "log10_upstream_norm": r"$\log_{10}\,\|\partial C/\partial r^{(k+1)}\|$",
    "log10_signal_norm": r"$\log_{10}\,\|r^{(k+1)}\|$",
    "log10_weight_norm": r"$\log_{10}\,\|W^{(k)}\|$",
    "log10_derivative_factor": "decades a layer, by the derivative",
    "log10_weight_factor": "decades a layer, by the weights",
    "log10_singular_value": r"$\log_{10}\,s_k$",
}
"""What a column is called on an axis."""

WIDTH = 178 / 25.4
"""Of a figure across the paper's two columns, in inches: a point is a point in print."""
COLUMN = 85 / 25.4
"""Of a figure in one column."""
SMALL = 6.2
"""In points; nothing is smaller, but an index within its formula."""
GREY = "#888888"

DECADES = LinearSegmentedColormap.from_list(
    "decades", ["#08204d", "#3b6ea8", "#a9b1b8", "#f0a860", "#fff3d0"]
)
"""Ever lighter, so that it reads in grey; the hue turns where the gradient stays."""

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.6,
    "axes.titlepad": 4,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.0,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.6,
    "ytick.labelsize": 6.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.figsize": (COLUMN, 2.4),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.h_pad": 0.04,
    "legend.fontsize": 6.6,
    "legend.title_fontsize": 6.6,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "svg.fonttype": "path",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this context."""
    with mpl.rc_context(_RC):
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


def called(column: str, value: object) -> str:
    """What a value of a column is called in a title or at a curve.

    >>> called("activation", "relu"), called("sigma_w", 2**0.5), called("depth", 1000)
    ('ReLU', '$\\\\sigma_w$ = 1.41', 'depth 1,000')
    """
    if column == "activation":
        return NAMES.get(str(value), str(value))
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return str(value)
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"
    name = SYMBOLS.get(column, column.replace("_", " "))
    return f"{name} = {number}" if name.startswith("$") else f"{column} {number}"


def label_ends(ax: Axes, ends: list[tuple[float, str, object]], x: float) -> None:
    """Write texts beside heights at x, in their colours, moved apart where they would overlap."""
    to_axes = ax.transData + ax.transAxes.inverted()
    gap = 8 / (ax.get_window_extent().height * 72 / ax.figure.dpi)
    placed = sorted(
        ((float(to_axes.transform((x, y))[1]), text, colour) for y, text, colour in ends),
        key=lambda end: end[0],
    )
    heights = np.clip([height for height, _, _ in placed], 0.02, 0.98)
    for _ in range(200):
        for i in range(1, len(heights)):
            lack = gap - (heights[i] - heights[i - 1])
            if lack > 0:
                heights[i - 1] -= lack / 2
                heights[i] += lack / 2
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
    for (bottom, top), grey, name in (
        (FLOAT32_DECADES, "#f0f0f0", "float32"),
        (FLOAT64_DECADES, "#dcdcdc", "float64"),
    ):
        room = 0.07 * (high - low)  # less than a line of text has no name
        if low < bottom:
            ax.axhspan(low, bottom, color=grey, lw=0, zorder=-2)
        if low < bottom - room:
            _range_name(ax, bottom, f"below {name}", "top")
        if high > top:
            ax.axhspan(top, high, color=grey, lw=0, zorder=-2)
        if high > top + room:
            _range_name(ax, top, f"beyond {name}", "bottom")


def _range_name(ax: Axes, y: float, text: str, side: str) -> None:
    ax.annotate(
        text, (0.02, y), xycoords=ax.get_yaxis_transform(), va=side, fontsize=SMALL,
        color="#666666", xytext=(0, 1 if side == "bottom" else -1), textcoords="offset points",
        zorder=-1,
    )  # fmt: skip
