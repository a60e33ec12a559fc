"""A house with one experiment, a toy, and what tests do to it: run it, watch it, kill it."""

import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import psutil

from study.cli import main
from study.report import publish
from study.runs import sweep, workers
from study.runs.experiment import Experiment

ROOT = Path(sweep.__file__).parents[2]
EXTRA = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != ROOT]

SECONDS = 600  # after which something is given up, on a machine however busy

TOY = """
import os, signal, time
import numpy as np
import pandas as pd
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below

COLUMNS = {"scale": "factor per step [1]", "value": "what is left [1]"}
VERSION = 1

def cells(n, **more):
    return [{"scale": 0.5 + i / 7, "seed": i, **more} for i in range(n)]

GRID = {"quick": cells(3), "paper": cells(8, pause=0.15)}

def measure(scale, seed, pause=0.0, fault="", marker=""):
    time.sleep(pause)
    while fault == "wait" and not os.path.exists(marker):
        time.sleep(0.01)
    if fault == "raise":
        raise RuntimeError("the toy\\nbroke")
    if fault == "exit":
        raise SystemExit(5)
    if fault == "die" or (fault == "die once" and not os.path.exists(marker)):
        if marker:
            open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    steps = range(4)
    rows = {"scale": scale, "seed": seed, "layer": steps, "value": [scale**k / 3 for k in steps]}
    return {"decay": pd.DataFrame(rows), "ends": pd.DataFrame(rows).tail(1)}

def judge(tables):
    value = tables["ends"]["value"]
    return Estimate(value.mean(), value.min(), value.max(), value.size)

CLAIMS = [
    Claim(name="finite", statement="What is left after three steps is below a million.",
          threshold=below(1e6), judge=judge, about="B2"),
    Claim(name="large", statement="What is left after three steps is above a million.",
          threshold=above(1e6), judge=judge),
]

def figure(tables):
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    figure, at = Figure((3, 2)), np.arange(500)  # neither axes nor letters, which take a second
    for value in tables["ends"]["value"]:
        figure.add_artist(Line2D(at / 500, 0.5 + 0.4 * np.sin(at * value)))
    return figure
"""
EXPERIMENT = """
experiment = Experiment(
    question="Does the toy decay?", grid=GRID, measure=measure, figure=figure, claims=CLAIMS,
    columns=COLUMNS, version=VERSION,
)
"""
TOY += EXPERIMENT

# The last cells do not end before there is a file "go".
WAITING = """
for cell in GRID["paper"][4:]:
    cell |= {"fault": "wait", "marker": "go"}
"""


def changed(change):
    """The source of the toy with something else in it."""
    return f"{TOY}\n{change}\n{EXPERIMENT}"


class Here(Executor):
    """Runs at once, in this process, which is quick."""

    def submit(self, fn, /, *args):
        future = Future()
        future.set_result(fn(*args))
        return future


class Typed:
    """Commands typed in a house, but in this process: status, and what stdout and stderr say."""

    MENDS = "made by: ", "made again by: ", "judged again by: ", "installed by: "

    def __init__(self, house, patch, said):
        self.said = said
        patch.chdir(house)
        patch.syspath_prepend(house)
        patch.setattr(sys, "dont_write_bytecode", True)  # a source may change within a second
        for name in self.imported():
            patch.delitem(sys.modules, name)
        for module in (workers, publish):
            patch.setattr(module, "Crew", lambda *_: Here())

    @staticmethod
    def imported():
        return [name for name in sys.modules if name.partition(".")[0] == "experiments"]

    def forget(self):
        """Import the experiments afresh."""
        importlib.invalidate_caches()
        for name in self.imported():
            del sys.modules[name]

    def __call__(self, *args):
        self.forget()
        try:
            status = main.main([str(arg) for arg in args])
        except SystemExit as left:  # how argparse refuses
            status = left.code
        return status, *self.said.readouterr()

    def fails(self, *args):
        """The one line that it says, before any work."""
        status, out, err = self(*args)
        assert (status, out) == (2, ""), (status, out, err)
        assert err.startswith("study: error: ")
        assert err.count("\n") == 1
        return err.rstrip("\n")

    def mend(self, line):
        """Do what the line says, word for word."""
        (command,) = [line.partition(mark)[2] for mark in self.MENDS if mark in line]
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "study"], command
        status, _, err = self(*words[3:])
        assert status == 0, err


def change(toy, **fields):
    """Give the toy's experiment other fields."""
    toy.experiment = replace(toy.experiment, **fields)


def run(toy, results, preset="quick", workers=1, **more):
    return sweep.run(Experiment.of(toy), preset, results, workers, **more)


def tables(results):
    files = sorted(path for path in (results / "toy").iterdir() if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def stored(results):
    return sorted((results / "toy" / ".parts").glob("*.part"))


def build(folder, toy=TOY):
    """A house with one experiment, the toy."""
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "__init__.py").write_text("")
    (folder / "experiments" / "toy.py").write_text(toy)
    return folder


STARTED: list[subprocess.Popen] = []


def start(house, *args, program=("-m", "study"), path=ROOT, output=subprocess.PIPE, **more):
    """A process with a group of its own; what is left of that when the test ends is killed."""
    places = [str(place) for place in (path, *EXTRA) if place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), **more}
    environment.pop("DISPLAY", None)
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, args)],
        cwd=house,
        env=environment,
        stdout=output,
        stderr=output,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def stop_all():
    """Kill what is left of every group that was started."""
    while STARTED:
        process = STARTED.pop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def study(house, *args, **more):
    process = start(house, *args, **more)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".parts" not in path.parts and "__pycache__" not in path.parts
    }


def flips(data, bits):
    """The data, each time with one of the bits the other way."""
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def children(pid):
    try:
        return {child.pid for child in psutil.Process(pid).children()}
    except psutil.NoSuchProcess:
        return set()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found
