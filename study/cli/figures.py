"""``figures``: figures and verdicts, from the CSVs alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from study.cli.shared import add_figures, add_results, beside, figures_folder, writable

if TYPE_CHECKING:
    from study.runs.experiment import Experiment

HELP = "Draw the figures and judge the claims from the CSVs alone."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which experiments, and where."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="experiments, laws, bench or capacity; default: all that have results",
    )
    add_results(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and judge."""
    from study.checks import none_there
    from study.report import publish as reports
    from study.runs.experiment import discover, load

    known = [*discover(), *reports.MORE]
    names = list(dict.fromkeys(args.names)) or [n for n in known if (args.results / n).is_dir()]
    if not names:
        raise ValueError(none_there(args.results))
    experiments = [load(name) for name in names if name not in reports.MORE]
    folder = writable("--figures", figures_folder(args))
    report(experiments, args)
    for name in (name for name in names if name in reports.MORE):
        reports.draw_more(name, args.results, folder)
        print(f"figure    {folder / name}.svg")
    return 0


def report(experiments: list[Experiment], args: argparse.Namespace) -> None:
    """Draw figures, judge claims, write the page of findings, and say where all is."""
    from study.report import publish as reports

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
