"""Every figure on one page: its question, what it shows of the claims, its tables, its commands.

From the tables and pictures that are there: nothing is measured, judged or drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from study.checks import made_by, none_there
from study.records import tables as records
from study.records.disk import write_atomic
from study.report import findings
from study.report.publish import link, owner_of
from study.runs.experiment import discover, question
from study.runs.sweep import alone
from study.statistics.claims import COLUMNS

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


def write(results: Path, figures: Path, page: Path) -> int:
    """Write the page.

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
    sources = _sources(results, figures, page)
    claims = _claims(results, sources)
    found = {s.name: _found(s, results, claims[claims["experiment"] == s.name]) for s in sources}
    lines = [*_head(sources, {name: short for name, (short, _) in found.items()})]
    for title, own in _sections(sources).items():
        lines += ["", f"## {title}"]
        for source in own:
            lines += _source(source, results, figures, page, found[source.name][1])
    with alone(page.with_name(".parts")):
        write_atomic(page, ("\n".join(lines) + "\n").encode())
    return sum(len(source.figures) for source in sources)


def _sources(results: Path, figures: Path, page: Path) -> list[Source]:
    """Whatever has results or figures, and all its figures are there."""
    known = {source.name: source for source in _known(results)}
    found = {path.stem for path in figures.glob("*") if path.suffix in ENDINGS}
    if (drawn := page.with_name("findings.md")).exists():  # with all the figures there were
        shown = re.findall(r"^!\[.*\]\((.*)\.png\)$", drawn.read_text(encoding="utf-8"), re.M)
        found |= {Path(each).name for each in shown}
    for name in sorted(found):
        owner = name if name in known else owner_of(name)
        if owner is None:
            raise ValueError(
                f"figure '{figures / name}.*' is of no command of the study; "
                f"allowed: figures of {', '.join(known)}"
            )
        known[owner].figures.append(name)
    measured = {path.parent.name for path in results.glob("*/data_dictionary.csv")}
    sources = [s for s in known.values() if s.figures or s.name in measured]
    if not sources:
        raise ValueError(none_there(results))
    for source in sources:
        needed = [figures / f"{n}{end}" for n in source.figures or [source.name] for end in ENDINGS]
        needed += [page.with_name(source.page)] if source.page else []
        for path in needed:
            if not path.exists():
                drawn = path.suffix in ENDINGS or source.page == "findings.md"
                command = source.redraw if drawn else source.make
                raise FileNotFoundError(f"{path} is missing; it is made by: {command}")
    return sources


def _known(results: Path) -> Iterator[Source]:
    """Every source there can be."""
    all_figures = made_by(results / "claims.csv")

    def source(name: str, question: str, page: str = "") -> Source:
        make = made_by(results / name / "data_dictionary.csv")
        redraw = all_figures.replace(" figures", f" figures {name}", 1)
        return Source(name, question, make, redraw, page)

    for name in discover():
        yield source(name, question(name), "findings.md")
    yield source(
        "laws",
        "Do networks obey the laws of the field, and would a wrong law be noticed?",
        "laws.md",
    )
    yield source("bench", "How long does the study take beside torch doing the same job?")
    yield source("capacity", "How long do the largest jobs take, and how much memory?")


def _claims(results: Path, sources: list[Source]) -> pd.DataFrame:
    """The table of claims; empty where no experiment has results."""
    if not any(source.page == "findings.md" for source in sources):
        return pd.DataFrame(columns=list(COLUMNS))
    path = results / "claims.csv"
    claims = records.read_table(path)
    if list(claims.columns) != list(COLUMNS):
        raise ValueError(f"table {path} is of an older study; it is made again by: {made_by(path)}")
    return claims


def _sections(sources: list[Source]) -> dict[str, list[Source]]:
    by_name = {source.name: source for source in sources}
    named = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in by_name if name not in named)
    found = {
        title: [by_name[name] for name in names if name in by_name]
        for title, names in {**SECTIONS, REST: rest}.items()
    }
    return {title: own for title, own in found.items() if own}


def _head(sources: list[Source], said: dict[str, str]) -> Iterator[str]:
    yield from (
        "# Gallery",
        "",
        "Generated from the tables and the figures by `python -m study gallery`; do not edit. "
        "Every figure, with its question, what became of the claims that were made beforehand, "
        "the tables it is drawn from, and the commands that make it. The commands are for the "
        "project's folder, after `make quick`, which sets up `.venv`, and "
        "`source .venv/bin/activate`.",
        "",
        "| figure | question | found |",
        "|---|---|---|",
    )
    for title, own in _sections(sources).items():
        yield f"| | **{title}** | |"
        for source in own:
            links = "<br>".join(f"[{name}](#{name})" for name in source.figures)
            yield f"| {links} | {findings.escaped(source.question)} | {said[source.name]} |"


def _source(
    source: Source, results: Path, figures: Path, page: Path, found: list[str]
) -> Iterator[str]:
    """The figures of a source and what belongs to them."""
    yield from ("", f"### {source.name}", "", f"*{source.question}*")
    for name in source.figures:
        png, svg, pdf = (link(figures / f"{name}{ending}", page) for ending in ENDINGS)
        yield from ("", f"#### {name}") if name != source.name else ()
        yield from ("", f"![{name}: {source.question}]({png})", "", f"[SVG]({svg}), [PDF]({pdf})")
    yield from ("", *found, "", f"Tables: {_tables(source, results, page)}.", "", "```sh")
    width = max(len(source.make), len(source.redraw))
    yield f"{source.make:<{width}}  # measure and draw"
    yield f"{source.redraw:<{width}}  # only draw"
    yield "```"


def _found(source: Source, results: Path, claims: pd.DataFrame) -> tuple[str, list[str]]:
    """What was found: for the table at the top, and in full."""
    if source.name == "laws":
        from experiments.laws.table import summary

        text = summary(records.read_table(results / "laws" / "laws.csv"))
        return text.partition(",")[0], [f"{text} [Law by law]({source.page})."]
    if claims.empty:
        return "", ["No claim rests on it."]
    tally = findings.tally(claims)
    lines = [f"{tally}; [in full]({source.page}#{source.name}):", ""]
    lines += ["| verdict | claim | estimate, 95 % interval | true if |", "|---|---|---|---|"]
    for row in claims.itertuples():
        cells = (
            f"**{row.verdict}**",
            findings.escaped(row.claim),
            findings.interval(row),
            row.threshold,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return tally, lines


def _tables(source: Source, results: Path, page: Path) -> str:
    """Links to the tables, with how many rows each has, and to what their columns mean."""
    dictionary = results / source.name / "data_dictionary.csv"
    parts = []
    for name in records.read_table(dictionary)["table"].unique():
        path = dictionary.with_name(f"{name}.csv")
        rows = len(records.read_table(path))
        parts.append(f"[{path.name}]({link(path, page)}), {rows:,} rows")
    return "; ".join([*parts, f"[what the columns mean]({link(dictionary, page)})"])
