"""Findings and gallery say what the tables say and nothing else; no page has a dead link."""

import csv
import re
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from toyhouse import ROOT

from study.records import tables as records
from study.report import pages
from study.report.publish import rendered
from study.runs import experiment
from study.statistics.claims import ABOUT, COLUMNS

ENDINGS = {".png", ".svg", ".pdf"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURES = sorted(path for path in (ROOT / "figures").iterdir() if path.suffix in ENDINGS)
STEMS = sorted({path.stem for path in FIGURES})
ROWS = [
    ("kink", "A1", "supported"),
    ("kink", "B2", "refuted"),
    ("precision", "B2", "inconclusive"),
    ("precision", "saying", "refuted"),
    ("precision", "", "supported"),
]


def table(rows=ROWS):
    """Claims that nobody made: (experiment, about, verdict), numbered."""
    claims = pd.DataFrame(rows, columns=["experiment", "about", "verdict"])
    number = np.arange(len(claims))
    return claims.assign(
        claim=[f"claim {i}" for i in number],
        statement=[f"Statement {i}: a | b, q* < 2." for i in number],
        source=["A. Nobody 2020" if row == "saying" else "" for row in claims.about],
        threshold=[f"below {i + 0.125}" for i in number],
        negligible=["" if i else "within -1 to 1" for i in number],
        level=0.95,
        estimate=number + 0.0625,
        low=-np.inf,
        high=number + 0.1875,
        n_seeds=100 + number,
    )[list(COLUMNS)]


@pytest.fixture
def findings(tmp_path):
    """Writes the page of findings of a table of claims."""
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("precision_a", "precision_b"):
        (figures / f"{name}.png").touch()

    def write(claims):
        pages.write_findings(claims, Path("results"), figures, tmp_path / "findings.md")
        return (tmp_path / "findings.md").read_text(encoding="utf-8")

    return write


@pytest.fixture
def project(tmp_path, monkeypatch):
    """What the gallery is made of, as links that a test may cut."""
    for folder in ("docs", "figures", "results"):
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).iterdir():
            if path.name not in ("gallery.md", ".parts"):
                (tmp_path / folder / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_gallery():
    """As the command does, in the folder one is in."""
    return pages.write_gallery(Path("results"), Path("figures"), Path("docs/gallery.md"))


def committed(page="gallery"):
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def sections(text):
    """From heading to what stands under it, up to the next heading of any size."""
    parts = re.split(r"^#+ (.*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def sources(text):
    """From source to what the gallery says of it, its figures' headings included."""
    parts = re.split(r"^### (\w+)$", text, flags=re.M)
    return {
        name: re.split(r"^## ", part, flags=re.M)[0]
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }


def rows_of(text):
    return [line for line in text.splitlines() if line.startswith("| **")]


def anchors(page):
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page):
    """The links of a page that lead nowhere: to no file, or to no heading of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        name, _, anchor = unquote(target).partition("#")
        there = page.parent / name if name else page
        lost = not there.exists() or (anchor and anchor not in anchors(there))
        if lost and not re.match("https?://", target):
            yield target


# --- Findings ------------------------------------------------------------------------------------


def test_every_claim_is_under_its_experiment_and_under_what_it_is_about(findings):
    page = sections(findings(table()))
    headings = {letter: f"{letter}. {text}" for letter, text in pages.DERIVATION.items()}
    assert set(ABOUT) == {"", "saying", *pages.DERIVATION}
    for about, count in (("A1", 1), ("B2", 2), ("C1", 0)):
        assert len(rows_of(page[headings[about]])) == count
    assert "No experiment in the table bears on this claim." in page[headings["C1"]]
    assert len(rows_of(page["Popular sayings"])) == 1
    assert "1 claim: 1 refuted." in page["Popular sayings"]
    assert "2 claims: 1 refuted, 1 inconclusive." in page[headings["B2"]]
    assert len(rows_of(page["kink"])) == 2
    assert len(rows_of(page["precision"])) == 3
    assert "**5 claims: 2 supported, 2 refuted, 1 inconclusive.**" in page["What the study found"]
    links = [f"figures/precision_{name}.png" for name in "ab"]
    question = re.escape(experiment.question("precision"))
    assert re.findall(rf"!\[precision: {question}\]\((.*)\)", page["precision"]) == links
    assert "![" not in page["kink"]


def test_a_row_says_all_that_its_claim_does_and_markdown_reads_none_of_it(findings):
    page = sections(findings(table()))
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", rows_of(page["kink"])[1])[1:-1]]
    statement = r"Statement 1: a \| b, q\* \< 2."
    assert cells == [
        "**refuted**", "claim 1", statement, "1.062 [-inf, 1.188]", "below 1.125", "101",
    ]  # fmt: skip
    assert "| below 0.125; negligible within -1 to 1 |" in page["kink"]
    assert "q\\* \\< 2. Said by A. Nobody 2020. |" in page["Popular sayings"]
    assert "[claim 1](#kink)" in rows_of(page["B2. " + pages.DERIVATION["B2"]])[0]


@pytest.mark.parametrize("column", ["estimate", "high", "n_seeds"])
def test_no_number_is_typed(findings, column):
    """Every number on the page but those of the words around it comes from the table."""
    before = findings(table())
    changed = table()
    changed[column] = changed[column] + 7000
    pairs = zip(before.splitlines(), findings(changed).splitlines(), strict=True)
    assert [a for a, b in pairs if a != b] == rows_of(before)


def test_an_empty_table_makes_a_page(findings):
    assert "**0 claims: none judged.**" in findings(table([]))


# --- Gallery -------------------------------------------------------------------------------------


def test_the_page_is_what_the_command_writes(project):
    assert write_gallery() == len(STEMS)
    assert (project / "docs" / "gallery.md").read_bytes() == committed().encode()


def test_every_figure_is_there_exactly_once():
    shown = re.findall(r"\]\(\.\./figures/(.*?)\)", committed())
    assert sorted(shown) == [path.name for path in FIGURES]
    pictures = re.findall(r"^!\[.*\]\(\.\./figures/(.*)\.png\)$", committed(), flags=re.M)
    assert sorted(pictures) == STEMS
    assert pages.REST not in committed()  # SECTIONS has every source
    top = committed().partition("\n## ")[0]
    assert re.findall(r"\(#(\w+)\)", top) == pictures  # the table of contents has the same order


def test_a_caption_stands_under_its_figure(project):
    figure = plt.figure(label="Dots <are> networks & lines theory | *.")
    for ending in ENDINGS:
        (project / "figures" / f"kink{ending}").unlink()
    for name, data in rendered(figure, "kink").items():
        (project / "figures" / name).write_bytes(data)
    plt.close(figure)
    write_gallery()
    text = sources((project / "docs" / "gallery.md").read_text(encoding="utf-8"))["kink"]
    assert ".png)\n\nDots \\<are> networks & lines theory \\| \\*.\n\n[SVG]" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert not [*broken(page)]


def test_a_dead_link_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b\n[a](#a-b) [b](#b) ![c](c.png) [d](page.md#a-b) [e](page.md#e)\n")
    assert [*broken(page)] == ["#b", "c.png", "page.md#e"]


def test_the_verdicts_are_those_of_the_table():
    claims = records.read_table(ROOT / "results" / "claims.csv")
    found = []
    for name, text in sources(committed()).items():
        for verdict, claim, estimate, threshold in re.findall(
            r"^\| \*\*([\w ]+)\*\* \| (.*) \| (.*) \| (.*) \|$", text, flags=re.M
        ):
            numbers = [float(x) for x in re.findall(r"[-\w.+]+", estimate)]
            threshold = threshold.partition("; negligible")[0]
            found.append((name, re.sub(r"\\(.)", r"\1", claim), threshold, verdict, *numbers))
    columns = ["experiment", "claim", "threshold", "verdict", "estimate", "low", "high"]
    expected = [
        (*row[:4], *(float(f"{x:.4g}") for x in row[4:]))
        for row in claims[columns].itertuples(index=False)
    ]
    assert sorted(found) == sorted(expected)


def test_each_source_has_its_question_its_tables_and_its_commands():
    for name, text in sources(committed()).items():
        listed = re.findall(r"\[(\w+\.csv)\]\(\.\./results/(.*?)\), ([\d,]+) rows", text)
        folder = ROOT / "results" / name
        assert {path for _, path, _ in listed} == {
            f"{name}/{path.name}" for path in folder.glob("*.csv") if "dictionary" not in path.name
        }
        for _, path, rows in listed:
            with open(ROOT / "results" / path, newline="", encoding="utf-8") as file:
                assert sum(1 for _ in csv.reader(file)) - 1 == int(rows.replace(",", ""))
        assert f"../results/{name}/data_dictionary.csv" in text
        if name in experiment.discover():
            assert f"*{experiment.question(name)}*" in text
            for command, what in (("run", "measure and draw"), ("figures", "only draw")):
                assert re.search(rf"^python -m study {command} {name} +# {what}$", text, re.M)


def test_a_figure_that_is_missing_is_noticed_and_who_draws_it_is_named(project):
    for stem, endings in product(STEMS, ([".svg"], ENDINGS)):
        gone = [project / "figures" / f"{stem}{ending}" for ending in endings]
        for path in gone:
            path.unlink()
        with pytest.raises(FileNotFoundError, match=rf"figures/{stem}\.") as raised:
            write_gallery()
        command = str(raised.value).partition("is made by: python -m study ")[2]
        owner = max((name for name in sources(committed()) if stem.startswith(name)), key=len)
        assert command == f"figures {owner}"
        for path in gone:
            path.symlink_to(ROOT / "figures" / path.name)
    assert not (project / "docs" / "gallery.md").exists()


@pytest.mark.parametrize(
    ("gone", "command"),
    [
        ("docs/findings.md", "python -m study figures relu_against_sigmoid"),
        ("docs/laws.md", "python -m study figures laws"),
        ("results/claims.csv", "python -m study figures"),
        ("results/kink", "python -m study run kink"),
        ("results/bench", "python -m benchmarks"),
    ],
)
def test_whatever_else_is_missing_is_named_with_what_makes_it(project, gone, command):
    (project / gone).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{gone}.*made by: {command}$"):
        write_gallery()


def test_what_is_of_nobody_or_of_an_older_study_is_refused(project):
    stray = project / "figures" / "stray.svg"
    stray.write_text("")
    with pytest.raises(ValueError, match=r"'stray\.\*' is of no command.*allowed: .*kink"):
        write_gallery()
    stray.unlink()
    path = project / "results" / "claims.csv"
    records.write_table(path, records.read_table(path).drop(columns="about"), {})
    with pytest.raises(ValueError, match=r"claims\.csv is of an older study.*study figures$"):
        write_gallery()


def test_results_elsewhere_have_their_own_page(house, typed):
    assert typed("run", "--preset", "quick", "--results", "my runs")[0] == 0
    shown = typed("gallery", "--results", "my runs")
    assert shown[0] == 0, shown
    page = house / "my runs" / "docs" / "gallery.md"
    assert "my runs/docs/gallery.md (1 figure)" in shown[1]
    text = page.read_text(encoding="utf-8")
    assert "## Other questions" in text
    assert "python -m study run toy --preset quick --results 'my runs'  # measure" in text
    assert "python -m study figures toy --results 'my runs'" in text
    assert not [*broken(page)]

    (house / "my runs" / "figures" / "toy.svg").unlink()
    complaint = typed.fails("gallery", "--results", "my runs")
    assert "made by: python -m study figures toy --results 'my runs'" in complaint
    assert typed("figures", "toy", "--results", "my runs")[0] == 0  # as it says
    assert typed("gallery", "--results", "my runs")[0] == 0
    assert page.read_text(encoding="utf-8") == text
