"""The gallery has every figure once and says what the tables say; no page has a dead link."""

import csv
import re
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pytest
from toyhouse import ROOT, study

from study.cli import main
from study.records import tables as records
from study.report import gallery
from study.runs import experiment

ENDINGS = {".png", ".svg", ".pdf"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIGURES = sorted(path for path in (ROOT / "figures").iterdir() if path.suffix in ENDINGS)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """What the page is made of, as links that a test may cut."""
    for folder in ("docs", "figures", "results"):
        (tmp_path / folder).mkdir()
        for path in (ROOT / folder).iterdir():
            if path.name not in ("gallery.md", ".parts"):
                (tmp_path / folder / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write():
    """As the command does, in the folder one is in."""
    return gallery.write(Path("results"), Path("figures"), Path("docs/gallery.md"))


def committed():
    return (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


def broken(page):
    """The links of a page that lead nowhere: to no file, or to no heading of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        if re.match("https?://", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


def anchors(page):
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sections(text):
    """From source to what the page says of it."""
    parts = re.split(r"^### (\w+)$", text, flags=re.M)
    return {
        name: re.split(r"^## ", part, flags=re.M)[0]
        for name, part in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_page_is_what_the_command_writes(project):
    assert write() == len(FIGURES) / len(ENDINGS)
    assert (project / "docs" / "gallery.md").read_bytes() == committed().encode()


def test_every_figure_is_there_exactly_once():
    shown = re.findall(r"\]\(\.\./figures/(.*?)\)", committed())
    assert sorted(shown) == [path.name for path in FIGURES]
    pictures = re.findall(r"^!\[.*\]\(\.\./figures/(.*)\.png\)$", committed(), flags=re.M)
    assert len(pictures) * len(ENDINGS) == len(FIGURES)
    assert gallery.REST not in committed()  # SECTIONS has every source
    top = committed().partition("\n## ")[0]
    assert re.findall(r"\(#(\w+)\)", top) == pictures  # the table of contents has the same order


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
    for name, text in sections(committed()).items():
        for verdict, claim, estimate, threshold in re.findall(
            r"^\| \*\*(\w+)\*\* \| (.*) \| (.*) \| (.*) \|$", text, flags=re.M
        ):
            numbers = [float(x) for x in re.findall(r"[-\w.+]+", estimate)]
            found.append((name, re.sub(r"\\(.)", r"\1", claim), threshold, verdict, *numbers))
    columns = ["experiment", "claim", "threshold", "verdict", "estimate", "low", "high"]
    expected = [
        (*row[:4], *(float(f"{x:.4g}") for x in row[4:]))
        for row in claims[columns].itertuples(index=False)
    ]
    assert sorted(found) == sorted(expected)


def test_each_source_has_its_question_its_tables_and_its_commands():
    for name, text in sections(committed()).items():
        tables = re.findall(r"\[(\w+\.csv)\]\(\.\./results/(.*?)\), ([\d,]+) rows", text)
        folder = ROOT / "results" / name
        assert {path for _, path, _ in tables} == {
            f"{name}/{path.name}" for path in folder.glob("*.csv") if "dictionary" not in path.name
        }
        for _, path, rows in tables:
            with open(ROOT / "results" / path, newline="", encoding="utf-8") as file:
                assert sum(1 for _ in csv.reader(file)) - 1 == int(rows.replace(",", ""))
        assert f"../results/{name}/data_dictionary.csv" in text
        if name in experiment.discover():
            assert f"*{experiment.question(name)}*" in text
            assert re.search(rf"^python -m study run {name} +# measure and draw$", text, re.M)
            assert re.search(rf"^python -m study figures {name} +# only draw$", text, re.M)


def test_a_figure_that_is_missing_is_noticed_and_who_draws_it_is_named(project):
    for stem, endings in product({path.stem for path in FIGURES}, ([".svg"], ENDINGS)):
        for ending in endings:
            (project / "figures" / f"{stem}{ending}").unlink()
        with pytest.raises(FileNotFoundError, match=rf"figures/{stem}\.") as raised:
            write()
        command = str(raised.value).partition("is made by: python -m ")[2]
        owner = next(name for name in sections(committed()) if stem.startswith(name))
        assert command in (
            f"study figures {owner}",
            "study laws",
            "benchmarks",
            f"benchmarks {owner}",
        )
        for ending in endings:
            (project / "figures" / f"{stem}{ending}").symlink_to(
                ROOT / "figures" / f"{stem}{ending}"
            )
    assert not (project / "docs" / "gallery.md").exists()


@pytest.mark.parametrize(
    ("gone", "command"),
    [
        ("docs/findings.md", "python -m study figures anatomy"),
        ("docs/laws.md", "python -m study laws"),
        ("results/claims.csv", "python -m study figures"),
        ("results/kink", "python -m study run kink"),
        ("results/bench", "python -m benchmarks"),
    ],
)
def test_whatever_else_is_missing_is_named_with_what_makes_it(project, gone, command):
    (project / gone).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{gone}.*made by: {command}$"):
        write()


def test_a_figure_of_nobody_is_refused(project):
    (project / "figures" / "stray.svg").write_text("")
    with pytest.raises(ValueError, match=r"'figures/stray\.\*' is of no command.*allowed: .*kink"):
        write()


def test_claims_of_an_older_study_are_refused(project):
    path = project / "results" / "claims.csv"
    older = records.read_table(path).drop(columns="about")
    records.write_table(path, older, {})
    with pytest.raises(ValueError, match=r"claims\.csv is of an older study.*study figures$"):
        write()


def test_results_elsewhere_have_their_own_page(house):
    assert study(house, "run", "--preset", "quick", "--results", "my runs")[0] == 0
    shown = study(house, "gallery", "--results", "my runs")
    assert shown[0] == 0, shown
    page = house / "my runs" / "docs" / "gallery.md"
    assert "my runs/docs/gallery.md (1 figure)" in shown[1]
    text = page.read_text(encoding="utf-8")
    assert "## Other questions" in text
    assert "python -m study run toy --preset quick --results 'my runs'  # measure" in text
    assert "python -m study figures toy --results 'my runs'" in text
    assert not [*broken(page)]

    (house / "my runs" / "figures" / "toy.svg").unlink()
    status, _, complaint = study(house, "gallery", "--results", "my runs")
    assert status == 2
    assert "made by: python -m study figures toy --results 'my runs'" in complaint
    assert study(house, "figures", "toy", "--results", "my runs")[0] == 0  # as it says
    assert study(house, "gallery", "--results", "my runs")[0] == 0
    assert page.read_text(encoding="utf-8") == text


def test_where_there_are_no_results_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["gallery", "--results", "none"]) == 2
    assert "they are made by: python -m study run" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
