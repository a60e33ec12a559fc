"""From a grid to tables that lose nothing: grid -> parts -> executor -> resume.

A part is one cell of the grid, kept in ``<results>/<experiment>/.parts/<key>.part`` (see
`study.runs.parts`): a finished one is found again by its key, so resuming needs no flag, and a
damaged one is computed again. Workers send back bytes; only the driver writes. A worker that dies
costs its own part and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from study.checks import made_by
from study.records import disk
from study.records import tables as records
from study.runs.parts import Part, check_name, compute, decode_part

if TYPE_CHECKING:
    import pandas as pd

    from study.runs.experiment import Experiment

# Read when a library is loaded, so they must be set before a worker starts: a BLAS with threads
# of its own beside ours costs a factor of 40, and its sums depend on how many it has.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
DIED = "its worker died twice (killed, or out of memory)"

Result = tuple[Part, bytes, str]
"""A part, its bytes, or why there are none."""


def parts(experiment: Experiment, preset: str) -> list[Part]:
    """Return the parts of a preset, in grid order.

    Raises
    ------
    ValueError
        When the preset is unknown, or a cell is not plain JSON or not what `measure` takes.
    """
    numerics = [records.NUMERICS_VERSION, experiment.version]
    return [
        Part(experiment.module, {"experiment": experiment.name, "cell": c, "numerics": numerics})
        for c in experiment.cells(preset)
    ]


def _guard() -> None:
    """Prepare a worker: the driver alone decides on Ctrl-C, and its death is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    driver = multiprocessing.parent_process()

    def follow() -> None:
        connection.wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _pool(workers: int, executor: Executor | None) -> Iterator[Executor]:
    """Lend `executor`, or else processes of our own; none of those outlives the block."""
    if executor is not None:
        yield executor
        return
    others = set(multiprocessing.active_children())
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_guard)
    try:
        yield pool
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()  # an idle worker holds nothing, a busy one is not wanted any more
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _fly(
    waiting: deque[Part], workers: int, executor: Executor | None
) -> Generator[Result, None, list[tuple[Part, str]]]:
    """Yield results until `waiting` is empty or a part is lost; return those lost, and why.

    Few parts are in flight at a time, so a death puts few under suspicion, and a grid of a million
    cells does not sit in the executor's memory.
    """
    with _pool(workers, executor) as pool:
        flying: dict[Future, Part] = {}
        lost: list[tuple[Part, str]] = []
        while (waiting and not lost) or flying:
            while waiting and not lost and len(flying) < 2 * workers:
                part = waiting.popleft()
                # A worker that this starts is born deaf too, until its _guard is up.
                held = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
                try:
                    flying[pool.submit(compute, *part)] = part
                except BrokenExecutor:
                    lost.append((part, DIED))
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, held)
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                part = flying.pop(future)
                try:
                    result = (part, *future.result())
                except BrokenExecutor:
                    lost.append((part, DIED))
                except CancelledError:
                    raise ConnectionError(
                        "the scheduler is gone; what is finished is kept, the same command resumes"
                    ) from None
                except Exception as error:  # memory, or a worker that a cluster lost
                    lost.append((part, f"{type(error).__name__}: {' '.join(str(error).split())}"))
                else:
                    yield result
    return lost


def _results(queue: list[Part], workers: int, executor: Executor | None) -> Iterator[Result]:
    """Yield each part once, as it finishes, in any order."""
    waiting, suspects = deque(queue), []
    while waiting:
        suspects += yield from _fly(waiting, workers, executor)
    for part, _ in suspects:  # each alone, so that a death tells whose it is
        for _ in range(2):
            if not (lost := (yield from _fly(deque([part]), 1, executor))):
                break
        else:
            yield part, b"", f"quarantined: {lost[0][1]}"


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
    with alone(store):
        missing = [part for part in grid if not _stored(store, part)]
        done = len(grid) - len(missing)
        about = f"{experiment.name} ({preset})"
        say(
            f"{about}: {len(grid)} parts, {done} done, {len(missing)} to compute, {workers} workers"
        )
        failures = []
        bar = tqdm(
            total=len(grid),
            initial=done,
            desc=experiment.name,
            unit="part",
            file=sys.stderr,
            disable=None if progress is None else not progress,
        )
        with bar, contextlib.closing(_results(missing, workers, executor)) as finished:
            for part, data, reason in finished:
                if reason:
                    cell = records.canonical(part.configuration["cell"]).decode()
                    failures.append(f"part failed: {experiment.name} {cell}: {reason}")
                    say(failures[-1])
                else:
                    # A column without a meaning stops the run now, not after hours.
                    tables, _ = decode_part(data, part.configuration)
                    schemas = {name: table.types for name, table in tables.items()}
                    records.data_dictionary(schemas, experiment.columns)
                    disk.write_atomic(store / f"{part.key}.part", data)
                bar.update()
        took = tqdm.format_interval(bar.format_dict["elapsed"])
        say(f"{about}: {len(grid) - len(failures)} of {len(grid)} parts done after {took}")
        if failures:
            say(f"{experiment.name}: tables not written, {len(failures)} of {len(grid)} failed")
        else:
            _write_tables(experiment, preset, grid, folder)
    return failures


def _stored(store: Path, part: Part) -> bool:
    path = store / f"{part.key}.part"
    try:
        decode_part(path.read_bytes(), part.configuration)
    except FileNotFoundError:
        return False
    except ValueError as reason:
        say(f"part {part.key[:12]} is damaged ({reason}): computed again")
        return False
    return True


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
        tables, by = decode_part(data, part.configuration)
        if by not in versions:
            versions.append(by)
        for name, table in tables.items():
            if types.setdefault(name, table.types) != table.types:
                raise ValueError(
                    f"table {name!r} of {experiment.name} has the columns {table.types} in cell "
                    f"{part.configuration['cell']}; allowed: those of the first, {types[name]}"
                )
            first = records.header(table.types)
            bodies.setdefault(name, [first]).append(table.csv[len(first) :])
            rows.setdefault(name, [0] * len(grid))[place] = table.rows
    provenance = {"configuration": configuration(experiment, preset, grid), "versions": versions}
    meanings = records.data_dictionary(types, experiment.columns)
    files = {}
    for name, pieces in bodies.items():
        about = {"rows": sum(rows[name]), "rows_of_cells": rows[name], **provenance}
        files |= records.table_files(folder / f"{name}.csv", b"".join(pieces), types[name], about)
    about = {"rows": len(meanings), **provenance}
    path, csv, own = (
        folder / "data_dictionary.csv",
        records.encode(meanings),
        records.schema(meanings),
    )
    disk.write_together(files | records.table_files(path, csv, own, about))


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
