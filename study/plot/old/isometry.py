"""Singular values of a network's Jacobian against depth: one curve a rank."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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


def singular_values_against_depth(
    points: pd.DataFrame, rows: dict[str, str], title: str, note: str
) -> Figure:
    """Draw the decades of singular values, largest to smallest, against depth.

    Parameters
    ----------
    points : columns activation, weights, depth, rank, value, low, high, theory: log10 of the
        singular values; -inf is a true zero and has no mark, a NaN in theory no line
    rows : weight law -> what to call it, a row of panels each
    """
    activations = list(dict.fromkeys(points.activation))
    ranks = sorted(set(points["rank"]))
    finite = points[np.isfinite(points[["value", "low", "high"]]).all(axis=1)]
    low = 3 * finite.low.min()
    with house_style():
        figure, axes = panels(
            len(rows), len(activations), 1.9 * len(rows) + 0.2, sharex=True, sharey=True
        )
        ends = {}
        for i, (weights, called) in enumerate(rows.items()):
            for j, name in enumerate(activations):
                ax = axes[i][j]
                ax.set_xscale("log")
                ax.set_yscale("symlog", linthresh=1, linscale=0.6)
                ax.set_xlim(points.depth.min() / 1.4, points.depth.max() * 3)
                ax.set_ylim(low, 10)
                for n, rank in enumerate(ranks):
                    colour = shade(COLOURS[name], 1 - 0.7 * n / max(1, len(ranks) - 1))
                    own = points[
                        (points.activation == name)
                        & (points.weights == weights)
                        & (points["rank"] == rank)
                    ]
                    ax.plot(own.depth, own.theory, color=colour, lw=1.1, zorder=1)
                    own = own.loc[own.index.isin(finite.index)]
                    spread = np.abs([own.value - own.low, own.high - own.value])
                    ax.errorbar(
                        own.depth, own.value, spread, fmt=MARKS[name], ms=2.6, color=colour,
                        mfc="white" if rank > 1 else colour, mew=0.7, elinewidth=0.8, capsize=1.5,
                        zorder=2 + len(ranks) - n,
                    )  # fmt: skip
                    if len(own):
                        place = own.depth.iloc[-1], own.value.iloc[-1]
                        ends.setdefault((i, j, place[0]), []).append(
                            (place[1], f"k = {rank}" if rank == 1 else f"{rank}")
                        )
                ax.axhline(0, color="#888888", lw=0.6, zorder=0)
                ticks = [-(10**power) for power in range(6) if -(10**power) > low]
                ax.set_yticks(
                    [*ticks, 0, 1], [f"{tick:,d}".replace("-", "−") for tick in [*ticks, 0, 1]]
                )
                ax.set_yticks([], minor=True)
                shade_float_ranges(ax, names=j == len(activations) - 1)
                if i == 0:
                    ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
                if i == len(rows) - 1:
                    ax.set_xlabel("depth (layers, log scale)")
            axes[i][0].set_ylabel(f"{called}\nlog10 of s_k (symlog scale)")
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for (i, j, depth), labels in ends.items():
            spread = max(y for y, _ in labels) - min(y for y, _ in labels)
            if len(labels) == len(ranks) and spread < 1:
                labels = [(labels[0][0] + 0.5, "all ranks")]
            direct_labels(axes[i][j], depth, labels)
    return figure
