"""One cell of a grid as a file: its configuration, and the tables that `measure` made of it.

::

    {"configuration":...,"format":1,"sha256":...,"tables":[...],"versions":...}   one line of JSON
    layer,log10_grad_norm                                                         then the CSVs
    0,-3.25

The file is named by the hash of the configuration, so a finished part is found again by asking for
the same numbers. The checksum covers header and tables, and the configuration must be the one asked
for: a part that is truncated, altered, stale or empty is never used.
"""

from __future__ import annotations

import importlib
import json
import re
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from threadpoolctl import threadpool_limits

from study.records import tables as records

PART_FORMAT = 1
_SHARED = ("data_dictionary", "claims")  # file names that are not an experiment's to use


class Part(NamedTuple):
    """One cell: the module that measures it, and the configuration that names its numbers."""

    module: str
    configuration: dict[str, Any]

    @property
    def key(self) -> str:
        """The name of its file: a hash of the configuration, 64 hexadecimal digits."""
        return records.digest(records.canonical(self.configuration))


class Table(NamedTuple):
    """One table inside a part: its CSV, the type of each column, and its rows."""

    csv: bytes
    types: dict[str, str]
    rows: int

    def frame(self) -> pd.DataFrame:
        """The table itself."""
        return records.decode(self.csv, self.types)


class Content(NamedTuple):
    """What a sound part says of itself; `versions` computed it."""

    configuration: dict[str, Any]
    tables: dict[str, Table]
    versions: dict[str, str]


def check_name(name: str) -> None:
    """Refuse a table's name that could leave the folder or hide a file of the study's own."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _SHARED:
        raise ValueError(
            f"table name {name!r} is not allowed; allowed: a-z, 0-9 and _, not {_SHARED}"
        )


def encode_part(configuration: dict[str, Any], tables: dict[str, pd.DataFrame]) -> bytes:
    """Return the file of one part."""
    body = b""
    index = []
    for name, frame in tables.items():
        check_name(name)
        csv = records.encode(frame)
        schema = [*records.schema(frame).items()]
        index.append({"name": name, "schema": schema, "rows": len(frame), "bytes": len(csv)})
        body += csv
    about = {
        "format": PART_FORMAT,
        "configuration": configuration,
        "versions": records.versions(),
        "tables": index,
    }
    checksum = records.digest(records.canonical(about) + b"\n" + body)
    return records.canonical({**about, "sha256": checksum}) + b"\n" + body


def read_part(data: bytes) -> Content:
    """Return what is in a part, whatever it is of.

    Raises
    ------
    ValueError
        Saying in a few words why the part must not be used.
    """
    line, _, body = data.partition(b"\n")
    try:
        about = json.loads(line)
        checksum = about.pop("sha256")
        intact = records.canonical({**about, "sha256": checksum}) == line
        intact = intact and records.digest(records.canonical(about) + b"\n" + body) == checksum
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise ValueError("checksum does not agree" if data else "empty")
    if about.get("format") != PART_FORMAT:
        raise ValueError(f"format {about.get('format')}, not {PART_FORMAT}")
    tables = {}
    start = 0
    for entry in about["tables"]:
        check_name(entry["name"])  # whoever wrote the file, it stays in its folder
        csv = body[start : start + entry["bytes"]]
        tables[entry["name"]] = Table(csv, dict(map(tuple, entry["schema"])), entry["rows"])
        start += entry["bytes"]
    return Content(about["configuration"], tables, about["versions"])


def decode_part(data: bytes, configuration: dict[str, Any]) -> Content:
    """Return what is in a part of that configuration; errors as `read_part`."""
    content = read_part(data)
    if records.canonical(content.configuration) != records.canonical(configuration):
        raise ValueError("stale configuration")
    return content


def compute(module: str, configuration: dict[str, Any]) -> tuple[bytes, str]:
    """Measure one cell, in a worker: its part and "", or nothing and the reason in one line.

    Raises
    ------
    MemoryError
        When memory ran out, which may be the fault of whoever shared it.
    """
    try:
        experiment = importlib.import_module(module).experiment
        here = [records.NUMERICS_VERSION, experiment.version]
        if here != configuration["numerics"]:
            raise ValueError(
                f"this worker has numerics {here}, not {configuration['numerics']}; "
                "allowed: the study of the driver on every worker"
            )
        with threadpool_limits(limits=1):
            tables = experiment.measure(**configuration["cell"])
        return encode_part(configuration, tables), ""
    except MemoryError as error:  # NumPy's own does not travel
        raise MemoryError(f"out of memory: {error}") from None
    except (Exception, SystemExit) as error:  # what a cell does wrong must not cost the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split())
        return b"", f"{type(error).__name__}: {words} ({Path(place.filename).name}:{place.lineno})"
