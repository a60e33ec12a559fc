"""What mends an error: the command or the name that its message ends with."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

RESULTS = {"paper": Path("results"), "quick": Path("build/quick")}
"""Where each preset's results go if nobody says where."""
_OTHERS = {  # tables that are of no experiment, by folder
    "bench": "python -m benchmarks",
    "capacity": "python -m benchmarks capacity",
    "limits": "python -m benchmarks.parts",
    "profile": "python -m study profile",
}


def made_by(table: Path) -> str:
    """Return the command that makes a table, with its options.

    Parameters
    ----------
    table : ``<results>/<experiment>/<table>.csv``, or ``<results>/claims.csv``; it need not exist

    Examples
    --------
    >>> made_by(Path("results/kink/training.csv"))
    'python -m study run kink'
    >>> made_by(Path("build/quick/kink/training.csv"))
    'python -m study run kink --preset quick'
    >>> made_by(Path("my runs/claims.csv"))
    "python -m study figures --results 'my runs'"
    """
    folder = table.parent
    if folder.name in _OTHERS:
        return _OTHERS[folder.name]
    if table.stem == "claims" or (folder / "claims.csv").exists():
        return f"python -m study figures{_results(folder, 'paper')}"
    preset = _preset(folder)
    named = "laws" if folder.name == "laws" else f"run {folder.name}"
    more = "" if preset == "paper" else f" --preset {preset}"
    return f"python -m study {named}{more}{_results(folder.parent, preset)}"


def none_there(results: Path) -> str:
    """Return what to say of a folder that has no results.

    Examples
    --------
    >>> none_there(Path("mine"))
    "--results 'mine' has no results; they are made by: python -m study run --results mine"
    """
    preset = "quick" if results == RESULTS["quick"] else "paper"
    more = "" if preset == "paper" else f" --preset {preset}"
    made = f"python -m study run{more}{_results(results, preset)}"
    return f"--results '{results}' has no results; they are made by: {made}"


def _results(results: Path, preset: str) -> str:
    return "" if results == RESULTS[preset] else f" --results {shlex.quote(str(results))}"


def _preset(folder: Path) -> str:
    """The preset of the tables that are in a folder; of none, that of the place."""
    try:
        about = json.loads((folder / "data_dictionary.json").read_bytes())
        preset = about["configuration"]["preset"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        preset = None
    usual = "quick" if folder.parent == RESULTS["quick"] else "paper"
    return preset if preset in [*RESULTS] else usual


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not known: the one that may be meant.

    Examples
    --------
    >>> nearest("Leaky ReLU", ["relu", "leaky_relu"]), nearest("swish", ["relu", "silu"])
    ("; did you mean 'leaky_relu'?", '')
    """
    typed = str(name).strip().lower().replace(" ", "_").replace("-", "_")
    found = difflib.get_close_matches(typed, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
