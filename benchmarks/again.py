"""Every verdict on trained networks once more: twice the steps, rates a quarter decade apart.

Of the tables in results/ those arms are trained again without which a verdict would not be what it
is, each with twice the steps and at the best of five rates about the one that it had. The verdicts
of both, side by side, become results/again/again.csv. A run takes all verdicts of
an experiment, those too that the table has.

    python -m benchmarks.again [training | relu_against_sigmoid | large_weights | isometry_learning]
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd

from study.records import tables as records
from study.records.disk import make_folder
from study.runs.experiment import Experiment, load
from study.runs.sweep import read_results
from study.statistics.claims import judge_all

NAMES = ("training", "relu_against_sigmoid", "isometry_learning", "large_weights")
WORKERS = 2
Tables = dict[str, pd.DataFrame]
COLUMNS = {
    "experiment": "which experiment's claim [-]",
    "claim": "its short name [-]",
    "steps": "steps that the networks may take the second time [steps]",
    "verdict": "verdict with half of them [-]",
    "estimate": "estimate then [as the statement says]",
    "verdict_again": "verdict with twice the steps and rates a quarter decade apart [-]",
    "estimate_again": "estimate then [as the statement says]",
    "stood": "whether the verdict is the same [-]",
}


def trained_table(tables: Tables) -> str:
    """The table whose rows are trained networks."""
    return next(name for name, table in tables.items() if {"rate", "enclosed"} <= {*table})


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
        is_own = is_of(cell, tables[name])
        if "tuning_seeds" not in cell or not is_own.any():
            continue
        without = estimates(experiment, tables | {name: tables[name][~is_own]})
        claims = {claim for claim in whole if without[claim] != whole[claim]}
        if claims:
            yield cell | {"near": float(tables[name].rate[is_own].iloc[0])}, claims


def again(name: str, cell: dict) -> Tables:
    """A cell's tables, of twice the steps."""
    longer = {key: 2 * cell[key] for key in ("steps", "few", "many")}
    return load(name).measure(**cell | longer)


def compared(name: str, tables: Tables) -> Iterator[pd.DataFrame]:
    """After each arm, the verdicts before and after of claims whose arms are all done."""
    experiment = load(name)
    table = trained_table(tables)
    rows = tables[table]
    before = judge_all(experiment, tables)
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        waiting = {
            pool.submit(again, name, cell): (cell, claims)
            for cell, claims in deciding(experiment, tables)
        }
        known = set().union(*(claims for _, claims in waiting.values()))
        for job in as_completed([*waiting]):
            cell, _ = waiting.pop(job)
            others = rows[~is_of(cell, rows)]
            rows = pd.concat([others, job.result()[table]], ignore_index=True)
            print(f"{name}: {len(waiting)} arms are left", flush=True)
            after = judge_all(experiment, tables | {table: rows})
            both = before[["experiment", "claim", "verdict", "estimate"]].assign(
                steps=2 * cell["steps"],
                verdict_again=after.verdict,
                estimate_again=after.estimate,
                stood=before.verdict == after.verdict,
            )
            done = known.difference(*(claims for _, claims in waiting.values()))
            yield both.loc[both.claim.isin(done), [*COLUMNS]]


def main(names: Sequence[str], results: Path = Path("results")) -> None:
    """Compare some experiments, and keep what was found of the others before."""
    path = results / "again" / "again.csv"
    make_folder(path.parent)
    for name in names or NAMES:
        others = records.read_table(path) if path.exists() else pd.DataFrame(columns=[*COLUMNS])
        others = others[others.experiment != name]
        for rows in compared(name, read_results(results, name)):
            found = pd.concat([part for part in (others, rows) if len(part)] or [rows])
            found = found.reset_index(drop=True)
            records.write_described(path, found, COLUMNS, {"versions": [records.versions()]})


if __name__ == "__main__":
    main(sys.argv[1:])
