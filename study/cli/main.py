"""The command line: ``python -m study COMMAND``.

Exit status: 0 done, 2 a request that cannot be met (one line on stderr says which field, which
value and what is allowed; nothing is half written), 3 some part failed, 130 interrupted,
141 nobody reads what is printed.
"""

import argparse
import contextlib
import os
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from study.tools.checks import RESULTS

_EXAMPLES = """examples:
  python -m study list
  python -m study run depth_decay --preset quick
  python -m study figures
  python -m study run laws --preset quick
  python -m study verify --results results --recompute 3
  python -m study profile --activation sigmoid --depth 1000 --width 256 --sigma-w critical
"""
_DEFAULT = "default: %(default)s"


def _number(
    convert: Callable[[str], Any], allowed: str, least: int | None = None
) -> Callable[[str], Any]:
    """What reads a number of that kind from the command line."""

    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if least is None or value >= least:
                return value
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {allowed}")

    return parse


_COUNT = {"type": _number(int, "a whole number, at least 1", 1)}
_AMOUNT = {"type": _number(int, "a whole number, at least 0", 0)}
_PLACE = {"type": Path, "metavar": "DIR"}
_RESULTS = {**_PLACE, "default": RESULTS["paper"], "help": _DEFAULT}
_FIGURES = {**_PLACE, "help": "default: figures, or DIR/figures"}


class _Parser(argparse.ArgumentParser):
    """Reports an error as every other error of the study: one line, status 2."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument ", "", message)
        message = re.sub(r"invalid choice: (.*) \(choose from (.*)\)", r"\1; allowed: \2", message)
        if message.startswith("unrecognized"):
            message += f"; allowed: what {self.prog} --help lists"
        _complain(message)
        raise SystemExit(2)


def _complain(message: object) -> None:
    print("study: error:", " ".join(str(message).split()), file=sys.stderr)


# Adds a command (name, function, what it is for) and returns what adds an option to it.
Add = Callable[..., Callable[..., Any]]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m study",
        description="Why gradients vanish or explode: run the experiments, or profile a network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, place: str, words: str) -> Callable[..., Any]:
        added = commands.add_parser(name, help=words, description=words, allow_abbrev=False)
        added.set_defaults(place=f"study.cli.{place}")  # loaded once it is asked for
        return added.add_argument

    _experiments(command)
    _pages(command)
    _profile(command)
    return parser


def _experiments(command: Add) -> None:
    command("list", "main:experiments", "List the experiments and the question each asks.")

    words = "Run experiments, and write tables, figures and verdicts. A stopped run goes on."
    add = command("run", "results:run", words)
    add("names", nargs="*", metavar="NAME", help="experiments; default: all")
    add("--preset", choices=("quick", "paper"), default="paper", help=_DEFAULT)
    add("--results", **_PLACE, help="default: results (paper), build/quick (quick)")
    words = f"default: the CPUs, {cpus()}; with --scheduler its workers"
    add("--workers", **_COUNT, metavar="N", help=words)
    words = "compute on the workers of a Dask scheduler, tcp://host:port or tls://host:port"
    add("--scheduler", metavar="URL", help=words)
    add("--progress", action="store_true", help="show progress even if the output is no terminal")
    words = f"the format of the tables; {_DEFAULT}"
    add("--format", choices=("csv", "parquet"), default="csv", help=words)
    add("--figures", **_FIGURES)

    words = "Draw the figures and judge the claims from the CSVs alone."
    add = command("figures", "results:draw", words)
    words = "experiments, bench or capacity; default: all that have results"
    add("names", nargs="*", metavar="NAME", help=words)
    add("--results", **_RESULTS)
    add("--figures", **_FIGURES)


def _pages(command: Add) -> None:
    words = "Draw a table of gradient norms: a CSV of the study, or of your own."
    add = command("plot", "plot:plot", words)
    words = "a CSV or Parquet with a row for each layer or network"
    add("table", type=Path, metavar="FILE", help=words)
    kinds = ("profile", "depth", "phase", "factors")
    add("--kind", choices=kinds, default="profile", help=f"what to draw; {_DEFAULT}")
    add("--y", metavar="COLUMN", help="the column drawn; default: that of the kind")
    for role, by in (("hue", "colour"), ("style", "mark"), ("col", "column"), ("row", "row")):
        add(f"--{role}", metavar="COLUMN", help=f"gives each value of COLUMN a {by} of its own")
    add("--where", metavar="CONDITION", help="the rows drawn, for example 'depth == 100'")
    add("--theory", action="store_true", help="draw what theory expects")
    add("--save", type=Path, required=True, metavar="FILE", help="ends in .png, .svg, .pdf")

    words = "Set paper.pdf from the CSVs and the figures alone."
    paper = command("paper", "results:press", words)
    words = "Write the explorer, a page that opens offline, from the atlas's CSVs alone."
    explorer = command("explorer", "results:explore", words)
    words = "Write the page of all figures, with their questions, claims and tables."
    gallery = command("gallery", "results:show", words)
    for add in (paper, explorer, gallery):
        add("--results", **_RESULTS)
    for add in (paper, explorer):
        add("--figures", **_FIGURES)

    words = "Check results: are the files whole, and do a sample and all identities hold?"
    add = command("verify", "results:check", words)
    add("--results", **_RESULTS)
    words = "cells of each experiment that are computed again"
    add("--recompute", **_AMOUNT, default=2, metavar="N", help=f"{words}; {_DEFAULT}")
    add("--seed", **_AMOUNT, default=0, metavar="S", help=f"chooses those cells; {_DEFAULT}")


def _profile(command: Add) -> None:
    words = "Explain a module of PyTorch: where its gradient goes, why, and what would mend it."
    add = command("explain", "explain:explain", words)
    words = "PKG.MODULE:FUNCTION that returns module, inputs[, loss]"
    add("factory", metavar="FACTORY", help=words)

    words = "Profile one network: what its gradients do, layer by layer."
    add = command("profile", "profile:profile", words)
    whole = _number(int, "a whole number")
    real = _number(float, "a number")
    sigma = _number(
        lambda word: word if word == "critical" else float(word), "a number or critical"
    )
    words = "Var W = S^2 / fan_in; or the word critical: the scale at which chi = 1"
    names = "its name, for example relu, gelu(tanh) or leaky_relu(0.2)"
    add("--activation", required=True, metavar="PHI", help=names)
    add("--depth", type=whole, required=True, metavar="N", help="number of weight matrices")
    add("--width", type=whole, default=256, metavar="N", help=f"units in each layer; {_DEFAULT}")
    add("--sigma-w", type=sigma, required=True, metavar="S", help=words)
    add("--sigma-b", type=real, default=0.0, metavar="S", help=f"Var b = S^2; {_DEFAULT}")
    laws = f"gaussian, uniform or orthogonal; {_DEFAULT}"
    add("--weights", default="gaussian", metavar="LAW", help=laws)
    types = f"float32 or float64; {_DEFAULT}"
    add("--dtype", default="float64", metavar="TYPE", help=types)
    add("--kink", type=real, default=1.0, metavar="K", help=f"ReLU'(0); {_DEFAULT}")
    drawn = f"how many networks are drawn; {_DEFAULT}"
    add("--seeds", **_COUNT, default=10, metavar="N", help=drawn)
    add("--batch", **_COUNT, default=1, metavar="B", help=f"how many random inputs; {_DEFAULT}")
    words = f"auto, dense or matrix_free; {_DEFAULT}"
    add("--engine", default="auto", metavar="NAME", help=words)
    words = "the file of the rows, beside which a .json says what they are; default: a file in"
    words += " build/profile, named for the network"
    add("--csv", type=Path, metavar="FILE", help=words)


def cpus() -> int:
    """Return how many CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def experiments() -> None:
    """Print the experiments, and what each asks."""
    from study.runs.experiment import discover, question

    for name in discover():
        print(f"{name}\n    {question(name)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = vars(_parser().parse_args(argv))
    del args["command"]

    def interrupt(*_: object) -> NoReturn:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not stop the clean-up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt  # unwinds every context: workers, locks, temporary files

    # SIGTERM ends a run as Ctrl-C does: workers stopped, no file half written.
    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return pkgutil.resolve_name(args.pop("place"))(**args) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's exit complains
        return 141
    except (ValueError, OSError, ImportError) as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; what is finished is kept", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
