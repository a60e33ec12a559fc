"""The bytes depend on what was asked alone: not on who computed it, when, in what order, or how."""

import itertools
import shutil

import numpy as np
import pytest
from toyhouse import ROOT, SECONDS, files, start, study

from study.records import tables as records
from study.runs import experiment, parts
from study.sampling import gaussian

pytestmark = pytest.mark.faults

WORK = """
'''A matrix product that a BLAS would share among threads, and a profile by each engine.'''
import numpy as np
import pandas as pd
import study
from study.runs.experiment import Experiment
from study.sampling.gaussian import fill_normal, key

COLUMNS = {"entry": "an entry of a product of matrices [1]"}
BLOCK = 1

def cells(n):
    seeds = list(range(n))
    return [{"seeds": seeds[i:i + BLOCK], "width": 16} for i in range(0, n, BLOCK)]

GRID = {"quick": cells(6), "paper": cells(6)}

def measure(seeds, width):
    rows = []
    for seed in seeds:
        a, b = np.empty((500, 500)), np.empty((500, 500))
        fill_normal(key(seed, "a"), 0, a)
        fill_normal(key(seed, "b"), 1, b)
        rows += [(seed, i, x) for i, x in enumerate((a @ b)[0, :50])]
    net = study.Network(activation="tanh", depth=6, width=width)
    made = {e: study.profile(net, seeds, engine=e) for e in ("dense", "matrix_free")}
    return made | {"product": pd.DataFrame(rows, columns=["seed", "layer", "entry"])}

def figure(tables):
    from matplotlib.figure import Figure
    return Figure()

experiment = Experiment(
    question="Who computed this?", grid=GRID, measure=measure, figure=figure, columns=COLUMNS
)
"""

DRIVER = """
import multiprocessing, random, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from study.runs import sweep
from study.runs.experiment import load

def main(folder, method, workers, order):
    experiment, workers = load("work"), int(workers)
    executor = None
    if method in ("fork", "forkserver"):
        executor = ProcessPoolExecutor(workers, multiprocessing.get_context(method))
    elif method == "threads":
        executor = ThreadPoolExecutor(workers)
    grid = list(experiment.grid["quick"])
    if order != "grid":  # in pieces and shuffled, each a run of its own, then all of it
        shuffled = random.Random(order).sample(grid, len(grid))
        half = len(grid) // 2
        for piece in (shuffled[:half], shuffled[half:]):
            experiment.grid["quick"] = piece
            assert not sweep.run(experiment, "quick", Path(folder), workers, executor)
    experiment.grid["quick"] = grid
    assert not sweep.run(experiment, "quick", Path(folder), workers, executor)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""
COMBINATIONS = [
    # workers, start method, order, threads of the BLAS in the driver, hash seed
    (1, "spawn", "grid", 1, 0),
    (2, "spawn", "shuffled", 2, 1),
    (4, "fork", "again", 2, 5),
    (1, "threads", "shuffled", 4, 7),
]
MORE = [
    (4, "spawn", "backwards", 4, 2),
    (1, "fork", "shuffled", 1, 3),
    (2, "fork", "grid", 4, 4),
    (2, "forkserver", "grid", 2, 6),
]


def run(house, folder, workers, method, order, threads, hashes):
    (house / "driver.py").write_text(DRIVER)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    more = dict.fromkeys(names, str(threads)) | {"PYTHONHASHSEED": str(hashes)}
    args = (folder, method, workers, order)
    process = start(house, *args, program=("driver.py",), **more)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err


def written(house, name, source, *combination):
    """What a run of the driver writes: its tables, and its parts."""
    (house / "experiments" / "work.py").write_text(source)
    run(house, house / name, *combination)
    return files(house / name), {p.name: p.read_bytes() for p in (house / name).rglob("*.part")}


@pytest.mark.parametrize("others", [(), pytest.param(MORE, marks=pytest.mark.slow)])
def test_equal_bytes_for_any_workers_start_method_order_and_threads(house, others):
    first = written(house, "r", WORK, *COMBINATIONS[0])
    assert (len(first[0]), len(first[1])) == (8, 6)
    for i, combination in enumerate(others or COMBINATIONS[1:]):
        assert written(house, f"r{i}", WORK, *combination) == first, combination


def test_equal_tables_for_any_chunks_of_seeds(house):
    """Cells that hold 1, or 4 and 2 seeds: the same rows in the same bytes."""
    made = []
    for block in (1, 4):
        text = WORK.replace("BLOCK = 1", f"BLOCK = {block}")
        tables, _ = written(house, f"b{block}", text, 2, "spawn", "grid", 1, block)
        made.append({name: data for name, data in tables.items() if name.endswith(".csv")})
    assert made[0] == made[1]


def test_a_table_that_does_depend_on_the_worker_is_seen(house):
    """The control: what differs from process to process would be found out."""
    text = WORK.replace('COLUMNS = {"entry"', 'import os\nCOLUMNS = {"entry"')
    text = text.replace("(a @ b)[0, :50]", "(a @ b)[0, :50] + os.getpid()")
    (one, _), (two, _) = (written(house, name, text, 1, "spawn", "grid", 1, 0) for name in "ab")
    assert one["work/dense.csv"] == two["work/dense.csv"]
    assert one["work/product.csv"] != two["work/product.csv"]


def test_adding_cells_anywhere_changes_no_number_of_another(house):
    _, before = written(house, "r", WORK, 2, "spawn", "grid", 1, 0)
    more = WORK.replace('GRID = {"quick": cells(6)', 'GRID = {"quick": [{"seeds": [99], "width": 8}'
                        ', *cells(3), {"seeds": [7], "width": 16}, *cells(6)[3:]]')  # fmt: skip
    # Computed afresh, in another order.
    _, after = written(house, "new", more, 2, "spawn", "shuffled", 1, 0)
    assert len(after) == len(before) + 2
    assert {name: after[name] for name in before} == before
    rows, again = (records.read_table(house / r / "work" / "product.csv") for r in ("r", "new"))
    old = again[again["seed"].isin(range(6))].reset_index(drop=True)
    assert np.array_equal(old["entry"], rows["entry"])


MEASURED = [name for name in experiment.discover() if (ROOT / "results" / name).exists()]


@pytest.mark.parametrize("names", [["kink"], pytest.param(MEASURED, marks=pytest.mark.slow)])
def test_figures_are_the_same_bytes_twice_without_a_display(tmp_path, names):
    """The figures of real experiments from the committed tables, by two processes."""
    for name in names:
        hidden = shutil.ignore_patterns(".parts")
        shutil.copytree(ROOT / "results" / name, tmp_path / "r" / name, ignore=hidden)
    made = []
    for i in range(2):
        more = {
            "PYTHONHASHSEED": str(i),
            "LC_ALL": ("C", "C.UTF-8")[i],
            "TZ": ("UTC", "Asia/Tokyo")[i],
            "MPLBACKEND": ("agg", "tkagg")[i],
        }
        command = ("figures", *names, "--results", tmp_path / "r", "--figures", tmp_path / str(i))
        code, _, err = study(ROOT, *command, **more)
        assert code == 0, err
        made.append(files(tmp_path / str(i)))
    assert made[0] == made[1]
    for name in names:
        assert len([file for file in made[0] if file.startswith(name)]) >= 3


# --- Seeds ---------------------------------------------------------------------------------------


def test_a_hundred_thousand_cells_have_as_many_keys_and_no_two_streams_meet():
    """Keys of parts and of weights; adding a cell renames no other."""
    grid = ({"activation": a, "sigma_w": s / 64, "depth": d, "seed": i} for a, s, d, i in
            itertools.product(("relu", "tanh"), range(50), range(10), range(100)))  # fmt: skip
    names = [
        parts.Part("toy", {"experiment": "toy", "cell": cell, "numerics": [2, 0]}).key
        for cell in grid
    ]
    assert len(set(names)) == len(names) == 10**5
    streams = {gaussian.key(i, "weights").tobytes() for i in range(10**5)}
    alike = ((1, "1"), ("1", 1), (1, 1), (11,), ("11",), (1.0, 1), ("1", "1"), ("1,1",))
    near = [gaussian.key(*words).tobytes() for words in alike]
    assert len(streams.union(near)) == 10**5 + len(near)
