"""Theory against measurement: one row a law, in units of what the law allows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.plotting.style import head, house_style, panels

_VERDICTS = {"agrees": ("#0072B2", "o"), "disagrees": ("#D55E00", "X")}
_REACH = 4.0


def theory_against_measurement(table: pd.DataFrame, title: str) -> Figure:
    """Draw each law's distance from theory, and its control's.

    The unit is the distance at which a law is said to disagree: the half-width of the interval
    plus the tolerance.

    Parameters
    ----------
    table : columns law, paper, expected, measured, low, high, tolerance, verdict,
        control_expected, as in `study.laws.table`
    """
    with house_style():
        figure, ((ax,),) = panels(1, 1, (9, 0.19 * len(table) + 1.4))
        y = np.arange(len(table))[::-1]
        half = (table.high - table.low) / 2 + table.tolerance
        place = ((table.measured - table.expected) / half).to_numpy()
        # Networks alike have no interval: the tolerance alone is the unit.
        low = ((table.low - table.expected) / half).to_numpy()
        high = ((table.high - table.expected) / half).to_numpy()
        ax.axvspan(-1, 1, color="#eeeeee", lw=0, zorder=0)
        ax.axvline(0, color="#888888", lw=0.8, zorder=1)
        for verdict, (colour, mark) in _VERDICTS.items():
            own = (table.verdict == verdict).to_numpy()
            ax.hlines(y[own], low[own], high[own], color=colour, lw=1.4, zorder=2)
            ax.plot(place[own], y[own], mark, color=colour, ms=5, label=verdict, zorder=3)
        wrong = ((table.control_expected - table.expected) / half).to_numpy()
        inside = np.abs(wrong) <= _REACH
        ax.plot(wrong[inside], y[inside], "D", mfc="none", color="#444444", ms=4.5, label="control")
        for side, mark in ((-1, "<"), (1, ">")):
            far = ~inside & (np.sign(wrong) == side)
            ax.plot(np.full(far.sum(), side * _REACH), y[far], mark, color="#444444", ms=4.5)
        ax.set_yticks(y, [f"{row.law}  ({row.paper})" for row in table.itertuples()], fontsize=6.5)
        ax.set_ylim(-0.8, len(table) - 0.2)
        ax.set_xlim(-_REACH - 0.3, _REACH + 0.3)
        ax.set_xlabel("distance from theory, in units of interval half-width plus tolerance")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        head(
            figure,
            title,
            "Marks and bars: measurement and interval. Diamonds: the negative control's wrong "
            "number (arrows: beyond the axis).",
        )
    return figure
