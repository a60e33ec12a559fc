"""Whether a results folder can be trusted: its files, what made them, a sample computed again.

Nothing is written. Each check is a line: where, what, and, if it fails, what is wrong.

1. Files: checksum, rows, schema, dictionary; what the columns of any table obey.
2. Provenance: the tables are of one run of this version of the experiment, cell by cell.
3. Parts, where they are kept: each is sound, and the tables hold their rows.
4. A sample of cells is computed again and agrees: within the tolerance of each column, and chaotic
   networks in distribution.
5. The verdicts follow from the tables.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from study.records import tables as records
from study.records.tables import Json, Tables
from study.runs import agreement, identities
from study.runs.experiment import PRESETS, Experiment, discover, load
from study.runs.parts import Part, read_part
from study.runs.sweep import configuration, parts
from study.statistics.claims import judge_all
from study.tools.checks import made_by, none_there

_DICTIONARY = "data_dictionary"
_ENDINGS = (".csv", ".parquet", ".json")


class Check(NamedTuple):
    """Where, what was checked, and what is wrong: empty if nothing is."""

    where: str
    what: str
    wrong: str = ""


class _Kept(NamedTuple):
    """The results of one experiment: its grid, and its tables, cell by cell."""

    experiment: Experiment
    folder: Path
    grid: list[Part]
    tables: Tables
    about: dict[str, Json]

    def cell(self, place: int) -> Tables:
        """The rows of one cell in each table that has any."""
        rows = {}
        for name, about in self.about.items():
            start = sum(about["rows_of_cells"][:place])
            end = start + about["rows_of_cells"][place]
            if end > start:
                rows[name] = self.tables[name].iloc[start:end].reset_index(drop=True)
        return rows


def verify(results: Path, recompute: int, seed: int) -> Iterator[Check]:
    """Check all results in a folder that `study run` wrote; ValueError where there are none.

    Of each experiment `recompute` cells, chosen by `seed`, are computed again.
    """
    paths = [p for p in [*results.glob("*.*"), *results.glob("*/*.*")] if p.suffix in _ENDINGS]
    if not paths:
        raise ValueError(none_there(results))
    claims = None
    judged = []
    for folder in sorted({path.parent for path in paths}):
        tables, checks = _read(folder)
        yield from checks
        if folder == results:
            claims = tables.get("claims")  # judged again at the end, once the tables are known
            continue
        # What is damaged is not read any further: one line a fault.
        if any(check.wrong for check in checks):
            continue
        run = records.read_about(folder / f"{_DICTIONARY}.csv").get("configuration", {})
        if "cells" in run:  # it is of an experiment
            kept = _provenance(folder, tables, run)
            yield Check(folder.name, "configuration", kept if isinstance(kept, str) else "")
            if isinstance(kept, _Kept):
                yield from _parts(kept)
                yield from _again(kept, recompute, seed)
                judged.append(kept)
    for kept in judged if claims is not None else ():
        name = kept.experiment.name
        if kept.experiment.claims:
            verdicts = judge_all(kept.experiment, kept.tables)
            listed = claims[claims["experiment"] == name].reset_index(drop=True)
            wrong = agreement.compare("claims", listed, verdicts, {})
            yield Check(name, "verdicts follow from the tables", wrong)


def _read(folder: Path) -> tuple[Tables, list[Check]]:
    """Read every table of a folder, and compare it with what is written of it."""
    stems = {path.stem for path in folder.iterdir() if path.suffix in _ENDINGS}
    tables = {}
    checks = []
    for name in sorted(stems | {_DICTIONARY}):
        path = folder / f"{name}.csv"
        try:
            tables[name] = records.read_table(path)
            wrong = _written_of(tables[name], records.read_about(path))
        except (ValueError, OSError) as error:
            wrong = str(error)
        checks.append(Check(str(path), "checksum, rows, versions", wrong))
    # A dictionary that is damaged or of another kind was reported above; it explains nothing.
    dictionary = tables.pop(_DICTIONARY, None)
    if dictionary is None or [*dictionary] != ["table", "column", "type", "unit", "meaning"]:
        return tables, checks
    for name, frame in tables.items():
        path = folder / f"{name}.csv"
        wrong = _explained(dictionary[dictionary["table"] == name], records.read_about(path))
        checks.append(Check(str(path), "data dictionary", wrong))
        checks += [Check(str(path), what, wrong) for what, wrong in identities.check(frame)]
    for name in sorted(set(dictionary["table"]) - stems):
        checks.append(Check(str(folder / f"{name}.csv"), "data dictionary", "the table is missing"))
    return tables, checks


def _written_of(frame: pd.DataFrame, about: Json) -> str:
    known = {*records.versions()}
    versions = about.get("versions")
    if about.get("rows") != len(frame):
        return f"{len(frame)} rows, not {about.get('rows')}"
    if not versions or any(not known <= {*by} for by in versions):
        return f"versions {versions}; allowed: of {', '.join(sorted(known))}"
    if about.get("conventions") != records.CONVENTIONS:
        return "other conventions than the study's"
    return ""


def _explained(listed: pd.DataFrame, about: Json) -> str:
    told = dict(zip(listed["column"], listed["type"], strict=True))
    if about["schema"] != told:
        return f"columns {about['schema']}; its dictionary says {told}"
    return "" if listed["meaning"].str.strip().all() else "a column has no meaning"


def _provenance(folder: Path, tables: Tables, run: Json) -> _Kept | str:
    """The results of an experiment, or what is wrong with where they come from."""
    about = {name: records.read_about(folder / f"{name}.csv") for name in tables}
    designs = {table.get("design") for table in about.values()}
    if any(table["configuration"] != run for table in about.values()) or len(designs) > 1:
        return "the tables are of different runs"
    if folder.name not in discover() or run.get("preset") not in PRESETS:
        return "of an experiment or a preset that this study does not have"
    experiment = load(folder.name)
    grid = parts(experiment, run["preset"])
    # The grid, not its hash alone, so that a cell that was added or changed is seen.
    if run != configuration(experiment, run["preset"], grid):
        command = made_by(folder / f"{_DICTIONARY}.csv")
        return f"of another version of the experiment; it is made again by: {command}"
    for name, table in about.items():
        rows = table.get("rows_of_cells", [])
        if len(rows) != len(grid) or sum(rows) != len(tables[name]):
            return f"{name}: its rows are not those of its cells, {rows[:5]}..."
    return _Kept(experiment, folder, grid, tables, about)


def _parts(kept: _Kept) -> Iterator[Check]:
    """Look at every part that is there; the tables must hold the rows of those of their grid."""
    places = {part.key: place for place, part in enumerate(kept.grid)}
    sound = stale = 0
    for path in sorted((kept.folder / ".parts").glob("*.part")):
        wrong = ""
        try:
            part = read_part(path.read_bytes())
            if records.digest(records.canonical(part.configuration)) != path.stem:
                raise ValueError("its name is not that of its configuration")
        except (ValueError, TypeError, KeyError, OSError) as error:
            wrong = f"damaged ({error})"
        # One that is left from another grid or version no run uses, and none clears away.
        place = places.get(path.stem)
        is_used = not wrong and place is not None
        for name, rows in kept.cell(place).items() if is_used else ():
            if name not in part.tables or not part.tables[name].frame().equals(rows):
                wrong = f"{name}: not the rows of cell {place} in the table"
            elif part.versions not in kept.about[name]["versions"]:
                wrong = f"versions {part.versions}, which the table does not name"
        if wrong:
            yield Check(str(path), "part", wrong)
        elif place is None:
            stale += 1
        else:
            sound += 1
    if sound or stale:
        others = f"; {stale} of another grid or version, which none uses" if stale else ""
        what = f"{sound} of {len(kept.grid)} parts are here, equal to the tables{others}"
        yield Check(kept.folder.name, what)


def _again(kept: _Kept, count: int, seed: int) -> Iterator[Check]:
    """Compute a random sample of cells again and compare their rows."""
    # By a seed, so that who doubts a report can ask for the same cells.
    total = len(kept.grid)
    for place in sorted(random.Random(seed).sample(range(total), min(count, total))):
        try:
            how, wrong = agreement.agree(
                kept.grid[place], kept.cell(place), kept.experiment.columns
            )
        except (ValueError, MemoryError) as error:
            how = "failed"
            wrong = str(error)
        yield Check(kept.folder.name, f"cell {place} of {total} again, {how}", wrong)
