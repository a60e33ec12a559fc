"""From a grid to tables that lose nothing: grid -> parts -> executor -> resume.

A part is one cell of the grid, kept in ``<results>/<experiment>/.parts/<key>.part`` (see
`study.runs.parts`): a finished one is found again by its key, so resuming needs no flag, and a
damaged one is computed again. Workers send back bytes; only the driver writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from study.records import disk
from study.records import tables as records
from study.runs import workers as pools
from study.runs.parts import Part, check_name, decode_part
from study.tools.checks import made_by

if TYPE_CHECKING:
    import pandas as pd

    from study.runs.experiment import Experiment


def parts(experiment: Experiment, preset: str) -> list[Part]:
    """Return the parts of a preset, in grid order; errors as `Experiment.cells`."""
    numerics = [records.NUMERICS_VERSION, experiment.version]
    return [
        Part(experiment.module, {"experiment": experiment.name, "cell": c, "numerics": numerics})
        for c in experiment.cells(preset)
    ]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against another run by its ``.parts``, `folder`; a dead process lets go."""
    disk.make_folder(folder)
    with open(folder / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run in {folder.parent}")
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in (*folder.glob(disk.TEMPORARY), *folder.parent.glob(disk.TEMPORARY)):
            left.unlink()  # from a run that was killed while it wrote
        try:
            yield
        finally:  # a process that was forked meanwhile has the file open, and would keep the lock
            fcntl.flock(file, fcntl.LOCK_UN)


def say(line: str) -> None:
    """Say a line on stderr."""
    tqdm.write(f"study: {line}", file=sys.stderr)  # above a progress bar, not through it


def run(
    experiment: Experiment,
    preset: str,
    results: Path,
    workers: int,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[str]:
    """Compute the parts that are not there yet; when all are, write the experiment's tables.

    Parameters
    ----------
    experiment : what to measure
    preset : a key of its grid
    results : folder of all results; the tables go to ``<results>/<experiment>/``
    workers : number of processes, at least 1; no number depends on it
    executor : anything with the `submit` of `concurrent.futures`, instead of our own processes
    progress : show the progress bar; by default on a terminal only

    Returns
    -------
    The failures, a line each, already reported on stderr. The tables are written when it is empty.

    Raises
    ------
    ValueError
        When the preset, a cell or a table is not allowed.
    OSError
        When the results folder cannot be written.
    """
    if workers < 1:
        raise ValueError(f"workers {workers} is not allowed; allowed: at least 1")
    grid = parts(experiment, preset)
    folder = Path(results) / experiment.name
    store = folder / ".parts"
    about = f"{experiment.name} ({preset}):"
    failures = []
    with alone(store):
        missing = [part for part in grid if not _stored(store, part)]
        done = len(grid) - len(missing)
        counts = f"{len(grid)} parts, {done} done, {len(missing)} to compute"
        say(f"{about} {counts}, {workers} workers")
        bar = tqdm(
            total=len(grid),
            initial=done,
            desc=experiment.name,
            unit="part",
            file=sys.stderr,
            disable=None if progress is None else not progress,
        )
        with bar, contextlib.closing(pools.results(missing, workers, executor)) as finished:
            for part, data, reason in finished:
                if reason:
                    cell = records.canonical(part.configuration["cell"]).decode()
                    failures.append(f"part failed: {experiment.name} {cell}: {reason}")
                    say(failures[-1])
                else:
                    _store(store, part, data, experiment)
                bar.update()
        took = tqdm.format_interval(bar.format_dict["elapsed"])
        say(f"{about} {len(grid) - len(failures)} of {len(grid)} parts done after {took}")
        if failures:
            say(f"{experiment.name}: tables not written, {len(failures)} of {len(grid)} failed")
        else:
            _write_tables(experiment, preset, grid, folder)
    return failures


def _stored(store: Path, part: Part) -> bool:
    try:
        decode_part((store / f"{part.key}.part").read_bytes(), part.configuration)
    except FileNotFoundError:
        return False
    except ValueError as reason:
        say(f"part {part.key[:12]} is damaged ({reason}): computed again")
        return False
    return True


def _store(store: Path, part: Part, data: bytes, experiment: Experiment) -> None:
    tables = decode_part(data, part.configuration).tables
    schemas = {name: table.types for name, table in tables.items()}
    # A column without a meaning stops the run now, not after hours.
    records.data_dictionary(schemas, experiment.columns)
    disk.write_atomic(store / f"{part.key}.part", data)


def configuration(experiment: Experiment, preset: str, grid: list[Part]) -> dict[str, Any]:
    """Return what is written of a run beside each of its tables, `grid` being its parts."""
    return {
        "experiment": experiment.name,
        "preset": preset,
        "numerics": grid[0].configuration["numerics"],
        "grid_sha256": records.digest(records.canonical([part.key for part in grid])),
        "cells": [part.configuration["cell"] for part in grid],
    }


def _write_tables(experiment: Experiment, preset: str, grid: list[Part], folder: Path) -> None:
    """Join the parts in grid order: the bytes of each table, one after the other."""
    bodies: dict[str, list[bytes]] = {}
    types: dict[str, dict[str, str]] = {}
    rows: dict[str, list[int]] = {}
    versions: list[dict[str, str]] = []
    for place, part in enumerate(grid):
        data = (folder / ".parts" / f"{part.key}.part").read_bytes()
        content = decode_part(data, part.configuration)
        if content.versions not in versions:
            versions.append(content.versions)
        for name, table in content.tables.items():
            if types.setdefault(name, table.types) != table.types:
                raise ValueError(
                    f"table {name!r} of {experiment.name} has the columns {table.types} in cell "
                    f"{part.configuration['cell']}; allowed: those of the first, {types[name]}"
                )
            header = records.header(table.types)
            bodies.setdefault(name, [header]).append(table.csv[len(header) :])
            rows.setdefault(name, [0] * len(grid))[place] = table.rows
    provenance = {"configuration": configuration(experiment, preset, grid), "versions": versions}
    files = {}
    for name, pieces in bodies.items():
        about = {"rows": sum(rows[name]), "rows_of_cells": rows[name], **provenance}
        files |= records.table_files(folder / f"{name}.csv", b"".join(pieces), types[name], about)
    meanings = records.data_dictionary(types, experiment.columns)
    files |= records.files_of(folder / "data_dictionary.csv", meanings, provenance)
    disk.write_together(files)


def read_results(results: Path, name: str, version: int | None = None) -> dict[str, pd.DataFrame]:
    """Read the tables of one experiment, those its data dictionary lists.

    Parameters
    ----------
    results, name : the tables are in ``<results>/<name>/``
    version : that of the experiment; None: whatever version they are of

    Raises
    ------
    FileNotFoundError, ValueError
        As `records.read_table`; also when the tables are of different runs, or of a study or a
        version whose numbers are others.
    """
    folder = Path(results) / name
    path = folder / "data_dictionary.csv"
    dictionary = records.read_table(path)
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
    for table in dictionary["table"].unique():
        check_name(table)
        path = folder / f"{table}.csv"
        tables[table] = records.read_table(path)
        if records.read_about(path).get("configuration") != run_of:
            raise ValueError(
                f"table {path} is damaged (of another run than its dictionary); "
                f"it is made again by: {made_by(path)}"
            )
    return tables
