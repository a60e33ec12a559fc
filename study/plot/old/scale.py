"""Growth of the gradient against the weight scale, and its phases: one panel an activation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure

from study.plot.floats import FLOAT32_DECADES
from study.plot.old.style import COLOURS, MARKS, NAMES, SMALL, head, house_style, panels

# Ever lighter, so that it reads in grey; the hue turns where the gradient stays.
DECADES = LinearSegmentedColormap.from_list(
    "decades", ["#08204d", "#3b6ea8", "#a9b1b8", "#f0a860", "#fff3d0"]
)
_LABELS = {"depth": "depth in layers\n(log scale)", "sigma_b": "bias scale σ_b\n(log scale)"}
_SCALES = [0.5, 1, 2, 4, 8, 16]


def growth_against_scale(
    points: pd.DataFrame,
    lines: pd.DataFrame,
    critical: dict[str, float],
    title: str,
    note: str,
) -> Figure:
    """Draw the growth of the gradient norm per layer against sigma_w.

    Parameters
    ----------
    points : columns activation, sigma_w, value, low, high: log10 of the factor of the norm
    lines : columns activation, sigma_w, value: theory, 1/2 log10 chi
    critical : activation -> sigma_w where theory crosses zero
    """
    activations = list(critical)
    columns = 4
    count = -(-len(activations) // columns)
    with house_style():
        figure, axes = panels(count, columns, 1.4 * count, sharex=True, sharey=True)
        for ax, name in zip(axes.flat, activations, strict=False):
            colour = COLOURS[name]
            ax.axhspan(0, 2, color="#fbf1ea", lw=0, zorder=-2)
            ax.axhline(0, color="#888888", lw=0.6, zorder=0)
            ax.axvline(critical[name], color="#888888", lw=0.6, ls=":", zorder=0)
            own = lines[lines.activation == name]
            ax.plot(own.sigma_w, own.value, color=colour, zorder=1)
            own = points[points.activation == name]
            spread = np.abs([own.value - own.low, own.high - own.value])
            ax.errorbar(
                own.sigma_w, own.value, spread, fmt=MARKS[name], ms=2.8, color=colour, mfc="white",
                mew=0.6, elinewidth=0.8, zorder=2,
            )  # fmt: skip
            ax.set_xscale("log")
            ax.set_ylim(-1.05, 1.15)
            ax.set_title(NAMES[name], color=colour, fontweight="bold")
            ax.annotate(
                f"critical {critical[name]:.4g}", (critical[name], -1.0),
                xytext=(3 if critical[name] < 4 else -3, 0),
                textcoords="offset points", fontsize=SMALL, color="#444444",
                ha="left" if critical[name] < 4 else "right",
            )  # fmt: skip
        axes[0][0].text(
            0.03, 0.93, "explodes", transform=axes[0][0].transAxes, fontsize=SMALL, va="top"
        )
        axes[0][0].text(
            0.97,
            0.42,
            "vanishes",
            transform=axes[0][0].transAxes,
            fontsize=SMALL,
            ha="right",
            va="top",
        )
        _scale_axis(axes[-1])
        for row in axes:
            row[0].set_ylabel("decades per layer")
        head(figure, title, note)
    return figure


def phase_diagram(points: pd.DataFrame, y: str, title: str, note: str) -> Figure:
    """Draw the decades the gradient gains over the plane of sigma_w and depth, or sigma_b.

    Parameters
    ----------
    points : columns activation, sigma_w, y, value (decades), critical (sigma_w where chi = 1), on
        a rectangular grid
    y : "depth" or "sigma_b"
    """
    activations = list(dict.fromkeys(points["activation"]))
    columns = 4
    count = -(-len(activations) // columns)
    norm, ticks = decades_scale(points.value)
    with house_style():
        figure, axes = panels(count, columns, 1.5 * count, sharex=True, sharey=True)
        for ax, name in zip(axes.flat, activations, strict=False):
            own = points[points.activation == name]
            grid = own.pivot(index=y, columns="sigma_w", values="value")
            mesh = _plane(ax, grid, norm)
            line = own.groupby(y).critical.first()
            ax.plot(line, line.index, color="black", lw=1.2)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
        _scale_axis(axes[-1])
        for row in axes:
            row[0].set_ylabel(_LABELS[y])
        bar = figure.colorbar(mesh, ax=axes, ticks=ticks, aspect=40, pad=0.01)
        bar.ax.set_yticklabels([f"{tick:,.0f}".replace("-", "−") for tick in ticks])
        bar.set_label("decades gained or lost (symlog scale)")
        head(figure, title, note)
    return figure


def decades_scale(values: pd.Series) -> tuple[SymLogNorm, list[float]]:
    """The colour scale of decades gained or lost, symmetric about 0, and its ticks."""
    largest = 10 ** np.ceil(np.log10(np.abs(values).max()))
    powers = 10.0 ** np.arange(np.log10(largest) + 1)
    norm = SymLogNorm(1, vmin=-largest, vmax=largest, base=10)
    return norm, [*-powers[::-1], 0, *powers]


def _plane(ax: Axes, grid: pd.DataFrame, norm: SymLogNorm):
    x, y, z = grid.columns.to_numpy(float), grid.index.to_numpy(float), grid.to_numpy()
    mesh = ax.pcolormesh(x, y, z, norm=norm, cmap=DECADES, shading="nearest", rasterized=True)
    for level, colour, style in (
        (0.0, "white", "--"),
        *((limit, "black", ":") for limit in FLOAT32_DECADES),
    ):
        if z.min() < level < z.max():
            drawn = {"colors": colour, "linestyles": style, "linewidths": 0.9}
            ax.contour(x, y, _symlog(z), [_symlog(level)], **drawn)
    return mesh


def _symlog(z):
    """Between measured points contours run straight on the colour bar's scale."""
    return np.sign(z) * np.log1p(np.abs(z))


def _scale_axis(axes: list[Axes]) -> None:
    for ax in axes:
        ax.set_xticks(_SCALES, [f"{tick:g}" for tick in _SCALES])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("weight scale σ_w (log scale)")
