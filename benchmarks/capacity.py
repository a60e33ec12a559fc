"""What one machine holds: seconds and peak memory of the largest jobs, each in a fresh process.

Time is linear in depth: every job runs at several depths, up to 10,000 layers.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
import pandas as pd

import study

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
    {"job": "100 networks, dense", "width": 1024, "seeds": 1, "networks": 100},
    {"job": "100 seeds, matrix-free", "width": 4096, "seeds": 100, "networks": 1},
)


def networks(width: int, depths: Sequence[int], scales: int) -> list[study.Network]:
    """Both activations, ``scales`` weight scales each, every depth, float32."""
    return [
        study.Network(activation=phi, depth=depth, width=width, sigma_w=float(s), dtype="float32")
        for phi in ("relu", "sigmoid")
        for s in np.linspace(0.5, 3, scales)
        for depth in depths
    ]


def run(job: dict, depth: int) -> dict[str, object]:
    """Profile, and return the row of this process."""

    def profile(depth: int) -> None:
        if job["networks"] > 1:
            nets = networks(job["width"], [depth], job["networks"] // 2)
            study.profile(nets, range(job["seeds"]), engine="dense")
        else:
            net = study.Network(width=job["width"], depth=depth, dtype="float32")
            study.profile(net, range(job["seeds"]), engine="matrix_free")

    profile(2)  # compiles, and fills the caches
    start = time.perf_counter()
    profile(depth)
    seconds = time.perf_counter() - start
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux has it in KiB
    size = {"job": job["job"], "width": job["width"], "depth": depth}
    cost = {"seconds": seconds, "peak_gb": peak / 1e9, "ms_per_layer": 1e3 * seconds / depth}
    return size | {"seeds": job["seeds"], "networks": job["networks"]} | cost


def measure() -> pd.DataFrame:
    """One row a job and depth."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before the workers import it
    rows = []
    for job, depth in product(JOBS, DEPTHS):
        # A fresh process a job: memory that one has freed would count as the next one's peak.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as pool:
            rows.append(pool.submit(run, job, depth).result())
        print(*(f"{name} {value}" for name, value in rows[-1].items()), sep="  ", flush=True)
    return pd.DataFrame(rows)
