"""Curves of one column against another: seeds as median and interval, theory as lines."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.frames import in_order, reduced
from study.plot.style import (
    COLOURS,
    FACTOR_COLOURS,
    MARKS,
    NAMES,
    WIDTH,
    axis_name,
    called,
    house_style,
    label_ends,
    logarithmic,
    shade_float_ranges,
)

MOST_MARKS = 16
"""On a curve: with more points its interval is a band, with fewer a bar at each mark."""
MOST_LABELS = 9
"""At the ends of the curves of a panel."""
ORDINARY_MARKS = "os^Dv<>Pph"


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
    height: float = 1.8,
    ax: Axes | None = None,
    **line,
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
    matplotlib Axes, or a seaborn FacetGrid with col or row.

    Raises
    ------
    ValueError
        As `study.plot.frames.reduced`.
    """
    mapped = {"hue": hue, "style": style, "col": col, "row": row}
    points = reduced(df, [x], y, mapped, interval)
    colours = colours_of(hue, df, palette)
    if hue is None and "activation" in df and df["activation"].nunique() == 1:
        line.setdefault("color", COLOURS.get(df["activation"].iloc[0], "C0"))
    if theory is not None:
        line.setdefault("linestyle", "")
    legend = legend or style not in (None, hue)
    with house_style():
        grid, panels = facets(df, col, row, height, ax)
        for panel, where in panels:
            own = rows_of(points, where)
            logarithmic(panel, log)
            _lines(panel, own, x, hue, style, colours, legend, line)
            _intervals(panel, own, x, hue, style, colours, line.get("color", "C0"))
            if theory is not None:
                _theory(panel, rows_of(theory, where), x, y, hue, style, colours)
            label_axes(panel, x, y, grid)
        if ylim is not None:
            panels[0][0].set_ylim(*ylim)
        if floats:  # once all panels have their say in limits that they share
            for panel, _ in panels:
                shade_float_ranges(panel)
        panels[0][0].figure.draw_without_rendering()  # the layout, which the labels need
        if hue is not None and not legend:
            for panel, where in panels:
                _labels(panel, rows_of(points, where), x, hue, colours)
    return panels[0][0] if grid is None else grid


def colours_of(hue: str | None, df: pd.DataFrame, palette: object = None) -> dict:
    """A colour for each value of the column, in order; numbers get darker as they fall."""
    if hue is None:
        return {}
    levels = in_order(hue, df)
    if palette is None and hue in ("activation", "factor"):
        palette = dict(zip(levels, sns.color_palette("husl", len(levels)), strict=True))
        palette |= COLOURS | FACTOR_COLOURS
    if isinstance(palette, dict):
        return {level: palette[level] for level in levels}
    if pd.api.types.is_numeric_dtype(df[hue]):
        # The lightest tones of the palette are too faint for a line.
        tones = sns.color_palette(palette or "viridis", round(1.25 * len(levels)) + 1)
    else:
        tones = sns.color_palette(palette or "colorblind", len(levels))
    return dict(zip(levels, tones, strict=False))


def facets(
    df: pd.DataFrame, col: str | None, row: str | None, height: float, ax: Axes | None
) -> tuple[sns.FacetGrid | None, list[tuple[Axes, dict]]]:
    """The panels with what is in each of them, {column: value}; the grid if there is one."""
    names = [name for name in (row, col) if name is not None]
    if not names:
        return None, [(ax or plt.gca(), {})]
    if ax is not None:
        raise ValueError("ax is not allowed with col or row; allowed: one of the two")
    values = df[names].drop_duplicates()
    orders = {"col_order": in_order(col, df), "row_order": in_order(row, df)}
    with mpl.rc_context({"figure.constrained_layout.use": False}):  # seaborn lays out on its own
        grid = sns.FacetGrid(values, col=col, row=row, despine=False, **orders)
    grid.figure.set_size_inches(WIDTH, height * len(grid.axes) + 0.2)
    grid.figure.set_layout_engine("constrained")
    panels = []
    for key, panel in grid.axes_dict.items():
        where = dict(zip(names, key if len(names) == 2 else (key,), strict=True))
        title = ", ".join(called(name, value) for name, value in where.items())
        panel.set_title(title, color=COLOURS.get(where.get("activation"), "black"))
        panels.append((panel, where))
    return grid, panels


def label_axes(ax: Axes, x: str, y: str, grid: sns.FacetGrid | None) -> None:
    """Say what the axes are; in a grid at its edges alone."""
    ax.set(xlabel=axis_name(x), ylabel=axis_name(y))
    if grid is not None:
        ax.label_outer()


def rows_of(frame: pd.DataFrame, where: dict) -> pd.DataFrame:
    """The rows of a panel; a frame without the column is for all panels."""
    for name, value in where.items():
        if name in frame:
            frame = frame[frame[name] == value]
    return frame


def _groups(frame: pd.DataFrame, hue: str | None, style: str | None):
    """The curves of a panel, each with its value of hue."""
    by = [name for name in dict.fromkeys((hue, style)) if name in frame]
    for key, curve in frame.groupby(by, sort=False) if by else [((None,), frame)]:
        yield key[0], curve


def _lines(ax, points, x, hue, style, colours, legend, line) -> None:
    """The medians, by seaborn."""
    look = {"hue": hue, "hue_order": list(colours) or None, "palette": colours or None}
    if style not in (None, hue):
        look |= {"style": style, "markers": True, "dashes": line.get("linestyle") is None}
    elif hue is not None:
        marks = {v: MARKS.get(v, ORDINARY_MARKS[i % 10]) for i, v in enumerate(colours)}
        look |= {"style": hue, "style_order": list(colours), "markers": marks, "dashes": False}
    else:
        look |= {"marker": "o"}
    look |= {"markevery": max(1, points[x].nunique() // MOST_MARKS), "markeredgewidth": 0}
    sns.lineplot(
        points[np.isfinite(points["value"])], x=x, y="value", estimator=None, errorbar=None, ax=ax,
        legend="auto" if legend else False, **look | line,
    )  # fmt: skip
    for text in ax.get_legend().get_texts() if ax.get_legend() else ():
        text.set_text(NAMES.get(text.get_text(), text.get_text()))


def _intervals(ax, points, x, hue, style, colours, colour) -> None:
    """Bars or bands, and at the edges what has no height: true zeros, and infinities."""
    finite = points[np.isfinite(points["value"])]
    ends = finite[["low", "high"]].replace([-np.inf, np.inf], np.nan)
    ends = ends.fillna({"low": ends.low.min(), "high": ends.high.max()})
    for value, curve in _groups(finite.assign(low=ends.low, high=ends.high), hue, style):
        tone = colours.get(value, colour)
        if points[x].nunique() <= MOST_MARKS:
            ax.vlines(curve[x], curve.low, curve.high, color=tone, lw=0.9)
        else:
            ax.fill_between(curve[x], curve.low, curve.high, color=tone, alpha=0.25, lw=0)
    for edge, mark, place in ((-np.inf, "v", 0.03), (np.inf, "^", 0.97)):
        for value, curve in _groups(points[points["value"] == edge], hue, style):
            ax.scatter(
                curve[x], np.full(len(curve), place), marker=mark, s=12, clip_on=False,
                color=colours.get(value, colour), transform=ax.get_xaxis_transform(),
            )  # fmt: skip


def _theory(ax, theory, x, y, hue, style, colours) -> None:
    for value, curve in _groups(theory, hue, style):
        finite = curve[y].where(np.isfinite(curve[y]))
        ax.plot(curve[x], finite, color=colours.get(value, "black"), zorder=1)


def _labels(ax, points, x, hue, colours) -> None:
    """The curves' names where they end, all at the right edge."""
    finite = points[np.isfinite(points["value"])]
    last = finite.sort_values(x).drop_duplicates(hue, keep="last").set_index(hue)["value"]
    levels = [level for level in colours if level in last]
    shown = levels[:: -(-len(levels) // MOST_LABELS) or 1]
    ends = [(last[level], called(hue, level), colours[level]) for level in shown]
    if ends:
        label_ends(ax, ends, float(finite[x].max()))
