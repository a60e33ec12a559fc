"""What one machine holds: seconds and peak memory of the largest jobs, each in a fresh process.

Time is linear in depth: every job runs at several depths, up to 10,000 layers.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import pandas as pd

DEPTHS = (100, 1_000, 10_000)
COLUMNS = {
    "job": "what is profiled [-]",
    "seeds": "independent realisations side by side [seeds]",
    "networks": "how many networks a seed [-]",
    "seconds": "wall time of one run after a short one that compiles and warms up [s]",
    "peak_gb": "peak resident memory of its process, the interpreter included [10^9 bytes]",
    "ms_per_layer": "seconds / depth [ms]",
}
JOBS = (
    # job, engine, width, weight scales (two activations each), seeds
    ("100 networks, dense", "dense", 1024, 50, 1),
    ("100 seeds, matrix-free", "matrix_free", 4096, 0, 100),
)


def run(engine: str, width: int, scales: int, seeds: int, depth: int) -> tuple[float, float]:
    """Profile, and return seconds and peak gigabytes of this process."""
    import study
    from benchmarks.networks import networks

    if scales:
        job = lambda depth: networks(width, [depth], scales)  # noqa: E731
    else:
        job = lambda depth: study.Network(width=width, depth=depth, dtype="float32")  # noqa: E731
    study.profile(job(2), range(seeds), engine=engine)
    start = time.perf_counter()
    study.profile(job(depth), range(seeds), engine=engine)
    seconds = time.perf_counter() - start
    return seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def measure() -> pd.DataFrame:
    """One row a job and depth."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    rows = []
    for job, engine, width, scales, seeds in JOBS:
        for depth in DEPTHS:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, spawn) as pool:
                seconds, peak = pool.submit(run, engine, width, scales, seeds, depth).result()
            count = 2 * scales or 1
            rows.append((job, width, depth, seeds, count, seconds, peak, 1e3 * seconds / depth))
            print(
                f"{job:32} width {width:5}  depth {depth:6}   {seconds:8.3f} s   "
                f"peak {peak:.2f} GB   {rows[-1][-1]:.3f} ms a layer",
                flush=True,
            )
    names = ["job", "width", "depth", "seeds", "networks", "seconds", "peak_gb", "ms_per_layer"]
    return pd.DataFrame(rows, columns=names)
