"""Dots with intervals, a row a category: for numbers that make no curve."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.facets import colours_of, facets, in_order, label_axes, marks_of, rows_of
from study.plot.frames import reduced
from study.plot.style import COLOURS, called, house_style, logarithmic


def dots(
    df: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    theory: pd.DataFrame | None = None,
    interval: tuple[str, str] | None = None,
    log: bool = False,
    legend: bool = True,
    palette: object = None,
    **layout: Any,
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
    **layout : col, row, height, ax; they and the rest, and what is returned, are as in
        `study.plot.curves`

    Examples
    --------
    >>> df = pd.DataFrame({"activation": ["relu", "tanh"], "seed": [0, 0], "decades": [-1.5, 0.5]})
    >>> [label.get_text() for label in dots(df, "decades", "activation").get_yticklabels()]
    ['ReLU', 'tanh']
    """
    plain = hue is None and y != "activation"  # the row says it all
    hue = hue or y
    points = reduced(df, [y], x, {"hue": hue} | layout, interval)
    points = points[np.isfinite(points["value"])]
    places = {value: i for i, value in enumerate(in_order(y, df))}
    colours = dict.fromkeys(places, "#0072B2") if plain else colours_of(hue, df, palette)
    marks = dict.fromkeys(places, "o") if plain else marks_of(colours)
    with house_style():
        drawn, panels = facets(df, **layout)
        for panel, where in panels:
            logarithmic(panel, "x" if log else "")
            inside = rows_of(points, where)
            for level, colour in colours.items():
                level_dots = inside[inside[hue] == level]
                heights = level_dots[y].map(places).to_numpy(float)
                panel.hlines(heights, level_dots["low"], level_dots["high"], color=colour, lw=0.9)
                look: dict[str, Any] = {"color": colour, "label": called(hue, level)}
                panel.plot(level_dots["value"], heights, marks[level], mew=0, ms=4, **look)
            if theory is not None:
                law = rows_of(theory, where)
                panel.plot(law[x], law[y].map(places), "|", color="black", ms=8, mew=0.9, zorder=1)
            _rows(panel, y, places, 1 if log else 0)
        label_axes(drawn, x, "")
        if legend and hue != y:
            handles = panel.get_legend_handles_labels()
            if drawn is panel:
                panel.legend(*handles)
            else:
                drawn.figure.legend(*handles, loc="outside right upper")
    return drawn


def _rows(ax: Axes, y: str, places: dict, origin: float) -> None:
    """The categories' names, their lines, and where nothing is gained."""
    ax.axvline(origin, color="#aaaaaa", lw=0.6, zorder=0)
    ax.grid(axis="y", color="#eeeeee", lw=0.5)
    ax.set_yticks(list(places.values()), [called(y, value) for value in places])
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for label, name in zip(ax.get_yticklabels(), places, strict=False):
        label.set_color(COLOURS.get(name, "black"))
