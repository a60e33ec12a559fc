"""Killed at any moment, interrupted, out of memory: the same command completes, byte for byte."""

import contextlib
import os
import random
import signal
import time

import pytest
import toyhouse

from study.records import disk
from study.runs import sweep

pytestmark = pytest.mark.faults
RUN = ("run", "--workers", 2, "--results")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A house, and what an undisturbed run writes in it."""
    longer = toyhouse.TOY.replace("cells(8, pause", "cells(12, pause")
    folder = toyhouse.build(tmp_path_factory.mktemp("calm") / "a hoüse", longer)
    assert toyhouse.study(folder, *RUN, "calm")[0] == 0
    return folder, toyhouse.files(folder / "calm")


def kill(process, victim, rng):
    """kill -9 of the driver, of one worker, or of driver and workers at once."""
    workers = sorted(toyhouse.children(process.pid)) if process.poll() is None else []
    if victim == "worker" and workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
    elif victim == "all":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    return workers


def check_one(calm, name, seed):
    house, expected = calm
    rng = random.Random(seed)
    process = toyhouse.start(house, *RUN, name)
    victim = ("driver", "worker", "all")[seed % 3]
    begun = rng.randrange(13)
    toyhouse.wait_until(
        lambda: len(toyhouse.stored(house / name)) >= begun or process.poll() is not None
    )
    time.sleep(rng.uniform(0, 0.2))  # not to wait for anything: the moment is to be a random one
    workers = kill(process, victim, rng)
    process.communicate(timeout=toyhouse.SECONDS)
    toyhouse.wait_until(lambda: not any(map(toyhouse.alive, workers)))
    code, _, err = toyhouse.study(house, *RUN, name)
    assert code == 0, err
    assert toyhouse.files(house / name) == expected, (seed, victim)
    assert not list((house / name).rglob("*.tmp"))
    return process.returncode


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_time_the_same_command_completes(calm, seed):
    check_one(calm, f"short {seed}", seed)


@pytest.mark.slow
def test_a_hundred_kills_at_random_times(calm):
    codes = [check_one(calm, f"long {seed}", seed) for seed in range(100, 200)]
    assert codes.count(-signal.SIGKILL) >= 40  # it was alive when killed, as often as not


@pytest.mark.parametrize(("number", "begun"), [(signal.SIGINT, 2), (signal.SIGTERM, 0)])
def test_interrupted_it_stops_at_once_and_resumes(house, number, begun):
    """Though the cells that it computes would not end."""
    (house / "experiments" / "toy.py").write_text(toyhouse.changed(toyhouse.WAITING))
    process = toyhouse.start(house, *RUN, "r")
    toyhouse.wait_until(lambda: (house / "r" / "toy" / ".parts" / "lock").exists())
    toyhouse.wait_until(lambda: len(toyhouse.stored(house / "r")) >= begun)
    workers = toyhouse.children(process.pid)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()
    _, err = process.communicate(timeout=toyhouse.SECONDS)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    toyhouse.wait_until(lambda: not any(map(toyhouse.alive, workers)))
    assert not list(house.joinpath("r").rglob("*.tmp"))
    (house / "go").touch()
    for results in ("r", "calm"):
        assert toyhouse.study(house, *RUN, results)[0] == 0
    assert toyhouse.files(house / "r") == toyhouse.files(house / "calm")


def test_a_run_that_waits_for_another_can_be_interrupted(calm):
    house, _ = calm
    with disk.alone(house / "held" / "toy" / ".parts"):
        process = toyhouse.start(house, *RUN, "held")
        assert "waiting for another run" in process.stderr.readline()
        process.terminate()
        _, err = process.communicate(timeout=toyhouse.SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err


DYING = """
GRID['quick'] = cells(6)
GRID['quick'][2]['fault'] = 'die'
GRID['quick'][4] |= {'fault': 'die once', 'marker': 'died once'}
"""
HUNGRY = """
import resource

def limited(scale, seed, marker="", mebibytes=0):
    if mebibytes and not (marker and os.path.exists(marker)):
        if marker:
            open(marker, "w").close()
        import numpy as np
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, before[1]))
        try:
            np.ones(mebibytes * 2**17)
        finally:  # the worker's other cells have what they need
            resource.setrlimit(resource.RLIMIT_AS, before)
    return _measure(scale, seed)

_measure, measure = measure, limited
GRID['quick'] = cells(6)
GRID['quick'][2]['mebibytes'] = 200
GRID['quick'][4] |= {'mebibytes': 200, 'marker': 'refused once'}
"""


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("dying", DYING, "its worker died twice (killed, or out of memory)"),
        ("hungry", HUNGRY, "MemoryError: out of memory: Unable to allocate"),
    ],
)
def test_a_part_that_kills_its_worker_is_retried_then_quarantined(calm, name, source, reason):
    """Killed, or refused memory by the kernel, once (another process held it) or always."""
    house, _ = calm
    module = house / "experiments" / f"{name}.py"
    module.write_text(toyhouse.changed(source))
    code, out, err = toyhouse.study(house, "run", name, "--preset", "quick", "--workers", 2)
    module.unlink()
    assert (code, out) == (3, ""), err
    (line,) = [line for line in err.splitlines() if "part failed" in line]
    assert '"marker"' not in line
    assert f"quarantined: {reason}" in line
    assert "1 of 6 failed" in err
    assert len(list((house / "build" / "quick" / name / ".parts").glob("*.part"))) == 5


def test_two_runs_in_one_folder_one_of_them_killed(calm):
    house, expected = calm
    first = toyhouse.start(house, *RUN, "two")
    toyhouse.wait_until(lambda: (house / "two" / "toy" / ".parts" / "lock").exists())
    second = toyhouse.start(house, *RUN, "two")
    toyhouse.wait_until(lambda: len(toyhouse.stored(house / "two")) >= 5)
    first.kill()
    _, err = second.communicate(timeout=toyhouse.SECONDS)
    assert second.returncode == 0, err
    assert toyhouse.files(house / "two") == expected


def test_two_presets_in_one_folder_are_never_mixed(calm):
    house, expected = calm
    quick = (*RUN[:-1], "--preset", "quick", "--results", "both")
    both = [toyhouse.start(house, *RUN, "both"), toyhouse.start(house, *quick)]
    errors = [process.communicate(timeout=toyhouse.SECONDS)[1] for process in both]
    codes = [process.returncode for process in both]
    # The tables are those of one of them; a run that finds the other's says so and stops.
    assert set(codes) <= {0, 2}
    assert 0 in codes, errors
    assert len(sweep.read_results(house / "both", "toy")["ends"]) in (3, 12)
    assert toyhouse.study(house, *RUN, "both")[0] == 0
    assert toyhouse.files(house / "both") == expected
