"""What the derivative took and what the weights gave: decades, summed up on the way down."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.plot.old.style import COLOURS, NAMES, direct_labels, head, house_style, panels

PARTS = {
    "derivative": ("v", "--"),
    "weights": ("^", ":"),
    "both": ("o", "-"),
}
SCALES = {0.5: "half critical σ_w", 1.0: "critical σ_w", 2.0: "twice critical σ_w"}


def derivative_and_weights(
    points: pd.DataFrame, lines: pd.DataFrame, title: str, note: str
) -> Figure:
    """Draw the decades that derivative and weights add to the gradient's norm, layer by layer.

    Parameters
    ----------
    points : columns inputs, activation, scale, sigma_w, layers_passed, part, value, low, high
        (decades); part is derivative, weights or both
    lines : columns activation, scale, layers_passed, part, value: what theory expects
    """
    scales, activations = sorted(set(points.scale)), list(dict.fromkeys(points.activation))
    with house_style():
        figure, axes = panels(
            len(activations), len(scales), 1.48 * len(activations), sharex=True, sharey="row"
        )
        ends = {}
        for i, name in enumerate(activations):
            for j, scale in enumerate(scales):
                own, line = (
                    frame[(frame.activation == name) & (frame.scale == scale)]
                    for frame in (points, lines)
                )
                ends[i, j] = _panel(axes[i][j], own, line, COLOURS[name])
                axes[i][j].set_title(
                    f"{NAMES[name]}, {SCALES.get(scale, scale)}: {own.sigma_w.iloc[0]:.4g}",
                    color=COLOURS[name], fontweight="bold",
                )  # fmt: skip
            axes[i][0].set_ylabel("decades gained")
        for ax in axes[-1]:
            ax.set_xlabel("layers passed on the way down")
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for (i, j), (x, labels) in ends.items():
            direct_labels(axes[i][j], x, labels)
    return figure


def _panel(ax, points: pd.DataFrame, lines: pd.DataFrame, colour: str) -> tuple[float, list]:
    """Draw one network; returns where its curves end, and with what to call them."""
    ends = []
    ax.plot([0, points.layers_passed.max()], [0, 0], color="#888888", lw=0.6, zorder=0)
    for part, (mark, dash) in PARTS.items():
        shown = colour if part == "both" else "#555555"
        own = lines[lines.part == part]
        ax.plot(own.layers_passed, own.value, color=shown, ls=dash, lw=1.1, zorder=1)
        for inputs, face in (("digits", "white"), ("random", shown)):
            own = points[(points.part == part) & (points.inputs == inputs)]
            spread = np.abs([own.value - own.low, own.high - own.value])
            ax.errorbar(
                own.layers_passed, own.value, spread, fmt=mark, color=shown, mfc=face, mew=0.7,
                ms=4 if inputs == "digits" else 2.2, elinewidth=0.8, zorder=2,
            )  # fmt: skip
        last = own.loc[own.layers_passed.idxmax()]
        ends.append((float(last.value), part))
    ax.set_xlim(0, 1.2 * last.layers_passed)
    return float(last.layers_passed), ends
