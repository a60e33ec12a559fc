"""Decades of gradient layer by layer and against depth: a panel an activation, a curve a scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from study.plot.old.style import (
    COLOURS,
    MARKS,
    NAMES,
    direct_labels,
    head,
    house_style,
    panels,
    shade,
    shade_float_ranges,
)


def decades_by_layer_and_depth(
    profiles: pd.DataFrame,
    points: pd.DataFrame,
    title: str,
    note: str,
) -> Figure:
    """Draw how many decades the gradient has gained d layers below the output, and at the input.

    Parameters
    ----------
    profiles : columns activation, sigma_w, down (layers below the output), value, low, high,
        theory (decades)
    points : columns inputs ("random" or "digits"), activation, sigma_w, depth, and the same
    """
    activations = list(dict.fromkeys(points["activation"]))
    random = points[points.inputs == "random"]
    digits = points[points.inputs == "digits"]
    rows = (
        ("down", "layers below the output\n(log scale)", "layer by layer", profiles, None),
        ("depth", "depth of the network\n(layers, log scale)", "at the input", random, digits),
    )
    heights = np.abs(pd.concat([profiles, points])[["value", "theory"]].to_numpy())
    reach = heights[np.isfinite(heights)].max() * 2.5
    with house_style():
        figure, axes = panels(2, len(activations), 4.5, sharey=True)
        for (x, label, called, filled, hollow), line in zip(rows, axes, strict=True):
            for name, ax in zip(activations, line, strict=True):
                _frame(ax, filled[x], reach, names=name == activations[-1])
                own = filled[filled.activation == name]
                others = None if hollow is None else hollow[hollow.activation == name]
                _curves(ax, x, name, own, others)
                ax.set_xlabel(label)
            line[0].set_ylabel(f"{called}\ndecades (symlog scale)")
        for name, ax in zip(activations, axes[0], strict=True):
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for (x, _, _, filled, _), line in zip(rows, axes, strict=True):
            for name, ax in zip(activations, line, strict=True):
                ends = filled[(filled.activation == name) & (filled[x] == filled[x].max())]
                labels = [(end.value, f"{end.sigma_w:.3g}") for end in ends.itertuples()]
                direct_labels(ax, filled[x].max(), labels)
    return figure


def _frame(ax: Axes, depths: pd.Series, reach: float, names: bool) -> None:
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1, linscale=0.8)
    ax.axhline(0, color="#888888", lw=0.6, zorder=0)
    ax.set_ylim(-reach, reach)
    ticks = [sign * 10**power for sign in (-1, 1) for power in range(5)]
    ticks = [0, *(tick for tick in ticks if abs(tick) < reach)]
    ax.set_yticks(ticks, [f"{tick:,d}".replace("-", "−") for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_xlim(depths.min() * 0.7, depths.max() * 4)
    ax.xaxis.set_major_locator(LogLocator(numticks=9))
    ax.xaxis.set_minor_locator(NullLocator())
    shade_float_ranges(ax, names, float16=True, place=1.04)


def _curves(ax: Axes, x: str, name: str, filled: pd.DataFrame, hollow: pd.DataFrame | None) -> None:
    scales = sorted(set(filled["sigma_w"]))
    for n, sigma in enumerate(scales):
        colour = shade(COLOURS[name], 0.35 + 0.65 * n / max(1, len(scales) - 1))
        own = filled[filled.sigma_w == sigma].sort_values(x)
        ax.plot(own[x], own.theory, color=colour, lw=1.1, zorder=1)
        drawn = {"fmt": MARKS[name], "color": colour, "elinewidth": 0.8, "zorder": 2}
        size = 2.6 if x == "depth" else 1.6
        ax.errorbar(own[x], own.value, _spread(ax, own), ms=size, **drawn)
        if hollow is not None:
            own = hollow[hollow.sigma_w == sigma]
            own = own[np.isfinite(own.value)]  # a true zero is at no height
            ax.errorbar(own[x], own.value, _spread(ax, own), ms=4.4, mfc="none", mew=0.7, **drawn)


def _spread(ax: Axes, own: pd.DataFrame) -> np.ndarray:
    """The bars; one down to a true zero ends where the panel does."""
    low = np.maximum(own.low, ax.get_ylim()[0])
    return np.abs([own.value - low, own.high - own.value])
