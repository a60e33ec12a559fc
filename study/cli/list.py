"""``list``: the experiments and the question each asks."""

from __future__ import annotations

import argparse

HELP = "List the experiments and the question each asks."


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace) -> int:
    """Print them."""
    from study.runs.experiment import discover, question

    for name in discover():
        print(f"{name}\n    {question(name)}")
    return 0
