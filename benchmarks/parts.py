"""What a sweep of a million parts takes of its driver, from smaller ones: results/limits/.

Synthetic parts, each a cell with a table of ten rows: how much memory the driver holds, how fast it
writes, checks and joins parts on this disk, and how many parts a second two workers of this machine
give it that compute next to nothing: its own processes, and those of a Dask scheduler.

    python -m benchmarks.parts [PARTS [FOLDER]]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.records import tables as records
from study.records.disk import make_folder, write_atomic
from study.runs import cluster, parts, sweep
from study.runs.experiment import Experiment

ROWS = 10
MILLION = 10**6
PAGE = Path("docs/cluster.md")
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


def held() -> int:
    """Bytes this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def seconds(work: Callable[[], Any]) -> float:
    """What `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextlib.contextmanager
def dask() -> Iterator[Executor]:
    """A scheduler and two workers on the loopback address."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as own, cluster.connect(own.scheduler_address) as (executor, _):  # fmt: skip
        yield executor


def _million() -> list[tuple[str, int, float, str]]:
    """What the grid itself takes, with a million cells."""
    before, many, grid = held(), with_cells(MILLION), []
    checked = seconds(lambda: grid.extend(sweep.parts(many, "quick")))
    grown = held() - before
    named = seconds(lambda: [part.key for part in grid])
    return [
        ("driver: grid in memory", MILLION, grown / MILLION, "bytes"),
        ("driver: check the grid", MILLION, checked / MILLION, "seconds"),
        ("driver: keys", MILLION, named / MILLION, "seconds"),
    ]


def limits(count: int, folder: Path) -> pd.DataFrame:
    """Measure each step with `count` parts, in a folder on the disk in question."""
    found = _million()
    few = with_cells(count)
    grid = sweep.parts(few, "quick")
    store = folder / few.name / ".parts"
    store.mkdir(parents=True)
    made: list[bytes] = []
    took = seconds(lambda: made.extend(parts.compute(*part)[0] for part in grid))
    found.append(("worker: make a part of a table", count, took / count, "seconds"))
    found.append(("disk: bytes of a part", count, sum(map(len, made)) / count, "bytes"))

    def write() -> None:
        for part, data in zip(grid, made, strict=True):
            write_atomic(store / f"{part.key}.part", data)

    found.append(("driver: write a part, synced", count, seconds(write) / count, "seconds"))
    took = seconds(lambda: [sweep._stored(store, part) for part in grid])
    found.append(("driver: check a part on resuming", count, took / count, "seconds"))
    before = held()
    took = seconds(lambda: sweep._write_tables(few, "quick", grid, store.parent))
    found.append(("driver: join a part into tables", count, took / count, "seconds"))
    found.append(("driver: tables in memory", count, (held() - before) / count, "bytes"))

    for name, lend in (("own processes", contextlib.nullcontext), ("Dask", dask)):
        with lend() as executor:
            for size in (count // 10, count):  # the first starts the workers and loads the study
                new = with_cells(size)
                work = folder / f"{name} {size}"
                took = seconds(lambda n=new, w=work, e=executor: sweep.run(n, "quick", w, 2, e))
        found.append((f"two workers, {name}: a part, all told", count, took / count, "seconds"))
    frame = pd.DataFrame(found, columns=["what", "parts", "per_part", "unit"])
    return frame.assign(million=1e6 * frame["per_part"])[list(MEANINGS)]


def main(count: int = 2000, folder: str | None = None) -> None:
    """Measure, print and write the limits."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        table = limits(int(count), Path(scratch))
    path = Path("results/limits/limits.csv")
    make_folder(path.parent)
    records.write_described(path, table, MEANINGS, {"versions": [records.versions()]})
    text = PAGE.read_text(encoding="utf-8")
    start, end = (text.index(f"<!-- {mark} -->") for mark in ("limits", "/limits"))
    text = text[: start + len("<!-- limits -->")] + markdown(table) + text[end:]
    write_atomic(PAGE, text.encode())
    print(markdown(table))


def markdown(table: pd.DataFrame) -> str:
    """Return the limits as they stand on the page of the cluster."""
    lines = ["", "", "| | a part | a million parts |", "|---|---:|---:|"]
    for row in table.itertuples():
        if row.unit == "seconds":
            each, all_ = f"{1e3 * row.per_part:.2g} ms", f"{row.million / 60:,.1f} min"
        else:
            each, all_ = f"{row.per_part:.0f} bytes", f"{row.million / 2**30:.2f} GiB"
        lines.append(f"| {row.what} | {each} | {all_} |")
    return "\n".join([*lines, "", ""])


if __name__ == "__main__":
    main(*sys.argv[1:])
