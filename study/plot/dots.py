"""Dots with intervals, a row a category: for numbers that are compared and not a curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.curves import ORDINARY_MARKS, colours_of, facets, label_axes, rows_of
from study.plot.frames import checked, in_order, medians
from study.plot.style import COLOURS, MARKS, called, house_style


def dots(
    df: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    col: str | None = None,
    row: str | None = None,
    theory: pd.DataFrame | None = None,
    legend: bool = True,
    palette: object = None,
    height: float = 2.4,
    ax: Axes | None = None,
) -> Axes | sns.FacetGrid:
    """Draw the median of x over seeds, with its 95 % interval, in a row for each value of y.

    Parameters
    ----------
    df : DataFrame with the columns named here
    x : column of numbers
    y : column of categories, from top to bottom in the order in which they occur; activations in
        the study's order
    hue : column that tells apart the dots of a row: colour and mark
    col, row, legend, palette, height, ax : as in `study.plot.curves`
    theory : DataFrame with x, y and the mapped columns; drawn as upright strokes

    Returns
    -------
    matplotlib Axes, or a seaborn FacetGrid with col or row.
    """
    hue = hue or y
    frame, by = checked(df, [y, x], {"hue": hue, "col": col, "row": row})
    points = medians(frame, list(dict.fromkeys([y, *by])), x)
    places = {value: i for i, value in enumerate(in_order(y, frame[y]))}
    colours = colours_of(hue, frame, palette)
    with house_style():
        grid, panels = facets(points, col, row, height, ax)
        for panel, where in panels:
            own = rows_of(points, where)
            own = own[np.isfinite(own["value"])]
            for i, (level, colour) in enumerate(colours.items()):
                mark = MARKS.get(level, ORDINARY_MARKS[i % 10])
                seen = own[own[hue] == level]
                at = seen[y].map(places).to_numpy(float)
                panel.hlines(at, seen["low"], seen["high"], color=colour, lw=0.9)
                panel.plot(
                    seen["value"], at, mark, color=colour, mew=0, ms=4, label=called(hue, level)
                )
            if theory is not None:
                law = rows_of(theory, where)
                panel.plot(law[x], law[y].map(places), "|", color="black", ms=8, mew=0.9, zorder=1)
            panel.axvline(0, color="#aaaaaa", lw=0.6, zorder=0)
            panel.grid(axis="y", color="#eeeeee", lw=0.5)
            panel.set_axisbelow(True)
            panel.set_yticks(list(places.values()), [called(y, value) for value in places])
            panel.set_ylim(len(places) - 0.5, -0.5)
            panel.tick_params(axis="y", length=0)
            if y == "activation":
                for label, name in zip(panel.get_yticklabels(), places, strict=False):
                    label.set_color(COLOURS.get(name, "black"))
        label_axes(grid, panels, x, y)
        for panel, _ in panels:
            panel.set_ylabel("")
        if legend and hue != y:
            panels[-1][0].legend()
    return panels[0][0] if grid is None else grid
