"""The table of laws in one picture: right numbers inside what was measured, wrong ones outside."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.plot.old.style import NAMES, SMALL, head, house_style, panels

_RIGHT, _WRONG, _REFUTING = "#0072B2", "#444444", "#D55E00"
_REACH = 300.0
"""In units of the allowed distance, symlog beyond 1."""

_ROW = 0.136  # inches


def theory_against_measurement(table: pd.DataFrame, title: str) -> Figure:
    """Draw each law's expected number and its control's, as distances from the measurement.

    The unit is the distance at which the measurement excludes a number: its interval on that side
    plus the tolerance, or, where the number must hold for every network, the tolerance less their
    range. So a law agrees if its mark is in the band from -1 to 1, and a control is flagged if
    its mark is not.

    Parameters
    ----------
    table : columns law, paper, popular_reading, expected, measured, low, high, tolerance, random,
        control_expected, as in `experiments.laws.table`
    """
    columns = _columns(_lines(table))
    tallest = max(len(column) for column in columns)
    with house_style():
        figure, (axes,) = panels(1, len(columns), _ROW * tallest + 1.2)
        for ax, column in zip(axes, columns, strict=True):
            _draw(ax, column, tallest)
        head(
            figure,
            title,
            "Dots: numbers expected by theory. Diamonds: negative controls, wrong numbers; orange: "
            "of a law that refutes a popular reading. Distance from the measurement, over the "
            "distance at which it excludes a number: its interval plus tolerance."
            f" Grey: not excluded. Log scale beyond 1; triangles: farther than {_REACH:.0f}. "
            "Crosses: theory disagrees.",
        )
    return figure


def _lines(table: pd.DataFrame) -> list[tuple[str, object]]:
    """A paper's name with None, then its laws with their rows."""
    lines = []
    for paper, rows in table.groupby("paper", sort=False):
        lines.append((paper, None))
        for row in rows.itertuples():
            words = (NAMES.get(word, word) for word in row.law.split())
            lines.append((" ".join(words), row))
    return lines


def _columns(lines: list[tuple[str, object]]) -> list[list]:
    """Two columns of about one height, broken before a paper; one if that is short."""
    breaks = [k for k, (_, row) in enumerate(lines) if row is None and k]
    if len(lines) < 20 or not breaks:
        return [lines]
    middle = min(breaks, key=lambda k: abs(2 * k - len(lines)))
    return [lines[:middle], lines[middle:]]


def _draw(ax: Axes, lines: list[tuple[str, object]], tallest: int) -> None:
    ax.axvspan(-1, 1, color="#e4e4e4", lw=0, zorder=0)
    ax.axvline(0, color="#aaaaaa", lw=0.7, zorder=1)
    for k, (text, row) in enumerate(lines):
        left = {"transform": ax.get_yaxis_transform(), "va": "center", "ha": "right"}
        if row is None:
            ax.text(-0.02, k, text, fontsize=SMALL, fontweight="bold", **left)
            continue
        colour = _REFUTING if row.popular_reading else _WRONG
        ax.text(-0.02, k, text, fontsize=SMALL, color=colour, **left)
        ax.axhline(k, color="#eeeeee", lw=0.5, zorder=0.5)
        right, wrong = (_distance(row, number) for number in (row.expected, row.control_expected))
        mark = "o" if abs(right) <= 1 else "X"
        ax.plot(np.clip(right, -_REACH, _REACH), k, mark, color=_RIGHT, ms=3.4, zorder=3)
        mark = "D" if abs(wrong) <= _REACH else "<" if wrong < 0 else ">"
        place = np.clip(wrong, -_REACH, _REACH)
        ax.plot(place, k, mark, mfc="none", color=colour, ms=3.4, mew=0.8, zorder=2)
    ax.set_ylim(tallest - 0.4, -0.8)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xscale("symlog", linthresh=1, linscale=1)
    ax.set_xlim(-1.5 * _REACH, 1.5 * _REACH)
    ticks = (-100, -10, -1, 0, 1, 10, 100)
    ax.set_xticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
    ax.set_xticks([], minor=True)


def _distance(row, number: float) -> float:
    """From the measurement, in units of what is allowed on that side; infinite if nothing is."""
    low, high = (row.low, row.high) if row.random else (row.high, row.low)
    low, high = low - row.tolerance, high + row.tolerance
    distance = number - row.measured
    if distance == 0:
        return 0.0 if low <= number <= high else math.inf
    allowed = max(0.0, high - row.measured if distance > 0 else row.measured - low)
    return distance / allowed if allowed else math.copysign(math.inf, distance)
