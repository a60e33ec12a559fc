"""The paper: numbers from the tables, and the text pressed with them into a PDF.

What the text needs is named in ``paper/quantities.toml``: single numbers, a section a key,

    [numbers.deepest]
    table = "depth_decay/networks"          # of the results, without .csv
    where = { inputs = "random" }           # the rows; numbers are compared to six digits
    column = "depth"
    of = "max"                              # see STATISTICS; only, if not given
    print = ",d"                            # Python's format; .4g if not given

and columns of tables that the paper prints whole, ``[tables.laws]`` with ``table``, ``columns`` and
``print``, the format of a column where it is not ``.4g``, or ``,d`` of whole numbers.
The same files give the same bytes, anywhere: Typst's own fonts alone are used, no date is written.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.records import tables as records
from study.records.disk import write_together
from study.report.pages import DERIVATION
from study.statistics.summaries import median_lost_at
from study.tools.checks import library, one_of

printer = partial(library, "typst", "the paper", "paper")

SOURCE = Path(__file__).parents[2] / "paper"  # the text of the paper, in a checkout of the project
# The files of the text; the first is where it begins.
TEXT = ("paper.typ", "style.typ", "references.bib", "quantities.toml")

Record = dict[str, Any]
Tables = Mapping[str, pd.DataFrame]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_KEPT = 3  # decades that a gradient may lose or gain under a remedy that keeps it
_REMEDIES = ("remedies/decays", "remedies/remedies")


def _only(values: pd.Series) -> Any:
    if values.nunique() != 1:
        raise ValueError(f"of 'only' met {values.nunique()} different values; allowed: 1")
    return values.iloc[0]


# What can be made of the rows of a column.
STATISTICS: dict[str, Callable[[pd.Series], Any]] = {
    "only": _only,
    "median": pd.Series.median,
    "median size": lambda values: abs(values.median()),
    "min": pd.Series.min,
    "max": pd.Series.max,
    "rows": len,
    "distinct": pd.Series.nunique,
}


def gather(results: Path, quantities: Record) -> Record:
    """Gather every number of the paper that ``paper/quantities.toml`` asks of the tables.

    Returned are ``numbers`` by key; of the tables that are printed whole and of ``remedies``, a
    record a row; and ``tables``, by name: checksum, number of rows, versions. A number has value
    and text; it, or the record that it is in, says of which table and rows (from 0) it is.
    FileNotFoundError or ValueError where a table is missing or damaged, with the command that makes
    it, or when a quantity asks for what is not there.
    """
    asked = [*quantities["numbers"].values(), *quantities["tables"].values()]
    names = sorted({quantity["table"] for quantity in asked} | {*_REMEDIES})
    tables = {name: records.read_table(results / f"{name}.csv") for name in names}
    about = {}
    for name in names:
        beside = records.read_about(results / f"{name}.csv")
        about[name] = {key: beside.get(key) for key in ("sha256", "rows", "versions")}
    numbers = {key: _number(key, tables, **asked) for key, asked in quantities["numbers"].items()}
    whole = {name: _records(tables, **asked) for name, asked in quantities["tables"].items()}
    whole["remedies"] = _remedies(*[tables[name] for name in _REMEDIES])
    return {"tables": about, "numbers": numbers, **whole, "derivation": DERIVATION}


def encode(numbers: Record) -> bytes:
    """The generated file."""
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


def _number(key: str, tables: Tables, table: str, column: str, **asked: Any) -> Record:
    frame = tables[table]
    of = one_of(f"{key}.of", asked.get("of", "only"), STATISTICS)
    for name, wanted in asked.get("where", {}).items():
        values = frame[one_of(f"{key}.where", name, frame)]
        is_wanted = values == wanted
        if not isinstance(wanted, str):
            # TOML has sqrt 2 to some digits.
            is_wanted = np.isclose(values, wanted, rtol=1e-6, atol=0)
        frame = frame[is_wanted]
    if frame.empty:
        raise ValueError(f"{key}.where holds for no row of {table}; allowed: at least one")
    values = frame[one_of(f"{key}.column", column, frame)]
    entry = _entry(STATISTICS[of](values), asked.get("print", ".4g"))
    return entry | {"table": table, "column": column, "of": of, "rows": _spans(frame.index)}


def _spans(rows: pd.Index) -> str:
    """Row numbers in short: 0-63, 128.

    >>> _spans(pd.Index([0, 1, 2, 7]))
    '0-2, 7'
    """
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _records(tables: Tables, table: str, columns: list[str], **formats: Record) -> list[Record]:
    """Some columns of every row of a table."""
    specs = formats.get("print", {})
    rows = []
    for number, row in tables[table][columns].iterrows():
        entries = {name: _entry(value, specs.get(name)) for name, value in row.items()}
        if "threshold" in entries:
            entries["threshold"] = threshold(row["threshold"])
        rows.append({"table": table, "row": number} | entries)
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


def read(source: Path, figures: Path) -> dict[str, bytes]:
    """Read the text of the paper and the figures that it shows, by the names it calls them.

    FileNotFoundError when the text is missing, for an installed package has none, or a figure, with
    the command that draws it.
    """
    files = {}
    for name in TEXT:
        if not (source / name).is_file():
            raise FileNotFoundError(f"{source / name} is missing; it comes with a checkout")
        files[name] = (source / name).read_bytes()
    for name in re.findall(r'#plate\(\s*"(\w+)"', files[TEXT[0]].decode()):
        path = figures / f"{name}.svg"
        if not path.is_file():
            raise FileNotFoundError(f"figure {path} is missing; it is made by: make figures")
        files[f"figures/{name}.svg"] = path.read_bytes()
    return files


def press(files: Mapping[str, bytes]) -> bytes:
    """Press files, by the names that the text calls them, into a PDF.

    ValueError when the text asks for what is not there, disagrees with a verdict or has a warning.
    """
    typst = printer()
    main = {"main.typ": files[TEXT[0]]} | {k: v for k, v in files.items() if k != TEXT[0]}
    compiler = typst.Compiler(main, font_paths=[], ignore_system_fonts=True)
    try:
        pdf, warnings = compiler.compile_with_warnings(format="pdf")
    except typst.TypstError as error:
        raise ValueError(f"text of the paper: {error.diagnostic}") from None
    if warnings:  # a missing letter or label would go to print
        raise ValueError(f"text of the paper: {warnings[0].diagnostic}")
    return pdf


def write(results: Path, figures: Path, folder: Path, source: Path = SOURCE) -> list[Path]:
    """Gather the numbers, press the paper, and write ``numbers.json`` and ``paper.pdf``.

    Errors as `press`, `read` and `gather`; nothing is then written. Returns the paths of the two.
    """
    files = read(source, figures)
    quantities = tomllib.loads(files["quantities.toml"].decode())
    files["numbers.json"] = encode(gather(results, quantities))
    made = {folder / "numbers.json": files["numbers.json"], folder / "paper.pdf": press(files)}
    write_together(made)
    return list(made)
