"""The same sweep on many machines: an executor on the workers of a Dask scheduler.

Workers need the same study and no shared disk: parts come back, the driver writes them. Messages of
Dask are pickles, which run what they say: a scheduler must be reached by those alone who may run
programs as you (``tcp://`` on the loopback or a closed network, ``tls://`` with certificates).
"""

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

from study.records import tables as records
from study.runs import parts
from study.tools.checks import library

SECONDS = 10  # how long a scheduler, and then its first worker, may take to answer


@contextlib.contextmanager
def connect(address: str) -> Iterator[tuple[Executor, int]]:
    """Lend an executor on the workers of a scheduler, and say how many there are.

    `address` is ``tcp://host:port`` or ``tls://host:port``. ValueError where it is not, where the
    scheduler has no study, or where workers would not compute what this process would: another
    study, other libraries, or several parts at a time. ImportError without Dask, ConnectionError
    where no scheduler answers, or it has no worker.
    """
    if not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d+", address):
        raise ValueError(f"--scheduler {address!r}; allowed: tcp://host:port or tls://host:port")
    distributed = library("distributed", "--scheduler", "cluster")
    try:
        client = distributed.Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        host, _, port = address.partition("://")[2].rpartition(":")
        raise ConnectionError(
            f"--scheduler {address}: no scheduler answers ({error}); one is started by: "
            f"dask scheduler --host {host} --port {port}"
        ) from None
    try:
        # Pure: equal calls would share a result.
        yield client.get_executor(pure=False), _check(client)
    finally:
        client.close(timeout=2)  # which cancels what is in flight


def _check(client: Any) -> int:
    """Refuse workers whose numbers could differ; return how many there are."""
    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError:
        raise ConnectionError(
            f"--scheduler {address}: no worker joined in {SECONDS} s; one is "
            f"started by: dask worker {address} --nthreads 1"
        ) from None
    for name, threads in client.nthreads().items():
        if threads != 1:
            raise ValueError(
                f"worker {name} computes {threads} parts at a time; allowed: 1, so start it as: "
                "dask worker --nthreads 1"
            )
    try:  # it unpacks the names of what it hands on
        client.run_on_scheduler(identity)
    except Exception as error:
        raise ValueError(
            f"scheduler {address} cannot import the study ({error}); allowed: one "
            "that was started where the study is installed, or with PYTHONPATH naming its checkout"
        ) from None
    for name, there in client.run(identity, on_error="return").items():
        if there != identity():
            raise ValueError(f"worker {name} is {there}; allowed: {identity()}, as the driver is")
    return len(client.nthreads())


def identity() -> list[Any]:
    """Return what the numbers of this process depend on."""
    return [records.NUMERICS_VERSION, parts.PART_FORMAT, records.versions()]
