"""From a grid to tables that lose nothing: grid -> parts -> executor -> resume.

A part is one cell of the grid, kept in ``<results>/<experiment>/.parts/<key>.part`` (see
`study.runs.parts`): a finished one is found again by its key, so resuming needs no flag, and a
damaged one is computed again. Workers send back bytes; only the driver writes.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from study.records import disk
from study.records import tables as records
from study.records.tables import Json, Table, Tables
from study.runs import workers as pools
from study.runs.parts import Content, Part, check_name, decode_part
from study.tools.checks import made_by

if TYPE_CHECKING:
    from study.runs.experiment import Experiment


def parts(experiment: Experiment, preset: str) -> list[Part]:
    """Return the parts of a preset, in grid order; errors as `Experiment.cells`."""
    numerics = [records.NUMERICS_VERSION, experiment.version]
    return [
        Part(experiment.module, {"experiment": experiment.name, "cell": c, "numerics": numerics})
        for c in experiment.cells(preset)
    ]


def _say(line: str) -> None:
    tqdm.write(f"study: {line}", file=sys.stderr)  # above a progress bar, not through it


def bar(name: str, parts: int, progress: bool | None) -> tqdm:
    """Parts computed, and the time that is left by what they took; by default on a terminal."""
    disable = None if progress is None else not progress
    how = {"unit": "part", "file": sys.stderr, "disable": disable, "smoothing": 0}
    return tqdm(desc=name, total=parts, **how)


def run(
    experiment: Experiment,
    preset: str,
    results: Path,
    workers: int,
    executor: Executor | None = None,
    progress: bool | None = None,
    kind: str = "csv",
    overall: tqdm | None = None,
) -> list[str]:
    """Compute the parts that are not there yet; when all are, write the experiment's tables.

    No number depends on the number of processes, ``workers``. ``executor`` is anything with the
    `submit` of `concurrent.futures`, instead of our own processes; the progress bar is shown on a
    terminal only, if nothing else is said, and so is ``overall``, that of several experiments;
    ``kind`` is what tables are kept as, csv or parquet.

    Returns the failures, a line each, already reported on stderr; the tables are written when there
    are none. ValueError where the preset, a cell or a table is not allowed, OSError where the
    results folder cannot be written.
    """
    if workers < 1:
        raise ValueError(f"workers {workers} is not allowed; allowed: at least 1")
    grid = parts(experiment, preset)
    folder = Path(results) / experiment.name
    store = folder / ".parts"
    about = f"{experiment.name} ({preset}):"
    failures = []
    started = time.monotonic()
    with disk.alone(store):
        # A damaged part is missing, too.
        missing = [part for part in grid if not _stored(store, part)]
        done = len(grid) - len(missing)
        _say(
            f"{about} {len(grid)} parts, {done} done, {len(missing)} to compute, {workers} workers"
        )
        own = bar(experiment.name, len(missing), progress)
        if overall is not None:
            overall.total -= done  # which take no time
        # What ends the loop early, a full disk or an interrupt, ends the workers, too.
        with own, contextlib.closing(pools.results(missing, workers, executor)) as finished:
            for part, data, reason in finished:
                if reason:
                    cell = records.canonical(part.configuration["cell"]).decode()
                    failures.append(f"part failed: {experiment.name} {cell}: {reason}")
                    _say(failures[-1])
                else:
                    # A column without a meaning stops the run now, not after hours.
                    tables = decode_part(data, part.configuration).tables
                    types = {name: table.types for name, table in tables.items()}
                    records.data_dictionary(types, experiment.columns)
                    disk.write_atomic(store / f"{part.key}.part", data)
                own.update()
                if overall is not None:
                    overall.update()
        took = tqdm.format_interval(time.monotonic() - started)
        _say(f"{about} {len(grid) - len(failures)} of {len(grid)} parts done after {took}")
        if failures:
            _say(f"{experiment.name}: tables not written, {len(failures)} of {len(grid)} failed")
        else:
            _write_tables(experiment, preset, grid, folder, kind)
    return failures


def _stored(store: Path, part: Part) -> bool:
    try:
        _content(store, part)
    except FileNotFoundError:
        return False
    except ValueError as reason:
        _say(f"part {part.key[:12]} is damaged ({reason}): computed again")
        return False
    return True


def _content(store: Path, part: Part) -> Content:
    return decode_part((store / f"{part.key}.part").read_bytes(), part.configuration)


def configuration(experiment: Experiment, preset: str, grid: list[Part]) -> Json:
    """Return what is written of a run beside each of its tables, `grid` being its parts."""
    return {
        "experiment": experiment.name,
        "preset": preset,
        "numerics": grid[0].configuration["numerics"],
        "grid_sha256": records.digest(records.canonical([part.key for part in grid])),
        "cells": [part.configuration["cell"] for part in grid],
    }


def design(experiment: Experiment) -> str:
    """The commit that an experiment's question, grid and claims were last changed with.

    "" where there is none, or they have been changed since.
    """
    source = Path(sys.modules[experiment.module].__file__)
    source = source.parent if source.name == "__init__.py" else source
    git = ["git", "-C", source.parent]
    try:
        asked = {"capture_output": True, "text": True, "check": True}
        changed = subprocess.run([*git, "status", "--porcelain", "--", source], **asked).stdout
        commit = subprocess.run([*git, "log", "-1", "--format=%H", "--", source], **asked).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "" if changed else commit.strip()  # a change that is not committed has no name


def _write_tables(
    experiment: Experiment, preset: str, grid: list[Part], folder: Path, kind: str = "csv"
) -> None:
    """Join the parts in grid order: the text of each table, one after the other."""
    types: dict[str, dict[str, str]] = {}
    texts: dict[str, list[bytes]] = {}
    rows: dict[str, list[int]] = {}
    versions: list[dict[str, str]] = []
    for place, part in enumerate(grid):
        content = _content(folder / ".parts", part)
        if content.versions not in versions:
            versions.append(content.versions)  # parts may be of several machines
        for name, table in content.tables.items():
            if name not in types:
                types[name] = table.types
                texts[name] = [table.header()]
                rows[name] = [0] * len(grid)
            header = texts[name][0]
            if types[name] != table.types or not table.csv.startswith(header):
                raise ValueError(
                    f"table {name!r} of {experiment.name} has the columns {table.types} in cell "
                    f"{part.configuration['cell']}; allowed: those of the first, {types[name]}"
                )
            # Text, not frames: no number is read or written anew on the way.
            texts[name].append(table.csv[len(header) :])
            rows[name][place] = table.rows
    provenance = {"configuration": configuration(experiment, preset, grid), "versions": versions}
    provenance["design"] = design(experiment)
    meanings = Table.of(records.data_dictionary(types, experiment.columns))
    files = records.files_of(folder / "data_dictionary.csv", meanings, provenance)
    for name, text in texts.items():
        whole = Table(b"".join(text), types[name], sum(rows[name]))
        about = {"rows_of_cells": rows[name], **provenance}
        files |= records.files_of(folder / f"{name}.csv", whole, about, kind)
    # The tables are all of this run, or all of the one before.
    disk.write_together(files)
    for name, other in itertools.product(types, {*records.FORMATS} - {kind}):
        (folder / f"{name}.{other}").unlink(missing_ok=True)  # of a run with the other format


def read_results(results: Path, name: str, version: int | None = None) -> Tables:
    """Read the tables in ``<results>/<name>/``, those that their data dictionary lists.

    Errors as `records.read_table`; also where the tables are of different runs, or, if a version
    of the experiment is given, of a study or a version whose numbers are others.
    """
    folder = Path(results) / name
    path = folder / "data_dictionary.csv"
    names = records.read_table(path)["table"].unique()
    run_of = records.read_about(path).get("configuration")
    made = run_of.get("numerics") if isinstance(run_of, dict) else None
    here = [records.NUMERICS_VERSION, version]
    if version is not None and made != here:
        numbers = isinstance(made, list) and all(isinstance(number, int) for number in made)
        whose = "a newer study" if numbers and made > here else "an older study"
        raise ValueError(
            f"results '{folder}' are of {whose} (numerics {made}; allowed: {here}); "
            f"they are made again by: {made_by(path)}"
        )
    tables = {}
    for table in names:
        check_name(table)
        path = folder / f"{table}.csv"
        tables[table] = records.read_table(path)
        if records.read_about(path).get("configuration") != run_of:
            raise ValueError(
                f"table {path} is damaged (of another run than its dictionary); "
                f"it is made again by: {made_by(path)}"
            )
    return tables
