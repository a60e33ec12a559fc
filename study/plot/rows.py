"""Dots with intervals, a row a category, and tables: for numbers that make no curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.frames import in_order, reduced
from study.plot.lines import ORDINARY_MARKS, colours_of, facets, label_axes, rows_of
from study.plot.style import COLOURS, MARKS, called, house_style, logarithmic


def dots(
    df: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    col: str | None = None,
    row: str | None = None,
    theory: pd.DataFrame | None = None,
    interval: tuple[str, str] | None = None,
    log: bool = False,
    legend: bool = True,
    palette: object = None,
    height: float = 2.4,
    ax: Axes | None = None,
) -> Axes | sns.FacetGrid:
    """Draw the median of x over seeds, with its 95 % interval, in a row for each value of y.

    Parameters
    ----------
    x : column of numbers
    y : column of categories, from top to bottom in the order in which they occur; activations in
        the study's order
    hue : column that tells apart the dots of a row: colour and mark
    log : whether x is logarithmic
    theory : DataFrame with x, y and the mapped columns; drawn as upright strokes

    The rest, and what is returned, is as in `study.plot.curves`.
    """
    plain = hue is None and y != "activation"  # the row says it all
    hue = hue or y
    points = reduced(df, [y], x, {"hue": hue, "col": col, "row": row}, interval)
    places = {value: i for i, value in enumerate(in_order(y, df))}
    colours = dict.fromkeys(places, "#0072B2") if plain else colours_of(hue, df, palette)
    with house_style():
        grid, panels = facets(df, col, row, height, ax)
        for panel, where in panels:
            logarithmic(panel, "x" if log else "")
            own = rows_of(points[np.isfinite(points["value"])], where)
            for i, (level, colour) in enumerate(colours.items()):
                mark = "o" if plain else MARKS.get(level, ORDINARY_MARKS[i % 10])
                seen = own[own[hue] == level]
                at = seen[y].map(places).to_numpy(float)
                panel.hlines(at, seen["low"], seen["high"], color=colour, lw=0.9)
                look = {"color": colour, "mew": 0, "ms": 4, "label": called(hue, level)}
                panel.plot(seen["value"], at, mark, **look)
            if theory is not None:
                law = rows_of(theory, where)
                panel.plot(law[x], law[y].map(places), "|", color="black", ms=8, mew=0.9, zorder=1)
            label_axes(panel, x, "", grid)
            _rows(panel, y, places, 1 if log else 0)
        if legend and hue != y:
            at = {} if grid is None else {"loc": "outside right upper"}
            handles = panels[-1][0].get_legend_handles_labels()
            (panels[0][0] if grid is None else grid.figure).legend(*handles, **at)
    return panels[0][0] if grid is None else grid


def _rows(ax: Axes, y: str, places: dict, origin: float) -> None:
    """The categories' names, their lines, and where nothing is gained."""
    ax.axvline(origin, color="#aaaaaa", lw=0.6, zorder=0)
    ax.grid(axis="y", color="#eeeeee", lw=0.5)
    ax.set_axisbelow(True)
    ax.set_yticks(list(places.values()), [called(y, value) for value in places])
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for label, name in zip(ax.get_yticklabels(), places, strict=False):
        label.set_color(COLOURS.get(name, "black"))


def table(cells: pd.DataFrame, form: str, ax: Axes) -> Axes:
    """Draw a frame as a table, darker where a number is above 0; ``form`` is "{:.2g} %", say."""
    with house_style():
        look = {"cmap": "Oranges", "vmax": 3, "cbar": False, "linewidths": 1}
        sns.heatmap(cells > 0, annot=cells.map(form.format), fmt="", ax=ax, **look)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.tick_params(axis="y", rotation=0)
    return ax
