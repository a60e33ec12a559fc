"""Ratios of wall time, one bar a job; seconds of the largest jobs against depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from study.plot.old.style import head, house_style, panels


def bars(table: pd.DataFrame) -> Figure:
    """Draw ``table`` (columns job, dtype, width, depth, batch, ratio), the first job on top."""
    labels = [
        f"{row.job}, {row.dtype}, width {row.width}, depth {row.depth}, batch {row.batch}"
        for row in table.itertuples()
    ]
    with house_style():
        figure, axes = panels(1, 1, 0.16 * len(labels) + 1)
        ax = axes[0][0]
        places = range(len(labels), 0, -1)
        ax.barh(places, table.ratio, height=0.7, color="#0072B2", left=0, log=True)
        ax.set_yticks(list(places), labels)
        for place, ratio in zip(places, table.ratio, strict=True):
            ax.annotate(
                f"{ratio:.3g}", (ratio, place), xytext=(3, 0), textcoords="offset points",
                va="center", bbox={"fc": "white", "lw": 0, "pad": 0.4},
            )  # fmt: skip
        ax.axvline(1, color="#444444", lw=0.8)
        ax.set_xlim(0.3, table.ratio.max() * 2)
        ax.set_xlabel("rival's time / study's time (log scale)")
        head(
            figure,
            "Ratios of wall time, rival / study, measured in one run",
            "Rival: torch autograd on the norms of dC/dW alone, or, where the label says so, "
            "the machine's limit (bare draws and matrix products). Median of pairwise ratios.",
        )
    return figure


def seconds_against_depth(table: pd.DataFrame) -> Figure:
    """Draw ``table`` (columns job, width, depth, seconds, peak_gb), a line a job."""
    with house_style():
        figure, axes = panels(1, 1, 2.8)
        ax = axes[0][0]
        for (job, width), own in table.groupby(["job", "width"], sort=False):
            (line,) = ax.loglog(own.depth, own.seconds, "o", ms=4)
            last = own.iloc[-1]
            ax.loglog(own.depth, last.seconds * own.depth / last.depth, color=line.get_color())
            ax.annotate(
                f"{job}, width {width:,}: {last.seconds:.3g} s, peak {last.peak_gb:.2g} GB",
                (last.depth, last.seconds), xytext=(7, 0), textcoords="offset points",
                va="center", color=line.get_color(), annotation_clip=False,
            )  # fmt: skip
        ax.set_xlabel("depth, layers (log scale)")
        ax.set_ylabel("wall time, s (log scale)")
        head(
            figure,
            "The largest jobs take time in proportion to depth and fit in 4 GB",
            "Marks: one run each, float32, one example, weights drawn within it. Lines: "
            "proportional to depth, through the deepest.",
        )
    return figure
