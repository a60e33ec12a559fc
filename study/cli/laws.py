"""``laws``: the laws of the field against networks."""

from __future__ import annotations

import argparse

from study.cli.shared import (
    add_figures,
    add_preset,
    beside,
    choose_results,
    figures_folder,
    writable,
)

HELP = "Hold the laws of the field against networks: table, figure, page."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add how large, and where."""
    add_preset(parser)
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and write table, page and figure."""
    choose_results(args)
    folder = writable("--figures", figures_folder(args))
    writable("--results", args.results)
    page = writable("docs", beside(args.results, "docs")) / "laws.md"

    from experiments.laws import table as laws
    from study.records.disk import write_atomic
    from study.report import publish

    table = laws.measure(laws.PRESETS[args.preset], print)
    path = laws.write(table, args.results / "laws", args.preset)
    write_atomic(page, laws.markdown(table).encode())
    publish.publish(["laws"], args.results, folder)
    print(f"\n{laws.summary(table)}")
    print(f"table     {path}\npage      {page}\nfigure    {folder / 'laws.svg'}")
    sound = (table["verdict"] == "agrees").all() and (table["control_verdict"] == "flagged").all()
    return 0 if sound else 3
