"""Processes that compute parts, here or on a cluster; one that dies costs its own part alone."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from concurrent.futures import BrokenExecutor, Executor, Future
from multiprocessing import connection
from multiprocessing.context import SpawnContext, SpawnProcess

from study.runs.parts import Part, compute

# Read when a library is loaded, so set before a worker starts: a BLAS with threads of its own
# beside ours costs a factor of 40, and its sums depend on how many it has.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
_DIED = "its worker died twice (killed, or out of memory)"

Result = tuple[Part, bytes, str]  # a part, its bytes, or why there are none


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables that a process started meanwhile inherits."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - before:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off interrupts; processes started meanwhile are deaf to them until _guard is up."""
    came = []
    # Handlers, too: where a library has threads, the system may give a signal to one of those.
    handlers = {n: signal.signal(n, lambda n, _: came.append(n)) for n in _INTERRUPTS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)


def _guard() -> None:
    """Prepare a worker: the driver alone decides on Ctrl-C, and its death is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)  # SIGTERM ends a worker
    driver = multiprocessing.parent_process()

    def follow() -> None:
        connection.wait([driver.sentinel])
        os._exit(1)  # nothing is left to clean up, and nobody to tell

    threading.Thread(target=follow, daemon=True).start()


class _Spawn(SpawnContext):
    """Starts processes, and knows which."""

    def __init__(self):
        super().__init__()
        self.started = []

    def Process(self, *args, **options):
        self.started.append(SpawnProcess(*args, **options))
        return self.started[-1]


class Crew(Executor):
    """Processes of our own that serve one sweep after another, and made anew once one has died.

    None of them outlives it.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._hire()

    def _hire(self) -> None:
        self.spawn = _Spawn()
        self.processes = futures.ProcessPoolExecutor(
            self.workers, mp_context=self.spawn, initializer=_guard
        )

    def submit(self, function: Callable, /, *arguments, **options) -> Future:
        # Which starts a process if need be.
        with environment(**dict.fromkeys(ONE_THREAD, "1")), _undisturbed():
            try:
                return self.processes.submit(function, *arguments, **options)
            except BrokenExecutor:
                self.shutdown()
                self._hire()
                return self.processes.submit(function, *arguments, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for process in self.spawn.started:
            if process.pid:  # else it could not be started
                process.kill()  # an idle worker holds nothing, a busy one is not wanted any more
        self.processes.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def crew(workers: int) -> Iterator[tuple[Executor, int]]:
    """Lend a `Crew`, as `study.runs.cluster.connect` lends another's, and say how many they are."""
    with Crew(workers) as processes:
        yield processes, workers


def _fly(
    waiting: deque[Part], workers: int, executor: Executor
) -> Generator[Result, None, list[tuple[Part, str]]]:
    """Yield results until `waiting` is empty or a part is lost; return those lost, and why.

    Few parts are in flight at a time, so a death puts few under suspicion, and a grid of a million
    cells does not sit in the executor's memory.
    """
    flying: dict[Future, Part] = {}
    lost: list[tuple[Part, str]] = []
    while (waiting and not lost) or flying:
        while waiting and not lost and len(flying) < 2 * workers:
            part = waiting.popleft()
            try:
                flying[executor.submit(compute, *part)] = part
            except BrokenExecutor:
                lost.append((part, _DIED))
        for future in futures.wait(flying, return_when=futures.FIRST_COMPLETED).done:
            part = flying.pop(future)
            try:
                yield part, *future.result()
            except BrokenExecutor:
                lost.append((part, _DIED))
            except futures.CancelledError:
                raise ConnectionError(
                    "the scheduler is gone; what is finished is kept, the same command resumes"
                ) from None
            except Exception as error:  # memory, or a worker that a cluster lost
                lost.append((part, f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return lost


def results(parts: list[Part], workers: int, executor: Executor | None) -> Iterator[Result]:
    """Yield each part once, as it finishes, in any order."""
    if executor is None:
        with Crew(workers) as processes:
            yield from results(parts, workers, processes)
        return
    waiting = deque(parts)
    suspects = []
    while waiting:
        suspects += yield from _fly(waiting, workers, executor)
    for part, _ in suspects:  # each alone, so that a death tells whose it is
        for _ in range(2):  # once may have been another's fault: memory, a killer
            lost = yield from _fly(deque([part]), 1, executor)
            if not lost:
                break
        else:
            yield part, b"", f"quarantined: {lost[0][1]}"
