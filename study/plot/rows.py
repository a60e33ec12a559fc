"""Dots with intervals, a row a category: for numbers that are compared and not a curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.frames import in_order, reduced
from study.plot.lines import ORDINARY_MARKS, colours_of, facets, label_axes, rows_of
from study.plot.style import COLOURS, MARKS, called, house_style, logarithmic

PLAIN = "#0072B2"


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
    df : DataFrame with the columns named here
    x : column of numbers
    y : column of categories, from top to bottom in the order in which they occur; activations in
        the study's order
    hue : column that tells apart the dots of a row: colour and mark
    log : whether x is logarithmic
    col, row, legend, palette, height, ax : as in `study.plot.curves`
    theory : DataFrame with x, y and the mapped columns; drawn as upright strokes
    interval : of a frame that is reduced already, the columns with the ends of x's interval

    Returns
    -------
    matplotlib Axes, or a seaborn FacetGrid with col or row.
    """
    plain = hue is None and y != "activation"
    hue = hue or y
    points = reduced(df, y, x, {"hue": hue, "col": col, "row": row}, interval)
    places = {value: i for i, value in enumerate(in_order(y, df[y]))}
    colours = colours_of(hue, df, palette)
    if plain:  # the row says it all
        colours = dict.fromkeys(colours, PLAIN)
    with house_style():
        grid, panels = facets(df, col, row, height, ax)
        for panel, where in panels:
            logarithmic(panel, "x" if log else "")
            own = rows_of(points, where)
            own = own[np.isfinite(own["value"])]
            for i, (level, colour) in enumerate(colours.items()):
                mark = "o" if plain else MARKS.get(level, ORDINARY_MARKS[i % 10])
                seen = own[own[hue] == level]
                at = seen[y].map(places).to_numpy(float)
                panel.hlines(at, seen["low"], seen["high"], color=colour, lw=0.9)
                panel.plot(
                    seen["value"], at, mark, color=colour, mew=0, ms=4, label=called(hue, level)
                )
            if theory is not None:
                law = rows_of(theory, where)
                panel.plot(law[x], law[y].map(places), "|", color="black", ms=8, mew=0.9, zorder=1)
            panel.axvline(1 if log else 0, color="#aaaaaa", lw=0.6, zorder=0)
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
        if legend and hue != y and grid is not None:
            handles, names = panels[-1][0].get_legend_handles_labels()
            grid.figure.legend(handles, names, loc="outside right upper")
        elif legend and hue != y:
            panels[0][0].legend()
    return panels[0][0] if grid is None else grid


def table(cells: pd.DataFrame, form: str, ax: Axes) -> Axes:
    """Draw numbers as a table, darker the larger: for figures that have too few for a curve.

    Parameters
    ----------
    cells : a frame as it is to be read, index to the left and columns on top
    form : how a number is written, for example "{:.2g} %"
    """
    with house_style():
        shown = cells.map(form.format)
        sns.heatmap(
            cells > 0, annot=shown, fmt="", cmap="Oranges", vmax=3, cbar=False, linewidths=1, ax=ax
        )
        ax.set(xlabel="", ylabel="")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    return ax
