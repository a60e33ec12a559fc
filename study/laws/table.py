"""The table of laws: measure them all, judge, and write the CSV, the figure's frame and the text.

The negative control of a law is the same measurement held against the wrong number: it must be
flagged, or the law was not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from study import records
from study.laws import LAWS
from study.laws.law import FALSE_ALARM, Law

PRESETS = {"quick": 1, "paper": 6}
"""How many times as many networks as in the quick preset."""

COLUMNS = {
    "law": "short name of the law [-]",
    "paper": "where it is from [-]",
    "statement": "the law in a sentence [-]",
    "regime": "the networks it is measured on, what is measured, the tolerance's form [-]",
    "popular_reading": "the reading that the law refutes, if there is one [-]",
    "expected": "what study.theory computes [as the regime says]",
    "measured": "mean, variance, median or share over networks [that of expected]",
    "low": "lower end of its interval; of the networks' range where nothing is left to chance "
    "[that of expected]",
    "high": "upper end [that of expected]",
    "tolerance": "stated beforehand; 0 where the law is exact [that of expected]",
    "networks": "independent networks, one seed each [networks]",
    "random": "whether the interval is a statistical one [-]",
    "verdict": "agrees, or disagrees: interval and tolerance do or do not hold expected [-]",
    "control": "what the wrong number of the negative control is [-]",
    "control_expected": "the wrong number [that of expected]",
    "control_verdict": "flagged, or missed: the measurement does or does not exclude it [-]",
}
"""The table's columns and their meaning."""


def measure(
    more: int, laws: Iterable[Law] = LAWS, show: Callable[[str], None] = lambda line: None
) -> pd.DataFrame:
    """Measure laws and judge them.

    Parameters
    ----------
    more : int
        How many times as many networks as in the quick preset.
    laws : iterable of Law
    show : callable
        Is given a line of text when a law is done.

    Returns
    -------
    DataFrame with the columns of `COLUMNS`, one row a law.
    """
    rows = []
    for law in laws:
        found = law.measure(more)
        estimate = found.estimate
        rows.append(
            {
                "law": law.name,
                "paper": law.paper,
                "statement": law.statement,
                "regime": law.regime,
                "popular_reading": law.popular,
                "expected": float(found.expected),
                "measured": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "tolerance": float(found.tolerance),
                "networks": estimate.n,
                "random": found.random,
                "verdict": "agrees" if found.agrees(found.expected) else "disagrees",
                "control": law.control,
                "control_expected": float(found.wrong),
                "control_verdict": "missed" if found.agrees(found.wrong) else "flagged",
            }
        )
        show(line(rows[-1]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def line(row: dict) -> str:
    """One law as a line of text.

    >>> row = {"law": "toy", "verdict": "agrees", "control_verdict": "flagged", "networks": 20}
    >>> line(row | {"expected": 1.0, "measured": 1.02, "low": 0.95, "high": 1.1})
    'agrees     flagged  toy                              1.02 [0.95, 1.1], expected 1, 20 networks'
    """
    return (
        f"{row['verdict']:<10} {row['control_verdict']:<8} {row['law']:<32} "
        f"{row['measured']:.5g} [{row['low']:.5g}, {row['high']:.5g}], "
        f"expected {row['expected']:.5g}, {row['networks']} networks"
    )


def false_alarms(table: pd.DataFrame) -> float:
    """The probability, at most, that any law that holds is said to disagree (Bonferroni)."""
    return FALSE_ALARM * int(table["random"].sum())


def summary(table: pd.DataFrame) -> str:
    """What the table amounts to, in a sentence."""
    agree = int((table["verdict"] == "agrees").sum())
    flagged = int((table["control_verdict"] == "flagged").sum())
    return (
        f"{agree} of {len(table)} laws agree, {flagged} of {len(table)} negative controls are "
        f"flagged; family-wise false-alarm rate at most {false_alarms(table):.2g}."
    )


def write(table: pd.DataFrame, folder: Path, preset: str) -> Path:
    """Write ``<folder>/laws.csv`` and its data dictionary; returns the former's path."""
    path = Path(folder) / "laws.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"configuration": {"preset": preset}, "versions": [records.versions()]}
    records.write_described(path, table, COLUMNS, about)
    return path


def markdown(table: pd.DataFrame) -> str:
    """The table as a page: one row a law."""
    lines = [
        "# The laws of the field, side by side",
        "",
        "Generated by `python -m study laws`; do not edit. Expected numbers are computed by",
        "`study.theory`, measured ones by networks at fixed seeds. Squared norms, natural "
        "logarithms.",
        "",
        f"**{summary(table)}**",
        "",
        "The interval of each measurement (level 1 - 10^-5; the range of all networks, where "
        "marked *all*)",
        "widened by the tolerance must hold the expected number, and must not hold the "
        "control's, a wrong one.",
        "",
        "| law | paper | regime | expected | measured | tolerance | networks | verdict "
        "| negative control |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        refuted = f" *Refuted here: {row.popular_reading}.*" if row.popular_reading else ""
        every = "" if row.random else " *all*"
        cells = (
            f"{row.statement}.{refuted}",
            row.paper,
            row.regime,
            f"{row.expected:.5g}",
            f"{row.measured:.5g} [{row.low:.5g}, {row.high:.5g}]{every}",
            f"{row.tolerance:.3g}",
            str(row.networks),
            row.verdict,
            f"{row.control} ({row.control_expected:.5g}): {row.control_verdict}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
