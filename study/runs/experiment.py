"""The contract of an experiment: one object that asks one question.

A module ``experiments/<name>.py``, or a package of that name, holds it as ``experiment``; the
experiment's name is the module's, and it imports `study` and its own folder only::

    experiment = Experiment(
        question="Does the gradient vanish?",
        grid={"quick": [{"seed": 0}], "paper": [{"seed": seed} for seed in range(20)]},
        measure=measure,
        figure=figure,
        claims=[Claim(name=..., statement=..., threshold=below(0), judge=...)],
        columns={"log10_rate": "growth of the gradient [log10 a layer]"},
    )
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import pkgutil
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from study.core.columns import Column
from study.statistics.claims import Claim
from study.tools.checks import nearest

PACKAGE = "experiments"
PRESETS = ("quick", "paper")
MOST_CELLS = 2_000_000
"""A preset's; beyond it the driver's own work outweighs the workers' (see benchmarks)."""


class Page(NamedTuple):
    """What tables amount to, for readers: in a sentence, and as a whole page of Markdown."""

    summary: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question, what is measured to answer it, and what the answer would be held to.

    Parameters
    ----------
    question : a sentence
    grid : for each preset, "quick" and "paper", a list of cells; a cell is a dict of plain JSON
        values, the keyword arguments of `measure`
    measure : ``measure(**cell)`` returns ``{table name: DataFrame}`` and depends on nothing but its
        arguments; the tables of all cells, joined in grid order, are
        ``results/<experiment>/<table>.csv``
    figure : ``figure(tables)`` returns the matplotlib Figure of ``figures/<experiment>.*``, drawn
        from the tables alone; or ``{name: Figure}`` for ``figures/<experiment>_<name>.*``
    page : ``page(tables)`` returns the `Page` of ``docs/<experiment>.md``, if there is one
    claims : what is said, and what would refute it
    columns : what the experiment's own columns mean, the unit last in square brackets; or a
        `study.core.columns.Column`, which may have a tolerance; the common ones stand there
    version : to be raised when `measure` changes its numbers
    name, module : given by `load`

    ValueError names the field that breaks the contract, its value and what is allowed.

    >>> load("depth_decay").question
    'How much of the gradient reaches the input, by activation, weight scale and depth?'
    """

    question: str
    grid: Mapping[str, list[dict[str, Any]]]
    measure: Callable[..., dict[str, Any]]
    figure: Callable[[Mapping[str, Any]], Any]
    page: Callable[[Mapping[str, Any]], Page] | None = None
    claims: list[Claim] = field(default_factory=list)
    columns: Mapping[str, str | Column] = field(default_factory=dict)
    version: int = 0
    name: str = "experiment"
    module: str = ""

    def __post_init__(self) -> None:
        grids = [dict(self.grid).get(preset) for preset in PRESETS]
        is_grid = all(isinstance(cells, list) and cells for cells in grids)
        are_claims = all(isinstance(claim, Claim) for claim in self.claims)
        are_meanings = all(isinstance(m, str | Column) for m in dict(self.columns).values())
        for name, is_valid, allowed in (
            ("question", str(self.question).strip(), "a sentence"),
            ("grid", is_grid, "a non-empty list of dicts for each of quick and paper"),
            ("measure", callable(self.measure), "a function of a cell"),
            ("figure", callable(self.figure), "a function of the tables"),
            ("claims", are_claims, "a list of Claim"),
            ("columns", are_meanings, "a dict from column to meaning"),
            ("version", isinstance(self.version, int), "an integer"),
        ):
            if not is_valid:
                value = reprlib.repr(getattr(self, name))
                raise ValueError(f"{self.name}.{name} {value} is not allowed; allowed: {allowed}")

    @classmethod
    def of(cls, module: ModuleType) -> Experiment:
        """Take the experiment of a module, under the module's name."""
        held = getattr(module, "experiment", None)
        if not isinstance(held, cls):
            raise ValueError(
                f"{module.__name__}.experiment {held!r} is not allowed; "
                "allowed: experiment = Experiment(...)"
            )
        return replace(held, name=module.__name__.rpartition(".")[2], module=module.__name__)

    def cells(self, preset: str) -> list[dict[str, Any]]:
        """Return the cells of a preset, checked: a cell that fails after hours costs them.

        ValueError where the preset is unknown, or a cell occurs twice, is not plain JSON (a NaN, a
        tuple, a name that is not text) or is not what `measure` takes.
        """
        from study.records.tables import canonical  # what only lists the experiments does without

        if preset not in self.grid:
            raise ValueError(f"preset {preset!r} is unknown; allowed: {', '.join(self.grid)}")
        cells = self.grid[preset]
        if len(cells) > MOST_CELLS:
            raise ValueError(
                f"{self.name}.grid[{preset!r}] has {len(cells):,} cells; "
                f"allowed: at most {MOST_CELLS:,}, so let a cell hold more seeds"
            )
        signature = inspect.signature(self.measure)
        known = set()
        for cell in cells:
            try:
                text = canonical(cell)
                # JSON makes a list of a tuple and text of a number: then the worker's is another.
                if json.loads(text) != cell:
                    raise TypeError("a tuple, or a name that is not text")
                signature.bind(**cell)
                if text in known:
                    raise ValueError("it occurs twice")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.name}.grid[{preset!r}] cell {reprlib.repr(cell)}: {error}; "
                    "allowed: plain JSON values, the arguments of measure, each cell once"
                ) from None
            known.add(text)
        return cells


def discover() -> list[str]:
    """Return the names of all experiments, those that the package calls `FIRST` ahead.

    None is imported.

    >>> "depth_decay" in discover()
    True
    """
    package = importlib.import_module(PACKAGE)
    modules = pkgutil.iter_modules(package.__path__)
    names = {module.name for module in modules if not module.name.startswith("_")}
    first = getattr(package, "FIRST", ())
    return [*first, *sorted(names - set(first))]


def _source(name: str) -> Path:
    known = discover()
    if name not in known:
        allowed = f"{', '.join(known)}{nearest(name, known)}"
        raise ValueError(f"experiment {name!r} is unknown; allowed: {allowed}")
    spec = importlib.util.find_spec(f"{PACKAGE}.{name}")  # which imports the package alone
    return Path(str(spec and spec.origin))


def question(name: str) -> str:
    """Return the question of an experiment, read from its source without importing it."""
    # To import all experiments takes seconds, and one that is broken would hide the others.
    for node in ast.walk(ast.parse(_source(name).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.keyword) or node.arg != "question":
            continue
        if isinstance(node.value, ast.Constant):
            return str(node.value.value)
    raise ValueError(f"{PACKAGE}.{name}: question is missing; allowed: Experiment(question='...')")


def load(name: str) -> Experiment:
    """Import an experiment; ValueError when there is none, or it breaks the contract.

    >>> load("depth_decay").version >= 0
    True
    """
    _source(name)
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ValueError as error:  # the contract does not know whose it is
        raise ValueError(f"{PACKAGE}.{name}: {error}") from error
    return Experiment.of(module)
