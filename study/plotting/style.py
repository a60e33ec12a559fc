"""What all figures share: a colour and a mark per activation, sizes, and the shading of floats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Okabe & Ito (2008) for the four that are compared most, then tones that stay apart from them and
# from one another for colour-blind readers (Tol 2021).
COLOURS = {
    "relu": "#D55E00",
    "sigmoid": "#0072B2",
    "tanh": "#009E73",
    "linear": "#444444",
    "leaky_relu": "#E69F00",
    "selu": "#CC79A7",
    "elu": "#882255",
    "gelu": "#56B4E9",
    "silu": "#332288",
    "softplus": "#AA4499",
    "hard_tanh": "#117733",
    "erf": "#999933",
}
MARKS = dict(zip(COLOURS, "osD^vPXph<>*", strict=True))
FORMAT_MARKS = dict(
    zip(("float16_narrow", "float16", "bfloat16", "float32", "float64"), "xvDso", strict=True)
)
"""A mark per number format."""
NAMES = {name: name.replace("_", " ") for name in COLOURS} | {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "selu": "SELU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
}
FLOAT16_DECADES = (-4.2, 4.8)
FLOAT32_DECADES = (-37.9, 38.5)
FLOAT64_DECADES = (-307.7, 308.3)
"""Normal ranges: log10 of the smallest and the largest normal number."""

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "path",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this context."""
    with mpl.rc_context(_RC):
        yield


def panels(rows: int, columns: int, size: tuple[float, float], **shared) -> tuple[Figure, list]:
    """A grid of panels laid out without overlap."""
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **shared
    )
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure, axes


def head(figure: Figure, title: str, note: str) -> None:
    """The finding as the title, and below the figure what the marks and lines are."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5, color="#444444")


def direct_labels(axes: Axes, x: float, labels: list[tuple[float, str]]) -> None:
    """Write each text beside its height at x, moved apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    gap = 7.5 / (axes.get_window_extent().height * 72 / axes.figure.dpi)
    placed = sorted((to_axes.transform((x, y))[1], text) for y, text in labels)
    heights = [height for height, _ in placed]
    for _ in range(200):
        for i in range(1, len(heights)):
            lack = gap - (heights[i] - heights[i - 1])
            if lack > 0:
                heights[i - 1] -= lack / 2
                heights[i] += lack / 2
    lift = max(0, 0.02 - heights[0])  # not below the axis
    for height, (_, text) in zip(heights, placed, strict=True):
        axes.annotate(
            text, (x, height + lift), xycoords=("data", "axes fraction"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=6.5, annotation_clip=False,
        )  # fmt: skip


def shade(colour: str, share: float) -> tuple[float, float, float]:
    """The colour mixed with white: ``share`` 1 is the colour itself."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def shade_float_ranges(axes: Axes, names: bool, float16: bool = False, place: float = 0.03) -> None:
    """Grey where a plain float32, and darker where a plain float64, leaves its normal range.

    The names stand where no curve is, from ``place`` on, in widths of the axes.
    """
    low, high = axes.get_ylim()
    shades = [(FLOAT16_DECADES, "#f8f8f8", "beyond float16")] if float16 else []
    shades += [
        (FLOAT32_DECADES, "#f0f0f0", "beyond float32"),
        (FLOAT64_DECADES, "#dcdcdc", "beyond float64"),
    ]
    for (bottom, top), grey, name in shades:
        axes.axhspan(low, bottom, color=grey, lw=0, zorder=-2)
        axes.axhspan(top, high, color=grey, lw=0, zorder=-2)
        if names:
            axes.text(
                place, bottom * 1.25, name, transform=axes.get_yaxis_transform(), fontsize=6.5,
                color="#666666", va="top",
            )  # fmt: skip
    axes.set_ylim(low, high)
