"""Maps of decades gained or lost over two columns, in the range of float32, and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from study.plot.facets import facets, label_axes, rows_of
from study.plot.floats import FLOAT32_DECADES
from study.plot.frames import decades, read, reduced
from study.plot.style import DECADES, house_style, logarithmic
from study.theory.mean_field import critical_sigma_w, mean_field

KEPT = 3  # decades: within a factor of 1,000 a gradient is kept


def phase(
    df: pd.DataFrame | str | Path,
    value: str = "decades",
    x: str = "sigma_w",
    y: str = "depth",
    theory: bool | None = None,
    **layout: Any,
) -> Axes | sns.FacetGrid:
    """Draw a map of what the gradient gains or loses, a square a network.

    The colours end where float32 does: beyond, a plain run shows 0, or inf and then NaN.

    Parameters
    ----------
    df : any frame with a network for each x and y, or the path of its CSV
    value : column of decades; "decades" is found from the factors of a frame with layers
    x, y : columns that span the map, on logarithmic axes
    theory : draw where mean field has chi = 1 (solid) and, with depth as y, where the gradient
        changes by 3 decades (dashed) and leaves float32 (dotted)
    **layout : col, row, height, ax; they and what is returned are those of `study.plot.curves`

    Examples
    --------
    >>> import study
    >>> nets = [study.Network("tanh", depth, 32, s) for depth in (5, 10) for s in (0.5, 1.0, 2.0)]
    >>> ax = study.plot.phase(study.profile(nets, range(3)))
    """
    df = read(df)
    if value == "decades" and value not in df:
        df = decades(df)
    points = reduced(df, [x, y], value, layout)
    for axis in (x, y):
        if points[axis].nunique() < 2:
            only = points[axis].iloc[0]
            raise ValueError(f"column {axis!r} has one value, {only}; allowed: at least two")
    low, high = FLOAT32_DECADES
    look: dict[str, Any] = {"cmap": DECADES, "vmin": low, "vmax": high, "rasterized": True}
    with house_style():
        drawn, panels = facets(df, **layout)
        for panel, where in panels:
            squares = rows_of(points, where).pivot(index=y, columns=x, values="value")
            edges = _edges(squares.columns), _edges(squares.index)
            # Beyond float32 all is lost alike.
            mesh = panel.pcolormesh(*edges, squares.clip(low, high), **look)
            logarithmic(panel, "xy")
            if theory:
                _theory(panel, rows_of(df, where), x, y)
        label_axes(drawn, x, y)
        axes = [panel for panel, _ in panels]
        bar = drawn.figure.colorbar(mesh, ax=axes, extend="both", aspect=30, pad=0.01)
        bar.set_label("decades gained or lost")
    return drawn


def _edges(middles: pd.Index) -> np.ndarray:
    """Between the values of a logarithmic axis, and beyond its ends."""
    log = np.log(middles.to_numpy(float))  # edges half way on the logarithmic axis
    inner = (log[1:] + log[:-1]) / 2
    return np.exp([2 * log[0] - inner[0], *inner, 2 * log[-1] - inner[-1]])


def _theory(ax: Axes, df: pd.DataFrame, x: str, y: str) -> None:
    """chi = 1 and, against depth, equal decades: depth times 1/2 log10 chi."""
    activation = df["activation"].iloc[0]
    limits = ax.axis()
    if y == "sigma_b":
        biases = np.sort(df[y].unique())
        ax.plot([critical_sigma_w(activation, bias) for bias in biases], biases, color="black")
    else:
        bias = float(df["sigma_b"].iloc[0]) if "sigma_b" in df else 0.0
        scales = np.geomspace(df[x].min(), df[x].max(), 60)
        rate = np.array([0.5 * np.log10(mean_field(activation, s, bias).chi) for s in scales])
        ax.axvline(critical_sigma_w(activation, bias), color="black")
        low, high = FLOAT32_DECADES
        for level, dash in ((KEPT, "--"), (-KEPT, "--"), (low, ":"), (high, ":")):
            with np.errstate(divide="ignore"):
                depths = level / rate  # decades grow in proportion to depth
            ax.plot(scales, np.where(depths > 0, depths, np.nan), dash, color="black", lw=0.9)
    ax.axis(limits)


def table(cells: pd.DataFrame, form: str, ax: Axes, shade: pd.DataFrame | None = None) -> Axes:
    """Draw a frame as a table; ``form`` is "{:.2g} %", say.

    ``shade``, of the same shape, is how dark a cell is, 0 to 1; where it is NaN the cell is empty.
    Without it cells are darker where their number is above 0.

    >>> shares = pd.DataFrame({"relu": [0.0, 3.5]}, index=["float32", "float16"])
    >>> ax = table(shares, "{:.2g} %", sns.FacetGrid(shares).ax)
    """
    if shade is None:
        shade = (cells > 0) / 3
    with house_style():
        look = {"cmap": "Oranges", "vmin": 0, "vmax": 1, "cbar": False, "linewidths": 1}
        sns.heatmap(shade, annot=cells.map(form.format), fmt="", ax=ax, **look)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.tick_params(axis="y", rotation=0)
    return ax
