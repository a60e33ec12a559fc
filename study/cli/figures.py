"""``figures``: figures and verdicts, from the CSVs alone."""

from __future__ import annotations

import argparse

from study.cli.shared import add_figures, add_results, beside, figures_folder, writable

HELP = "Draw the figures and judge the claims from the CSVs alone."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which experiments, and where."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="experiments, bench or capacity; default: all that have results",
    )
    add_results(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Draw and judge."""
    from study.report.publish import MORE
    from study.runs.experiment import discover, question
    from study.tools.checks import none_there

    there = [name for name in [*discover(), *MORE] if (args.results / name).is_dir()]
    names = list(dict.fromkeys(args.names)) or there
    if not names:
        raise ValueError(none_there(args.results))
    for name in names:
        if name not in MORE:
            question(name)  # complains of a name that is no experiment's
    writable("--figures", figures_folder(args))
    report(names, args)
    return 0


def report(names: list[str], args: argparse.Namespace) -> None:
    """Draw figures, judge claims, write the page of findings, and say where all is."""
    from study.report import pages, publish

    if not names:
        return
    folder = figures_folder(args)
    paths, judged, texts = publish.publish(names, args.results, folder)
    claims = publish.write_claims(judged, args.results)
    if len(claims) and any(map(len, judged.values())):
        page = writable("docs", beside(args.results, "docs")) / "findings.md"
        pages.write_findings(claims, args.results, folder, page)
        print(publish.claims_text(claims), end="\n\n")
        print(f"verdicts  {args.results / 'claims.csv'}")
        print(f"findings  {page}")
    for name, text in texts.items():
        page = writable("docs", beside(args.results, "docs")) / f"{name}.md"
        pages.write(page, text.text)
        print(f"{text.summary}\npage      {page}")
    for name in names:
        print(f"tables    {args.results / name}")
    print(f"figures   {folder} ({len(paths)} files)")
