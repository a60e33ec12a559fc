"""Depth at which each number format loses the gradient against the scale, a panel an activation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import (
    COLOURS,
    FORMAT_MARKS,
    NAMES,
    direct_labels,
    head,
    house_style,
    panels,
    shade,
)

SHARES = {"float16": 0.4, "bfloat16": 0.6, "float32": 0.8, "float64": 1}
"""Each format's share of the activation's colour."""


def depth_by_format(
    depths: pd.DataFrame, lines: pd.DataFrame, deepest: int, title: str, note: str
) -> Figure:
    """Draw the depth at which each format loses the gradient.

    Parameters
    ----------
    depths : columns activation, sigma_w, format, value, low, high (layers; inf: not lost)
    lines : columns activation, sigma_w, format, value: what theory expects
    deepest : networks are this deep at most
    """
    activations = list(dict.fromkeys(depths.activation))
    with house_style():
        figure, axes = panels(1, len(activations), 3.3, sharey=True)
        ends = {}
        for ax, name in zip(axes[0], activations, strict=True):
            _frame(ax, depths.sigma_w, deepest)
            own, theory = (frame[frame.activation == name] for frame in (depths, lines))
            ends[ax] = _curves(ax, own, theory, COLOURS[name], deepest)
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
        axes[0][0].set_ylabel("depth at which dC/dW⁰ is lost\n(layers, log scale)")
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for ax, labels in ends.items():
            direct_labels(ax, max(depths.sigma_w), labels)
    return figure


def _height(deepest: int, row: int) -> float:
    """Where a mark stands that was not lost, a row a format."""
    return 1.35 * deepest * 1.18**row


def _frame(ax: Axes, scales: pd.Series, deepest: int) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(min(scales) * 0.85, max(scales) * 2.6)
    ax.set_ylim(4, _height(deepest, len(SHARES)))
    ax.axhline(deepest, color="#888888", lw=0.6, zorder=0)
    ticks = [tick for tick in (0.5, 1, 2, 4, 10) if min(scales) <= tick <= 1.2 * max(scales)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ticks = [tick for tick in (5, 10, 30, 100, 300, 1000) if tick <= deepest]
    middle = _height(deepest, (len(SHARES) - 1) / 2)
    ax.set_yticks([*ticks, middle], [*(f"{tick:,d}" for tick in ticks), "not lost"])
    ax.set_yticks([], minor=True)
    ax.set_xlabel("weight scale σ_w (log scale)")


def _curves(
    ax: Axes, points: pd.DataFrame, lines: pd.DataFrame, colour: str, deepest: int
) -> list[tuple[float, str]]:
    ends = []
    for row, (name, share) in enumerate(SHARES.items()):
        tone, mark, kept_at = shade(colour, share), FORMAT_MARKS[name], _height(deepest, row)
        own = lines[lines.format == name]
        ax.plot(own.sigma_w, own.value.where(np.isfinite(own.value)), color=tone, zorder=1)
        own = points[points.format == name].sort_values("sigma_w")
        lost, kept = own[np.isfinite(own.value)], own[np.isinf(own.value)]
        ax.plot(kept.sigma_w, [kept_at] * len(kept), mark, ms=4, color=tone, mfc="white")
        spread = [lost.value - lost.low, lost.high.clip(upper=deepest) - lost.value]
        ax.errorbar(lost.sigma_w, lost.value, spread, fmt=mark, ms=4, color=tone, elinewidth=0.8,
                    capsize=1.5, zorder=2)  # fmt: skip
        ends.append((min(own.value.iloc[-1], kept_at), name))
    return ends
