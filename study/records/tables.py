"""How a table is kept: rows in ``<table>.csv``, or ``.parquet``, and what they are in ``.json``.

The CSV is UTF-8, LF, floats in the shortest form that reads back to the same bits. The ``.json``
holds the checksum, the type of every column, the configuration, the conventions and the versions.
Neither holds a time, a host or a path, so the same run gives the same bytes. Four types are kept,
bit for bit: float64 (``inf``, ``-inf``; a NaN is an empty cell), int64, bool (``True``, ``False``)
and string, which may be empty but not missing.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from study.records.columns import CONVENTIONS, data_dictionary
from study.records.disk import write_together
from study.tools.checks import made_by, missing_extra

# Raised whenever a change of the library changes a number: every stored part is then stale.
NUMERICS_VERSION = 2
FORMATS = ("csv", "parquet")
Tables = dict[str, pd.DataFrame]  # the tables of an experiment, or of one of its cells, by name
Json = dict[str, Any]
_TEXT = pd.Series(["text"]).dtype  # what this pandas calls text
_DTYPES = {"float64": np.float64, "int64": np.int64, "bool": np.bool_, "string": _TEXT}


def canonical(value: Any) -> bytes:
    """Return the one JSON text of `value`; ValueError or TypeError where it has none.

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


@functools.cache  # a part carries them, and to look them up takes longer than a small part
def versions() -> dict[str, str]:
    """Return what computed the numbers: the study, its libraries, Python and the BLAS."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "study": str(getattr(sys.modules["study"], "__version__", "unknown")),
        **{name: importlib.metadata.version(name) for name in ("numpy", "scipy", "numba")},
        "python": platform.python_version(),
        "blas": f"{blas['name']} {blas['version']}",
    }


def schema(frame: pd.DataFrame) -> dict[str, str]:
    """Return the type of every column, in order; ValueError for what would not read back.

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


class Table(NamedTuple):
    """A table as text: its CSV, the type of each column, and its number of rows."""

    csv: bytes
    types: dict[str, str]
    rows: int

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Take a frame, without its index; errors as `schema`, or where text is not Unicode.

        >>> Table.of(pd.DataFrame({"a": [0.1, float("-inf")], "b": ["x,y", ""]})).csv
        b'a,b\\n0.1,"x,y"\\n-inf,\\n'
        """
        types = schema(frame)  # before the text: what does not read back is not written
        return cls(frame.to_csv(index=False, lineterminator="\n").encode(), types, len(frame))

    def frame(self) -> pd.DataFrame:
        """Return the frame, bit for bit; ValueError where columns or types are others."""
        if not self.csv.startswith(self.header()):
            raise ValueError(f"the columns are not {', '.join(self.types)}")
        dtypes = {name: _DTYPES[kind] for name, kind in self.types.items()}  # never guessed
        try:
            return pd.read_csv(
                io.BytesIO(self.csv),
                dtype=dtypes,
                keep_default_na=False,  # a text may read NA or None
                na_values={name: ["", "nan"] for name in dtypes if dtypes[name] is np.float64},
                lineterminator="\n",  # a text may hold a carriage return
            )
        except OverflowError as error:
            raise ValueError(f"not an int64: {error}") from None

    def header(self) -> bytes:
        """Return the first line of the CSV."""
        return pd.DataFrame(columns=[*self.types]).to_csv(index=False, lineterminator="\n").encode()


def check_format(kind: str, needed_by: str) -> None:
    """Refuse a format whose library is not there: ImportError, which says what installs it."""
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise missing_extra(needed_by, "parquet")


def files_of(path: Path, table: Table, provenance: Json, kind: str = "csv") -> dict[Path, bytes]:
    """Return the two files of the table `path`, its rows as CSV or Parquet."""
    about = {"schema": table.types, "rows": table.rows, **provenance, "conventions": CONVENTIONS}
    data = table.csv
    if kind != "csv":
        about["format"] = kind
        data = table.frame().to_parquet(index=False)
    about = {"sha256": digest(data), **about}
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    return {path.with_suffix(f".{kind}"): data, path.with_suffix(".json"): f"{text}\n".encode()}


def write_table(path: Path, frame: pd.DataFrame, provenance: Json) -> None:
    """Write `frame` to `path` (``.csv``), and beside it what is needed to trust it (``.json``)."""
    write_together(files_of(Path(path), Table.of(frame), provenance))


def write_described(
    path: Path, frame: pd.DataFrame, meanings: Mapping[str, str], provenance: Json
) -> None:
    """Write a table, and beside it ``data_dictionary.csv``: what `meanings` say of its columns."""
    dictionary = Table.of(data_dictionary({path.stem: schema(frame)}, meanings))
    beside = files_of(path.with_name("data_dictionary.csv"), dictionary, provenance)
    write_together(files_of(path, Table.of(frame), provenance) | beside)


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"table {path} is missing; it is made by: {made_by(path)}")


def _bad(path: Path, what: str) -> ValueError:
    return ValueError(f"table {path} is {what}; it is made again by: {made_by(path)}")


def read_about(path: Path) -> Json:
    """Return the ``.json`` of the table `path`; errors as `read_table`."""
    path = Path(path)
    try:
        about = json.loads(path.with_suffix(".json").read_bytes())
        types = about["schema"]
        is_sound = isinstance(types, dict) and isinstance(about["sha256"], str)
        is_sound = is_sound and about.get("format", "csv") in FORMATS
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise _bad(path, "damaged (its .json)")
    for name, kind in types.items():
        if kind not in [*_DTYPES]:  # it may be of any kind of JSON
            what = f"column {name!r} has type {kind!r}; allowed: {', '.join(_DTYPES)}"
            raise _bad(path, f"of another study ({what})")
    return about


def rows_of(path: Path) -> Path:
    """Return the file that holds the rows of the table `path`, a CSV or a Parquet file."""
    return Path(path).with_suffix(f".{read_about(path).get('format', 'csv')}")


def read_table(path: Path) -> pd.DataFrame:
    """Read a table back, bit for bit, by the path of its ``.csv``, also if rows are in a Parquet.

    FileNotFoundError where one of its two files is missing, ValueError where it is damaged: the
    checksum, the columns or a value do not agree. The message names the command that makes it.

    >>> read_table("results/none/a.csv")                # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FileNotFoundError: results/none/a.csv is missing
    """
    path = Path(path)
    about = read_about(path)
    try:
        data = rows_of(path).read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    if digest(data) != about["sha256"]:  # before any of it is believed
        raise _bad(path, "damaged (checksum)")
    kind = about.get("format", "csv")
    check_format(kind, f"table {path}")
    try:
        if kind == "csv":
            return Table(data, about["schema"], about.get("rows", 0)).frame()
        frame = pd.read_parquet(io.BytesIO(data))
        if schema(frame) != about["schema"]:
            raise ValueError(f"the columns are not {', '.join(about['schema'])}")
        return frame
    except ValueError as error:
        raise _bad(path, f"damaged ({error})") from None
