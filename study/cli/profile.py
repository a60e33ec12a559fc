"""``profile``: one network, layer by layer."""

import dataclasses
import os
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd

import study
from study.cli import terminal
from study.cli.folders import writable
from study.core.network import Network
from study.records import tables as records
from study.report.summary import advice, chosen, in_words, summarise, table
from study.theory import critical_sigma_w, mean_field
from study.theory.fluctuations import KURTOSIS
from study.theory.gradient_norms import log10_norms

FOLDER = Path("build/profile")  # where the rows go if nobody says where


def profile(csv: Path | None, **words: Any) -> None:
    """Profile, write the rows, and say what comes out and what would keep the gradient."""
    critical = critical_sigma_w(words["activation"], words["sigma_b"])
    if words["sigma_w"] == "critical":
        words["sigma_w"] = critical
    net = Network(**{field.name: words[field.name] for field in dataclasses.fields(Network)})
    path = _path(csv, words)
    how = {"seeds": range(words["seeds"]), "batch": words["batch"], "engine": words["engine"]}
    frame = study.profile(net, **how)
    about = {"configuration": words, "versions": [records.versions()]}
    records.write_table(path, frame, about)
    summary = best = summarise(frame)
    if summary.verdict != "keeps" and net.sigma_w != critical:
        best = summarise(study.profile(dataclasses.replace(net, sigma_w=critical), **how))

    screen = terminal.screen(sys.stdout, os.environ)
    theory, width = _theory(net, words["batch"])
    legend = {"theory": f"theory, {width}"}
    if words["seeds"] > 1:
        legend["band"] = f"lowest to highest of {words['seeds']} seeds"
    print(textwrap.fill(in_words(summary), screen.width), end="\n\n")
    print(table(summary, theory, screen.width), end="\n\n")
    print(terminal.plot(summary.layers, theory, legend, screen), end="\n\n")
    chi = mean_field(net.activation, net.sigma_w, net.sigma_b).chi
    for head, text in {
        "theory": f"chi = {chi:.6g}, the factor of the squared norm per layer at infinite width",
        "critical": f"chi = 1 at sigma_w = {critical:.10g} (here {net.sigma_w:.10g})",
        "to do": advice(summary, best, net, critical),
    }.items():
        print(textwrap.fill(f"{head:<10}{text}", screen.width, subsequent_indent=" " * 10))
    print(f"rows      {path}")


def _path(asked: Path | None, words: dict[str, Any]) -> Path:
    """Where the rows go: never over another network's, nor over anything else."""
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


def _theory(net: Network, batch: int) -> tuple[pd.Series, str]:
    """log10 of the norms that theory expects, by layer, and of which width."""
    drowned = net.sigma_b > 0 and net.sigma_w < max(1e-3, 1e-5 * net.sigma_b)  # by the bias
    law = net.weights if net.weights in KURTOSIS and batch == 1 and not drowned else None
    width = f"width {net.width}" if law else "infinite width"
    if net.sigma_w == 0:
        return pd.Series(dtype=float), width
    layers = chosen(net.depth)
    of = (net.activation, net.sigma_w, net.sigma_b, net.depth, net.width)
    return pd.Series(log10_norms(*of, layers, law), layers), width
