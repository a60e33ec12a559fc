"""Every number of the paper: its value, how it is printed, and the rows of which table it is from.

What the text needs is named in ``paper/quantities.toml``, one section a key:

    [numbers.deepest]
    table = "depth_decay/networks"          # of the results, without .csv
    where = { inputs = "random" }           # the rows; numbers are compared to six digits
    column = "depth"
    of = "max"                              # see STATISTICS; only, if not given
    print = ",d"                            # Python's format; .4g if not given

Tables that the paper prints whole (claims, laws, remedies, bench, capacity) come with all rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.records import tables as records
from study.report.findings import DERIVATION
from study.report.paper.printing import printed, threshold

_WHOLE = {"bench": "bench/bench", "capacity": "capacity/capacity"}


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


class _Tables:
    """The tables of a results folder, each read and checked once."""

    def __init__(self, results: Path) -> None:
        self._results, self._frames = Path(results), {}
        self.about: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            path = self._results / f"{name}.csv"
            self._frames[name], about = records.read_table(path), records.read_about(path)
            self.about[name] = {key: about.get(key) for key in ("sha256", "rows", "versions")}
        return self._frames[name]


def gather(results: Path, quantities: Mapping[str, Any]) -> dict[str, Any]:
    """Gather every number of the paper.

    Parameters
    ----------
    results : folder of the tables
    quantities : what ``paper/quantities.toml`` says

    Returns
    -------
    dict of ``numbers`` by key; of ``claims`` by experiment and name; of ``laws``, ``remedies``,
    ``bench`` and ``capacity``, a record a row; and of ``tables``, by name: checksum, number of
    rows, versions. A number has value and text; it, or the record that it is in, says of which
    table and rows (from 0) it is.

    Raises
    ------
    FileNotFoundError
        When a table is missing; the message names the command that makes it.
    ValueError
        When a table is damaged, or a quantity asks for what is not there.
    """
    tables = _Tables(results)
    found = {
        "numbers": {
            key: _number(key, asked, tables) for key, asked in quantities["numbers"].items()
        },
        "claims": _claims(tables["claims"]),
        "laws": _laws(tables["laws/laws"], quantities["papers"]),
        "remedies": _remedies(tables["remedies/decays"], tables["remedies/remedies"]),
        **{name: _records(tables[table], table) for name, table in _WHOLE.items()},
        "derivation": DERIVATION,
    }
    return {"tables": dict(sorted(tables.about.items())), **found}


def encode(numbers: Mapping[str, Any]) -> bytes:
    """The generated file: the same numbers give the same bytes."""
    return (json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _entry(value: Any, spec: str = ".4g") -> dict[str, Any]:
    """A number and how it is printed; JSON has no infinity, so that one is a word."""
    value = value.item() if isinstance(value, np.generic) else value  # JSON knows Python's own
    finite = isinstance(value, str) or np.isfinite(value)
    return {"value": value if finite else str(value), "text": printed(value, spec)}


def _number(key: str, asked: Mapping[str, Any], tables: _Tables) -> dict[str, Any]:
    table, column, of = asked["table"], asked["column"], asked.get("of", "only")
    frame = tables[table]
    if of not in STATISTICS:
        raise ValueError(f"of {of!r} of {key!r}; allowed: {', '.join(STATISTICS)}")
    for name in (column, *asked.get("where", ())):
        if name not in frame:
            raise ValueError(f"column {name!r} of {key!r}; allowed: {', '.join(frame)}")
    kept = np.ones(len(frame), bool)
    for name, wanted in asked.get("where", {}).items():
        text = isinstance(wanted, str)
        same = frame[name] == wanted if text else np.isclose(frame[name], wanted, rtol=1e-6, atol=0)
        kept &= np.asarray(same)
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise ValueError(f"where of {key!r} holds for no row of {table}; allowed: at least one")
    value = STATISTICS[of](frame[column].iloc[rows])
    source = {"table": table, "column": column, "of": of, "rows": _spans(rows)}
    return _entry(value, asked.get("print", ".4g")) | source


def _spans(rows: np.ndarray) -> str:
    """Row numbers in short: 0-63, 128.

    >>> _spans(np.array([0, 1, 2, 7]))
    '0-2, 7'
    """
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _records(frame: pd.DataFrame, table: str) -> list[dict[str, Any]]:
    """Every row of a table, its numbers printed."""
    specs = {"int64": ",d", "float64": ".3g"}
    columns = {
        name: [_entry(value, specs.get(str(values.dtype), "")) for value in values]
        for name, values in frame.items()
    }
    return [
        {"table": table, "row": i} | dict(zip(columns, cells, strict=True))
        for i, cells in enumerate(zip(*columns.values(), strict=True))
    ]


def _claims(frame: pd.DataFrame) -> dict[str, Any]:
    """Every claim, by experiment and name."""
    found: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(frame.itertuples()):
        numbers = {name: _entry(getattr(row, name)) for name in ("estimate", "low", "high")}
        found.setdefault(row.experiment, {})[row.claim] = {
            "table": "claims", "row": i, "verdict": row.verdict,
            "threshold": threshold(row.threshold), **numbers, "seeds": _entry(row.n_seeds, ",d"),
        }  # fmt: skip
    return found


def _laws(frame: pd.DataFrame, papers: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Every law, with the keys of its references."""
    found = []
    for i, row in enumerate(frame.itertuples()):
        if row.paper not in papers:
            raise ValueError(f"paper {row.paper!r} of law {row.law!r}; allowed: {list(papers)}")
        numbers = {name: _entry(getattr(row, name)) for name in ("expected", "measured")}
        numbers |= {name: _entry(getattr(row, name), ".3g") for name in ("low", "high")}
        found.append(
            {"table": "laws/laws", "row": i, "law": row.law, "paper": row.paper,
             "cited": papers[row.paper], "statement": row.statement, "regime": row.regime,
             "verdict": row.verdict, **numbers}
        )  # fmt: skip
    return found


def _remedies(decays: pd.DataFrame, outcomes: pd.DataFrame) -> list[dict[str, Any]]:
    """Every remedy on random inputs: the depth down to which it keeps the gradient."""
    from experiments.remedies.catalogue import summary

    random = decays["inputs"] == "random"
    expected = outcomes.groupby("remedy")["expected_depth"].first()
    found = []
    for row in summary(decays[random], expected).itertuples():
        rows = np.flatnonzero(random & (decays["remedy"] == row.remedy))
        numbers = {name: getattr(row, name) for name in ("value", "low", "high", "expected")}
        found.append(
            {"table": "remedies/decays", "rows": _spans(rows), "remedy": row.remedy,
             "fate": row.fate}
            | {name: _entry(number) for name, number in numbers.items()}
        )  # fmt: skip
    return found
