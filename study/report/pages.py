"""The pages of findings and of figures: templates, filled from tables and pictures that are there.

Nothing is measured, judged or drawn here, and no number is typed.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from study.checks import made_by, none_there
from study.records import tables as records
from study.records.disk import write_atomic
from study.report.publish import interval, read_claims
from study.runs.experiment import discover, question
from study.runs.sweep import alone
from study.statistics.claims import COLUMNS

DERIVATION = {
    "A": "Sigmoid's derivative is at most 1/4 and enters once a layer; ReLU's is 0 or 1, and 1 "
    "often enough in a healthy network.",
    "B": "In thousands of layers the weights alone can make gradients vanish or explode, whichever "
    "activation is used.",
    "C": "ReLU may help to keep exploding gradients under control, because it does not saturate: "
    "large weight norms are poor direct solutions, and an optimiser is unlikely to move towards "
    "them. And: the choice of ReLU'(0) makes no real difference.",
}
"""The three claims that were made with the derivation of backpropagation."""
VERDICTS = ("supported", "refuted", "inconclusive")
REMEASURED = {
    "training": "What training does is being measured again, with more steps and a wider search "
    "for learning rates; until then this page gives no verdict on it."
}
"""Experiments whose claims no page repeats, and what it says instead."""
SECTIONS: dict[str, tuple[str, ...]] = {
    "Is it the activation?": ("anatomy", "kink"),
    "Is it the weights?": ("depth_decay", "scale_phase", "isometry", "atlas"),
    "Is it the width?": ("finite_width",),
    "Is it the number format?": ("precision",),
    "What helps?": ("remedies", "shattering"),
    "What does training do?": ("training",),
    "Are the numbers right?": ("derivation", "laws"),
    "How fast is the study?": ("bench", "capacity"),
}
"""What a reader asks, and the sources whose figures answer it."""
REST = "Other questions"
"""Where a source stands that no section names."""
ENDINGS = (".png", ".svg", ".pdf")
_OTHERS = {
    "laws": "Do networks obey the laws of the field, and would a wrong law be noticed?",
    "bench": "How long does the study take beside torch doing the same job?",
    "capacity": "How long do the largest jobs take, and how much memory?",
}
"""What is asked by sources of figures that are no experiments."""


@dataclass(frozen=True)
class Source:
    """What figures are drawn from: an experiment, the laws or a benchmark."""

    name: str
    question: str
    make: str
    """The command that measures and draws."""
    redraw: str
    """The command that only draws."""
    page: str = ""
    """The page beside the gallery on which its verdicts are in full."""
    figures: list[str] = field(default_factory=list)


def published(claims: pd.DataFrame) -> pd.DataFrame:
    """The claims that pages may repeat: those on what is not being measured again."""
    on_training = claims["claim"].str.contains("in training", regex=False)
    return claims[~(claims["experiment"].isin(list(REMEASURED)) | on_training)]


def tally(claims: pd.DataFrame) -> str:
    """How many claims there are of each verdict.

    >>> tally(pd.DataFrame({"verdict": ["refuted", "supported", "supported"]}))
    '2 supported, 1 refuted'
    """
    counts = claims["verdict"].value_counts()
    return ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v in counts) or "none judged"


def escaped(words: str) -> str:
    r"""Words that Markdown must not read as its own.

    >>> print(escaped("a | b, q* < 2"))
    a \| b, q\* \< 2
    """
    return re.sub(r"([\\|*<])", r"\\\1", words)


def link(path: Path, page: Path) -> str:
    """The link from a page to a file.

    >>> link(Path("figures/a b.png"), Path("docs/page.md"))
    '../figures/a%20b.png'
    """
    return Path(os.path.relpath(path, page.parent)).as_posix().replace(" ", "%20")


def fill(template: str, **parts: Any) -> str:
    environment = Environment(
        loader=PackageLoader("study.report"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["md"] = escaped
    return environment.get_template(template).render(interval=interval, tally=tally, **parts)


def _write(page: Path, text: str) -> None:
    with alone(page.with_name(".parts")):
        write_atomic(page, text.encode())


def sources(results: Path, figures: Iterable[str] = ()) -> dict[str, Source]:
    """Every source there can be, by name, each with those of the figures that are its own."""
    redraw = made_by(results / "claims.csv")

    def source(name: str, asks: str, page: str) -> Source:
        make = made_by(results / name / "data_dictionary.csv")
        return Source(name, asks, make, redraw.replace(" figures", f" figures {name}", 1), page)

    known = {name: source(name, question(name), "findings.md") for name in discover()}
    for name, asks in _OTHERS.items():
        known[name] = source(name, asks, "laws.md" if name == "laws" else "")
    for figure in sorted(figures):
        owners = [name for name in known if re.fullmatch(f"{name}(_.*)?", figure)]
        if not owners:
            raise ValueError(
                f"figure '{figure}.*' is of no command of the study; "
                f"allowed: figures of {', '.join(known)}"
            )
        known[max(owners, key=len)].figures.append(figure)
    return known


def write_findings(claims: pd.DataFrame, results: Path, figures: Path, page: Path) -> None:
    """Write the page of what was found.

    Parameters
    ----------
    claims : the table of claims, of any number of experiments
    results, figures : folders; figures that are there are shown
    page : where to

    Raises
    ------
    OSError
        When the page cannot be written.
    """
    known = sources(results, (path.stem for path in figures.glob("*.png")))
    judged = set(claims["experiment"])
    text = fill(
        "findings.md",
        claims=published(claims),
        derivation=DERIVATION,
        sources=[source for name, source in known.items() if name in judged],
        remeasured=REMEASURED,
        link=lambda name: link(figures / name, page),
    )
    _write(page, text)


def write_gallery(results: Path, figures: Path, page: Path) -> int:
    """Write the page of all figures.

    Parameters
    ----------
    results, figures : folders, as the other commands wrote them
    page : where to; the pages of findings and of laws are beside it

    Returns
    -------
    The number of figures.

    Raises
    ------
    FileNotFoundError, ValueError
        When there are no results, or a figure, a table or a page is missing or damaged; the message
        names the command that makes it.
    OSError
        When the page cannot be written.
    """
    shown = _shown(results, figures, page)
    claims = pd.DataFrame(columns=list(COLUMNS))
    if any(source.page == "findings.md" for source in shown.values()):
        claims = published(read_claims(results))
    placed = {name for names in SECTIONS.values() for name in names}
    sections = SECTIONS | {REST: tuple(name for name in shown if name not in placed)}
    chosen = {
        title: [shown[name] for name in names if name in shown] for title, names in sections.items()
    }
    count = sum(len(source.figures) for source in shown.values())
    text = fill(
        "gallery.md",
        sections={title: group for title, group in chosen.items() if group},
        claims={name: claims[claims["experiment"] == name] for name in shown},
        remeasured=REMEASURED,
        laws=_laws(results) if "laws" in shown else "",
        caption=lambda name: caption(figures / f"{name}.svg"),
        tables={name: _tables(results / name) for name in shown},
        link=lambda path: link(path, page),
        results=results,
        figures=figures,
    )
    _write(page, text)
    return count


def _shown(results: Path, figures: Path, page: Path) -> dict[str, Source]:
    """Whatever has results or figures, once all that the gallery shows of it is there."""
    names = {path.stem for path in figures.glob("*") if path.suffix in ENDINGS}
    drawn = page.with_name("findings.md")
    if drawn.exists():  # it shows all the figures that there were
        links = re.findall(r"^!\[.*\]\((.*)\.png\)$", drawn.read_text(encoding="utf-8"), re.M)
        names |= {Path(path).name for path in links}
    known = sources(results, names)
    measured = {path.parent.name for path in results.glob("*/data_dictionary.csv")}
    shown = {s.name: s for s in known.values() if s.figures or s.name in measured}
    if not shown:
        raise ValueError(none_there(results))
    for source in shown.values():
        for name in source.figures or [source.name]:
            for ending in ENDINGS:
                _require(figures / f"{name}{ending}", source.redraw)
        if source.page:
            redrawn = source.page == "findings.md"
            _require(page.with_name(source.page), source.redraw if redrawn else source.make)
    return shown


def _require(path: Path, command: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; it is made by: {command}")


def _laws(results: Path) -> str:
    from experiments.laws.table import summary

    return summary(records.read_table(results / "laws" / "laws.csv"))


def _tables(folder: Path) -> dict[Path, int]:
    """The tables of a source, each with its number of rows."""
    names = records.read_table(folder / "data_dictionary.csv")["table"].unique()
    return {
        folder / f"{name}.csv": len(records.read_table(folder / f"{name}.csv")) for name in names
    }


def caption(figure: Path) -> str:
    """The caption of a figure, from the .svg that `study.report.publish.save_figure` wrote."""
    described = re.search(
        r"<dc:description>(.*?)</dc:description>", figure.read_text(encoding="utf-8"), re.S
    )
    return html.unescape(described[1]).strip() if described else ""
