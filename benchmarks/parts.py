"""What a sweep of a million parts takes of its driver, from smaller ones: results/limits/.

Synthetic parts, each a cell with a table of ten rows: how much memory the driver holds, how fast it
writes, checks and joins parts on this disk, and how many parts a second two workers of this machine
give it that compute next to nothing: its own processes, and those of a Dask scheduler.

    python -m benchmarks.parts [PARTS [FOLDER]]
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks import insert
from study.records import tables as records
from study.records.disk import make_folder, write_atomic
from study.runs import cluster, parts, sweep
from study.runs.experiment import Experiment

ROWS = 10
MILLION = 10**6
MEANINGS = {
    "what": "what was measured [-]",
    "parts": "number of parts it was measured with [parts]",
    "per_part": "what a part takes [see unit]",
    "unit": "seconds or bytes [-]",
    "million": "what a million parts take at that rate [see unit]",
}


def measure(seed: int, sigma_w: float) -> dict[str, pd.DataFrame]:
    """Ten rows, at no cost."""
    rows = {"seed": seed, "sigma_w": sigma_w, "layer": np.arange(ROWS)}
    return {"rows": pd.DataFrame(rows | {"value": np.arange(ROWS) / 3 + seed})}


def figure(tables: dict[str, pd.DataFrame]) -> None:
    """None is drawn."""


def cells(count: int) -> list[dict[str, Any]]:
    """So many cells, each different."""
    return [{"seed": i, "sigma_w": 1 + i / 7} for i in range(count)]


experiment = Experiment(
    question="How many parts can a driver serve?",
    grid={"quick": cells(1), "paper": cells(1)},
    measure=measure,
    figure=figure,
    columns={"value": "a number [1]"},
)


def with_cells(count: int) -> Experiment:
    """The experiment of this module, with that many cells."""
    import benchmarks.parts as module  # by its own name, also where it is run as __main__

    return replace(Experiment.of(module), grid={"quick": cells(count), "paper": cells(1)})


@contextlib.contextmanager
def measured(rows: list, parts: int, seconds: str, memory: str | None = None) -> Iterator[None]:
    """Add a row of what passes in seconds, and one of the bytes by which this process grows."""
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    yield
    rows.append((seconds, parts, (time.perf_counter() - start) / parts, "seconds"))
    if memory:
        rows.append((memory, parts, (process.memory_info().rss - before) / parts, "bytes"))


def driver(rows: list, count: int, folder: Path) -> None:
    """Each step of a sweep, on the disk of a folder; of the grid itself with a million cells."""
    many = with_cells(MILLION)
    with measured(rows, MILLION, "driver: check the grid", "driver: grid in memory"):
        grid = sweep.parts(many, "quick")
    with measured(rows, MILLION, "driver: keys"):
        _ = [part.key for part in grid]
    few = with_cells(count)
    grid = sweep.parts(few, "quick")
    store = folder / few.name / ".parts"
    store.mkdir(parents=True)  # parts are written to it one by one here, as a sweep's driver does
    with measured(rows, count, "worker: make a part of a table"):
        made = [parts.compute(*part)[0] for part in grid]
    rows.append(("disk: bytes of a part", count, sum(map(len, made)) / count, "bytes"))
    with measured(rows, count, "driver: write a part, synced"):
        for part, data in zip(grid, made, strict=True):
            write_atomic(store / f"{part.key}.part", data)
    with measured(rows, count, "driver: check a part on resuming"):
        for part in grid:
            sweep._stored(store, part)
    with measured(rows, count, "driver: join a part into tables", "driver: tables in memory"):
        sweep._write_tables(few, "quick", grid, store.parent)


def workers(rows: list, count: int, folder: Path) -> None:
    """Parts all told, by two workers."""
    from distributed import LocalCluster

    here = {"host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, **here) as local:
        dask = cluster.connect(local.scheduler_address)
        for name, lend in (("own processes", contextlib.nullcontext((None, 2))), ("Dask", dask)):
            with lend as (executor, _):
                # The first parts start the workers and load the study.
                sweep.run(with_cells(count // 10), "quick", folder / f"{name} first", 2, executor)
                with measured(rows, count, f"two workers, {name}: a part, all told"):
                    sweep.run(with_cells(count), "quick", folder / name, 2, executor)


def main(count: int = 2000, folder: str | None = None) -> None:
    """Measure, print and write the limits."""
    rows: list[tuple] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        driver(rows, int(count), Path(scratch))
        workers(rows, int(count), Path(scratch))
    table = pd.DataFrame(rows, columns=["what", "parts", "per_part", "unit"])
    table = table.assign(million=1e6 * table["per_part"])[list(MEANINGS)]
    path = Path("results/limits/limits.csv")
    make_folder(path.parent)
    records.write_described(path, table, MEANINGS, {"versions": [records.versions()]})
    insert("cluster.md", "limits", markdown(table))
    print(*markdown(table), sep="\n")


def markdown(table: pd.DataFrame) -> list[str]:
    """Return the limits as they stand on the page of the cluster."""
    lines = ["| | a part | a million parts |", "|---|---:|---:|"]
    for row in table.itertuples():
        part = f"{row.per_part:.0f} bytes"
        million = f"{row.million / 2**30:.2f} GiB"
        if row.unit == "seconds":
            part = f"{1e3 * row.per_part:.2g} ms"
            million = f"{row.million / 60:,.1f} min"
        lines.append(f"| {row.what} | {part} | {million} |")
    return lines


if __name__ == "__main__":
    main(*sys.argv[1:])
