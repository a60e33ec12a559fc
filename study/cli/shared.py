"""What the commands share: how a number is read, and which folder is whose."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.records.disk import make_folder
from study.tools import checks

RESULTS = checks.RESULTS["paper"]
"""The results that are under version control."""


def number(
    convert: Callable[[str], Any], allowed: str, is_allowed: Callable[[Any], bool] = lambda _: True
) -> Callable[[str], Any]:
    """Return what reads a number of that kind from the command line."""

    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if is_allowed(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {allowed}")

    return parse


count = number(int, "a whole number, at least 1", lambda value: value >= 1)
amount = number(int, "a whole number, at least 0", lambda value: value >= 0)
whole = number(int, "a whole number")
real = number(float, "a number")


def cpus() -> int:
    """Return how many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def writable(field: str, folder: Path) -> Path:
    """Make sure, before any work, that files can be written to `folder`."""
    try:
        make_folder(folder)
        # Permission bits do not tell what root, a quota or a read-only mount allow: try it.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{field} '{folder}' cannot be written ({error.strerror}); "
            "allowed: a folder that exists or can be made, and be written to"
        ) from None
    return folder


def beside(results: Path, name: str) -> Path:
    """Return the folder of that name: the project's own for its own results, else within theirs."""
    return Path(name) if results == RESULTS else results / name


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Add --preset, and --results whose default depends on it."""
    parser.add_argument(
        "--preset", choices=("quick", "paper"), default="paper", help="default: %(default)s"
    )
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="default: results (paper), build/quick (quick)"
    )


def choose_results(args: argparse.Namespace) -> None:
    """Settle --results: a quick run must never replace the results of a paper run."""
    if args.results is None:
        args.results = checks.RESULTS[args.preset]


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add --results, for a command that reads them."""
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s"
    )


def add_figures(parser: argparse.ArgumentParser) -> None:
    """Add --figures."""
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="default: figures, or DIR/figures"
    )


def figures_folder(args: argparse.Namespace) -> Path:
    """Return where figures go."""
    return args.figures or beside(args.results, "figures")
