"""What lines, maps and dots share: panels, what is in each of them, and its colours."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.style import COLOURS, FACTOR_COLOURS, MARKS, WIDTH, axis_name, called

ORDINARY_MARKS = "os^Dv<>Pph"


def facets(
    df: pd.DataFrame,
    col: str | None = None,
    row: str | None = None,
    height: float = 2.0,
    ax: Axes | None = None,
) -> tuple[Axes | sns.FacetGrid, list[tuple[Axes, dict]]]:
    """What is returned to the user, and its panels with what is in each: {column: value}."""
    names = [name for name in (row, col) if name is not None]
    if not names:
        ax = ax or plt.gca()
        return ax, [(ax, {})]
    if ax is not None:
        raise ValueError("ax is not allowed with col or row; allowed: one of the two")
    orders = {
        "col_order": in_order(col, df) if col else None,
        "row_order": in_order(row, df) if row else None,
    }
    grid = _Grid(df[names].drop_duplicates(), col=col, row=row, despine=False, **orders)
    grid.figure.set_size_inches(WIDTH, height * len(grid.axes) + 0.2)
    panels = []
    for key, panel in grid.axes_dict.items():
        where = dict(zip(names, key if len(names) == 2 else (key,), strict=True))
        title = ", ".join(called(name, value) for name, value in where.items())
        panel.set_title(title, color=COLOURS.get(str(where.get("activation")), "black"))
        panels.append((panel, where))
    return grid, panels


class _Grid(sns.FacetGrid):
    """Laid out once, by the figure, when it is drawn: seaborn's own layout would not stand."""

    def tight_layout(self, *args: object, **kwargs: object) -> "_Grid":
        return self


def rows_of(frame: pd.DataFrame, where: dict) -> pd.DataFrame:
    """The rows of a panel; a frame without the column is for all panels."""
    for name, value in where.items():
        if name in frame:
            frame = frame[frame[name] == value]
    return frame


def label_axes(drawn: Axes | sns.FacetGrid, x: str, y: str) -> None:
    """Say what the axes are; in a grid at its edges alone."""
    if isinstance(drawn, sns.FacetGrid):
        drawn.set_axis_labels(axis_name(x), axis_name(y))
    else:
        drawn.set(xlabel=axis_name(x), ylabel=axis_name(y))


def in_order(column: str, df: pd.DataFrame) -> list:
    """The values of a column in the order of its panels and colours: numbers by size."""
    there = list(df[column].unique())
    if column == "activation":
        order = [*COLOURS, *there]
        return sorted(there, key=order.index)
    return sorted(there) if pd.api.types.is_numeric_dtype(df[column]) else there


def colours_of(hue: str | None, df: pd.DataFrame, palette: object = None) -> dict:
    """A colour for each value of the column, in order; numbers get darker as they fall."""
    if hue is None:
        return {}
    levels = in_order(hue, df)
    if isinstance(palette, dict):
        return {level: palette[level] for level in levels}
    if pd.api.types.is_numeric_dtype(df[hue]):
        # The lightest tones of the palette are too faint for a line.
        tones = sns.color_palette(palette or "viridis", round(1.25 * len(levels)) + 1)
    else:
        tones = sns.color_palette(palette or "colorblind", len(levels))
    known = {} if palette else COLOURS | FACTOR_COLOURS
    return {level: known.get(level, tone) for level, tone in zip(levels, tones, strict=False)}


def marks_of(levels: dict) -> dict:
    """A mark for each value, an activation's its own."""
    return {level: MARKS.get(level, ORDINARY_MARKS[i % 10]) for i, level in enumerate(levels)}
