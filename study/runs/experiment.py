"""The contract of an experiment: a module that asks one question.

1. ``QUESTION`` is the question, a sentence.
2. ``GRID`` maps each preset, "quick" and "paper", to a list of cells; a cell is a flat dict of
   plain JSON values, the keyword arguments of `measure`.
3. ``measure(**cell)`` returns ``{table name: DataFrame}``; it depends on nothing but its arguments.
   The tables of all cells, joined in grid order, are ``results/<experiment>/<table>.csv``.
4. ``cost(**cell)`` returns what `measure` of that cell takes, about: core-seconds, and bytes at its
   peak beyond an interpreter that has loaded the study. `study run` plans with it.
5. ``COLUMNS`` says what the experiment's own columns mean, the unit last in square brackets; the
   common ones are in `study.records`.
6. ``CLAIMS`` is a list of `study.statistics.claims.Claim`.
7. ``figure(tables)`` returns the matplotlib Figure of ``figures/<experiment>.*``, drawn from the
   tables alone; or ``{name: Figure}`` for ``figures/<experiment>_<name>.*``.
8. ``VERSION``, optional: an integer to raise when `measure` changes its numbers.

The module is ``experiments/<name>.py`` and imports `study` only.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import math
import operator
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from study.checks import nearest
from study.statistics.claims import Claim

PACKAGE = "experiments"
PRESETS = ("quick", "paper")
MOST_CELLS = 2_000_000
"""A preset's; beyond it the driver's own work outweighs the workers' (see benchmarks)."""
_CONTRACT = {
    "QUESTION": (lambda v: isinstance(v, str) and v.strip(), "a sentence"),
    "GRID": (
        lambda v: isinstance(v, dict) and set(v) == set(PRESETS) and all(map(_is_grid, v.values())),
        "a dict with a non-empty list of dicts for each of quick and paper",
    ),
    "measure": (callable, "a function of a cell"),
    "cost": (callable, "a function of a cell"),
    "COLUMNS": (
        lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in [*v, *v.values()]),
        "a dict from column to meaning",
    ),
    "CLAIMS": (
        lambda v: isinstance(v, list) and all(isinstance(x, Claim) for x in v),
        "a list of Claim",
    ),
    "figure": (callable, "a function of the tables"),
    "VERSION": (lambda v: isinstance(v, int), "an integer"),
}


def _is_grid(cells: Any) -> bool:
    return isinstance(cells, list) and cells != [] and all(isinstance(c, dict) for c in cells)


@dataclass(frozen=True)
class Experiment:
    """One experiment, checked against the contract; the fields are those of its module."""

    name: str
    module: str
    question: str
    grid: Mapping[str, list[dict[str, Any]]]
    measure: Callable[..., dict[str, Any]]
    cost: Callable[..., tuple[float, int]]
    columns: Mapping[str, str]
    claims: list[Claim]
    figure: Callable[[Mapping[str, Any]], Any]
    version: int = 0

    @classmethod
    def of(cls, module: ModuleType) -> Experiment:
        """Take an experiment from its module.

        Raises
        ------
        ValueError
            Naming what is missing or of the wrong kind.
        """
        found = {}
        for field, (is_valid, allowed) in _CONTRACT.items():
            if not hasattr(module, field) and field != "VERSION":
                raise ValueError(f"{module.__name__}.{field} is missing; allowed: {allowed}")
            value = getattr(module, field, 0)
            if not is_valid(value):
                raise ValueError(
                    f"{module.__name__}.{field} {_short(value)} is not allowed; allowed: {allowed}"
                )
            found[field.lower()] = value
        return cls(name=module.__name__.rpartition(".")[2], module=module.__name__, **found)

    def cells(self, preset: str) -> list[dict[str, Any]]:
        """Return the cells of a preset, checked.

        Raises
        ------
        ValueError
            When the preset is unknown, or a cell occurs twice, is not plain JSON (a NaN, a tuple,
            a NumPy number) or is not what `measure` and `cost` take.
        """
        from study.records import tables as records

        if preset not in self.grid:
            raise ValueError(f"preset {preset!r} is unknown; allowed: {', '.join(self.grid)}")
        if len(self.grid[preset]) > MOST_CELLS:
            raise ValueError(
                f"{self.module}.GRID[{preset!r}] has {len(self.grid[preset]):,} cells; "
                f"allowed: at most {MOST_CELLS:,}, so let a cell hold more seeds"
            )
        known = set()
        for cell in self.grid[preset]:
            try:
                text = records.canonical(cell)
                if not _is_plain(cell):
                    raise TypeError("a dict inside, a tuple or a name that is not text")
                inspect.signature(self.measure).bind(**cell)
                inspect.signature(self.cost).bind(**cell)
                if text in known:
                    raise ValueError("it occurs twice")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.module}.GRID[{preset!r}] cell {_short(cell)}: {error}; "
                    "allowed: plain JSON values, the arguments of measure and cost, each cell once"
                ) from None
            known.add(text)
        return self.grid[preset]

    def expected(self, cell: dict[str, Any]) -> tuple[float, int]:
        """Return what a cell takes, about: core-seconds, and bytes beyond the interpreter's.

        Raises
        ------
        ValueError
            When `cost` returns anything else.
        """
        found = self.cost(**cell)
        try:
            seconds, memory = float(found[0]), operator.index(found[1])
            allowed = len(found) == 2 and 0 < seconds < math.inf and memory >= 0
        except (TypeError, IndexError, ValueError):
            allowed = False
        if not allowed:
            raise ValueError(
                f"{self.module}.cost of cell {_short(cell)} is {_short(found)}; "
                "allowed: core-seconds above 0 and a whole number of bytes"
            )
        return seconds, memory


def _is_plain(cell: dict[str, Any]) -> bool:
    def is_value(value: Any) -> bool:
        if type(value) is list:
            return all(map(is_value, value))
        return value is None or type(value) in (str, int, float, bool)

    return all(type(key) is str and is_value(value) for key, value in cell.items())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _files() -> dict[str, Path]:
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    return {
        found.name: Path(found.module_finder.path)
        / (f"{found.name}/__init__.py" if found.ispkg else f"{found.name}.py")
        for found in pkgutil.iter_modules(folders)
        if not found.name.startswith("_") and found.name != "laws"
    }


def discover() -> list[str]:
    """Return the names of all experiments, sorted, without importing any."""
    return sorted(_files())


def question(name: str) -> str:
    """Return the question of an experiment, read from its source without importing it."""
    for statement in ast.parse(_file(name).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = getattr(statement, "targets", None) or [statement.target]
            if any(isinstance(t, ast.Name) and t.id == "QUESTION" for t in targets):
                return ast.literal_eval(statement.value)
    raise ValueError(f"{PACKAGE}.{name}.QUESTION is missing; allowed: a sentence")


def _file(name: str) -> Path:
    files = _files()
    if name not in files:
        known = ", ".join(sorted(files)) or f"none, the package {PACKAGE} is empty"
        raise ValueError(f"experiment {name!r} is unknown; allowed: {known}{nearest(name, files)}")
    return files[name]


def load(name: str) -> Experiment:
    """Import an experiment by its name.

    Raises
    ------
    ValueError
        When there is no such experiment, or it breaks the contract.
    """
    _file(name)
    return Experiment.of(importlib.import_module(f"{PACKAGE}.{name}"))
