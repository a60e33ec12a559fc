"""The pages of findings and of figures: templates, filled from tables and pictures that are there.

Nothing is measured, judged or drawn here, and no number is typed.
"""

import html
import math
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from study.records import tables as records
from study.records.disk import alone, write_atomic
from study.runs.experiment import discover, load, question
from study.runs.sweep import read_results
from study.statistics.claims import COLUMNS, VERDICTS
from study.tools.checks import made_by, none_there

_FOLDER = Path(__file__).parent / "templates"
_WORDS = tomllib.loads((_FOLDER / "words.toml").read_text(encoding="utf-8"))
# The claims that were made with the derivation of backpropagation, by letter and number.
DERIVATION: dict[str, str] = _WORDS["derivation"]
# Experiments whose verdicts stand on a page of their own, and how it is linked to.
OWN_PAGES: dict[str, str] = _WORDS["own_pages"]
REST = "Other questions"  # where a source stands that no section of the gallery names
ENDINGS = (".png", ".svg", ".pdf")


class Source(NamedTuple):
    """What figures are drawn from: an experiment or a benchmark."""

    name: str
    question: str
    make: str  # the command that measures and draws
    redraw: str  # the command that only draws
    page: str  # has its verdicts in full, and stands beside the gallery
    figures: list[str]


def tally(claims: pd.DataFrame) -> str:
    """How many claims there are of each verdict.

    >>> tally(pd.DataFrame({"verdict": ["refuted", "supported", "supported"]}))
    '2 supported, 1 refuted'
    """
    counts = claims["verdict"].value_counts()
    verdicts = [v for v in VERDICTS if v in counts]
    return ", ".join(f"{counts[v]} {v}" for v in verdicts) or "none judged"


def interval(row: Any) -> str:
    """The estimate of a claim, a row of the table, and its interval."""
    if math.isnan(row.estimate):
        return "none"
    return f"{row.estimate:.4g} [{row.low:.4g}, {row.high:.4g}]"


def true_if(row: Any) -> str:
    """Where a claim, a row of the table, is true, and where nothing would matter."""
    return "; negligible ".join(words for words in (row.threshold, row.negligible) if words)


def escaped(words: str) -> str:
    r"""Words that Markdown must not read as its own.

    >>> print(escaped("a | b, q* < 2"))
    a \| b, q\* \< 2
    """
    return re.sub(r"([\\|*<])", r"\\\1", words)


def fill(template: str, **parts: Any) -> str:
    """A file of ``study/report/templates``, its blanks filled; a part that is missing raises."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["md"] = escaped
    return environment.get_template(template).render(
        interval=interval, tally=tally, true_if=true_if, **parts
    )


def write(page: Path, text: str) -> None:
    """Write a page while no other run writes there."""
    with alone(page.with_name(".parts")):
        write_atomic(page, text.encode())


def link(path: Path, page: Path) -> str:
    """The link from a page to a file.

    >>> link(Path("figures/a b.png"), Path("docs/page.md"))
    '../figures/a%20b.png'
    """
    return Path(os.path.relpath(path, page.parent)).as_posix().replace(" ", "%20")


def sources(results: Path, figures: Iterable[str]) -> dict[str, Source]:
    """Every source there can be, by name, each with those of the figures that are its own."""
    redraw = made_by(results / "claims.csv")
    others = _WORDS["others"]
    known = {}
    for name in [*discover(), *others]:
        known[name] = Source(
            name=name,
            question=others.get(name) or question(name),
            make=made_by(results / name / "data_dictionary.csv"),
            redraw=redraw.replace(" figures", f" figures {name}", 1),
            page="" if name in others else f"{name if name in OWN_PAGES else 'findings'}.md",
            figures=[],
        )
    for figure in sorted(figures):
        owners = [name for name in known if re.fullmatch(f"{name}(_.*)?", figure)]
        if not owners:
            raise ValueError(
                f"figure '{figure}.*' is of no command of the study; "
                f"allowed: figures of {', '.join(known)}"
            )
        known[max(owners, key=len)].figures.append(figure)  # kink_a, not kink, where both are there
    return known


def write_findings(claims: pd.DataFrame, results: Path, figures: Path, page: Path) -> None:
    """Write the page of what was found: claims of some experiments, and figures that are there."""
    known = sources(results, (path.stem for path in figures.glob("*.png")))
    judged = {*claims["experiment"]}
    text = fill(
        "findings.md",
        claims=claims,
        derivation=DERIVATION,
        sources=[source for name, source in known.items() if name in judged],
        link=lambda name: link(figures / name, page),
    )
    write(page, text)


def write_gallery(results: Path, figures: Path, page: Path) -> int:
    """Write the page of all figures, beside those of findings and laws; return how many there are.

    FileNotFoundError or ValueError when there are no results, or a figure, a table or a page is
    missing or damaged; the message names the command that makes it.
    """
    shown = _shown(results, figures, page)
    claims = pd.DataFrame(columns=list(COLUMNS))
    if any(source.page == "findings.md" for source in shown.values()):
        claims = _claims(results / "claims.csv")
    rest = shown.keys() - {name for names in _WORDS["sections"].values() for name in names}
    sections = _WORDS["sections"] | {REST: [name for name in shown if name in rest]}
    text = fill(
        "gallery.md",
        sections={
            title: [shown[name] for name in names if name in shown]
            for title, names in sections.items()
            if shown.keys() & {*names}
        },
        claims={name: claims[claims["experiment"] == name] for name in shown},
        summaries={name: _summary(name, results) for name in OWN_PAGES if name in shown},
        own_pages=OWN_PAGES,
        caption=lambda name: _caption(figures / f"{name}.svg"),
        tables={name: _tables(results / name) for name in shown},
        link=lambda path: link(path, page),
        results=results,
        figures=figures,
    )
    write(page, text)
    return sum(len(source.figures) for source in shown.values())


def _shown(results: Path, figures: Path, page: Path) -> dict[str, Source]:
    """Whatever has results or figures, once all that the gallery shows of it is there."""
    names = {path.stem for path in figures.glob("*") if path.suffix in ENDINGS}
    findings = page.with_name("findings.md")
    if findings.exists():  # it shows all the figures that there were
        links = re.findall(r"^!\[.*\]\((.*)\.png\)$", findings.read_text(encoding="utf-8"), re.M)
        names |= {Path(path).name for path in links}
    measured = {path.parent.name for path in results.glob("*/data_dictionary.csv")}
    known = sources(results, names).values()
    shown = {s.name: s for s in known if s.figures or s.name in measured}
    if not shown:
        raise ValueError(none_there(results))
    for source in shown.values():
        names = source.figures or [source.name]
        needed = [figures / f"{name}{ending}" for name in names for ending in ENDINGS]
        needed += [page.with_name(source.page)] if source.page else []
        for path in needed:
            if not path.exists():
                raise FileNotFoundError(f"{path} is missing; it is made by: {source.redraw}")
    return shown


def _claims(path: Path) -> pd.DataFrame:
    claims = records.read_table(path)
    if list(claims.columns) != list(COLUMNS):
        raise ValueError(f"table {path} is of an older study; it is made again by: {made_by(path)}")
    return claims


def _summary(name: str, results: Path) -> str:
    """What the page of an experiment's own says in a sentence."""
    experiment = load(name)
    page = experiment.page
    return page(read_results(results, name, experiment.version)).summary if page else ""


def _caption(figure: Path) -> str:
    """The caption of a figure, from the .svg that `study.report.publish` wrote."""
    text = figure.read_text(encoding="utf-8")
    described = re.search(r"<dc:description>(.*?)</dc:description>", text, re.S)
    return html.unescape(described[1]).strip() if described else ""


def _tables(folder: Path) -> dict[Path, int]:
    """The tables of a source, each with its number of rows."""
    names = records.read_table(folder / "data_dictionary.csv")["table"].unique()
    paths = [folder / f"{name}.csv" for name in names]
    return {records.rows_of(path): len(records.read_table(path)) for path in paths}
