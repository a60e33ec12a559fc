"""The table of laws as `study laws` makes it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from experiments.laws import LAWS
from experiments.laws.law import COLUMNS
from experiments.laws.page import markdown, summary
from study.records import tables as records
from study.records.disk import make_folder

__all__ = ["PRESETS", "markdown", "measure", "summary", "write"]

PRESETS = {"quick": 1, "paper": 6}


def measure(more: int, show: Callable[[str], None]) -> pd.DataFrame:
    """Measure and judge all laws; ``show`` is given a line of text when one is done."""
    rows = []
    with threadpool_limits(limits=1):
        for law in LAWS.values():
            rows.append(law.row(more))
            show("{verdict:<10} {control_verdict:<8} {law}".format(**rows[-1]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(table: pd.DataFrame, folder: Path, preset: str) -> Path:
    """Write ``<folder>/laws.csv`` and its data dictionary; returns the former's path."""
    path = Path(folder) / "laws.csv"
    make_folder(path.parent)
    about = {"configuration": {"preset": preset}, "versions": [records.versions()]}
    records.write_described(path, table, COLUMNS, about)
    return path
