"""Growth of the gradient per layer against the weight scale: one panel an activation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.plotting.style import COLOURS, MARKS, NAMES, head, house_style, panels


def growth_against_scale(
    points: pd.DataFrame,
    lines: pd.DataFrame,
    critical: dict[str, float],
    title: str,
    note: str,
) -> Figure:
    """Draw the growth of the gradient norm per layer against sigma_w.

    Parameters
    ----------
    points : columns activation, sigma_w, value, low, high: log10 of the factor of the norm
    lines : columns activation, sigma_w, value: theory, 1/2 log10 chi
    critical : activation -> sigma_w where theory crosses zero
    """
    activations = list(critical)
    columns = 4
    count = -(-len(activations) // columns)
    with house_style():
        figure, axes = panels(count, columns, (10, 2.1 * count), sharex=True, sharey=True)
        for ax, name in zip(axes.flat, activations, strict=False):
            colour = COLOURS[name]
            ax.axhspan(0, 2, color="#fbf1ea", lw=0, zorder=-2)
            ax.axhline(0, color="#888888", lw=0.6, zorder=0)
            ax.axvline(critical[name], color="#888888", lw=0.6, ls=":", zorder=0)
            own = lines[lines.activation == name]
            ax.plot(own.sigma_w, own.value, color=colour, zorder=1)
            own = points[points.activation == name]
            spread = np.abs([own.value - own.low, own.high - own.value])
            ax.errorbar(
                own.sigma_w, own.value, spread, fmt=MARKS[name], ms=3, color=colour, mfc="white",
                mew=0.8, elinewidth=0.8, zorder=2,
            )  # fmt: skip
            ax.set_xscale("log")
            ax.set_ylim(-1.05, 1.15)
            ax.set_title(NAMES[name], color=colour, fontweight="bold")
            ax.annotate(
                f"critical {critical[name]:.4g}", (critical[name], -1.0), xytext=(3, 0),
                textcoords="offset points", fontsize=6.5, color="#444444",
                ha="left" if critical[name] < 4 else "right",
            )  # fmt: skip
        axes[0][0].text(
            0.03, 0.93, "explodes", transform=axes[0][0].transAxes, fontsize=7, va="top"
        )
        axes[0][0].text(
            0.97, 0.42, "vanishes", transform=axes[0][0].transAxes, fontsize=7, ha="right", va="top"
        )
        ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
        for ax in axes[-1]:
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.set_xlabel("weight scale σ_w (log scale)")
        for row in axes:
            row[0].set_ylabel("decades per layer")
        head(figure, title, note)
    return figure
