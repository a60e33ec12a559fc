"""What the tables say, for people: figures and verdicts, from the CSVs alone."""

import contextlib
import inspect
import io
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from study.runs.experiment import Page, load
from study.runs.sweep import read_results
from study.runs.workers import Crew
from study.statistics.claims import COLUMNS, judge_all
from study.tools.checks import made_by

# Figures of a single table, that of their name: by their functions of the tables.
MORE = {
    "bench": "benchmarks.figures:ratios",
    "capacity": "benchmarks.figures:seconds",
}
# By ending: what would differ from run to run and is left out, and where a caption stands.
_METADATA = {
    "svg": ("Date", "Description"),
    "pdf": ("CreationDate", "Subject"),
    "png": ("Software", "Description"),
}
_STYLE = {"svg.hashsalt": "study", "savefig.dpi": 200, "figure.constrained_layout.use": False}


PAINTERS = 2  # processes that draw: one would be the last to end, where all cells are small


class Publication(NamedTuple):
    """What the tables of an experiment, or of one of `MORE`, amount to."""

    # Of the figures, by name: the experiment's own, and ``_<figure>`` where there are several.
    files: dict[str, bytes]
    claims: pd.DataFrame
    page: Page | None = None


def publish(name: str, results: Path) -> Publication:
    """Draw and judge by the tables; a missing or damaged one raises, and nothing is saved."""
    matplotlib.use("agg")
    if name in MORE:
        tables = {name: records.read_table(results / name / f"{name}.csv")}
        return Publication(_drawn(name, pkgutil.resolve_name(MORE[name]), tables), pd.DataFrame())
    experiment = load(name)
    tables = read_results(results, name, experiment.version)
    page = experiment.page(tables) if experiment.page else None
    claims = judge_all(experiment, tables)
    return Publication(_drawn(name, experiment.figure, tables), claims, page)


@contextlib.contextmanager
def background(results: Path, folder: Path, count: int) -> Iterator[Callable]:
    """Lend what has one of several experiments published meanwhile, and returns what waits for it.

    Its figures stand as soon as they are drawn.
    """
    if count == 1:  # another process would only take its time to start
        yield lambda name: lambda: save(publish(name, results), folder)
        return
    with ThreadPoolExecutor(1) as writer, Crew(PAINTERS) as painters:

        def begin(name: str) -> Callable[[], Publication]:
            drawn = painters.submit(publish, name, results)
            return writer.submit(lambda: save(drawn.result(), folder)).result

        yield begin


def save(publication: Publication, folder: Path) -> Publication:
    """Write the figures, and hand on what was published."""
    make_folder(folder)
    with alone(folder / ".parts"):  # no other run saves there meanwhile
        write_together({folder / file: data for file, data in publication.files.items()})
    return publication


def _drawn(name: str, draw: Callable[[Mapping], Any], tables: Mapping) -> dict[str, bytes]:
    """The files of the figures; a caption is the docstring of the function that draws them."""
    with house_style():
        figures = draw(tables)
    if not isinstance(figures, dict):
        figures = {"": figures}
    files: dict[str, bytes] = {}
    for ending, figure in figures.items():
        if not figure.get_label():
            figure.set_label(_caption(inspect.getdoc(draw) or "", ending, set(figures)))
        if not re.fullmatch("[a-z0-9_]*", ending):
            raise ValueError(f"figure name {ending!r} is not allowed; allowed: a-z, 0-9 and _")
        files |= rendered(figure, f"{name}_{ending}" if ending else name)
        plt.close(figure)  # pyplot would keep every one
    return files


def _caption(text: str, name: str, names: set[str]) -> str:
    r"""A docstring without the paragraphs that begin with the name of another of the figures.

    >>> _caption("What is seen.\n\nleft: one.\n\nright: the other.", "right", {"left", "right"})
    'What is seen. The other.'
    """
    parts = []
    for paragraph in text.split("\n\n"):
        begins, _, words = " ".join(paragraph.split()).partition(": ")
        if begins == name:
            parts.append(words[:1].upper() + words[1:])
        elif begins not in names:
            parts.append(" ".join(paragraph.split()))
    return " ".join(parts)


def rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """The .svg, .pdf and .png of a figure, by name; the same figure gives the same bytes.

    Its label, if it has one, is its caption and is stored in the files, from where the gallery and
    the paper take it.
    """
    files = {}
    with matplotlib.rc_context(_STYLE):
        layout = figure.get_layout_engine()
        if layout and figure.axes:
            layout.execute(figure)
        figure.set_layout_engine(None)  # it stands for all files, and takes half of the time
        for ending, (date, caption) in _METADATA.items():
            buffer = io.BytesIO()
            metadata = {date: None, caption: figure.get_label() or None}
            figure.savefig(buffer, format=ending, metadata=metadata)
            files[f"{name}.{ending}"] = buffer.getvalue()
    with Image.open(buffer) as picture:
        # 256 colours take two fifths of the bytes; dots that mix them would show in plain areas.
        few = picture.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    small = io.BytesIO()
    few.save(small, format="png", optimize=True)
    return files | {f"{name}.png": small.getvalue()}


def write_claims(judged: Mapping[str, pd.DataFrame], results: Path) -> pd.DataFrame:
    """Write judged claims to ``<results>/claims.csv``; verdicts on other experiments stay there."""
    path = results / "claims.csv"
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
            return table
        reason = "of an older study"
    except (ValueError, FileNotFoundError):
        if not path.exists():
            reason = ""
    if reason:
        again = f"all is judged again by: {made_by(path)}"
        print(f"study: {path} is {reason}; {again}", file=sys.stderr)
    return pd.DataFrame(columns=list(COLUMNS))
