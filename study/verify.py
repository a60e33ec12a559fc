"""Whether a results folder can be trusted: its files, what made them, identities, a sample again.

Nothing is written. Each check is a line: where, what, and, if it fails, what is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from study import identities, records
from study.claims import judge_all
from study.experiment import PRESETS, Experiment, discover, load
from study.parts import compute, decode_part
from study.sweep import configuration, parts


class Check(NamedTuple):
    """Where, what was checked, and what is wrong: empty if nothing is."""

    where: str
    what: str
    wrong: str = ""


def verify(results: Path, recompute: int, seed: int) -> Iterator[Check]:
    """Check all results in a folder.

    Parameters
    ----------
    results : as `study run` wrote it
    recompute : how many cells of each experiment are computed again
    seed : chooses them

    Raises
    ------
    ValueError
        When the folder holds no results.
    """
    folders = sorted({path.parent for end in ("csv", "json") for path in
                      [*results.glob(f"*.{end}"), *results.glob(f"*/*.{end}")]})  # fmt: skip
    if not folders:
        raise ValueError(
            f"--results '{results}' has no results; allowed: a folder written by "
            "python -m study run"
        )
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for folder in folders:
        own: dict[str, pd.DataFrame] = {}
        files = [*_files(folder, own)]
        yield from files
        if folder == results:
            tables[""] = own
        if folder == results or any(check.wrong for check in files):
            continue
        about = records.read_about(folder / "data_dictionary.csv")
        if "cells" not in about.get("configuration", {}):
            continue  # a table that is not an experiment's, such as the laws
        wrong, experiment = _provenance(folder, own)
        yield Check(folder.name, "configuration", wrong)
        if experiment and not wrong:
            tables[folder.name] = own
            yield from _again(experiment, folder, own, recompute, seed)
    yield from _claims(tables)


def _files(folder: Path, tables: dict[str, pd.DataFrame]) -> Iterator[Check]:
    """Read every table of a folder, and compare it with what is written of it."""
    stems = {p.stem for p in folder.iterdir() if p.suffix in (".csv", ".json")}
    for name in sorted(stems | {"data_dictionary"}):
        path, wrong = folder / f"{name}.csv", ""
        try:
            tables[name] = frame = records.read_table(path)
            about = records.read_about(path)
            known = {*records.versions()}
            if about.get("rows") != len(frame):
                wrong = f"{len(frame)} rows, not {about.get('rows')}"
            elif not about.get("versions") or any(not known <= {*v} for v in about["versions"]):
                wrong = f"versions {about.get('versions')}; allowed: of {', '.join(sorted(known))}"
            elif about.get("conventions") != records.CONVENTIONS:
                wrong = "other conventions than the study's"
        except (ValueError, OSError) as error:
            wrong = str(error)
        yield Check(str(path), "checksum, rows, versions", wrong)
    dictionary = tables.get("data_dictionary")
    if dictionary is None or [*dictionary] != ["table", "column", "type", "unit", "meaning"]:
        return
    for name, frame in tables.items():
        if name == "data_dictionary":
            continue
        listed = dictionary[dictionary["table"] == name]
        types = records.read_about(folder / f"{name}.csv")["schema"]
        told = dict(zip(listed["column"], listed["type"], strict=True))
        wrong = "" if types == told else f"columns {types}; its dictionary says {told}"
        if not listed["meaning"].fillna("").str.strip().all():
            wrong = "a column has no meaning"
        yield Check(str(folder / f"{name}.csv"), "data dictionary", wrong)
        for what, wrong in identities.check(frame):
            yield Check(str(folder / f"{name}.csv"), what, wrong)
    for name in sorted(set(dictionary["table"]) - stems):
        yield Check(str(folder / f"{name}.csv"), "data dictionary", "the table is missing")


def _provenance(folder: Path, own: dict[str, pd.DataFrame]) -> tuple[str, Experiment | None]:
    """What is wrong with the configuration of an experiment's tables, and the experiment."""
    about = {name: records.read_about(folder / f"{name}.csv") for name in own}
    run = about["data_dictionary"]["configuration"]
    if any(one["configuration"] != run for one in about.values()):
        return "the tables are of different runs", None
    if folder.name not in discover() or run.get("preset") not in PRESETS:
        return "of an experiment or a preset that this study does not have", None
    experiment = load(folder.name)
    grid = parts(experiment, run["preset"])
    if run != configuration(experiment, run["preset"], grid):
        return f"of another version of the experiment; python -m study run {folder.name}", None
    for name, frame in own.items():
        rows = about[name].get("rows_of_cells", [])
        if name != "data_dictionary" and (len(rows) != len(grid) or sum(rows) != len(frame)):
            return f"{name}: its rows are not those of its cells, {rows[:5]}...", None
    return "", experiment


def _again(
    experiment: Experiment, folder: Path, own: dict[str, pd.DataFrame], count: int, seed: int
) -> Iterator[Check]:
    """Compute a random sample of cells again and compare their rows."""
    about = {n: records.read_about(folder / f"{n}.csv") for n in own if n != "data_dictionary"}
    run = records.read_about(folder / "data_dictionary.csv")["configuration"]
    grid = parts(experiment, run["preset"])
    for place in sorted(random.Random(seed).sample(range(len(grid)), min(count, len(grid)))):
        try:
            data, wrong, _ = compute(*grid[place])
        except MemoryError as error:
            data, wrong = b"", str(error)
        made = decode_part(data, grid[place].configuration)[0] if data else {}
        exact = True
        for name in about if made else ():
            rows = about[name]["rows_of_cells"]
            kept = own[name].iloc[sum(rows[:place]) : sum(rows[: place + 1])].reset_index(drop=True)
            if name in made and not wrong:
                exact = exact and records.encode(kept) == made[name].csv
                wrong = _compare(name, kept, records.decode(made[name].csv, made[name].types))
            elif len(kept):
                wrong = wrong or f"{name}: it makes no such table"
        how = "equal" if exact else f"within {identities.TOLERANCE}"
        yield Check(folder.name, f"cell {place} of {len(grid)} again, {how}", wrong)


def _compare(table: str, kept: pd.DataFrame, again: pd.DataFrame) -> str:
    if [*kept] != [*again] or len(kept) != len(again):
        return f"{table}: {kept.shape} rows and columns, computed again {again.shape}"
    for column in kept:
        if kept[column].dtype == np.float64:
            wrong = identities.differ(kept[column], again[column])
        else:
            wrong = "" if kept[column].equals(again[column]) else "not what it was computed again"
        if wrong:
            return f"{table}.{column}: {wrong}"
    return ""


def _claims(tables: dict[str, dict[str, pd.DataFrame]]) -> Iterator[Check]:
    """Judge the claims again by the tables that are sound."""
    kept = tables.get("", {}).get("claims")
    for name, own in tables.items():
        if not name or kept is None:
            continue
        judged = judge_all(load(name), own)
        listed = kept[kept["experiment"] == name].reset_index(drop=True)
        yield Check(name, "verdicts follow from the tables", _compare("claims", listed, judged))
