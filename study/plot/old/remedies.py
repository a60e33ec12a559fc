"""Layers for which each remedy keeps the gradient: one row a remedy, in order of depth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import COLOURS, MARKS, NAMES, SMALL, head, house_style, panels

TITLES = {"initialiser": "initialisers of plain networks", "other": "other remedies"}


def layers_kept(summary: pd.DataFrame, horizon: int, title: str, note: str) -> Figure:
    """Draw the depth kept by each remedy, the axis logarithmic.

    Parameters
    ----------
    summary : columns inputs ("random" or "digits"), remedy, group, value, low, high, expected,
        fate; a depth is "at least" where the fate is "kept", and beyond ``horizon`` where infinite
    horizon : the depth up to which theory was followed
    """
    first = summary.group == "initialiser"
    halves = {"initialiser": summary[first], "other": summary[~first]}
    rows = max(half.remedy.nunique() for half in halves.values())
    with house_style():
        figure, axes = panels(1, 2, 0.134 * rows + 1.2, sharex=True)
        for ax, (half, own) in zip(axes[0], halves.items(), strict=True):
            _rows(ax, own, horizon)
            ax.set_ylim(*(own.remedy.nunique() - np.array([rows + 0.3, 0.3])))
            ax.set_title(TITLES[half], fontweight="bold")
            ax.set_xlabel("layers or blocks (log scale)")
        head(figure, title, note)
    return figure


def _rows(ax: Axes, own: pd.DataFrame, horizon: int) -> None:
    random = own[own.inputs == "random"].set_index("remedy")
    # Shortest at the bottom; among those that are never seen to end, theory's order.
    order = random.sort_values(["value", "expected"], kind="stable").index
    edge = horizon * 1.6
    for y, remedy in enumerate(order):
        activation = remedy.partition(", ")[0]
        at, colour = random.loc[remedy], COLOURS[activation]
        ax.barh(y, at.value - 1, left=1, height=0.62, color=colour, alpha=0.35, lw=0)
        mark = ">" if at.fate == "kept" else MARKS[activation]
        ax.plot(at.value, y, mark, color=colour, ms=3.2)
        if at.fate != "kept":
            # Within the bar, or beside the marks where that is too short.
            x = 1.06 if at.value > 12 else 1.5 * max(at.value, at.high, at.expected)
            ax.text(x, y - 0.04, at.fate, fontsize=SMALL, va="center", color="#444444")
        whisker = [[at.value - at.low], [min(at.high, edge) - at.value]]
        ax.errorbar(at.value, y, xerr=whisker, fmt="none", ecolor=colour, elinewidth=1)
        digits = own[(own.inputs == "digits") & (own.remedy == remedy)]
        mark = ">" if (digits.fate == "kept").all() else MARKS[activation]
        ax.plot(digits.value, [y] * len(digits), mark, mfc="none", color=colour, ms=5.4, mew=0.7)
        ax.plot(min(at.expected, edge), y, "|", color="black", ms=7, mew=1.2, zorder=5)
        if np.isinf(at.expected):
            ax.plot(edge * 1.12, y, ">", color="black", ms=3, zorder=5)
    ax.set(xscale="log", xlim=(1, edge * 1.35))
    names = [remedy.partition(", ") for remedy in order]
    ax.set_yticks(range(len(order)), [f"{NAMES[name]}, {called}" for name, _, called in names])
    for label, (name, _, _) in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(COLOURS[name])
    ticks = [1, 10, 100, 1000]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.grid(axis="x", color="#e6e6e6", lw=0.6, zorder=-3)
    ax.tick_params(axis="y", length=0)
