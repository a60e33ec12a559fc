"""The explorer's page: tables, charts, template, style and script in one file."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import numpy as np

from study import theory
from study.checks import made_by, missing_extra
from study.plot.floats import decades
from study.plot.style import COLOURS, NAMES
from study.records import tables as records

NEEDED = {
    "networks": {"network", "activation", "sigma_w", "depth", "width", "weights", "gain"},
    "layers": {"network", "layer", "median", "low", "high", "derivative", "weight", "theory"},
}
"""The columns that the page reads, by table of the atlas."""
FIRST = {"activation": "sigmoid", "sigma_w": 1.0, "depth": 100, "width": 256, "weights": "gaussian"}
"""The network that is shown first."""


def build(results: Path, folder: Path) -> str:
    """The page, as it will stand in ``folder``: HTML that needs no other file and no network.

    Parameters
    ----------
    results : folder of results, with the tables of the experiment ``atlas``
    folder : where the page will be, for its links to the tables

    Raises
    ------
    FileNotFoundError, ValueError
        When a table is missing, damaged or of an older study; the message names the command.
    ImportError
        When the extra ``explorer`` is not installed.
    """
    tables = {name: Path(results) / "atlas" / f"{name}.csv" for name in NEEDED}
    frames = {name: records.read_table(path) for name, path in tables.items()}
    for name, frame in frames.items():
        if lacks := NEEDED[name] - set(frame):
            raise ValueError(
                f"table {tables[name]} lacks {', '.join(sorted(lacks))}, it is of an older study; "
                f"it is made again by: {made_by(tables[name])}"
            )
    charts = _charts()
    dictionary = records.read_table(Path(results) / "atlas" / "data_dictionary.csv")
    networks = frames["networks"]
    settings = {
        "activations": {
            name: {
                "name": NAMES[name],
                "colour": COLOURS[name],
                "critical": theory.critical_sigma_w(name),
            }
            for name in networks["activation"].unique()
        },
        "charts": charts.compiled(float(10 ** np.ceil(np.log10(networks["gain"].abs().max())))),
        "first": FIRST,
        "formats": {name: decades(name) for name in ("float32", "float64")},
        "greys": {"float32": "#eceff1", "float64": "#d3d9de"},
        "meanings": [
            [row.column, f"{row.meaning} [{row.unit}]"]
            for row in dictionary[dictionary["table"].isin(NEEDED)].itertuples()
        ],
    }
    parts = {
        "style": _root(charts) + _own("explorer.css"),
        "script": _own("explorer.js"),
        "library": charts.library(),
        "settings": json.dumps(settings, ensure_ascii=False, sort_keys=True).replace("</", "<\\/"),
    }
    for name, path in tables.items():
        link = Path(os.path.relpath(path, folder)).as_posix()
        parts |= {name: quote(link), f"{name}_name": link}
        parts[f"{name}_csv"] = path.read_text(encoding="utf-8")
    return _filled(_own("template.html"), parts)


def _charts():
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError:
        raise missing_extra("the explorer", "explorer") from None
    from study.report.explorer import charts

    return charts


def _own(name: str) -> str:
    return (resources.files("study.report.explorer") / name).read_text(encoding="utf-8")


def _root(charts) -> str:
    """The colours of the charts, for the keys that the style draws."""
    ok, zero, inf = charts.SHOWN.values()
    own = {"ok": ok, "zero": zero, "inf": inf, "theory": charts.THEORY, "weight": charts.WEIGHT}
    return ":root { " + " ".join(f"--{name}: {colour};" for name, colour in own.items()) + " }\n"


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with each ``/*{name}*/`` replaced, in one pass over its own text alone."""
    pieces = template.split("/*{")
    done = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}*/", 1)
        done += [parts[name], rest]
    return "".join(done)
