"""What all figures share: a colour and a mark per activation, sizes, and the shading of floats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from study.plot.floats import FLOAT16_DECADES, FLOAT32_DECADES, FLOAT64_DECADES

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
WIDTH = 178 / 25.4
"""Of every figure, in inches: that of the paper's text, so that a point is a point in print."""

# In points. Nothing is smaller than SMALL.
SMALL, _LABEL, _HEAD = 6.2, 7.0, 9.0
_INSET = 0.006  # of the heading and the note, in widths of the figure

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": _LABEL,
    "axes.titlesize": 7.6,
    "axes.titlepad": 4,
    "axes.labelsize": _LABEL,
    "axes.labelpad": 2.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.labelsize": 6.6,
    "ytick.labelsize": 6.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": 100,
    "legend.fontsize": 6.6,
    "legend.frameon": False,
    "lines.linewidth": 1,
    "svg.fonttype": "path",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this context."""
    with mpl.rc_context(_RC):
        yield


def panels(rows: int, columns: int, height: float, **shared) -> tuple[Figure, list]:
    """A grid of panels laid out without overlap, as wide as all figures and ``height`` inches."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, height), layout="constrained", squeeze=False, **shared
    )
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)
    return figure, axes


def head(figure: Figure, title: str, note: str) -> None:
    """The finding as the title, and below the figure what the marks and lines are."""
    bold = FontProperties(family=_RC["font.family"], size=_HEAD, weight="bold")
    plain = FontProperties(family=_RC["font.family"], size=SMALL)
    figure.suptitle(filled(title, bold), x=_INSET, ha="left", fontproperties=bold)
    figure.supxlabel(
        filled(note, plain), x=_INSET, ha="left", fontproperties=plain, color="#444444"
    )


def filled(text: str, font: FontProperties) -> str:
    """The text in lines that are as long as the figure's width allows."""
    lines, room = [""], 72 * WIDTH * (1 - 2 * _INSET)
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if text_to_path.get_text_width_height_descent(longer, font, ismath=False)[0] > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def direct_labels(axes: Axes, x: float, labels: list[tuple[float, str]]) -> None:
    """Write each text beside its height at x, moved apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    gap = 7 / (axes.get_window_extent().height * 72 / axes.figure.dpi)
    placed = sorted((to_axes.transform((x, y))[1], text) for y, text in labels)
    heights = [height for height, _ in placed]
    for _ in range(200):
        for i in range(1, len(heights)):
            lack = gap - (heights[i] - heights[i - 1])
            if lack > 0:
                heights[i - 1] -= lack / 2
                heights[i] += lack / 2
    lift = max(0, 0.035 - heights[0])  # not below the axis
    for height, (_, text) in zip(heights, placed, strict=True):
        axes.annotate(
            text, (x, height + lift), xycoords=("data", "axes fraction"), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=SMALL, annotation_clip=False,
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
                place, bottom * 1.25, name, transform=axes.get_yaxis_transform(), fontsize=SMALL,
                color="#666666", va="top",
            )  # fmt: skip
    axes.set_ylim(low, high)
