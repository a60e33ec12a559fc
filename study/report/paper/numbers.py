"""Every number of the paper: its value, how it is printed, and the rows of which table it is from.

What the text needs is named in ``paper/quantities.toml``: single numbers, a section a key,

    [numbers.deepest]
    table = "depth_decay/networks"          # of the results, without .csv
    where = { inputs = "random" }           # the rows; numbers are compared to six digits
    column = "depth"
    of = "max"                              # see STATISTICS; only, if not given
    print = ",d"                            # Python's format; .4g if not given

and columns of tables that the paper prints whole, ``[tables.laws]`` with ``table``, ``columns`` and
``print``, the format of a column where it is not ``.4g``, or ``,d`` of whole numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.records import tables as records
from study.report.pages import DERIVATION
from study.runs.experiment import published
from study.statistics.summaries import median_lost_at

Record = dict[str, Any]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_KEPT = 3  # decades that a gradient may lose or gain under a remedy that keeps it


def _only(values: pd.Series) -> Any:
    if values.nunique() != 1:
        raise ValueError(f"of 'only' met {values.nunique()} different values; allowed: 1")
    return values.iloc[0]


STATISTICS: dict[str, Callable[[pd.Series], Any]] = {
    "only": _only,
    "median": pd.Series.median,
    "median size": lambda values: abs(values.median()),
    "min": pd.Series.min,
    "max": pd.Series.max,
    "rows": len,
    "distinct": pd.Series.nunique,
}
"""What can be made of the rows of a column."""


class _Tables(dict):
    """The tables of a results folder, each read and checked once; an index is a row's number."""

    def __init__(self, results: Path) -> None:
        self._results = Path(results)
        self.about: dict[str, Record] = {}

    def __missing__(self, name: str) -> pd.DataFrame:
        path = self._results / f"{name}.csv"
        frame = records.read_table(path)
        about = records.read_about(path)
        self.about[name] = {key: about.get(key) for key in ("sha256", "rows", "versions")}
        self[name] = published(frame) if name == "claims" else frame
        return self[name]


def gather(results: Path, quantities: Record) -> Record:
    """Gather every number of the paper.

    Parameters
    ----------
    results : folder of the tables
    quantities : what ``paper/quantities.toml`` says

    Returns
    -------
    dict of ``numbers`` by key; of the tables that are printed whole and of ``remedies``, a record a
    row; and of ``tables``, by name: checksum, number of rows, versions. A number has value and
    text; it, or the record that it is in, says of which table and rows (from 0) it is.

    Raises
    ------
    FileNotFoundError, ValueError
        When a table is missing or damaged, with the command that makes it; or when a quantity asks
        for what is not there.
    """
    tables = _Tables(results)
    numbers = {key: _number(key, asked, tables) for key, asked in quantities["numbers"].items()}
    whole = {name: _records(tables, **asked) for name, asked in quantities["tables"].items()}
    whole["remedies"] = _remedies(tables["remedies/decays"], tables["remedies/remedies"])
    about = dict(sorted(tables.about.items()))
    return {"tables": about, "numbers": numbers, **whole, "derivation": DERIVATION}


def encode(numbers: Record) -> bytes:
    """The generated file: the same numbers give the same bytes."""
    return (json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def printed(value: float, spec: str = ".4g") -> str:
    """A number as a reader expects it: a true minus sign, powers of ten, ∞.

    >>> [printed(x) for x in (-20.734, 5.2e-05, math.inf, 16384, 0.0)]
    ['−20.73', '5.2 × 10⁻⁵', '∞', '1.638 × 10⁴', '0']
    >>> printed(10_000, ",d"), printed(1.0, ".1f")
    ('10,000', '1.0')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    number, _, exponent = format(value, spec).partition("e")
    power = f" × 10{str(int(exponent)).translate(_RAISED)}" if exponent else ""
    return number.replace("-", "−") + power


def threshold(words: str) -> str:
    """A threshold of `study.statistics.claims` in signs.

    >>> threshold("within -0.00432137 to 0.00432137"), threshold("above 38")
    ('−0.004321 … 0.004321', '> 38')
    """
    numbers = re.sub(r"-?(\d\S*|inf)", lambda match: printed(float(match[0])), words)
    for word, sign in {"below": "<", "above": ">", "within ": "", "to": "…"}.items():
        numbers = numbers.replace(word, sign)
    return numbers


def _entry(value: Any, spec: str | None = None) -> Any:
    """A number and how it is printed; text as it is. JSON has no infinity, so that is a word."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()  # JSON knows Python's own numbers
    usual = ",d" if isinstance(value, int) else ".4g"
    text = printed(value, spec or usual)
    return {"value": value if math.isfinite(value) else str(value), "text": text}


def _number(key: str, asked: Record, tables: _Tables) -> Record:
    table, column = asked["table"], asked["column"]
    of = asked.get("of", "only")
    where = asked.get("where", {})
    frame = tables[table]
    if of not in STATISTICS:
        raise ValueError(f"of {of!r} of {key!r}; allowed: {', '.join(STATISTICS)}")
    for name in (column, *where):
        if name not in frame:
            raise ValueError(f"column {name!r} of {key!r}; allowed: {', '.join(frame)}")
    for name, wanted in where.items():
        if isinstance(wanted, str):
            frame = frame[frame[name] == wanted]
        else:
            frame = frame[np.isclose(frame[name], wanted, rtol=1e-6, atol=0)]
    if frame.empty:
        raise ValueError(f"where of {key!r} holds for no row of {table}; allowed: at least one")
    value = _entry(STATISTICS[of](frame[column]), asked.get("print", ".4g"))
    return value | {"table": table, "column": column, "of": of, "rows": _spans(frame.index)}


def _spans(rows: pd.Index) -> str:
    """Row numbers in short: 0-63, 128.

    >>> _spans(pd.Index([0, 1, 2, 7]))
    '0-2, 7'
    """
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _records(tables: _Tables, table: str, columns: list[str], **formats: Record) -> list[Record]:
    """Some columns of every row of a table."""
    specs = formats.get("print", {})
    rows = []
    for number, row in tables[table][columns].iterrows():
        record = {"table": table, "row": number}
        for name, value in row.items():
            record[name] = _entry(value, specs.get(name))
        if "threshold" in record:
            record["threshold"] = threshold(record["threshold"])
        rows.append(record)
    return rows


def _remedies(decays: pd.DataFrame, outcomes: pd.DataFrame) -> list[Record]:
    """Every remedy on random inputs: the depth down to which it keeps the gradient, in layers."""
    expected = outcomes.groupby("remedy")["expected_depth"].first()
    table = []
    for remedy, rows in decays[decays["inputs"] == "random"].groupby("remedy", sort=False):
        kept = median_lost_at(rows, _KEPT)
        deepest = rows["depth"].max()
        fate = "kept"
        if kept.value < deepest:
            last = rows[rows["depth"] == deepest]["log10_decay"].median()
            fate = "vanishes" if last < 0 else "explodes"
        record = {"table": "remedies/decays", "rows": _spans(rows.index)}
        record |= {"remedy": remedy, "fate": fate, "expected": _entry(expected[remedy])}
        record |= {name: _entry(getattr(kept, name)) for name in ("value", "low", "high")}
        table.append(record)
    return table
