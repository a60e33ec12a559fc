"""Depth that each number format reaches, a panel an activation; below, what ReLU'(0) changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plotting.style import (
    COLOURS,
    NAMES,
    direct_labels,
    head,
    house_style,
    panels,
    shade,
)

FORMAT_MARKS = {
    "float16_narrow": "x",
    "float16": "v",
    "bfloat16": "D",
    "float32": "s",
    "float64": "o",
}
FORMAT_NAMES = {name: name for name in FORMAT_MARKS} | {"float16_narrow": "float16, sums too"}
_SHARES = {"float16": 0.4, "bfloat16": 0.6, "float32": 0.8, "float64": 1.0}


def depth_and_kink(
    depths: pd.DataFrame,
    lines: pd.DataFrame,
    deepest: int,
    kink: pd.DataFrame,
    zeros: pd.DataFrame,
    training: pd.DataFrame,
    title: str,
    note: str,
) -> Figure:
    """Draw the depth at which each format loses the gradient, and what ReLU'(0) does.

    Parameters
    ----------
    depths : columns activation, sigma_w, format, value, low, high (layers; inf: not lost)
    lines : columns activation, sigma_w, format, value: what theory expects
    deepest : networks are this deep at most
    kink : columns situation, format, gradient, delta: relative differences
    zeros : columns format, value, low, high: pre-activations that are 0, per million
    training : columns format, value, low, high (points of accuracy), parted (text)
    """
    with house_style():
        figure, axes = panels(2, 3, (10, 6.8), height_ratios=[1.5, 1])
        ends = {}
        for ax, name in zip(axes[0], dict.fromkeys(depths.activation), strict=True):
            ends[ax] = _depths(
                ax,
                depths[depths.activation == name],
                lines[lines.activation == name],
                COLOURS[name],
                deepest,
            )
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
            ax.set_xlabel("weight scale σ_w (log scale)")
        axes[0][0].set_ylabel("depth at which dC/dW⁰ is lost\n(layers, log scale)")
        _kink(axes[1][0], kink)
        _zeros(axes[1][1], zeros)
        _training(axes[1][2], training)
        head(figure, title, note)
        figure.canvas.draw()  # the layout, which the labels need
        for ax, labels in ends.items():
            direct_labels(ax, max(depths.sigma_w), labels)
    return figure


def _depths(ax: Axes, points, lines, colour: str, deepest: int) -> list[tuple[float, str]]:
    ceiling, ends = 1.3 * deepest, []
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(deepest, color="#888888", lw=0.6, zorder=0)
    for name, share in _SHARES.items():
        tone = shade(colour, share)
        own = lines[lines.format == name]
        ax.plot(own.sigma_w, own.value.where(np.isfinite(own.value)), color=tone, zorder=1)
        own = points[points.format == name]
        gone = np.isfinite(own.value)
        kept, row = own[~gone], list(_SHARES).index(name)
        ax.plot(kept.sigma_w, [ceiling * 1.2**row] * len(kept),
                FORMAT_MARKS[name], ms=4, color=tone, mfc="white")  # fmt: skip
        lost = own[gone]
        high = lost.high.clip(upper=deepest)
        ax.errorbar(
            lost.sigma_w, lost.value, [lost.value - lost.low, high - lost.value],
            fmt=FORMAT_MARKS[name], ms=4, color=tone, elinewidth=0.8, capsize=1.5, zorder=2,
        )  # fmt: skip
        ends.append((own.value.clip(upper=ceiling * 1.2**row).iloc[-1], name))
    ax.set_ylim(4, ceiling * 1.2**4)
    ax.set_xlim(min(points.sigma_w) * 0.85, max(points.sigma_w) * 2.6)
    ticks = [0.5, 1, 2, 4, 10]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ticks = [10, 30, 100, 300, 1000]
    ax.set_yticks(ticks, [f"{tick:d}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.text(0.02, ceiling, "not lost", transform=ax.get_yaxis_transform(), fontsize=6.5,
            color="#666666", va="bottom")  # fmt: skip
    return ends


def _kink(ax: Axes, kink: pd.DataFrame) -> None:
    """A row a situation, a mark a format: filled for dC/dW, open for dC/dz."""
    situations = list(dict.fromkeys(kink.situation))
    for i, situation in enumerate(situations):
        for j, (name, mark) in enumerate(FORMAT_MARKS.items()):
            own = kink[(kink.situation == situation) & (kink.format == name)].iloc[0]
            height = -i + 0.13 * (2 - j)
            ax.plot(own.delta, height, mark, ms=4.5, color="#888888", mfc="white", clip_on=False)
            ax.plot(own.gradient, height, mark, ms=3, color="#222222", clip_on=False)
        ax.axhline(-i - 0.5, color="#e4e4e4", lw=0.6)
    ax.set_yticks([-i for i in range(len(situations))], situations)
    ax.set_xscale("symlog", linthresh=1e-3, linscale=0.5)
    ax.set_xlim(-2e-4, 1.6)
    ax.set_xticks([0, 1e-2, 1e-1, 1], ["0", "1 %", "10 %", "100 %"])
    ax.set_xlabel("largest change, relative (symlog scale)")
    ax.set_title("ReLU′(0) = 0 or ½ instead of 1, at initialisation")


def _rows(ax: Axes, points: pd.DataFrame) -> None:
    """A row a format: its mark with the interval."""
    points = points.set_index("format").loc[list(FORMAT_MARKS)]
    for i, (name, mark) in enumerate(FORMAT_MARKS.items()):
        own = points.loc[name]
        spread = [[own.value - own.low], [own.high - own.value]]
        ax.errorbar(own.value, -i, xerr=spread, fmt=mark, ms=4.5, color="#222222", capsize=2,
                    elinewidth=0.8, clip_on=False)  # fmt: skip
    ax.set_yticks([-i for i in range(len(FORMAT_MARKS))], [FORMAT_NAMES[n] for n in FORMAT_MARKS])
    ax.set_ylim(-len(FORMAT_MARKS) + 0.4, 0.6)


def _zeros(ax: Axes, zeros: pd.DataFrame) -> None:
    _rows(ax, zeros)
    ax.set_xscale("symlog", linthresh=0.1, linscale=0.3)
    ax.set_xlim(-0.02, 150)
    ax.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    ax.set_xlabel("z exactly 0, per million (symlog scale)")
    ax.set_title("How often z is exactly 0, random inputs")


def _training(ax: Axes, training: pd.DataFrame) -> None:
    _rows(ax, training)
    reach = max(1.3, 1.3 * float(np.abs(training[["low", "high"]]).to_numpy().max()))
    ax.set_xlim(-reach, reach)
    ax.axvspan(-1, 1, color="#f0f0f0", lw=0, zorder=-2)
    ax.axvline(0, color="#888888", lw=0.6, zorder=0)
    for i, name in enumerate(FORMAT_MARKS):
        text = training.set_index("format").parted[name]
        ax.annotate(text, (1.0, -i + 0.18), xycoords=("axes fraction", "data"), fontsize=6.5,
                    ha="right", va="bottom", color="#444444")  # fmt: skip
    ax.set_xlabel("accuracy, ReLU′(0) = 0 less 1 (points)")
    ax.set_title("In training on MNIST digits")
