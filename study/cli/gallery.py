"""``gallery``: the page of all figures, from tables and pictures alone."""

from __future__ import annotations

import argparse

from study.cli.shared import add_results, beside, writable

HELP = "Write the page of all figures: question, claims, tables, commands."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which results."""
    add_results(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page beside the others."""
    from study.report.pages import write_gallery

    page = beside(args.results, "docs") / "gallery.md"
    if args.results.is_dir():  # else there is nothing to show, and nowhere to make a folder
        writable("docs", page.parent)
    count = write_gallery(args.results, beside(args.results, "figures"), page)
    print(f"gallery   {page} ({count} figure{'s' * (count != 1)})")
    return 0
