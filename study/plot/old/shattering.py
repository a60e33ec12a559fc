"""Likeness of the gradients at two inputs against depth, a panel a family of networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import COLOURS, SMALL, direct_labels, head, house_style, panels

PANELS = {
    "without skip connections": {
        "relu": ("ReLU", "relu", "o"),
        "relu, coins": ("coin-tossed units", "gelu", "s"),
        "relu, BatchNorm": ("BatchNorm", "silu", "^"),
    },
    "with skip connections": {
        "residual": ("ReLU", "relu", "o"),
        "residual, coins": ("coin-tossed units", "gelu", "s"),
        "residual, BatchNorm": ("BatchNorm", "silu", "^"),
    },
    "saturating activations": {
        "tanh 0.9": ("tanh σ_w 0.9", "tanh", "D"),
        "tanh 2": ("tanh σ_w 2", "tanh", "d"),
        "sigmoid 4": ("sigmoid σ_w 4", "sigmoid", "s"),
        "sigmoid 16": ("sigmoid\nσ_w 16", "sigmoid", "P"),
    },
}
FLOOR = 1e-4


def likeness_against_depth(
    points: pd.DataFrame, width: int, seeds: dict[str, int], title: str
) -> Figure:
    """Draw likeness against depth, both axes logarithmic.

    Parameters
    ----------
    points : columns inputs, kind, depth, value, low, high, expected
    width : units in a layer
    seeds : networks behind each kind of inputs, a row of panels each
    """
    with house_style():
        figure, axes = panels(len(seeds), len(PANELS), 2.05 * len(seeds), sharex=True, sharey=True)
        deepest, labels = points.depth.max(), []
        for i, inputs in enumerate(seeds):
            for j, (family, kinds) in enumerate(PANELS.items()):
                ax = axes[i][j]
                ax.set(xscale="log", yscale="log", ylim=(FLOOR, 1.6), xlim=(0.85, deepest * 4.5))
                ends = []
                for kind, (name, colour, mark) in kinds.items():
                    own = points[(points.inputs == inputs) & (points.kind == kind)]
                    own = own.sort_values("depth")
                    _curve(ax, own, COLOURS[colour], mark)
                    # Where its line leaves the panel, at the bottom or on the right.
                    inside = own[own.expected > FLOOR * 1.5].iloc[-1]
                    ends.append((max(inside.expected, FLOOR), inside.depth, name, colour))
                labels.append((ax, ends))
                ax.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
                ax.set_xticks([], minor=True)
                if i == 0:
                    ax.set_title(family, fontweight="bold")
                if i == len(seeds) - 1:
                    ax.set_xlabel("layers or blocks (log scale)")
            axes[i][0].set_ylabel(f"{inputs} inputs\nlikeness (log scale)")
        counts = " and ".join(f"{n} networks ({inputs})" for inputs, n in seeds.items())
        head(
            figure,
            title,
            "Likeness: mean ⟨g₁, g₂⟩ / mean |g|², g = dC/dx at two inputs for one cotangent, means "
            "over networks taken before the division. "
            f"Marks: {counts} of width {width}, 95 % bootstrap intervals. Triangles: upper ends of "
            "intervals that reach zero, where the noise of finite width, about 1/√n a network, "
            "hides the likeness. Lines: theory of infinite width, which great depth leaves; no "
            "free offset. Coin-tossed: units active at random for each input, as Balduzzi et al. "
            "(2017) assume. BatchNorm: its statistics taken for constants on the way back.",
        )
        figure.canvas.draw()  # the layout, which the labels need
        for ax, ends in labels:
            right = [end for end in ends if end[1] == deepest]
            direct_labels(ax, deepest, [(y, name) for y, _, name, _ in right])
            leaving = sorted((end for end in ends if end[1] < deepest), key=lambda end: end[1])
            for place, (y, x, name, _) in enumerate(leaving):
                ax.annotate(
                    name, (x, y), xytext=(6 if place else -6, 5), textcoords="offset points",
                    ha="left" if place else "right", va="center", fontsize=SMALL,
                )  # fmt: skip
    return figure


def _curve(ax: Axes, own: pd.DataFrame, colour: str, mark: str) -> None:
    ax.plot(own.depth, own.expected, color=colour, lw=1.1, zorder=1)
    seen = own[own.low > 0]
    spread = np.array([seen.value - seen.low, seen.high - seen.value])
    ax.errorbar(
        seen.depth, seen.value, spread, fmt=mark, ms=2.8, color=colour, mfc="white", mew=0.6,
        elinewidth=0.8, capsize=1.5, zorder=2,
    )  # fmt: skip
    hidden = own[(own.low <= 0) & (own.high > FLOOR)]
    ax.plot(hidden.depth, hidden.high, "v", ms=2.8, color=colour, alpha=0.45, lw=0, zorder=2)
