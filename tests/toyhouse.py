"""A house with one experiment, a toy, and what tests do to it: run it, watch it, kill it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import psutil

from study.runs import sweep
from study.runs.experiment import Experiment

ROOT = Path(sweep.__file__).parents[2]
EXTRA = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != ROOT]

TOY = """
import os, signal, time
import pandas as pd
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below

COLUMNS = {"scale": "factor per step [1]", "value": "what is left [1]"}
VERSION = 1

def cells(n, **more):
    return [{"scale": 0.5 + i / 7, "seed": i, **more} for i in range(n)]

GRID = {"quick": cells(3), "paper": cells(8, pause=0.15)}

def measure(scale, seed, pause=0.0, fault="", marker="", mebibytes=0):
    time.sleep(pause)
    held = b"x" * (mebibytes * 2**20)
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
          threshold=below(1e6), judge=judge, about="B"),
    Claim(name="large", statement="What is left after three steps is above a million.",
          threshold=above(1e6), judge=judge),
]

def figure(tables):
    from matplotlib.figure import Figure
    figure = Figure()
    axes = figure.add_subplot(title="toy")
    for seed, rows in tables["decay"].groupby("seed"):
        axes.plot(rows["layer"], rows["value"], label=f"seed {seed}")
    axes.legend()
    return figure
"""
EXPERIMENT = """
experiment = Experiment(
    question="Does the toy decay?", grid=GRID, measure=measure, figure=figure, claims=CLAIMS,
    columns=COLUMNS, version=VERSION,
)
"""
TOY += EXPERIMENT


def changed(change):
    """The source of the toy with something else in it."""
    return f"{TOY}\n{change}\n{EXPERIMENT}"


class Here(Executor):
    """Runs at once, in this process, which is quick."""

    def submit(self, fn, /, *args):
        future = Future()
        future.set_result(fn(*args))
        return future


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


def start(house, *args, program=("-m", "study"), path=ROOT, **more):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [path, *EXTRA])), **more}
    environment.pop("DISPLAY", None)
    return subprocess.Popen(
        [sys.executable, *program, *map(str, args)],
        cwd=house,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        start_new_session=True,
    )


def study(house, *args, seconds=120, **more):
    process = start(house, *args, **more)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, out, err


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".parts" not in path.parts and "__pycache__" not in path.parts
    }


def children(pid):
    return {child.pid for child in psutil.Process(pid).children()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
