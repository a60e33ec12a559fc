"""What the tables say, for people: figures and the table of claims, from the CSVs alone."""

from __future__ import annotations

import inspect
import io
import pkgutil
import re
import sys
import textwrap
from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from study.plot.style import house_style
from study.records import tables as records
from study.records.disk import alone, make_folder, write_together
from study.runs.experiment import Experiment, Page, load, published
from study.runs.sweep import read_results
from study.runs.workers import pool
from study.statistics.claims import COLUMNS, judge_all
from study.tools.checks import made_by

# By ending: what would differ from run to run and is left out, and where a caption stands.
_METADATA = {
    "svg": ("Date", "Description"),
    "pdf": ("CreationDate", "Subject"),
    "png": ("Software", "Description"),
}
_STYLE = {"svg.hashsalt": "study", "savefig.dpi": 200}


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure as .svg, .pdf and .png; the same figure gives the same bytes.

    Parameters
    ----------
    figure : what to save; its label, if it has one, is its caption and is stored in the files,
        from where the gallery and the paper take it
    folder : where; it must exist
    name : file name without ending

    Raises
    ------
    OSError
        When the folder cannot be written; no file is then left half written.
    """
    files = {Path(folder) / file: data for file, data in _rendered(figure, name).items()}
    write_together(files)
    return list(files)


def _rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """The files of a figure, by name."""
    files = {}
    for ending, (date, caption) in _METADATA.items():
        buffer = io.BytesIO()
        metadata = {date: None, caption: figure.get_label() or None}
        with matplotlib.rc_context(_STYLE):
            figure.savefig(buffer, format=ending, metadata=metadata)
        files[f"{name}.{ending}"] = buffer.getvalue()
    with Image.open(buffer) as picture:
        # 256 colours take two fifths of the bytes; dots that mix them would show in plain areas.
        few = picture.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE)
    small = io.BytesIO()
    few.save(small, format="png", optimize=True)
    return files | {f"{name}.png": small.getvalue()}


MORE = {
    "bench": "benchmarks.figures:ratios",
    "capacity": "benchmarks.figures:seconds",
}
"""Figures of a single table, that of their name: by their functions of the tables."""


def _drawn(name: str, results: Path) -> dict[str, bytes]:
    """The files of the figures of an experiment, or of one of `MORE`, from its tables.

    An experiment's figure has its name; where there are several, ``_`` and their own after it.
    """
    matplotlib.use("agg")
    if name in MORE:
        draw = pkgutil.resolve_name(MORE[name])
        tables = {name: records.read_table(Path(results) / name / f"{name}.csv")}
    else:
        experiment = load(name)
        draw = experiment.figure
        tables = read_results(results, name, experiment.version)
    with house_style():
        figures = draw(tables)
    if not isinstance(figures, dict):
        figures = {"": figures}
    files = {}
    for ending, figure in figures.items():
        if not figure.get_label():  # its caption
            figure.set_label(" ".join((inspect.getdoc(draw) or "").split()))
        if not re.fullmatch("[a-z0-9_]*", ending):
            raise ValueError(f"figure name {ending!r} is not allowed; allowed: a-z, 0-9 and _")
        files |= _rendered(figure, f"{name}_{ending}" if ending else name)
        plt.close(figure)
    return files


def judge(experiment: Experiment, results: Path) -> pd.DataFrame:
    """Judge the claims of an experiment by its tables; a missing or damaged one raises."""
    tables = read_results(results, experiment.name, experiment.version)
    return published(judge_all(experiment, tables))


def own_page(name: str, results: Path) -> Page | None:
    """The page of an experiment's own, if it has one."""
    experiment = load(name)
    if experiment.page is None:
        return None
    return experiment.page(read_results(results, name, experiment.version))


class _Published(NamedTuple):
    files: dict[str, bytes]
    claims: pd.DataFrame
    page: Page | None


def _publish(name: str, results: Path) -> _Published:
    files = _drawn(name, results)
    if name in MORE:
        return _Published(files, pd.DataFrame(), None)
    return _Published(files, judge(load(name), results), own_page(name, results))


def publish(
    names: list[str], results: Path, folder: Path, workers: int = 2
) -> tuple[list[Path], dict[str, pd.DataFrame], dict[str, Page]]:
    """Draw and judge, several experiments at a time.

    Parameters
    ----------
    names : of experiments or of `MORE`
    results, folder : where tables are and where figures go

    Returns
    -------
    The files that were drawn, the judged claims of each experiment, and the pages of those that
    have one of their own.

    Raises
    ------
    FileNotFoundError, ValueError
        When a table is missing or damaged.
    OSError
        When `folder` cannot be written.
    """
    if len(names) == 1:  # another process would only take its time to start
        done = [_publish(names[0], results)]
    else:
        with pool(workers) as processes:
            done = list(processes.map(_publish, names, repeat(results)))
    paths = []
    make_folder(folder)
    with alone(Path(folder) / ".parts"):  # no other run saves there meanwhile
        for files, *_ in done:
            write_together({Path(folder) / file: data for file, data in files.items()})
            paths += [Path(folder) / file for file in files]
    claims = {name: part.claims for name, part in zip(names, done, strict=True)}
    return (
        paths,
        claims,
        {name: part.page for name, part in zip(names, done, strict=True) if part.page},
    )


def write_claims(judged: Mapping[str, pd.DataFrame], results: Path) -> pd.DataFrame:
    """Write judged claims to ``<results>/claims.csv``; verdicts on other experiments stay there.

    Returns
    -------
    The whole table, with the columns of `study.statistics.claims.COLUMNS`.
    """
    path = Path(results) / "claims.csv"
    with alone(path.with_name(".parts")):  # another run may have verdicts of its own to add
        frames = dict(list(_written(path).groupby("experiment"))) | dict(judged)
        filled = [frames[name] for name in sorted(frames) if len(frames[name])]
        if not filled:
            return pd.DataFrame(columns=list(COLUMNS))
        table = pd.concat(filled, ignore_index=True)
        records.write_described(path, table, COLUMNS, {"versions": [records.versions()]})
    return table


def _written(path: Path) -> pd.DataFrame:
    """The table of claims as it stands; none of it where it cannot be used, with a word on why."""
    reason = "damaged"
    try:
        table = records.read_table(path)
        if list(table.columns) == list(COLUMNS):
            return published(table)
        reason = "of an older study"
    except (ValueError, FileNotFoundError):
        if not path.exists():
            reason = ""
    if reason:
        print(
            f"study: {path} is {reason}; all is judged again by: {made_by(path)}", file=sys.stderr
        )
    return pd.DataFrame(columns=list(COLUMNS))


def interval(row: Any) -> str:
    """The estimate of a claim, a row of the table, and its interval."""
    return f"{row.estimate:.4g} [{row.low:.4g}, {row.high:.4g}]"


def claims_text(table: pd.DataFrame) -> str:
    """Return the table of claims as plain text, at most 100 columns wide.

    Examples
    --------
    >>> row = ["toy", "A", "Gradients vanish.", "below 0", -1.5, -2.0, -1.0, 20, "supported"]
    >>> names = "experiment claim statement threshold estimate low high n_seeds verdict".split()
    >>> print(claims_text(pd.DataFrame([row], columns=names)))
    supported     toy / A
                  Gradients vanish.
                  -1.5 [-2, -1] from 20 seeds; true if below 0
    """
    indent = " " * 14
    lines = []
    for row in table.itertuples():
        numbers = f"{interval(row)} from {row.n_seeds} seeds; true if {row.threshold}"
        head = f"{row.verdict:<14}{row.experiment} / {row.claim}"
        for text in (head, indent + row.statement, indent + numbers):
            lines.append(textwrap.fill(text, 100, subsequent_indent=indent))
    return "\n".join(lines)
