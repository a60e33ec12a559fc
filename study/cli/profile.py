"""``profile``: one network, layer by layer."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli.shared import count, number, real, whole, writable

if TYPE_CHECKING:
    import pandas as pd

    from study.core.network import Network
    from study.report.summary import Summary

HELP = "Profile one network: what its gradients do, layer by layer."
FOLDER = Path("build/profile")
"""Where the rows go if nobody says where."""
_WIDE = "infinite width"


def _sigma(text: str) -> float | str:
    return text if text == "critical" else number(float, "a number or critical")(text)


_ARGUMENTS = (
    # name, how it is read, default (... where it must be given), stands for it in the help, help
    ("--activation", str, ..., "PHI", "for example relu"),
    ("--depth", whole, ..., "N", "weight matrices"),
    ("--width", whole, 256, "N", "units a layer"),
    ("--sigma-w", _sigma, ..., "S", "Var W = S^2 / fan_in; critical: nothing vanishes or explodes"),
    ("--sigma-b", real, 0.0, "S", "Var b = S^2"),
    ("--weights", str, "gaussian", "LAW", "gaussian, uniform or orthogonal"),
    ("--dtype", str, "float64", "TYPE", "float32 or float64"),
    ("--kink", real, 1.0, "K", "phi' at a kink"),
    ("--seeds", count, 10, "N", "networks drawn"),
    ("--batch", count, 1, "B", "examples"),
    ("--engine", str, "auto", "NAME", "auto, dense or matrix_free"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network's own words, and what to do with its rows."""
    for name, kind, default, metavar, words in _ARGUMENTS:
        if default is ...:
            parser.add_argument(name, type=kind, required=True, metavar=metavar, help=words)
        else:
            words += "; default: %(default)s"
            parser.add_argument(name, type=kind, default=default, metavar=metavar, help=words)
    parser.add_argument(
        "--csv", type=Path, metavar="FILE",
        help="where the rows go (.csv), and what they are (the .json beside it); default: a file "
        f"in {FOLDER}, named for the network",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Profile, write the rows, and say what comes out."""
    import study
    import study.theory
    from study.records import tables as records
    from study.report.summary import summarise

    critical = study.theory.critical_sigma_w(args.activation, args.sigma_b)
    words = {k: v for k, v in vars(args).items() if k not in ("csv", "command", "run")}
    words["sigma_w"] = critical if args.sigma_w == "critical" else args.sigma_w
    fields = {field.name for field in dataclasses.fields(study.Network)}
    net = study.Network(**{name: words[name] for name in fields})
    path = _path(args.csv, words)

    def measured(net: Network) -> pd.DataFrame:
        return study.profile(net, seeds=range(args.seeds), batch=args.batch, engine=args.engine)

    frame = measured(net)
    about = {"configuration": words, "versions": [records.versions()]}
    records.write_table(path, frame, about)
    summary = at_critical = summarise(frame)
    if summary.verdict != "keeps" and net.sigma_w != critical:
        at_critical = summarise(measured(dataclasses.replace(net, sigma_w=critical)))
    _print(summary, at_critical, net, critical, args)
    print(f"rows      {path}")
    return 0


def _print(
    summary: Summary, best: Summary, net: Network, critical: float, args: argparse.Namespace
) -> None:
    """The answer, a table, a plot, and what would keep the gradient."""
    from study import theory
    from study.cli import terminal
    from study.report.summary import advice, in_words, table

    screen = terminal.screen(sys.stdout, os.environ)
    expected, of = _theory(net, args.batch)
    legend = {"theory": f"theory, {of}"}
    if args.seeds > 1:
        legend["band"] = f"lowest to highest of {args.seeds} seeds"
    print(textwrap.fill(in_words(summary), screen.width), end="\n\n")
    print(table(summary, expected, screen.width), end="\n\n")
    print(terminal.plot(summary.layers, expected, legend, screen), end="\n\n")
    chi = theory.mean_field(args.activation, net.sigma_w, args.sigma_b).chi
    for head, text in (
        ("theory", f"chi = {chi:.6g}, the factor of the squared norm per layer at {_WIDE}"),
        ("critical", f"chi = 1 at sigma_w = {critical:.10g} (here {net.sigma_w:.10g})"),
        ("to do", advice(summary, best, net, critical)),
    ):
        start = f"{head:<10}"
        print(textwrap.fill(text, screen.width, initial_indent=start, subsequent_indent=" " * 10))


def _path(asked: Path | None, words: dict[str, Any]) -> Path:
    """Where the rows go: never over another network's, nor over anything else."""
    from study.records import tables as records

    if asked is None:
        name = "{activation}_depth{depth}_width{width}_sigma_w{sigma_w:.6g}".format(**words)
        whole = records.digest(records.canonical(words))  # what the name leaves out
        return writable("--csv", FOLDER) / f"{name}_{whole[:8]}.csv"
    if asked.suffix != ".csv":
        raise ValueError(f"--csv '{asked}' is not allowed; allowed: a name that ends in .csv")
    writable("--csv", asked.parent)
    if asked.exists():
        try:
            same = records.read_about(asked)["configuration"] == words
        except (OSError, ValueError, KeyError):
            same = False
        if not same:
            raise ValueError(
                f"--csv '{asked}' holds something else; allowed: a new name, or a file of this "
                f"very network; it is removed by: rm {shlex.quote(str(asked))}"
            )
    return asked


def _theory(net: Network, batch: int) -> tuple[pd.DataFrame, str]:
    """The norms that theory expects in some layers, and of which width."""
    import pandas as pd

    from study.report.summary import ROWS, chosen
    from study.theory.gradient_norms import log10_norms
    from study.theory.moments import KURTOSIS

    drowned = net.sigma_b > 0 and net.sigma_w < max(1e-3, 1e-5 * net.sigma_b)  # by the bias
    law = net.weights if net.weights in KURTOSIS and batch == 1 and not drowned else None
    of = (net.activation, net.sigma_w, net.sigma_b, net.depth, net.width)
    layers = chosen(net.depth, ROWS) if net.sigma_w > 0 else []
    values = log10_norms(*of, layers, law) if layers else []
    return pd.DataFrame({"layer": layers, "value": values}), f"width {net.width}" if law else _WIDE
