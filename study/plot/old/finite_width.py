"""Gradients at finite width: against depth, against depth over width, and networks born dead."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import (
    COLOURS,
    MARKS,
    SMALL,
    direct_labels,
    head,
    house_style,
    panels,
    shade,
)

NAMED = {
    ("relu", "gaussian"): "ReLU, Gaussian",
    ("relu", "orthogonal"): "ReLU, orthogonal",
    ("linear", "gaussian"): "linear, Gaussian",
}


def gradients_at_finite_width(
    points: pd.DataFrame, deaths: pd.DataFrame, title: str, note: str
) -> Figure:
    """Draw the typical gain of the gradient norm, and the shares of dead networks.

    Parameters
    ----------
    points : columns activation, weights, width, narrow_width, layers, ratio (sum of 1/n), value,
        low, high, theory (log10 of the typical gain of the norm)
    deaths : columns width, depth, value, half, theory (shares of networks, half an interval)
    """
    with house_style():
        figure, axes = panels(1, 3, 2.7)
        at, labels = _against_depth(axes[0][0], points)
        _against_ratio(axes[0][1], points)
        _dead(axes[0][2], deaths)
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        direct_labels(axes[0][0], at, labels)
    return figure


def _against_depth(ax: Axes, points: pd.DataFrame) -> tuple[float, list[tuple[float, str]]]:
    he = points[(points.activation == "relu") & (points.weights == "gaussian")]
    he = he[he.width == he.narrow_width]
    widths, labels = sorted(set(he.width)), []
    for n, width in enumerate(widths):
        own = he[he.width == width].sort_values("layers")
        colour = shade(COLOURS["relu"], 1 - 0.6 * n / max(1, len(widths) - 1))
        ax.plot(own.layers, own.theory, color=colour, zorder=1)
        _marks(ax, own.layers, own, colour, MARKS["relu"])
        labels.append((own.value.iloc[-1], f"n = {width:,}" if n == 0 else f"{width:,}"))
    ax.axhline(0, color="#444444", lw=0.9, ls="--", zorder=0)
    ax.set_xscale("log")
    _decades(ax, he)
    ax.set_xlim(he.layers.min() / 1.3, he.layers.max() * 3)
    ax.set_title("He-initialised ReLU, by width n")
    ax.set_xlabel("layers L (log scale)")
    ax.set_ylabel("log10 of the typical gain\nof ‖dC/dr‖ (symlog scale)")
    return float(he.layers.max()), labels


def _against_ratio(ax: Axes, points: pd.DataFrame) -> None:
    for (activation, weights), called in NAMED.items():
        own = points[(points.activation == activation) & (points.weights == weights)]
        colour = COLOURS[activation]
        face = "white" if weights == "orthogonal" else colour
        line = own[own.width == own.narrow_width].sort_values("ratio")
        ax.plot(line.ratio, line.theory, color=colour, lw=1, zorder=1)
        same = own.width == own.narrow_width
        _marks(ax, own.ratio[same], own[same], colour, MARKS[activation], face, called)
        if not same.all():
            _marks(ax, own.ratio[~same], own[~same], "black", "*", "white", "with bottlenecks", 6.5)
    ax.axhline(0, color="#444444", lw=0.9, ls="--", zorder=0)
    ax.set_xscale("log")
    _decades(ax, points)
    ax.set_title("by depth over width: one line a kind")
    ax.set_xlabel("Σ 1/n over layers, L/n if equal (log scale)")
    ax.legend(loc="lower left")


def _dead(ax: Axes, deaths: pd.DataFrame) -> None:
    for width, own in deaths.groupby("width"):
        colour = shade(COLOURS["relu"], 1 - 0.1 * (width - 3))
        ax.plot(own.depth, own.theory, color=colour, zorder=1)
        ax.errorbar(
            own.depth, own.value, own.half, fmt=MARKS["relu"], ms=2.6, color=colour, elinewidth=0.8,
            capsize=1.5, zorder=2,
        )  # fmt: skip
        last = own.iloc[-1]
        ax.annotate(
            f"n = {width:g}" if width == deaths.width.min() else f"{width:g}",
            (last.depth, last.theory), xytext=(3, 7), ha="right", textcoords="offset points",
            fontsize=SMALL,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_ylim(0, 1)
    ax.set_title("narrow ReLU of n units: born dead")
    ax.set_xlabel("layers L (log scale)")
    ax.set_ylabel("share with gradient zero")


def _marks(ax, x, own, colour, mark, face=None, label=None, size=2.8) -> None:
    spread = np.abs([own.value - own.low, own.high - own.value])
    ax.errorbar(
        x, own.value, spread, fmt=mark, ms=size, color=colour, mfc=face or colour, mew=0.8,
        elinewidth=0.8, capsize=1.5, label=label, zorder=4 if mark == "*" else 2,
    )  # fmt: skip


def _decades(ax: Axes, points: pd.DataFrame) -> None:
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.4)
    low = 2 * points.low.min()
    ax.set_ylim(low, 2)
    ticks = [-(10.0**power) for power in range(-1, 4) if -(10**power) > low] + [0, 0.1, 1]
    ax.set_yticks(ticks, [f"{tick:,g}".replace("-", "−") for tick in ticks])
    ax.set_yticks([], minor=True)
