"""Whether a results folder can be trusted: its files, what made them, identities, a sample again.

Nothing is written. Each check is a line: where, what, and, if it fails, what is wrong.

1. Files: checksum, rows, schema, dictionary; identities of the columns (`identities.check`).
2. Provenance: the tables are of one run of this version of the experiment, cell by cell.
3. Parts, where they are kept: each is sound, and the tables are those of the parts, byte for byte.
4. A sample of cells is computed again: every layer that is walked back obeys Euler's identity, and
   every Jacobian its own (`identities.watched`), and the rows agree with those kept: on the same
   machine byte for byte, on another within `Walks.tolerance`, the accuracy promise. A number
   that rounding moves further, as in a chaotic network, is held to what rounding moves it, and so
   is the event that a row tells, such as divergence (`nudge.Reach`); but not where it is the only
   one of its cell that differs at all, which no other machine's would be.
5. The verdicts follow from the tables.

The experiments keep sums, medians and fits of per-layer norms, in which no identity is left that
one could check in the columns alone; so it is 3 and 4 that hold theirs to what layers must obey.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.checks import made_by, none_there
from study.records import tables as records
from study.runs import identities, nudge
from study.runs.experiment import PRESETS, discover, load
from study.runs.parts import Part, Table, compute, decode_part, read_part
from study.runs.sweep import configuration, parts
from study.statistics.claims import judge_all


class Check(NamedTuple):
    """Where, what was checked, and what is wrong: empty if nothing is."""

    where: str
    what: str
    wrong: str = ""


class Kept(NamedTuple):
    """The results of one experiment: its grid, and its tables, cell by cell."""

    folder: Path
    grid: list[Part]
    tables: dict[str, pd.DataFrame]
    about: dict[str, dict[str, Any]]
    """What stands beside each table, the dictionary not."""

    def ends(self, name: str) -> list[int]:
        """Where the rows of each cell end in a table; before them, 0."""
        return [*accumulate(self.about[name]["rows_of_cells"], initial=0)]

    def cell(self, name: str, ends: list[int], place: int) -> pd.DataFrame:
        """The rows of one cell in a table, given its `ends`."""
        return self.tables[name].iloc[ends[place] : ends[place + 1]].reset_index(drop=True)


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
        raise ValueError(none_there(results))
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
        wrong, kept = _provenance(folder, own)
        yield Check(folder.name, "configuration", wrong)
        if kept:
            tables[folder.name] = own
            yield from _parts(kept)
            yield from _again(kept, recompute, seed)
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


def _provenance(folder: Path, own: dict[str, pd.DataFrame]) -> tuple[str, Kept | None]:
    """What is wrong with the configuration of an experiment's tables, or else the experiment."""
    about = {name: records.read_about(folder / f"{name}.csv") for name in own}
    run = about.pop("data_dictionary")["configuration"]
    if any(one["configuration"] != run for one in about.values()):
        return "the tables are of different runs", None
    if folder.name not in discover() or run.get("preset") not in PRESETS:
        return "of an experiment or a preset that this study does not have", None
    experiment = load(folder.name)
    grid = parts(experiment, run["preset"])
    if run != configuration(experiment, run["preset"], grid):
        command = made_by(folder / "data_dictionary.csv")
        return f"of another version of the experiment; it is made again by: {command}", None
    for name, one in about.items():
        rows = one.get("rows_of_cells", [])
        if len(rows) != len(grid) or sum(rows) != len(own[name]):
            return f"{name}: its rows are not those of its cells, {rows[:5]}...", None
    return "", Kept(folder, grid, own, about)


def _parts(kept: Kept) -> Iterator[Check]:
    """Look at every part that is there; the tables must be those of the parts of their grid."""
    places = {part.key: place for place, part in enumerate(kept.grid)}
    ends = {name: kept.ends(name) for name in kept.about}
    equal = stale = 0
    for path in sorted((kept.folder / ".parts").glob("*.part")):
        try:
            part, wrong = read_part(path.read_bytes()), ""
            if records.digest(records.canonical(part.configuration)) != path.stem:
                wrong = "damaged (its name is not that of its configuration)"
        except (ValueError, TypeError, KeyError, OSError) as error:
            wrong = f"damaged ({error})"
        if not wrong and path.stem not in places:
            stale += 1
            continue
        for name in kept.about if not wrong else ():
            rows = kept.cell(name, ends[name], places[path.stem])
            csv = part.tables[name].csv if name in part.tables else b""
            if len(rows) and records.encode(rows) != csv:
                wrong = f"{name}: not the rows of cell {places[path.stem]} in the table"
            elif part.versions not in kept.about[name]["versions"]:
                wrong = f"versions {part.versions}, which the table does not name"
        if wrong:
            yield Check(str(path), "part", wrong)
        else:
            equal += 1
    if equal or stale:
        others = f"; {stale} of another grid or version, which none uses" if stale else ""
        what = f"{equal} of {len(kept.grid)} parts are here, equal to the tables{others}"
        yield Check(kept.folder.name, what)


def _again(kept: Kept, count: int, seed: int) -> Iterator[Check]:
    """Compute a random sample of cells again and compare their rows."""
    many, where = len(kept.grid), kept.folder.name
    ends = {name: kept.ends(name) for name in kept.about}
    for place in sorted(random.Random(seed).sample(range(many), min(count, many))):
        part = kept.grid[place]
        try:
            with identities.watched() as seen:
                data, wrong = compute(*part)
        except MemoryError as error:
            data, wrong = b"", str(error)
        made = decode_part(data, part.configuration)[0] if data else {}
        made = {name: table for name, table in made.items() if table.rows}
        rows = {name: kept.cell(name, ends[name], place) for name in kept.about}
        rows = {name: frame for name, frame in rows.items() if len(frame)}
        how = "equal"
        if not wrong and rows.keys() != made.keys():
            wrong = f"it makes the tables {', '.join(made)}, not {', '.join(rows)}"
        if not wrong and any(records.encode(rows[name]) != made[name].csv for name in made):
            how, wrong = _beside(part, rows, made, seen.tolerance)
        yield Check(where, f"cell {place} of {many} again, {how}", wrong)
        if seen.said:
            yield Check(where, f"cell {place}: {seen.said}", seen.wrong)


def _beside(
    part: Part, rows: dict[str, pd.DataFrame], made: dict[str, Table], tolerance: float
) -> tuple[str, str]:
    """How the rows kept agree with those of a cell made again, and what is wrong with them."""
    again = {name: records.decode(table.csv, table.types) for name, table in made.items()}
    how = f"within {tolerance:.1g}"
    wrong = _first(_compare(name, rows[name], again[name], tolerance) for name in again)
    if wrong and sum(_differing(rows[name], again[name]) for name in again) > 1:
        how = f"within {tolerance:.1g} or what rounding moves"
        try:
            reach = nudge.reach(part, made)
        except ValueError as error:
            return how, str(error)
        wrong = _first(
            _compare(name, rows[name], again[name], tolerance, reach[name]) for name in again
        )
    return how, wrong


def _first(wrong: Iterable[str]) -> str:
    return next(filter(None, wrong), "")


def _differing(kept: pd.DataFrame, again: pd.DataFrame) -> int:
    """How many numbers differ, if only in their last bits: one was altered, more were computed."""
    if [*kept] != [*again] or len(kept) != len(again):
        return len(kept)
    return int((kept.ne(again) & (kept.notna() | again.notna())).to_numpy().sum())


def _compare(
    table: str,
    kept: pd.DataFrame,
    again: pd.DataFrame,
    tolerance: float = identities.TOLERANCE,
    reach: nudge.Reach | None = None,
) -> str:
    """What is wrong with rows that were made again, beyond the tolerance or their own reach."""
    if reach is not None and reach.open:
        return ""
    if [*kept] != [*again] or len(kept) != len(again):
        return f"{table}: {kept.shape} rows and columns, computed again {again.shape}"
    if reach is not None and kept.dtypes.equals(again.dtypes):
        kept = kept.where(~reach.allows(kept), again)
    for column in kept:
        one, two = kept[column], again[column]
        if one.dtype == np.float64:
            wrong = identities.differ(one, two, tolerance)
        else:
            wrong = "" if one.equals(two) else "not what it was computed again"
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
