"""What all figures share: sizes, a colour and a mark an activation, symbols, float ranges."""

from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from study.core.activations import TABLE
from study.plot.floats import decades

COLOURS = {name: row.look.colour for name, row in TABLE.items()}
MARKS = {name: row.look.marker for name, row in TABLE.items()}
NAMES = {name: row.label for name, row in TABLE.items()}
FACTOR_COLOURS = {"derivative": "#882255", "weights": "#DDAA33", "both": "black"}
# What a column is called on an axis.
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

# Of a figure across the paper's two columns, in inches: a point is a point in print.
WIDTH = 178 / 25.4
SMALL = 6.2  # in points; nothing is smaller, but an index within its formula

# Ever lighter, so that it reads in grey; the hue turns where the gradient stays.
DECADES = LinearSegmentedColormap.from_list(
    "decades", ["#08204d", "#3b6ea8", "#a9b1b8", "#f0a860", "#fff3d0"]
)


def house_style() -> AbstractContextManager:
    """The context in which figures are drawn, whatever style the user has set."""
    return plt.style.context(["default", "study.plot.paper"])


def panels(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, np.ndarray]:
    """A grid of panels laid out without overlap, ``height`` inches high and as wide as the text.

    >>> figure, axes = panels(1, 2, 2.5, sharey=True)
    >>> axes.shape
    (1, 2)
    """
    with house_style():
        return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **shared)


def logarithmic(ax: Axes, which: str) -> None:
    """Make the axes named, "x", "y" or "xy", logarithmic, with plain numbers."""
    for name in which:
        ax.set(**{f"{name}scale": "log"})
        axis = getattr(ax, f"{name}axis")
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
    """Write (height, text, colour) at x, as near to each height as the texts' own height allows."""
    ends = sorted(ends, key=itemgetter(0))
    to_axes = ax.transData + ax.transAxes.inverted()  # heights as they are on paper
    heights = np.array([to_axes.transform((x, end[0]))[1] for end in ends]).clip(0.02, 0.98)
    gap = 8 / (ax.get_window_extent().height * 72 / ax.figure.dpi)
    gaps = gap * np.arange(len(ends))
    # With the gaps taken off, texts that do not overlap are heights that do not fall.
    lowest = scipy.optimize.isotonic_regression(heights - gaps).x
    placed = np.maximum(np.minimum(lowest, 1 - gaps[-1]), 0.02) + gaps
    for height, (_, text, colour) in zip(placed, ends, strict=True):
        ax.annotate(
            text, (x, height), xycoords=("data", "axes fraction"), xytext=(4, 0), color=colour,
            textcoords="offset points", va="center", fontsize=SMALL, annotation_clip=False,
        )  # fmt: skip


def shade_float_ranges(ax: Axes) -> None:
    """Grey where a plain float32, and darker where a plain float64, leaves its normal range."""
    limits = ax.set_ylim(ax.get_ylim())
    for name, grey in (("float32", "#f0f0f0"), ("float64", "#dcdcdc")):
        sides = zip(decades(name), limits, (-1, 1), ("below", "beyond"), strict=True)
        for end, edge, sign, word in sides:
            outside = sign * (edge - end)
            if outside > 0:
                ax.axhspan(end, edge, color=grey, lw=0, zorder=-2)
            if outside > 0.07 * (limits[1] - limits[0]):  # room for a line of text
                ax.text(
                    0.02, end, f"{word} {name}", transform=ax.get_yaxis_transform(), zorder=-1,
                    va="bottom" if sign > 0 else "top", fontsize=SMALL, color="#666666",
                )  # fmt: skip
