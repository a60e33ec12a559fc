"""What the tables say, for people: the table of claims and the figures, from the CSVs alone."""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from study.checks import made_by
from study.plot.old.bench import bars, seconds_against_depth
from study.plot.style import COLOURS
from study.records import tables as records
from study.records.disk import make_folder, write_atomic, write_together
from study.report import findings
from study.runs.experiment import Experiment, discover, question
from study.runs.sweep import alone, read_results
from study.statistics.claims import COLUMNS, judge_all

# Nothing that differs from run to run: no date, no random identifier.
_FORMATS = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}
_STYLE = {"svg.hashsalt": "study", "savefig.dpi": 200}
_LINE = 100


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure as .svg, .pdf and .png; the same figure gives the same bytes.

    Parameters
    ----------
    figure : what to save
    folder : where; it must exist
    name : file name without ending

    Returns
    -------
    The three paths.

    Raises
    ------
    OSError
        When the folder cannot be written; no file is then left half written.
    """
    files = {}
    with matplotlib.rc_context(_STYLE):
        for ending, metadata in _FORMATS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, metadata=metadata)
            made = buffer.getvalue()
            files[Path(folder) / f"{name}.{ending}"] = _paletted(made) if ending == "png" else made
    write_together(files)
    return list(files)


def _paletted(png: bytes) -> bytes:
    """The picture in the 256 colours that suit it best, those of the activations among them."""
    with Image.open(io.BytesIO(png)) as picture:
        opaque, buffer = picture.convert("RGB"), io.BytesIO()
    own = [to_rgb(colour) for colour in COLOURS.values()]
    few = opaque.quantize(256 - len(own), kmeans=2, dither=Image.Dither.NONE).getpalette()
    palette = np.vstack([np.reshape(few, (-1, 3)), np.multiply(own, 255).round()])
    # Pillow's own search is off by up to three shades: white would turn grey.
    shade = np.asarray(opaque).astype(np.uint32) @ np.array([2**16, 2**8, 1], np.uint32)
    place = np.zeros(2**24, np.uint8)
    place[shade] = 1
    shades = np.flatnonzero(place)
    colours = np.stack([shades >> 16, shades >> 8 & 255, shades & 255], axis=-1)
    # Squared distances, but for that of the shade from black; exact.
    far = (palette**2).sum(axis=1) - 2 * colours @ palette.T
    place[shades] = far.argmin(axis=1)
    flat = Image.fromarray(place[shade])
    flat.putpalette(palette.astype(np.uint8).tobytes())
    flat.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save a figure while no other run saves there, and close it."""
    with alone(Path(folder) / ".parts"):
        paths = save_figure(figure, folder, name)
    plt.close(figure)
    return paths


def draw(experiments: Iterable[Experiment], results: Path, folder: Path) -> dict[str, list[Path]]:
    """Draw the figures of experiments from their tables, without a display.

    An experiment's figure has its name; where there are several, ``_`` and their own after it.

    Returns
    -------
    The files, by experiment.

    Raises
    ------
    FileNotFoundError, ValueError
        When a table is missing or damaged.
    OSError
        When `folder` cannot be written.
    """
    matplotlib.use("agg")
    make_folder(folder)
    paths = {}
    for experiment in experiments:
        drawn = experiment.figure(read_results(results, experiment.name, experiment.version))
        if isinstance(drawn, Figure):
            drawn = {"": drawn}
        paths[experiment.name] = []
        for name, figure in drawn.items():
            if not re.fullmatch("[a-z0-9_]*", name):
                raise ValueError(f"figure name {name!r} is not allowed; allowed: a-z, 0-9 and _")
            full = f"{experiment.name}_{name}" if name else experiment.name
            paths[experiment.name] += _save(figure, folder, full)
    return paths


def draw_more(name: str, results: Path, folder: Path) -> list[Path]:
    """Draw one of `MORE` from its table.

    Raises
    ------
    FileNotFoundError, ValueError
        When the table is missing or damaged.
    OSError
        When `folder` cannot be written.
    """
    matplotlib.use("agg")
    table = records.read_table(Path(results) / name / f"{name}.csv")
    make_folder(folder)
    return _save(MORE[name](table), folder, name)


def _laws(table: pd.DataFrame) -> Figure:
    from experiments.laws.table import summary
    from study.plot.old.laws import theory_against_measurement

    return theory_against_measurement(table, summary(table))


MORE: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "laws": _laws,
    "bench": bars,
    "capacity": seconds_against_depth,
}
"""Figures that are of no experiment, each of the table of its name."""


def write_claims(experiments: Iterable[Experiment], results: Path) -> pd.DataFrame:
    """Judge the claims of experiments by their tables and write ``<results>/claims.csv``.

    The verdicts on other experiments that are in the file stay.

    Returns
    -------
    The whole table, with the columns of `study.statistics.claims.COLUMNS`.

    Raises
    ------
    FileNotFoundError, ValueError
        When a table is missing or damaged.
    """
    path = Path(results) / "claims.csv"
    judged = {e.name: judge_all(e, read_results(results, e.name, e.version)) for e in experiments}
    with alone(path.with_name(".parts")):  # another run may have verdicts of its own to add
        return _merge(path, judged)


def _merge(path: Path, judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    frames = (dict(list(_written(path).groupby("experiment"))) if path.exists() else {}) | judged
    filled = [frames[name] for name in sorted(frames) if len(frames[name])]
    if not filled:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(filled, ignore_index=True)
    about = {"versions": [records.versions()]}
    records.write_described(path, table, COLUMNS, about)
    return table


def _written(path: Path) -> pd.DataFrame:
    try:
        table, reason = records.read_table(path), "of an older study"
        if list(table.columns) == list(COLUMNS):
            return table
    except (ValueError, FileNotFoundError):
        reason = "damaged"
    print(f"study: {path} is {reason}; all is judged again by: {made_by(path)}", file=sys.stderr)
    return pd.DataFrame(columns=list(COLUMNS))


def write_findings(claims: pd.DataFrame, figures: Path, page: Path) -> None:
    """Write the page of `study.report.findings`, with links to the figures that are in `figures`.

    Raises
    ------
    OSError
        When the page cannot be written.
    """
    names = [name for name in discover() if name in set(claims["experiment"])]
    links: dict[str, list[str]] = {name: [] for name in names}
    for path in sorted(Path(figures).glob("*.png")):
        if (owner := owner_of(path.stem)) in links:
            links[owner].append(link(path, page))
    kept = claims[claims["experiment"].isin(names)]
    text = findings.markdown(kept, {name: question(name) for name in names}, links)
    with alone(page.with_name(".parts")):
        write_atomic(page, text.encode())


def owner_of(figure: str) -> str | None:
    """Return the experiment whose figure has that name, if there is one (see `draw`)."""
    owners = [name for name in discover() if figure == name or figure.startswith(f"{name}_")]
    return max(owners, key=len, default=None)


def link(path: Path, page: Path) -> str:
    """Return the link from a page to a file.

    >>> link(Path("figures/a b.png"), Path("docs/page.md"))
    '../figures/a%20b.png'
    """
    return Path(os.path.relpath(path, page.parent)).as_posix().replace(" ", "%20")


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
    lines = []
    for row in table.itertuples():
        numbers = f"{findings.interval(row)} from {row.n_seeds} seeds; true if {row.threshold}"
        indent = " " * 14
        for start, text in (
            (f"{row.verdict:<14}", f"{row.experiment} / {row.claim}"),
            (indent, row.statement),
            (indent, numbers),
        ):
            lines.append(textwrap.fill(text, _LINE, initial_indent=start, subsequent_indent=indent))
    return "\n".join(lines)
