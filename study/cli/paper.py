"""``paper``: the paper, from the CSVs and the figures alone."""

from __future__ import annotations

import argparse

from study.cli.shared import add_figures, add_results, beside, figures_folder, writable

HELP = "Press the paper from the CSVs and the figures alone."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the results and figures are."""
    add_results(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Gather the numbers, press the PDF, and say where both are."""
    from study.report.paper import press
    from study.tools.checks import none_there

    press.printer()
    folder = beside(args.results, "paper")
    if not args.results.is_dir():
        raise ValueError(none_there(args.results))
    numbers, paper = press.write(args.results, figures_folder(args), writable("paper", folder))
    print(f"numbers   {numbers}\npaper     {paper}")
    return 0
