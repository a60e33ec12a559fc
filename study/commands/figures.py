"""``figures``: figures and verdicts, from the CSVs alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from study.commands.shared import add_figures, add_results, beside, figures_folder, writable

if TYPE_CHECKING:
    from study.experiment import Experiment

HELP = "Draw the figures and judge the claims from the CSVs alone."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which experiments, and where."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="experiments; default: all that have results"
    )
    add_results(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and judge."""
    from study.experiment import discover, load

    names = args.names or [n for n in discover() if (args.results / n).is_dir()]
    if not names:
        raise ValueError(
            f"--results '{args.results}' has no results; allowed: a folder written by "
            "python -m study run"
        )
    experiments = [load(name) for name in dict.fromkeys(names)]
    writable("--figures", figures_folder(args))
    report(experiments, args)
    return 0


def report(experiments: list[Experiment], args: argparse.Namespace) -> None:
    """Draw figures, judge claims, write the page of findings, and say where all is."""
    from study import report as reports

    if not experiments:
        return
    folder = figures_folder(args)
    paths = reports.draw(experiments, args.results, folder)
    claims = reports.write_claims(experiments, args.results)
    if len(claims):
        page = writable("docs", beside(args.results, "docs")) / "findings.md"
        reports.write_findings(claims, folder, page)
        print(reports.claims_text(claims), end="\n\n")
        print(f"verdicts  {args.results / 'claims.csv'}")
        print(f"findings  {page}")
    for experiment in experiments:
        print(f"tables    {args.results / experiment.name}")
    print(f"figures   {folder} ({sum(map(len, paths.values()))} files)")
