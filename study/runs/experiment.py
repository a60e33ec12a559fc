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
import pkgutil
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, of) for item in value)


class Page(NamedTuple):
    """What tables amount to, for readers."""

    summary: str
    """In a sentence."""
    text: str
    """The whole page, Markdown."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question, what is measured to answer it, and what the answer would be held to.

    Parameters
    ----------
    question : a sentence
    grid : for each preset, "quick" and "paper", a list of cells; a cell is a flat dict of plain
        JSON values, the keyword arguments of `measure`
    measure : ``measure(**cell)`` returns ``{table name: DataFrame}`` and depends on nothing but its
        arguments; the tables of all cells, joined in grid order, are
        ``results/<experiment>/<table>.csv``
    figure : ``figure(tables)`` returns the matplotlib Figure of ``figures/<experiment>.*``, drawn
        from the tables alone; or ``{name: Figure}`` for ``figures/<experiment>_<name>.*``
    page : ``page(tables)`` returns the `Page` of ``docs/<experiment>.md``, if there is one
    claims : what is said, and what would refute it
    columns : what the experiment's own columns mean, the unit last in square brackets; or a
        `study.records.columns.Column`, which may have a tolerance; the common ones stand there
    version : to be raised when `measure` changes its numbers
    name, module : given by `load`

    Raises
    ------
    ValueError
        Naming the field, its value and what is allowed.
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
        grid = self.grid if isinstance(self.grid, dict) else {}
        columns = self.columns if isinstance(self.columns, dict) else {"": ""}
        meanings = [value for value in columns.values() if not isinstance(value, Column)]
        for name, is_valid, allowed in (
            ("question", _is_text(self.question), "a sentence"),
            (
                "grid",
                set(grid) == set(PRESETS)
                and all(cells and _is_list(cells, dict) for cells in grid.values()),
                "a dict with a non-empty list of dicts for each of quick and paper",
            ),
            ("measure", callable(self.measure), "a function of a cell"),
            ("figure", callable(self.figure), "a function of the tables"),
            ("page", self.page is None or callable(self.page), "a function of the tables, or none"),
            ("claims", _is_list(self.claims, Claim), "a list of Claim"),
            (
                "columns",
                all(map(_is_text, [*columns, *meanings])),
                "a dict from column to meaning",
            ),
            ("version", type(self.version) is int, "an integer"),
        ):
            if not is_valid:
                value = _short(getattr(self, name))
                raise ValueError(f"{self.name}.{name} {value} is not allowed; allowed: {allowed}")

    @classmethod
    def of(cls, module: ModuleType) -> Experiment:
        """Take the experiment of a module, under the module's name."""
        held = getattr(module, "experiment", None)
        if not isinstance(held, cls):
            raise ValueError(
                f"{module.__name__}.experiment {_short(held)} is not allowed; "
                "allowed: experiment = Experiment(...)"
            )
        return replace(held, name=module.__name__.rpartition(".")[2], module=module.__name__)

    def cells(self, preset: str) -> list[dict[str, Any]]:
        """Return the cells of a preset, checked.

        Raises
        ------
        ValueError
            When the preset is unknown, or a cell occurs twice, is not plain JSON (a NaN, a tuple,
            a NumPy number) or is not what `measure` takes.
        """
        from study.records.tables import canonical

        if preset not in self.grid:
            raise ValueError(f"preset {preset!r} is unknown; allowed: {', '.join(self.grid)}")
        cells = self.grid[preset]
        if len(cells) > MOST_CELLS:
            raise ValueError(
                f"{self.name}.grid[{preset!r}] has {len(cells):,} cells; "
                f"allowed: at most {MOST_CELLS:,}, so let a cell hold more seeds"
            )
        # Before any work: a cell that fails after hours costs them.
        signature = inspect.signature(self.measure)
        known = set()
        for cell in cells:
            try:
                text = canonical(cell)
                if not all(type(key) is str and _is_plain(value) for key, value in cell.items()):
                    raise TypeError("a dict inside, a tuple or a name that is not text")
                signature.bind(**cell)
                if text in known:
                    raise ValueError("it occurs twice")
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.name}.grid[{preset!r}] cell {_short(cell)}: {error}; "
                    "allowed: plain JSON values, the arguments of measure, each cell once"
                ) from None
            known.add(text)
        return cells


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _files() -> dict[str, Path]:
    """The source of each experiment, by its name."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = {}
    for module in pkgutil.iter_modules(folders):
        if not module.name.startswith("_"):
            file = f"{module.name}/__init__.py" if module.ispkg else f"{module.name}.py"
            files[module.name] = Path(module.module_finder.path) / file
    return files


def _file(name: str) -> Path:
    files = _files()
    if name not in files:
        known = ", ".join(sorted(files)) or f"none, the package {PACKAGE} is empty"
        raise ValueError(f"experiment {name!r} is unknown; allowed: {known}{nearest(name, files)}")
    return files[name]


def discover() -> list[str]:
    """Return the names of all experiments, sorted, without importing any."""
    return sorted(_files())


def question(name: str) -> str:
    """Return the question of an experiment, read from its source without importing it."""
    # To import all experiments takes seconds, and one that is broken would hide the others.
    for node in ast.walk(ast.parse(_file(name).read_text(encoding="utf-8"))):
        is_question = isinstance(node, ast.keyword) and node.arg == "question"
        if is_question and isinstance(node.value, ast.Constant):
            return node.value.value
    raise ValueError(f"{PACKAGE}.{name}: question is missing; allowed: Experiment(question='...')")


def load(name: str) -> Experiment:
    """Import an experiment by its name.

    Raises
    ------
    ValueError
        When there is no such experiment, or it breaks the contract.
    """
    _file(name)
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except ValueError as error:  # the contract does not know whose it is
        raise ValueError(f"{PACKAGE}.{name}: {error}") from error
    return Experiment.of(module)
