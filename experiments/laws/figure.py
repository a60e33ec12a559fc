"""The table of laws in one picture."""

import numpy as np
import pandas as pd
from scipy import stats

import study

NAMED = 3.0  # scores beyond which a law is named

# Columns of the table that a law that holds draws from the standard normal law.
SCORES = {
    "z": ("the number, exact or extrapolated", "#0072B2"),
    "offset_z": ("the offset's c, where theory knows it", "#D55E00"),
    "misfit": ("what the extrapolation leaves", "#BBBBBB"),
}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Every score of the table, with its law: law, column and score; none that is to be large."""
    table = table.assign(z=table["z"].where(table["verdict"] != "differs"))
    long = table.melt("law", list(SCORES), "column", "score")
    return long[long["score"].notna() & (long["score"] != 0)]


def figure(tables: dict[str, pd.DataFrame]):
    """How far the laws' numbers are from what networks have, as normal scores.

    Measured less expected, of every test of every law; the line is the standard normal law that all
    would follow if all laws hold. Laws beyond 3 are named.
    """
    all_scores = scores(tables["laws"])
    figure, [[ax]] = study.plot.panels(1, 1, 3.0)
    reach = max(4.0, np.ceil(all_scores["score"].abs().max()))
    bins = np.arange(-reach, reach + 0.5, 0.5)
    groups = [all_scores["score"][all_scores["column"] == name] for name in SCORES]
    labels, colours = zip(*SCORES.values(), strict=True)
    ax.hist(groups, bins, color=colours, label=labels, stacked=True, alpha=0.7)
    at = np.linspace(-reach, reach, 199)
    ax.plot(at, 0.5 * len(all_scores) * stats.norm.pdf(at), color="black", lw=1.1)
    ax.set(xlabel="measured less expected (normal score)", ylabel="tests")
    far = all_scores[all_scores["score"].abs() > NAMED].sort_values("score")
    for height, row in enumerate(far.itertuples()):
        # Above the bars beside it.
        ax.annotate(row.law, (row.score, 4 + 2 * height), ha="center", fontsize=6)
    ax.legend(frameon=False, fontsize=6)
    return figure
