"""What a table is made of and how it is kept: one schema, validated read.

A table lives in two files. ``<table>.csv`` holds the rows: UTF-8, LF, floats in the shortest form
that reads back to the same bits. ``<table>.json`` beside it holds what is needed to trust and
understand them: the checksum, the type of every column, the configuration, the conventions and
the versions. Neither holds a time, a host or a path, so the same run gives the same bytes.

Four types are kept, bit for bit: float64, int64, bool and string.

==================  =========================  ==============================================
type                in memory                  in the CSV
==================  =========================  ==============================================
float64             NumPy float64              ``repr``; ``inf``, ``-inf`` and ``nan`` in words
optional float64    NumPy float64, NaN is      as above; not available is an empty cell
                    "not available"
int64, bool         NumPy                      digits; ``True`` or ``False``
string              pandas text, may miss      missing is empty, the empty text is ``""``
==================  =========================  ==============================================
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.checks import made_by
from study.records.disk import write_together

NUMERICS_VERSION = 2
"""Raised whenever a change of the library changes a number: every stored part is then stale."""


class Column(NamedTuple):
    """What one column holds."""

    type: str
    unit: str
    meaning: str


_LOG = "log10"
PROFILE_COLUMNS: dict[str, Column] = {
    "activation": Column("string", "-", "phi, the name of the activation"),
    "depth": Column("int64", "layers", "number of weight matrices"),
    "width": Column("int64", "units", "units in a layer"),
    "sigma_w": Column("float64", "1", "standard deviation: Var W = sigma_w^2 / fan_in"),
    "sigma_b": Column("float64", "1", "standard deviation: Var b = sigma_b^2"),
    "weights": Column("string", "-", "law of the weights: gaussian, uniform or orthogonal"),
    "dtype": Column("string", "-", "number format the network was computed in"),
    "kink": Column("float64", "1", "value of phi' where phi has a kink, ReLU'(0)"),
    "seed": Column("int64", "-", "names the draw; networks with the same seed share weights"),
    "layer": Column("int64", "layers", "k of W^(k), 0 next to the input"),
    "grad_norm_mantissa": Column(
        "float64", "1", "‖dC/dW^(k)‖ = mantissa x 2^exponent; 0 or [1, 2)"
    ),
    "grad_norm_exponent": Column(
        "int64", "log2", "the exponent of two that goes with the mantissa"
    ),
    "log10_grad_norm": Column("float64", _LOG, "Frobenius norm of dC/dW^(k); -inf: a true zero"),
    "log10_delta_norm": Column("float64", _LOG, "Frobenius norm of dC/dz^(k+1)"),
    "log10_signal_norm": Column("float64", _LOG, "Frobenius norm of r^(k+1)"),
    "log10_weight_norm": Column(
        "optional float64", _LOG, "Frobenius norm of W^(k); empty where no matrix was formed"
    ),
    "log10_derivative_factor": Column(
        "float64", _LOG, "‖dC/dz^(k+1)‖ / ‖dC/dr^(k+1)‖: what the activation's derivative did"
    ),
    "log10_weight_factor": Column(
        "float64", _LOG, "‖dC/dr^(k)‖ / ‖dC/dz^(k+1)‖: what the weights did"
    ),
    "active_fraction": Column("float64", "1", "share of units with phi'(z) > 0.01 of its maximum"),
    "status": Column(
        "string",
        "-",
        "what a plain run would have seen: ok, dead (a true zero), float32_underflow, "
        "float32_overflow, float64_underflow or float64_overflow",
    ),
    "engine": Column("string", "-", "which engine computed the row: dense or matrix_free"),
}
"""The frame of `study.profile`, in order: the network's own fields, the seed, then each layer's."""

CONVENTIONS: dict[str, str] = {
    "arrays": "inputs (batch, n_in), weights (n_in, n_out), z = r W + b, r = phi(z)",
    "cost": "C = 1/2 sum_j (r_j - y_j)^2, the mean over the batch",
    "sigma_w": "a standard deviation: Var W = sigma_w^2 / fan_in",
    "sigma_b": "a standard deviation: Var b = sigma_b^2; 0 unless stated",
    "depth": "number of weight matrices",
    "layer": "k = 0 .. depth-1 names W^(k), 0 next to the input",
    "gradient at the output": "the cost's (targets) or a random unit cotangent, the same for "
    "every network compared",
    "chi": "a factor of the squared norm per layer",
    "logarithms": "base 10; the column's name says so",
    "numbers outside the float range": "mantissa x 2^exponent; a true zero stays zero and is "
    "never confused with underflow",
}
"""Each convention of the study, stated once and stored with every table."""

_TYPES = ("float64", "optional float64", "int64", "bool", "string")
_TEXT = pd.Series(["text"]).dtype  # what this pandas calls text
_CELL = re.compile(r'("[^"]*(?:""[^"]*)*"|[^,"\n]*)([,\n])')


def canonical(value: Any) -> bytes:
    """Return the one JSON text of `value`: sorted keys, no spaces, no NaN.

    Raises
    ------
    ValueError, TypeError
        When `value` is not JSON, or holds NaN or an infinity.

    Examples
    --------
    >>> canonical({"width": 64, "activation": "relu"})
    b'{"activation":"relu","width":64}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return text.encode()


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def versions() -> dict[str, str]:
    """Return what computed the numbers: the study, its libraries, Python and the BLAS."""
    return dict(_versions())


@functools.cache  # a part carries them, and to look them up takes longer than a small part
def _versions() -> dict[str, str]:
    found = {"study": str(getattr(sys.modules["study"], "__version__", "unknown"))}
    for package in ("numpy", "scipy", "numba"):
        found[package] = importlib.metadata.version(package)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return found | {
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
    }


def schema(frame: pd.DataFrame) -> dict[str, str]:
    """Return the type of every column of `frame`, in order.

    Raises
    ------
    ValueError
        When a column's name is not text or occurs twice, or its values are not of a kept type.

    Examples
    --------
    >>> schema(pd.DataFrame({"layer": [0], "status": ["ok"], "log10_weight_norm": [0.5]}))
    {'layer': 'int64', 'status': 'string', 'log10_weight_norm': 'optional float64'}
    """
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            raise ValueError(f"column {name!r} is not allowed; allowed: text, each name once")
    if not names:
        raise ValueError("a table has no columns; allowed: at least one")
    return {name: _type(name, frame[name]) for name in names}


def _type(name: str, values: pd.Series) -> str:
    if name in PROFILE_COLUMNS and values.dtype == np.float64:
        optional = PROFILE_COLUMNS[name].type == "optional float64"
        return "optional float64" if optional else "float64"
    if values.dtype in (np.float64, np.int64, np.bool_):
        return str(values.dtype)
    if pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty"):
        return "string"
    raise ValueError(
        f"column {name!r} has dtype {values.dtype}; allowed: float64, int64, bool, text"
    )


def encode(frame: pd.DataFrame) -> bytes:
    """Return `frame` as CSV; its index is not kept.

    Raises
    ------
    ValueError
        As `schema`, or when a text is not valid Unicode.

    Examples
    --------
    >>> encode(pd.DataFrame({"a": [0.1, float("-inf")], "b": ["x,y", ""]}))
    b'a,b\\n0.1,"x,y"\\n-inf,""\\n'
    """
    columns = [_write(frame[name], kind) for name, kind in schema(frame).items()]
    lines = [*map(",".join, zip(*columns, strict=True))]
    return header(frame.columns) + "".join(f"{line}\n" for line in lines).encode()


def header(names: Iterable[str]) -> bytes:
    """Return the first line of a CSV with these column names."""
    return (",".join(map(_quote, names)) + "\n").encode()


def _quote(text: str) -> str:
    special = not text or any(mark in text for mark in ',"\n\r')
    return '"' + text.replace('"', '""') + '"' if special else text


def _write(values: pd.Series, kind: str) -> list[str]:
    if kind == "string":
        known = {text: _quote(text) for text in values.dropna().unique()}
        return ["" if gone else known[v] for v, gone in zip(values, values.isna(), strict=True)]
    texts = list(map(repr, values.tolist()))
    return ["" if t == "nan" else t for t in texts] if kind == "optional float64" else texts


def _read(cells: list[str], kind: str) -> Any:
    if kind == "string":
        texts = [c[1:-1].replace('""', '"') if c[:1] == '"' else (c or None) for c in cells]
        return pd.Series(texts, dtype=_TEXT)
    if kind == "int64":
        try:
            return np.fromiter(map(int, cells), np.int64, len(cells))
        except OverflowError as error:
            raise ValueError(f"not an int64: {error}") from None
    if kind == "bool":
        return np.fromiter((c == "True" for c in cells), np.bool_, len(cells))
    if kind == "optional float64":
        cells = [c or "nan" for c in cells]
    return np.fromiter(map(float, cells), np.float64, len(cells))


def decode(data: bytes, types: Mapping[str, str]) -> pd.DataFrame:
    """Return the frame that `encode` wrote, bit for bit.

    Raises
    ------
    ValueError
        When `data` does not have the columns and the types of `types`.

    Examples
    --------
    >>> decode(b"layer,status\\n0,ok\\n", {"layer": "int64", "status": "string"})
       layer status
    0      0     ok
    """
    first = header(types)
    if not data.startswith(first):
        raise ValueError(f"the columns are not {', '.join(types)}")
    text = data[len(first) :].decode()
    if '"' in text:
        rows: list[list[str]] = [[]]
        for cell, end in _CELL.findall(text):
            rows[-1].append(cell)
            if end == "\n":
                rows.append([])
        rows.pop()
    else:  # no quoted cell, so every comma and every line end separates
        rows = [line.split(",") for line in text.split("\n")[:-1]]
    columns = zip(*rows, strict=True) if rows else [()] * len(types)
    pairs = zip(types.items(), columns, strict=True)
    return pd.DataFrame({name: _read(list(cells), kind) for (name, kind), cells in pairs})


def table_files(
    path: Path, data: bytes, types: Mapping[str, str], provenance: Mapping[str, Any]
) -> dict[Path, bytes]:
    """Return the two files of a table, given its CSV: what `write_table` writes."""
    about = {
        "sha256": digest(data),
        "schema": dict(types),
        **provenance,
        "conventions": CONVENTIONS,
    }
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    return {path: data, path.with_suffix(".json"): f"{text}\n".encode()}


def write_table(path: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write `frame` to `path` (``.csv``), and beside it what is needed to trust it (``.json``).

    Raises
    ------
    ValueError
        As `encode`.
    OSError
        As `write_atomic`.
    """
    provenance = {"rows": len(frame), **provenance}
    write_together(table_files(Path(path), encode(frame), schema(frame), provenance))


def read_about(path: Path) -> dict[str, Any]:
    """Return what stands beside the table `path`: checksum, schema, configuration, versions."""
    path = Path(path)
    try:
        about = json.loads(path.with_suffix(".json").read_bytes())
        types = about["schema"]
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        types = None
    if not isinstance(types, dict) or not isinstance(about.get("sha256"), str):
        raise _damaged(path, "its .json")
    for name, kind in types.items():
        if kind not in _TYPES:
            raise ValueError(
                f"table {path} is of another study (column {name!r} has type {kind!r}; allowed: "
                f"{', '.join(_TYPES)}); it is made again by: {made_by(path)}"
            )
    return about


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"table {path} is missing; it is made by: {made_by(path)}")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"table {path} is damaged ({what}); it is made again by: {made_by(path)}")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table back, bit for bit.

    Parameters
    ----------
    path : path of the ``.csv``

    Raises
    ------
    FileNotFoundError
        When one of its two files is missing; the message names the command that makes it.
    ValueError
        When it is damaged: the checksum, the columns or a value do not agree.
    """
    path = Path(path)
    about = read_about(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    if digest(data) != about["sha256"]:
        raise _damaged(path, "checksum")
    try:
        return decode(data, about["schema"])
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def data_dictionary(
    tables: Mapping[str, Mapping[str, str]], own: Mapping[str, str]
) -> pd.DataFrame:
    """Say what every column of every table means.

    Parameters
    ----------
    tables : table name -> its schema
    own : meaning of the columns that are the experiment's own, its unit last in square brackets

    Returns
    -------
    DataFrame with columns table, column, type, unit, meaning

    Raises
    ------
    ValueError
        Naming the first column that nobody explained, or that bears a common name but another type.

    Examples
    --------
    >>> data_dictionary({"t": {"rate": "float64"}}, {"rate": "growth [log10 a layer]"})
      table column     type           unit meaning
    0     t   rate  float64  log10 a layer  growth
    """
    rows = []
    for table, types in tables.items():
        for name, kind in types.items():
            if name in own:
                meaning, unit = re.fullmatch(r"(?s)(.*?)(?:\s*\[([^\[\]]*)\])?", own[name]).groups()
            elif name in PROFILE_COLUMNS and PROFILE_COLUMNS[name].type == kind:
                meaning, unit = PROFILE_COLUMNS[name].meaning, PROFILE_COLUMNS[name].unit
            else:
                raise ValueError(
                    f"column {name!r} ({kind}) of table {table!r} has no meaning; allowed: "
                    "the common columns with their type, and those in the experiment's COLUMNS"
                )
            rows.append((table, name, kind, unit, meaning))
    return pd.DataFrame(rows, columns=["table", "column", "type", "unit", "meaning"])


def write_described(
    path: Path, frame: pd.DataFrame, meanings: Mapping[str, str], provenance: Mapping[str, Any]
) -> None:
    """Write a table by `write_table`, and beside it ``data_dictionary.csv``: what `meanings` say.

    Raises
    ------
    ValueError
        Naming the first column that nobody explained; nothing is written then.
    """
    dictionary = data_dictionary({path.stem: schema(frame)}, meanings)
    write_table(path, frame, provenance)
    write_table(path.with_name("data_dictionary.csv"), dictionary, provenance)
