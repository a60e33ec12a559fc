"""``run``: sweeps, tables, figures, verdicts; it resumes by itself."""

from __future__ import annotations

import argparse
import contextlib
import importlib
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

    from study.runs.experiment import Experiment

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
    add_figures(parser)


def run(args: argparse.Namespace) -> int:
    """Sweep what is not there yet, draw, judge."""
    from study.runs import sweep
    from study.runs.experiment import discover, load

    choose_results(args)
    experiments = [load(name) for name in dict.fromkeys(args.names or discover())]
    for experiment in experiments:
        experiment.cells(args.preset)
    writable("--results", args.results)
    writable("--figures", figures_folder(args))
    writable("docs", beside(args.results, "docs"))
    complete, progress = [], True if args.progress else None
    with _executor(args) as executor:
        _plan(experiments, args)
        for experiment in experiments:
            more = (args.results, args.workers, executor, progress)
            if not sweep.run(experiment, args.preset, *more):
                complete.append(experiment)
    report(complete, args)
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


def _plan(experiments: list[Experiment], args: argparse.Namespace) -> None:
    """Say what each run will take, before any work, and refuse what does not fit the memory."""
    from study.checks import check_memory
    from study.runs import plan, sweep

    importlib.import_module(
        "study.engines.profile"
    )  # workers load it: now this process weighs the same
    interpreter, plans = plan.peak_memory(), []
    for experiment in experiments:
        grid = sweep.parts(experiment, args.preset)
        store = args.results / experiment.name / ".parts"
        there = {path.stem for path in store.glob("*.part")}  # the run will see if they are sound
        left = [part.configuration["cell"] for part in grid if part.key not in there]
        costs = [(s, bytes_ + plan.KERNELS) for s, bytes_ in map(experiment.expected, left)]
        usage = plan.expected(costs, args.workers, interpreter)
        plans.append((experiment.name, len(grid), len(grid) - len(left), usage))
    if len(plans) > 1:
        _, counts, done, usages = zip(*plans, strict=True)
        plans.append(("all", sum(counts), sum(done), plan.together(usages)))
    for name, parts, done, usage in plans:
        about = f"{name} ({args.preset})"
        sweep.say(plan.line(about, parts, done, "about", usage, args.workers))
    for name, parts, done, usage in plans:
        if done < parts and args.scheduler is None:  # a cluster's memory is not ours to count
            check_memory(usage.memory, experiment=name, workers=args.workers)
