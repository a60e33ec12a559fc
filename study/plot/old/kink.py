"""What ReLU'(0) changes at initialisation, how often it is met, and what it changes in training."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import FORMAT_MARKS, SMALL, head, house_style, panels

NAMES = {
    "float16_narrow": "float16, sums too",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "float64": "float64",
}


def three_looks(
    differ: pd.DataFrame,
    zeros: pd.DataFrame,
    training: pd.DataFrame,
    title: str,
    note: str,
) -> Figure:
    """Draw a panel each: gradients by situation, exact zeros and accuracy, by format.

    Parameters
    ----------
    differ : columns situation, format, gradient, delta: relative differences
    zeros : a row a format; value, low, high: pre-activations that are 0, per million
    training : the same; points of accuracy; n, parted: runs, and how many have parted
    """
    with house_style():
        figure, axes = panels(1, 3, 3.15, width_ratios=[1.35, 1, 1.15])
        _situations(axes[0][0], differ)
        _zeros(axes[0][1], zeros)
        _training(axes[0][2], training)
        head(figure, title, note)
    return figure


def _situations(ax: Axes, differ: pd.DataFrame) -> None:
    """A row a situation, a mark a format: filled for dC/dW, open for dC/dz."""
    situations = list(dict.fromkeys(differ.situation))
    for i, situation in enumerate(situations):
        for j, (name, mark) in enumerate(FORMAT_MARKS.items()):
            own = differ[(differ.situation == situation) & (differ.format == name)].iloc[0]
            height = -i + 0.18 * (2 - j)
            ax.plot(
                own.delta,
                height,
                mark,
                ms=4.2,
                mew=0.8,
                color="#888888",
                mfc="white",
                clip_on=False,
            )
            ax.plot(own.gradient, height, mark, ms=2.4, color="#222222", clip_on=False)
        ax.axhline(-i - 0.5, color="#e4e4e4", lw=0.6)
    ax.set_yticks([-i for i in range(len(situations))], situations)
    ax.set_ylim(-len(situations) + 0.4, 0.6)
    ax.set_xscale("symlog", linthresh=1e-3, linscale=0.5)
    ax.set_xlim(-3e-4, 1.6)
    ax.set_xticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.1 %", "1 %", "10 %", "100 %"])
    ax.set_xlabel("largest change, relative\n(symlog scale)")
    ax.set_title("ReLU′(0) = 0 or ½ instead of 1, at initialisation")


def _rows(ax: Axes, points: pd.DataFrame) -> None:
    """A row a format: its mark with the interval."""
    for i, (name, mark) in enumerate(FORMAT_MARKS.items()):
        own = points.loc[name]
        spread = [[own.value - own.low], [own.high - own.value]]
        ax.errorbar(own.value, -i, xerr=spread, fmt=mark, ms=4, color="#222222", capsize=2,
                    elinewidth=0.8, clip_on=False)  # fmt: skip
    ax.set_yticks([-i for i in range(len(NAMES))], NAMES.values())
    ax.set_ylim(-len(NAMES) + 0.4, 0.6)


def _zeros(ax: Axes, zeros: pd.DataFrame) -> None:
    _rows(ax, zeros)
    ax.set_xscale("symlog", linthresh=0.1, linscale=0.6)
    ax.set_xlim(-0.01, max(150, 1.5 * zeros.high.max()))
    ax.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    ax.set_xlabel("z exactly 0, per million\n(symlog scale)")
    ax.set_title("How often z is exactly 0")


def _training(ax: Axes, training: pd.DataFrame) -> None:
    _rows(ax, training)
    reach = max(1.3, 1.3 * float(training[["low", "high"]].abs().max(axis=None)))
    ax.set_xlim(-reach, reach)
    ax.axvspan(-1, 1, color="#f0f0f0", lw=0, zorder=-2)
    ax.axvline(0, color="#888888", lw=0.6, zorder=0)
    for i, name in enumerate(FORMAT_MARKS):
        text = f"{training.parted[name]:.0f} of {training.n[name]:.0f} parted"
        ax.annotate(text, (1.0, -i + 0.15), xycoords=("axes fraction", "data"), fontsize=SMALL,
                    ha="right", va="bottom", color="#444444")  # fmt: skip
    ax.set_xlabel("accuracy, ReLU′(0) = 0 less 1\n(points)")
    ax.set_yticks(ax.get_yticks(), [])  # those of the panel to the left
    ax.set_title("In training on MNIST digits")
