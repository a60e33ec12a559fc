"""Decades of gradient against depth: one panel an activation, one curve a weight scale."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.plotting.style import (
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


def decades_against_depth(
    points: pd.DataFrame, lines: pd.DataFrame, rows: dict[str, str], title: str, note: str
) -> Figure:
    """Draw how many decades the gradient gains or loses on its way down, against depth.

    Parameters
    ----------
    points : columns inputs, activation, sigma_w, depth, value, low, high (decades)
    lines : columns activation, sigma_w, depth, value: what theory expects
    rows : the kinds of inputs, a row each, with what to call them
    """
    activations = list(dict.fromkeys(points["activation"]))
    scales = sorted(set(points["sigma_w"]))
    with house_style():
        figure, axes = panels(len(rows), len(activations), (10, 2.9 * len(rows)), sharey=True)
        ends = defaultdict(list)
        reach = np.abs(points.value).max() * 4
        for i, (inputs, called) in enumerate(rows.items()):
            for j, name in enumerate(activations):
                ax = axes[i][j]
                ax.set_xscale("log")
                ax.set_yscale("symlog", linthresh=1, linscale=0.4)
                for n, sigma in enumerate(scales):
                    colour = shade(COLOURS[name], 0.35 + 0.65 * n / max(1, len(scales) - 1))
                    own = lines[(lines.activation == name) & (lines.sigma_w == sigma)]
                    ax.plot(own.depth, own.value, color=colour, lw=1.1, zorder=1)
                    own = points[
                        (points.inputs == inputs)
                        & (points.activation == name)
                        & (points.sigma_w == sigma)
                    ]
                    spread = np.abs([own.value - own.low, own.high - own.value])
                    ax.errorbar(
                        own.depth, own.value, spread, fmt=MARKS[name], ms=3.5, color=colour,
                        elinewidth=0.8, capsize=1.5, zorder=2,
                    )  # fmt: skip
                    ends[i, j].append((own.value.iloc[-1], f"{sigma:.3g}"))
                ax.axhline(0, color="#888888", lw=0.6, zorder=0)
                ax.set_ylim(-reach, reach)
                ticks = [sign * 10**power for sign in (-1, 1) for power in range(4)]
                ticks = [0, *(tick for tick in ticks if abs(tick) < reach)]
                ax.set_yticks(ticks, [f"{tick:d}".replace("-", "−") for tick in ticks])
                ax.set_yticks([], minor=True)
                ax.set_xlim(7, max(points.depth) * 2.3)
                shade_float_ranges(ax, names=j == 0)
                if i == 0:
                    ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
                if i == len(rows) - 1:
                    ax.set_xlabel("depth (layers, log scale)")
            axes[i][0].set_ylabel(f"{called}\ndecades gained or lost (symlog scale)")
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for (i, j), labels in ends.items():
            direct_labels(axes[i][j], max(points.depth), labels)
    return figure
