"""``run``: sweeps, tables, figures, verdicts; it resumes by itself."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from study.cli.figures import report
from study.cli.shared import (
    add_figures,
    add_preset,
    beside,
    choose_results,
    count,
    cpus,
    figures_folder,
    writable,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

HELP = "Run experiments: sweeps, tables, figures, verdicts. Resumes by itself."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which experiments, how large, where and by whom."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; default: all")
    add_preset(parser)
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help=f"default: the CPUs, {cpus()}; with --scheduler its workers",
    )
    parser.add_argument(
        "--scheduler",
        metavar="URL",
        help="compute on the workers of a Dask scheduler, tcp://host:port or tls://host:port",
    )
    parser.add_argument("--progress", action="store_true", help="show it also where no terminal is")
    parser.add_argument(
        "--format", choices=("csv", "parquet"), default="csv",
        help="what tables are kept as; default: %(default)s",
    )  # fmt: skip
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Sweep what is not there yet, draw, judge."""
    from study.records.tables import check_format
    from study.runs import sweep
    from study.runs.experiment import discover, load

    choose_results(args)
    check_format(args.format, "--format parquet")
    experiments = [load(name) for name in dict.fromkeys(args.names or discover())]
    # Whatever can be refused is refused before the first cell is computed.
    for experiment in experiments:
        experiment.cells(args.preset)
    writable("--results", args.results)
    writable("--figures", figures_folder(args))
    writable("docs", beside(args.results, "docs"))
    complete, progress = [], True if args.progress else None
    with _executor(args) as executor:
        for experiment in experiments:
            more = (args.results, args.workers, executor, progress, args.format)
            if not sweep.run(experiment, args.preset, *more):
                complete.append(experiment)
    report([experiment.name for experiment in complete], args)
    return 0 if len(complete) == len(experiments) else 3


@contextlib.contextmanager
def _executor(args: argparse.Namespace) -> Iterator[Executor | None]:
    """Lend what computes, and settle the number of workers."""
    if args.scheduler is None:
        args.workers = args.workers or cpus()
        yield None
        return
    from study.runs import cluster

    with cluster.connect(args.scheduler) as (executor, workers):
        args.workers = args.workers or workers
        yield executor
