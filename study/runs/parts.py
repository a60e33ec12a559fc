"""One cell of a grid as a file: its configuration, and the tables that `measure` made of it.

The first line is the checksum of the rest, which is JSON. The file is named by the hash of the
configuration, so a finished part is found again by asking for the same numbers; one that is
truncated, altered, stale or empty is never used.
"""

import importlib
import json
import re
import traceback
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from study.records import tables as records
from study.records.tables import Json, Table, Tables

PART_FORMAT = 2
_SHARED = ("data_dictionary", "claims")  # file names that are not an experiment's to use


class Part(NamedTuple):
    """One cell: the module that measures it, and the configuration that names its numbers."""

    module: str
    configuration: Json

    @property
    def key(self) -> str:
        """The name of its file: a hash of the configuration, 64 hexadecimal digits."""
        return records.digest(records.canonical(self.configuration))


class Content(NamedTuple):
    """What a sound part says of itself; `versions` computed it."""

    configuration: Json
    versions: dict[str, str]
    tables: dict[str, Table]


def check_name(name: str) -> None:
    """Refuse a table's name that could leave the folder or hide a file of the study's own."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _SHARED:
        raise ValueError(
            f"table name {name!r} is not allowed; allowed: a-z, 0-9 and _, not {_SHARED}"
        )


def encode_part(configuration: Json, tables: Tables) -> bytes:
    """Return the file of one part."""
    texts = {}
    for name, frame in tables.items():
        check_name(name)
        csv, types, rows = Table.of(frame)
        texts[name] = {"csv": csv.decode(), "types": types, "rows": rows}
    content = {"configuration": configuration, "versions": records.versions(), "tables": texts}
    # Not sorted: the order of tables and of their columns is part of the result.
    body = json.dumps({"format": PART_FORMAT, **content}, ensure_ascii=False).encode()
    return records.digest(body).encode() + b"\n" + body


def read_part(data: bytes) -> Content:
    """Return what is in a part; ValueError says in a few words why it must not be used."""
    if not data:
        raise ValueError("empty")
    checksum, _, body = data.partition(b"\n")
    if records.digest(body).encode() != checksum:
        raise ValueError("checksum does not agree")
    content = json.loads(body)
    if content.get("format") != PART_FORMAT:
        raise ValueError(f"format {content.get('format')}, not {PART_FORMAT}")
    tables = {}
    for name, table in content["tables"].items():
        check_name(name)  # whoever wrote the file, it stays in its folder
        tables[name] = Table(table["csv"].encode(), table["types"], table["rows"])
    return Content(content["configuration"], content["versions"], tables)


def decode_part(data: bytes, configuration: Json) -> Content:
    """Return what is in a part of that configuration; errors as `read_part`."""
    content = read_part(data)
    if records.canonical(content.configuration) != records.canonical(configuration):
        raise ValueError("stale configuration")
    return content


def compute(module: str, configuration: Json) -> tuple[bytes, str]:
    """Measure one cell, in a worker: its part and "", or nothing and the reason in one line.

    MemoryError where memory ran out, which may be the fault of whoever shared it.
    """
    try:
        experiment = importlib.import_module(module).experiment
        here = [records.NUMERICS_VERSION, experiment.version]
        if here != configuration["numerics"]:
            raise ValueError(
                f"this worker has numerics {here}, not {configuration['numerics']}; "
                "allowed: the study of the driver on every worker"
            )
        with threadpool_limits(limits=1):  # also where the executor is not ours
            tables = experiment.measure(**configuration["cell"])
        return encode_part(configuration, tables), ""
    except MemoryError as error:  # NumPy's own does not travel
        raise MemoryError(f"out of memory: {error}") from None
    except (Exception, SystemExit) as error:  # what a cell does wrong must not cost the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = " ".join(str(error).split())
        # In one line, without the tables.
        return b"", f"{type(error).__name__}: {words} ({Path(place.filename).name}:{place.lineno})"
