"""The explorer: one page, opened offline, that shows every network of the atlas layer by layer.

Tables, charts in Vega-Lite, template, style and script in one file. One script chooses rows of the
tables and compares them with the ranges of floats. Another simulates networks: its activations are
written from the rows of the study's table, by the tracing that compiles them.
"""

import json
import math
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from study import theory
from study.arithmetic.compiled import javascript
from study.core.activations import TABLE, Activation
from study.plot.floats import decades
from study.plot.style import COLOURS, DECADES, NAMES
from study.records import tables as records
from study.report.pages import fill
from study.tools.checks import library, made_by

# What compiles the charts.
vega = partial(library, "vl_convert", "the explorer", "explorer")

# The columns that the page reads, by table of the atlas.
NEEDED = {
    "networks": {"network", "activation", "sigma_w", "depth", "width", "weights", "gain"},
    "layers": {"network", "layer", "median", "low", "high", "derivative", "weight", "theory"},
}
# The network that is shown first.
FIRST = {"activation": "sigmoid", "sigma_w": 1.0, "depth": 100, "width": 256, "weights": "gaussian"}
_GREYS = {"float32": "#eceff1", "float64": "#d3d9de"}  # where a plain run has lost the gradient
_SHOWN = {"ok": "#cfd8dc", "zero": "#0b2a5b", "inf": "#c2410c"}  # by a plain run, of a norm
_INK = _SHOWN | {"theory": "#111111", "weight": "#767676"}


def build(results: Path, folder: Path) -> str:
    """The page, as it will stand in ``folder``: HTML that needs no other file and no network.

    FileNotFoundError or ValueError when a table of the experiment ``atlas`` is missing, damaged or
    of an older study; the message names the command. ImportError without the extra ``explorer``.
    """
    atlas = results / "atlas"
    paths = {name: atlas / f"{name}.csv" for name in NEEDED}
    frames = {name: records.read_table(path) for name, path in paths.items()}
    for name, frame in frames.items():
        if lacks := NEEDED[name] - set(frame):
            raise ValueError(
                f"table {paths[name]} lacks {', '.join(sorted(lacks))}, it is of an older study; "
                f"it is made again by: {made_by(paths[name])}"
            )
    dictionary = records.read_table(atlas / "data_dictionary.csv")
    settings = _settings(frames["networks"], dictionary[dictionary["table"].isin(NEEDED)])
    return fill(
        "explorer.html",
        colours=_INK,
        library=vega().javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        activations={name: _scripted(row) for name, row in TABLE.items()},
        settings=json.dumps(settings, ensure_ascii=False, sort_keys=True).replace("</", "<\\/"),
        links={name: Path(os.path.relpath(p, folder)).as_posix() for name, p in paths.items()},
        csv={name: path.read_text(encoding="utf-8") for name, path in paths.items()},
    )


def _scripted(row: Activation) -> dict[str, str]:
    """An activation in JavaScript: phi, phi' and what is needed beyond the float range."""
    traits = {
        "zero": row.slopes_at_zero,
        "infinity": row.slopes_at_infinity,
        "scaleFree": row.scale_free,
        "throughZero": bool(row.phi(np.zeros(1)) == 0),
    }
    return {
        "phi": javascript(row.phi),
        "slope": javascript(row.derivative),
        "traits": json.dumps(traits),
    }


def _settings(networks: pd.DataFrame, dictionary: pd.DataFrame) -> dict[str, Any]:
    """What the script needs beside the tables."""
    activations = {}
    for name in TABLE:
        critical = theory.critical_sigma_w(name)
        activations[name] = {"name": NAMES[name], "colour": COLOURS[name], "critical": critical}
    largest = 10 ** math.ceil(math.log10(networks["gain"].abs().max()))  # one scale for every map
    return {
        "activations": activations,
        "charts": _charts(largest),
        "first": FIRST,
        "formats": {name: decades(name) for name in _GREYS},
        "greys": _GREYS,
        "meanings": [
            [row.column, f"{row.meaning} [{row.unit}]"] for row in dictionary.itertuples()
        ],
    }


def _charts(largest: int) -> dict[str, Any]:
    """Every chart as a Vega specification, by name; colours reach from -largest to largest."""
    half = math.sqrt(1 + largest) - 1  # midway on the symmetric logarithm
    shades = [to_hex(DECADES(place)) for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    steps = [-largest, -half, 0, half, largest]
    charts = json.loads(fill("charts.json", colours=_INK, shades=json.dumps(shades), steps=steps))
    frame = charts.pop("all")
    return {name: vega().vegalite_to_vega(chart | frame) for name, chart in charts.items()}
