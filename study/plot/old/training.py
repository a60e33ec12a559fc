"""What trains, against depth and weight scale, and what training does to weights and gradients."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from study.plot.old.style import COLOURS, MARKS, NAMES, SMALL, head, house_style, panels


def maps_and_courses(
    cells: pd.DataFrame,
    rules: pd.DataFrame,
    growth: pd.DataFrame,
    profile: pd.DataFrame,
    titles: dict[str, str],
    title: str,
    note: str,
) -> Figure:
    """Draw the maps of held-out accuracy, and below them what moved in training.

    Parameters
    ----------
    cells : columns activation, sigma_w, depth, value (accuracy, 0 to 1), low, high, diverged (share
        of the networks), critical (bool)
    rules : columns activation, sigma_w, value: the depth that theory allows
    growth : columns method, activation, start ("critical" or "twice critical"), step, value, low,
        high: decades that the weight norm has grown
    profile : columns activation, when ("before" or "after"), layer, value, low, high: log10 norms
    titles : of the panels "critical" and "profile" and those named as the methods
    """
    activations, methods = list(cells.activation.unique()), list(growth.method.unique())
    with house_style():
        figure, axes = panels(2, 4, 4.4)
        for ax, name in zip(axes[0], activations, strict=False):
            _map(ax, cells[cells.activation == name], rules[rules.activation == name])
            ax.set_title(NAMES[name], color=COLOURS[name], fontweight="bold")
        axes[0][0].set_ylabel("depth (layers, log scale)")
        for ax in (*axes[0][1:3], *axes[1][1:3]):  # on the scale of the first in the row
            ax.tick_params(labelleft=False)
        ax = axes[0][3]
        ax.set_title(titles["critical"])
        for name in activations:
            own = cells[(cells.activation == name) & cells.critical]
            _marks(ax, own.depth, own, name, label=NAMES[name])
        ax.axhline(0.1, color="#888888", lw=0.6, ls=":")
        ax.annotate("chance", (0.01, 0.085), xycoords="axes fraction", fontsize=SMALL, va="top")
        ax.set(xscale="log", ylim=(0, 1), xlabel="depth (layers, log scale)")
        ax.set_ylabel("held-out accuracy")
        ax.set_xticks(sorted(cells.depth.unique()), sorted(cells.depth.unique()))
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=SMALL, loc="upper right", labelspacing=0.2, borderaxespad=0)
        for ax, method in zip(axes[1], methods, strict=False):
            _growth(ax, growth[growth.method == method])
            ax.set_title(titles[method])
        axes[1][0].annotate(
            "back at the critical norm", (0.98, -np.log10(2) * 1.15), fontsize=SMALL, ha="right",
            va="top", xycoords=axes[1][0].get_yaxis_transform(),
        )  # fmt: skip
        axes[1][0].set_ylabel("decades the weight norm has grown\n(symlog scale)")
        ax = axes[1][3]
        ax.set_title(titles["profile"])
        for (name, when), own in profile.groupby(["activation", "when"], sort=False):
            _marks(ax, own.layer, own, name, filled=when == "after")
        ax.set(xlabel="layer k, input to output", ylabel="log10 of ‖dC/dW‖ of layer k")
        head(figure, title, note)
    return figure


def _map(ax: Axes, cells: pd.DataFrame, rules: pd.DataFrame) -> None:
    """One column a weight scale, evenly spaced; between columns sigma_w runs logarithmically."""
    grid = cells.pivot(index="depth", columns="sigma_w", values="value")
    lost = cells.pivot(index="depth", columns="sigma_w", values="diverged")
    scales, depths = (np.array(axis, float) for axis in (grid.columns, grid.index))
    columns, edges = np.arange(len(scales)), _edges(depths)
    cmap, shades = mpl.colormaps["cividis"], Normalize(0.1, 1)
    ax.pcolormesh(
        np.arange(len(scales) + 1) - 0.5, edges, grid.to_numpy(), cmap=cmap, norm=shades,
        edgecolors="white", lw=0.8,
    )  # fmt: skip
    for depth, row in grid.iterrows():
        for column, (sigma, value) in enumerate(row.items()):
            diverged = lost.loc[depth, sigma] > 0.5
            ax.annotate(
                "div." if diverged else f"{value:.0%}", (column, depth), ha="center", va="center",
                fontsize=SMALL, color="black" if value > 0.6 and not diverged else "white",
                zorder=4, bbox={"fc": cmap(shades(value)), "lw": 0, "pad": 0.8},
            )  # fmt: skip
    ends = _edges(scales)
    anchors = np.log([ends[0], *scales, ends[-1]]), [-0.5, *columns, columns[-1] + 0.5]
    rules = rules[rules.sigma_w.between(ends[0], ends[-1])]
    x = np.interp(np.log(rules.sigma_w), *anchors)
    ax.plot(x, rules.value, color="white", lw=2.6)
    ax.plot(x, rules.value, color="#C00000", lw=1.3)
    ax.set(yscale="log", xlim=(-0.5, columns[-1] + 0.5), ylim=(edges[0], edges[-1]))
    ax.set_xticks(columns, [f"{sigma:.3g}" for sigma in scales])
    ax.set_yticks(depths, [f"{depth:g}" for depth in depths])
    ax.tick_params(which="minor", length=0, labelleft=False)
    ax.set_xlabel("weight scale σ_w\n(columns evenly spaced)")


def _edges(middles: np.ndarray) -> np.ndarray:
    inner = np.sqrt(middles[1:] * middles[:-1])
    return np.array([middles[0] ** 2 / inner[0], *inner, middles[-1] ** 2 / inner[-1]])


def _growth(ax: Axes, growth: pd.DataFrame) -> None:
    for (name, start), own in growth.groupby(["activation", "start"], sort=False):
        _marks(ax, own.step, own, name, filled=start != "critical")
    ax.axhline(0, color="#888888", lw=0.6, zorder=0)
    ax.axhline(-np.log10(2), color="#888888", lw=0.8, ls="--", zorder=0)
    ax.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
    ax.set_ylim(-2, 100)
    ax.set_yticks([-0.1, -0.01, -0.001, 0, 0.001, 0.01, 0.1, 1, 10])
    ax.set_yticks([], minor=True)
    ax.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}".replace("-", "−"))
    ax.locator_params(axis="x", nbins=4)
    ax.set_xlabel("step of training")


def _marks(
    ax: Axes, x: pd.Series, own: pd.DataFrame, name: str, filled: bool = True, label: str = ""
) -> None:
    spread = np.abs([own.value - own.low, own.high - own.value])
    ax.errorbar(
        x, own.value, spread, marker=MARKS[name], ms=3.2, color=COLOURS[name], lw=1,
        mfc=COLOURS[name] if filled else "white", ls="-" if filled else ":", elinewidth=0.7,
        capsize=1.5, label=label or None,
    )  # fmt: skip
