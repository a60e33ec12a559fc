"""Errors of two witnesses of the gradient: against the step, and activation by activation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from study.plot.old.style import COLOURS, MARKS, NAMES, SMALL, head, house_style, panels

UNIT_ROUNDOFF = 2.0**-53


def errors_of_witnesses(
    steps: pd.DataFrame, checks: pd.DataFrame, allowed: dict[str, float], title: str, note: str
) -> Figure:
    """Draw the relative errors of complex steps (filled) and central differences (open).

    Parameters
    ----------
    steps : columns activation, log2_step, witness, value, low, high
    checks : columns activation, witness, value, low, high
    allowed : witness -> the error that rounding may cause
    """
    with house_style():
        figure, axes = panels(1, 2, 3.6, width_ratios=[1.25, 1])
        _against_step(axes[0][0], steps[steps.log2_step >= -60])
        _of_activations(axes[0][1], checks, allowed)
        head(figure, title, note)
    return figure


def _against_step(ax, steps: pd.DataFrame) -> None:
    h = np.geomspace(2.0**-60, 2.0**-5, 100)
    truncation, rounding = h**2, UNIT_ROUNDOFF / h
    for line, text, at, side in (
        (truncation, "h²", 2.0**-9, (6, -8)),
        (rounding, "u / h", 2.0**-42, (-8, -10)),
        (np.full(100, UNIT_ROUNDOFF), "u", 2.0**-30, (0, -9)),
    ):
        ax.plot(h, line, color="#888888", lw=0.9, zorder=0)
        y = float(np.exp(np.interp(np.log(at), np.log(h), np.log(line))))
        ax.annotate(
            text, (at, y), side, textcoords="offset points", color="#555555", fontsize=SMALL
        )
    for (name, kind), own in steps.groupby(["activation", "witness"], sort=False):
        _marks(ax, 2.0**own.log2_step, own, name, kind)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(1e-17, 30)
    ax.set_xlim(2.0**-61, 2.0**-4)
    ax.set_xlabel("step h (log scale)")
    ax.set_ylabel("relative error of the gradient (log scale)")
    ax.set_title("a  against the step of the witness", fontweight="bold")
    ax.text(2.0**-36, 0.3, "central differences (open)", fontsize=SMALL)
    ax.text(2.0**-59, 1.5e-13, "complex steps (filled)", fontsize=SMALL)
    for i, name in enumerate(dict.fromkeys(steps.activation)):
        ax.text(
            2.0**-59, 10.0 ** (-4.2 - 1.1 * i), NAMES[name], color=COLOURS[name], fontweight="bold"
        )


def _of_activations(ax, checks: pd.DataFrame, allowed: dict[str, float]) -> None:
    names = list(dict.fromkeys(checks.activation))
    for kind, limit in allowed.items():
        ax.axvline(limit, color="#444444", lw=0.9, ls="--", zorder=0)
        ax.text(
            limit, 0.01, " allowed", fontsize=SMALL, color="#444444",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
        for i, name in enumerate(names):
            own = checks[(checks.activation == name) & (checks.witness == kind)]
            _marks(ax, own, np.array([i]), name, kind, across=True)
    ax.set_xscale("log")
    ax.set_xlim(3e-17, 1e-4)
    ax.set_ylim(len(names) - 0.4, -0.8)
    ax.set_yticks(range(len(names)), [NAMES[name] for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(COLOURS[name])
    ax.set_xlabel("relative error of the gradient (log scale)")
    ax.set_title("b  every activation", fontweight="bold")


def _marks(ax, x, y, name: str, kind: str, across: bool = False) -> None:
    """Medians with their intervals: those of the frame among x and y."""
    own = x if across else y
    value = own.value.to_numpy()
    spread = np.abs([value - own.low, own.high - value])
    places = (value, y) if across else (np.asarray(x), value)
    ax.errorbar(
        *places, **{"xerr" if across else "yerr": spread}, fmt=MARKS[name], ms=3,
        color=COLOURS[name], mfc=COLOURS[name] if kind == "error_complex" else "white", mew=0.7,
        elinewidth=0.8, lw=0, zorder=2,
    )  # fmt: skip
