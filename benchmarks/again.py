"""Every verdict on trained networks once more: twice the steps, and rates that lie closer.

Of the tables in results/ those arms are trained again without which a verdict would not be what it
is, each with twice the steps and at the best of five rates, a quarter decade apart, about the one
that it had. Where rates are given, not tuned, all are taken again, and with those between them. The
verdicts of both, side by side, become results/again/again.csv. A run takes all verdicts of an
experiment, those too that the table has.

    python -m benchmarks.again [training | relu_against_sigmoid | large_weights | ...]
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from study.records import tables as records
from study.records.disk import make_folder
from study.runs.experiment import Experiment, load
from study.runs.sweep import read_results
from study.statistics.claims import judge_all

NAMES = (
    "training", "relu_against_sigmoid", "isometry_learning", "large_weights", "edge_of_stability"
)  # fmt: skip
WORKERS = 2
Tables = dict[str, pd.DataFrame]
COLUMNS = {
    "experiment": "which experiment's claim [-]",
    "claim": "its short name [-]",
    "steps": "steps that the networks may take the second time [steps]",
    "verdict": "verdict with half of them [-]",
    "estimate": "estimate then [as the statement says]",
    "verdict_again": "verdict with twice the steps and rates that lie closer [-]",
    "estimate_again": "estimate then [as the statement says]",
    "stood": "whether the verdict is the same [-]",
}


def trained_table(tables: Tables) -> str:
    """The table whose rows are networks trained at tuned rates; empty where none is."""
    return next((name for name, table in tables.items() if {"rate", "enclosed"} <= {*table}), "")


def is_of(cell: dict, rows: pd.DataFrame) -> pd.Series:
    """Which rows are a cell's."""
    keys = [key for key in cell if key in rows and key != "steps" and np.isscalar(cell[key])]
    return (rows[keys] == pd.Series(cell)[keys]).all(axis=1)


def estimates(experiment: Experiment, tables: Tables) -> dict[str, str]:
    """What each claim comes to, as a text, in which NaN is NaN."""
    return {claim.name: str(claim.judge(tables)) for claim in experiment.claims}


def deciding(experiment: Experiment, tables: Tables) -> Iterator[tuple[dict, set[str]]]:
    """The cells that estimates rest on, told the rate that they had; and those claims."""
    whole = estimates(experiment, tables)
    name = trained_table(tables)
    for cell in experiment.grid["paper"][::-1]:  # it has large networks first
        if "tuning_seeds" not in cell:
            continue
        is_own = is_of(cell, tables[name])
        if not is_own.any():
            continue
        without = estimates(experiment, tables | {name: tables[name][~is_own]})
        claims = {claim for claim in whole if without[claim] != whole[claim]}
        if claims:
            yield cell | {"near": float(tables[name].rate[is_own].iloc[0])}, claims


def given_rates(experiment: Experiment) -> list[dict]:
    """The cells whose rates are given, and others at the rates between."""
    given = [cell for cell in experiment.grid["paper"] if "rate" in cell]
    between = [
        cell | {"rate": float(np.sqrt(before["rate"] * cell["rate"]))}
        for before, cell in pairwise(given)
        if before["activation"] == cell["activation"]
    ]
    return given + between


def longer(cell: dict) -> dict:
    """A cell with twice the steps; where times are given, rate times steps, at half the rate."""
    if "times" in cell:
        return cell | {"rate": cell["rate"] / 2}
    counts = {"steps", "few", "many", "looks"} & {*cell}
    return cell | {key: 2 * cell[key] for key in counts}


def most_steps(cell: dict) -> int:
    """The steps that a cell's networks may take."""
    return round(max(cell["times"]) / cell["rate"]) if "times" in cell else cell["steps"]


def again(name: str, cell: dict) -> Tables:
    """A cell's tables, of twice the steps."""
    return load(name).measure(**longer(cell))


def side_by_side(experiment: Experiment, before: Tables, after: Tables, steps: int) -> pd.DataFrame:
    """All verdicts of an experiment on the tables before and after."""
    first = judge_all(experiment, before)
    second = judge_all(experiment, after)
    return first[["experiment", "claim", "verdict", "estimate"]].assign(
        steps=steps,
        verdict_again=second.verdict,
        estimate_again=second.estimate,
        stood=first.verdict == second.verdict,
    )[[*COLUMNS]]


def compared(name: str, tables: Tables) -> Iterator[pd.DataFrame]:
    """The verdicts before and after, as soon as all is done that they rest on."""
    experiment = load(name)
    waiting = [*deciding(experiment, tables)]
    of_tuned = set().union(*(claims for _, claims in waiting))
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        yield from compared_tuned(experiment, tables, waiting, pool)
        if cells := given_rates(experiment):
            found = [*pool.map(partial(again, name), cells)]
            others = {table: pd.concat([part[table] for part in found]) for table in found[0]}
            steps = max(most_steps(longer(cell)) for cell in cells)
            both = side_by_side(experiment, tables, tables | others, steps)
            yield both[~both.claim.isin(of_tuned)]


def compared_tuned(
    experiment: Experiment, tables: Tables, cells: list[tuple[dict, set[str]]], pool: Executor
) -> Iterator[pd.DataFrame]:
    """The same of what rests on arms at tuned rates, after each of them."""
    table = trained_table(tables)
    after = dict(tables)
    waiting = {pool.submit(again, experiment.name, cell): (cell, claims) for cell, claims in cells}
    known = set().union(*(claims for _, claims in cells))
    for job in as_completed([*waiting]):
        cell, _ = waiting.pop(job)
        others = after[table][~is_of(cell, after[table])]
        after[table] = pd.concat([others, job.result()[table]], ignore_index=True)
        print(f"{experiment.name}: {len(waiting)} arms are left", flush=True)
        both = side_by_side(experiment, tables, after, 2 * cell["steps"])
        done = known.difference(*(claims for _, claims in waiting.values()))
        yield both[both.claim.isin(done)]


def main(names: Sequence[str], results: Path = Path("results")) -> None:
    """Compare some experiments, and keep what was found of the others before."""
    path = results / "again" / "again.csv"
    make_folder(path.parent)
    for name in names or NAMES:
        found = records.read_table(path) if path.exists() else pd.DataFrame(columns=[*COLUMNS])
        found = found[found.experiment != name]
        for rows in compared(name, read_results(results, name)):
            others = found[(found.experiment != name) | ~found.claim.isin(rows.claim)]
            found = pd.concat([part for part in (others, rows) if len(part)] or [rows])
            found = found.reset_index(drop=True)
            records.write_described(path, found, COLUMNS, {"versions": [records.versions()]})


if __name__ == "__main__":
    main(sys.argv[1:])
