"""Curves of one column against another: seeds as median and interval, theory as lines."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.facets import colours_of, facets, label_axes, marks_of, rows_of
from study.plot.frames import reduced
from study.plot.style import (
    COLOURS,
    NAMES,
    called,
    house_style,
    label_ends,
    logarithmic,
    shade_float_ranges,
)  # fmt: skip

# On a curve: with more points its interval is a band, with fewer a bar at each mark.
MOST_MARKS = 16
MOST_LABELS = 9  # at the ends of the curves of a panel


def curves(
    df: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    style: str | None = None,
    col: str | None = None,
    row: str | None = None,
    theory: pd.DataFrame | None = None,
    interval: tuple[str, str] | None = None,
    floats: bool = False,
    log: str = "",
    ylim: tuple[float, float] | None = None,
    legend: bool = False,
    palette: object = None,
    height: float = 2.0,
    ax: Axes | None = None,
    **line: Any,
) -> Axes | sns.FacetGrid:
    """Draw y against x: marks at the median over seeds with its 95 % interval, theory as lines.

    Parameters
    ----------
    df : DataFrame with the columns named here; rows that agree in x and all mapped columns are
        taken for seeds of one network
    x, y : columns of numbers
    hue, style, col, row : columns that tell curves and panels apart, as in seaborn
    theory : DataFrame with x, y and the mapped columns; drawn as lines
    interval : of a frame that is reduced already, the columns with the ends of y's interval
    floats : shade what is outside the normal ranges of float32 and float64; y is then log10
    log : "x", "y" or "xy": which axes are logarithmic
    ylim : of all panels
    legend : seaborn's legend in place of labels at the ends of the curves
    palette : as in seaborn; by default an activation has its own colour
    height : inches of a row of panels
    ax : where to draw, without col and row; by default the current axes
    **line : passed on to `seaborn.lineplot`

    Returns
    -------
    matplotlib Axes, or a seaborn FacetGrid with col or row; what cannot be drawn raises ValueError.

    Examples
    --------
    >>> df = pd.DataFrame({"width": [8, 8, 64, 64], "seed": [0, 1] * 2, "gain": [1, 2, 3, 5]})
    >>> curves(df, "width", "gain", log="x").get_xscale()
    'log'
    """
    points = reduced(df, [x], y, {"hue": hue, "style": style, "col": col, "row": row}, interval)
    colours = colours_of(hue, df, palette)
    legend = legend or style not in (None, hue)
    if theory is not None:
        line.setdefault("linestyle", "")
    if "linestyle" in line:
        line.setdefault("dashes", False)
    if hue is None and "activation" in df and df["activation"].nunique() == 1:
        line.setdefault("color", COLOURS.get(df["activation"].iloc[0], "C0"))
    look = {"markevery": max(1, points[x].nunique() // MOST_MARKS)}
    look |= _look(hue, style, colours) | line
    with house_style():
        drawn, panels = facets(df, col, row, height, ax)
        for panel, where in panels:
            inside = rows_of(points, where)
            logarithmic(panel, log)
            _medians(panel, inside, x, legend, look)
            for i, (value, curve) in enumerate(_curves(_within(inside), hue, style)):
                colour = colours.get(value, look.get("color", "C0"))
                _interval(panel, curve, x, colour, points[x].nunique() > MOST_MARKS)
                _edges(panel, curve, x, colour, 2 - i / 100)  # those of the first curve on top
            if theory is not None:
                for value, curve in _curves(rows_of(theory, where), hue, style):
                    finite = curve[y].where(np.isfinite(curve[y]))  # a gap, not a line to nowhere
                    panel.plot(curve[x], finite, color=colours.get(value, "black"), zorder=1)
        label_axes(drawn, x, y)
        if ylim is not None:
            panels[0][0].set_ylim(*ylim)
        if floats:  # once all panels have their say in limits that they share
            for panel, _ in panels:
                shade_float_ranges(panel)
        figure: Any = panel.figure
        figure.draw_without_rendering()  # the layout, which the labels need
        if hue is not None and not legend:
            for panel, where in panels:
                _name_curves(panel, rows_of(points, where), x, hue, colours)
    return drawn


def _look(hue: str | None, style: str | None, colours: dict) -> dict:
    """What seaborn is told of the medians: a mark a value of style, or else of hue."""
    look: dict[str, Any] = {"markeredgewidth": 0}
    if hue is not None:
        look |= {"hue": hue, "hue_order": list(colours), "palette": colours}
    if style not in (None, hue):
        return look | {"style": style, "markers": True}
    if hue is None:
        return look | {"marker": "o"}
    look |= {"style": hue, "style_order": list(colours)}
    return look | {"markers": marks_of(colours), "dashes": False}


def _curves(frame: pd.DataFrame, *mapped: str | None) -> Iterator[tuple[object, pd.DataFrame]]:
    """The curves of a frame, each with its value of the first column that it has."""
    by = [name for name in dict.fromkeys(mapped) if name in frame]
    for key, curve in frame.groupby(by, sort=False) if by else [((None,), frame)]:
        yield key[0], curve


def _medians(ax: Axes, points: pd.DataFrame, x: str, legend: bool, line: dict) -> None:
    finite = points[np.isfinite(points["value"])]
    if finite.empty:  # seaborn would warn of colours without curves
        return
    sns.lineplot(
        finite, x=x, y="value", estimator=None, errorbar=None, ax=ax, legend=legend, **line
    )
    if legend and (shown := ax.get_legend()):
        for text in shown.get_texts():
            text.set_text(NAMES.get(text.get_text(), text.get_text()))


def _within(points: pd.DataFrame) -> pd.DataFrame:
    """Points with ends of intervals that can be drawn: none is infinite."""
    ends = points[["low", "high"]].where(np.isfinite)
    return points.assign(**ends.fillna({"low": ends.low.min(), "high": ends.high.max()}))


def _interval(ax: Axes, curve: pd.DataFrame, x: str, colour: object, band: bool) -> None:
    finite = curve[np.isfinite(curve["value"])]
    if band:
        ax.fill_between(finite[x], finite.low, finite.high, color=colour, alpha=0.25, lw=0)
    else:
        ax.vlines(finite[x], finite.low, finite.high, color=colour, lw=0.9)


def _edges(ax: Axes, curve: pd.DataFrame, x: str, colour: object, zorder: float) -> None:
    """What has no height, true zeros and infinities: the first of several on top."""
    for edge, mark, place in ((-np.inf, "v", 0.03), (np.inf, "^", 0.97)):
        at = curve[x][curve["value"] == edge]
        if len(at):
            ax.scatter(
                at, np.full(len(at), place), marker=mark, s=12, clip_on=False, color=colour,
                transform=ax.get_xaxis_transform(), zorder=zorder,
            )  # fmt: skip


def _name_curves(ax: Axes, points: pd.DataFrame, x: str, hue: str, colours: dict) -> None:
    """Their names where they end, all at the right edge."""
    finite = points[np.isfinite(points["value"])]
    last = finite.sort_values(x).drop_duplicates(hue, keep="last").set_index(hue)["value"]
    levels = [level for level in colours if level in last]
    shown = levels[:: -(-len(levels) // MOST_LABELS) or 1]
    ends = [(last[level], called(hue, level), colours[level]) for level in shown]
    if ends:
        label_ends(ax, ends, float(points[x].max()))
