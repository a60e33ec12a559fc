"""``explorer``: the page that shows every network of the atlas, from its CSVs alone."""

from __future__ import annotations

import argparse

from study.cli.shared import add_figures, add_results, figures_folder, writable

HELP = "Write the explorer, a page that opens offline, from the atlas's CSVs alone."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the results are, and where the page goes."""
    add_results(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, and say where it is."""
    from study.records.disk import write_atomic
    from study.report import explorer

    folder = figures_folder(args)
    text = explorer.build(args.results, folder).encode()
    path = writable("--figures", folder) / "explorer.html"
    write_atomic(path, text)
    print(f"explorer  {path} ({len(text) / 1e6:.1f} MB)")
    return 0
