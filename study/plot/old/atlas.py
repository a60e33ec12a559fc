"""Maps of networks over weight scale and depth: one panel an activation, one square a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from study.plot.floats import FLOAT32_DECADES
from study.plot.old.scale import DECADES, decades_scale
from study.plot.old.style import COLOURS, NAMES, SMALL, head, house_style, panels


def phase_maps(points: pd.DataFrame, critical: dict[str, float], title: str, note: str) -> Figure:
    """Draw the decades that the gradient gains, a square a network.

    Parameters
    ----------
    points : columns activation, sigma_w, depth, value (decades gained) and first (log10 of the
        gradient norm of the first layer), on a rectangular grid for each activation; the depths
        are the same for all
    critical : activation -> the sigma_w at which theory crosses from vanishing to exploding
    """
    norm, ticks = decades_scale(points.value)
    columns = 2
    count = -(-len(critical) // columns)
    with house_style():
        figure, axes = panels(count, columns, 1.45 * count + 0.4)
        for ax, (name, at) in zip(axes.flat, critical.items(), strict=False):
            mesh = _map(ax, points[points.activation == name], at, norm)
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
        for row in axes:
            row[0].set_ylabel("depth (layers)")
            for ax in row[1:]:
                ax.set_yticklabels([])
        for ax in axes[-1]:
            ax.set_xlabel("weight scale σ_w")
        bar = figure.colorbar(mesh, ax=axes, ticks=ticks, location="bottom", aspect=60, pad=0.01)
        bar.ax.set_xticklabels([f"{t:+,.0f}".replace("-", "−") if t else "0" for t in ticks])
        bar.set_label("decades gained or lost (symlog scale)")
        head(figure, title, note)
    return figure


def _map(ax: Axes, own: pd.DataFrame, critical: float, norm: SymLogNorm):
    """Squares of equal size: scales and depths are a list, not an axis."""
    grid = own.pivot(index="depth", columns="sigma_w", values="value")
    first = own.pivot(index="depth", columns="sigma_w", values="first").to_numpy()
    mesh = ax.pcolormesh(grid, norm=norm, cmap=DECADES, rasterized=True)
    low, high = FLOAT32_DECADES
    for (i, j), value in np.ndenumerate(grid.to_numpy()):
        dark = norm(value) < 0.4  # the scale's lower half takes white letters
        text = f"{value:+.0f}" if abs(value) >= 9.95 else f"{round(value, 1) + 0.0:+.1f}"
        ax.text(
            j + 0.5, i + 0.5, text.replace("-", "−"), fontsize=SMALL, ha="center", va="center",
            color="white" if dark else "black",
        )  # fmt: skip
        if not low < first[i, j] < high:
            ax.add_patch(
                Rectangle((j + 0.05, i + 0.07), 0.9, 0.86, fill=False, lw=0.8, ec="#d0021b")
            )
    place = np.interp(np.log(critical), np.log(grid.columns), np.arange(len(grid.columns)) + 0.5)
    ax.plot([place], [1.02], marker="v", ms=4, color="black", transform=ax.get_xaxis_transform(),
            clip_on=False)  # fmt: skip
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5, [f"{s:.3g}" for s in grid.columns])
    ax.set_yticks(np.arange(len(grid.index)) + 0.5, [f"{d:,}" for d in grid.index])
    ax.tick_params(length=0)
    return mesh
