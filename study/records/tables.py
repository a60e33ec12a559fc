"""How a table is kept: one schema, validated read.

A table lives in two files. ``<table>.csv`` holds the rows: UTF-8, LF, floats in the shortest form
that reads back to the same bits. ``<table>.json`` beside it holds what is needed to trust and
understand them: the checksum, the type of every column, the configuration, the conventions and
the versions. Neither holds a time, a host or a path, so the same run gives the same bytes.

Four types are kept, bit for bit: float64 (``inf``, ``-inf``; a NaN is an empty cell), int64, bool
(``True``, ``False``) and string, which may be empty but not missing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.core.columns import PROFILE_COLUMNS, Column
from study.records.columns import CONVENTIONS, OLD_TYPES, data_dictionary
from study.records.disk import write_together
from study.tools.checks import made_by

__all__ = ["CONVENTIONS", "PROFILE_COLUMNS", "Column", "data_dictionary"]

NUMERICS_VERSION = 2
"""Raised whenever a change of the library changes a number: every stored part is then stale."""

_TEXT = pd.Series(["text"]).dtype  # what this pandas calls text
_DTYPES = {"float64": np.float64, "int64": np.int64, "bool": np.bool_, "string": _TEXT}


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
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    libraries = {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba")}
    return {
        "study": str(getattr(sys.modules["study"], "__version__", "unknown")),
        **libraries,
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
    {'layer': 'int64', 'status': 'string', 'log10_weight_norm': 'float64'}
    """
    names = list(frame.columns)
    for name in names:
        # The reader of CSVs drops such marks at the ends of a line.
        is_text = isinstance(name, str) and name.strip("\ufeff\t\r\n ") == name != ""
        if not is_text or names.count(name) > 1:
            raise ValueError(f"column {name!r} is not allowed; allowed: words, each name once")
    if not names:
        raise ValueError("a table has no columns; allowed: at least one")
    return {name: _type(name, frame[name]) for name in names}


def _type(name: str, values: pd.Series) -> str:
    if values.dtype in (np.float64, np.int64, np.bool_):
        return str(values.dtype)
    is_text = pd.api.types.infer_dtype(values) in ("string", "empty")
    if is_text and not values.isna().any():
        return "string"
    raise ValueError(
        f"column {name!r} has dtype {values.dtype}; "
        "allowed: float64, int64, bool, text that is not missing"
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
    b'a,b\\n0.1,"x,y"\\n-inf,\\n'
    """
    schema(frame)  # refuses what would not read back
    return frame.to_csv(index=False, lineterminator="\n").encode()


def header(names: Iterable[str]) -> bytes:
    """Return the first line of a CSV with these column names."""
    return pd.DataFrame(columns=list(names)).to_csv(index=False, lineterminator="\n").encode()


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
    if not data.startswith(header(types)):
        raise ValueError(f"the columns are not {', '.join(types)}")
    kinds = {name: OLD_TYPES.get(kind, kind) for name, kind in types.items()}
    try:
        return pd.read_csv(
            io.BytesIO(data),
            dtype={name: _DTYPES[kind] for name, kind in kinds.items()},
            keep_default_na=False,  # a text may read NA or None
            na_values={name: ["", "nan"] for name, kind in kinds.items() if kind == "float64"},
            lineterminator="\n",  # a text may hold a carriage return
        )
    except OverflowError as error:
        raise ValueError(f"not an int64: {error}") from None


def table_files(
    path: Path, data: bytes, types: Mapping[str, str], provenance: Mapping[str, Any]
) -> dict[Path, bytes]:
    """Return the two files of a table, given its CSV."""
    # No time, host or path: the same run gives the same bytes.
    about = {
        "sha256": digest(data),
        "schema": dict(types),
        **provenance,
        "conventions": CONVENTIONS,
    }
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    return {path: data, path.with_suffix(".json"): f"{text}\n".encode()}


def files_of(path: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> dict[Path, bytes]:
    """Return the two files of a table: what `write_table` writes."""
    about = {"rows": len(frame), **provenance}
    return table_files(Path(path), encode(frame), schema(frame), about)


def write_table(path: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write `frame` to `path` (``.csv``), and beside it what is needed to trust it (``.json``).

    Raises
    ------
    ValueError
        As `encode`.
    OSError
        As `write_together`.
    """
    write_together(files_of(path, frame, provenance))


def write_described(
    path: Path, frame: pd.DataFrame, meanings: Mapping[str, str], provenance: Mapping[str, Any]
) -> None:
    """Write a table, and beside it ``data_dictionary.csv``: what `meanings` say of its columns."""
    dictionary = data_dictionary({path.stem: schema(frame)}, meanings)
    beside = path.with_name("data_dictionary.csv")
    files = files_of(path, frame, provenance)
    write_together(files | files_of(beside, dictionary, provenance))


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"table {path} is missing; it is made by: {made_by(path)}")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"table {path} is damaged ({what}); it is made again by: {made_by(path)}")


def read_about(path: Path) -> dict[str, Any]:
    """Return what stands beside the table `path`: checksum, schema, configuration, versions.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_table`.
    """
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
        if kind not in (*_DTYPES, *OLD_TYPES):
            raise ValueError(
                f"table {path} is of another study (column {name!r} has type {kind!r}; allowed: "
                f"{', '.join(_DTYPES)}); it is made again by: {made_by(path)}"
            )
    return about


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
