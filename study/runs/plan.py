"""What a run will take, said before any work, and what it took: time and memory.

An experiment's `cost` gives core-seconds and bytes of one cell. Cells are handed out in grid order
to whichever worker is free; at the peak, every worker holds one of the largest cells, and each
process, the driver too, an interpreter with its libraries.
"""

from __future__ import annotations

import heapq
import math
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

START_SECONDS = 2.0
"""What a worker takes to import what it needs, about."""
KERNELS = 110 * 2**20
"""Bytes that the compiled kernels and their compiler take in each worker that uses them, about."""


class Usage(NamedTuple):
    """Seconds on the clock, and bytes of all processes together at their peak."""

    seconds: float
    memory: int


def expected(costs: Sequence[tuple[float, int]], workers: int, interpreter: int) -> Usage:
    """Return what the cells still to be computed will take, about.

    Parameters
    ----------
    costs : of each cell, in grid order: core-seconds, and bytes beyond the interpreter's
    workers : number of processes that compute, besides the driver
    interpreter : bytes of a process before it computes anything

    Examples
    --------
    Three cells of 2, 2 and 4 seconds on two cores, and the start of the workers:

    >>> expected([(2.0, 10), (2.0, 10), (4.0, 30)], workers=2, interpreter=100)
    Usage(seconds=8.0, memory=340)
    >>> expected([], workers=2, interpreter=100)
    Usage(seconds=0.0, memory=100)
    """
    if not costs:
        return Usage(0.0, interpreter)
    free = [START_SECONDS] * workers
    for seconds, _ in costs:
        heapq.heapreplace(free, free[0] + seconds)
    largest = heapq.nlargest(workers, (memory for _, memory in costs))
    return Usage(max(free), sum(largest) + (workers + 1) * interpreter)


def together(usages: Sequence[Usage]) -> Usage:
    """Return what runs that follow one another take.

    Examples
    --------
    >>> together([Usage(1.0, 300), Usage(2.0, 200)])
    Usage(seconds=3.0, memory=300)
    """
    return Usage(math.fsum(u.seconds for u in usages), max(u.memory for u in usages))


def peak_memory() -> int:
    """Return the most bytes that this process has held at once.

    On Linux its own high-water mark: getrusage would give a process that was started by a larger
    one the larger one's.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> duration(0.4), duration(75.2), duration(4020)
    ('1 s', '1 min 15 s', '1 h 7 min')
    """
    whole = max(1, round(seconds)) if seconds else 0
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def line(what: str, parts: int, done: int, verb: str, usage: Usage, workers: int) -> str:
    """Return the line of a plan, or of what came of it.

    Examples
    --------
    >>> line("toy (quick)", 3, 0, "about", Usage(75.2, 3 * 2**29), 2)
    'toy (quick): 3 parts, 0 done: about 1 min 15 s and 1.5 GiB with 2 workers'
    """
    return (
        f"{what}: {parts} parts, {done} done: {verb} {duration(usage.seconds)} and "
        f"{usage.memory / 2**30:.2g} GiB with {workers} workers"
    )
