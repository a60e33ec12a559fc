"""The paper says what the tables say: no number typed, no verdict misquoted, the same bytes."""

import re
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from study.cli import results as commands
from study.report import paper
from study.report.paper import STATISTICS, encode, gather

ROOT = Path(__file__).parents[2]
SOURCE, RESULTS, FIGURES = ROOT / "paper", ROOT / "results", ROOT / "figures"
TEXT = (SOURCE / "paper.typ").read_text(encoding="utf-8")
STYLE = (SOURCE / "style.typ").read_text(encoding="utf-8")
QUANTITIES = tomllib.loads((SOURCE / "quantities.toml").read_text(encoding="utf-8"))

# Where a digit may stand in the text: what names or lists a generated number or a law, labels and
# citations, number formats, ReLU′(0), and the appendices' own numbering.
_ALLOWED = (
    r"(?m)//.*$",
    r"#(num|version|quoted)\(\"[^\"]*\"\)",
    r"#claim\(\s*\"[^\"]*\",\s*\"[^\"]*\",\s*\"[^\"]*\"\)",
    r"#(laws|bench|est|verdicts)\((columns: \d, )?(\s*\"[^\"]*\",?)*\s*\)",
    r"@[\w-]+",
    r"<[\w-]+>",
    r"[Ff]loat(16|32|64)\b",
    r"ReLU′\(0\)",
    r"#counter\(heading\)\.update\(0\)",
)
# And within formulas: constants of one digit, the base of a logarithm, the level of an interval.
_IN_FORMULAS = r"log_10|\b0\.95\b|(?<![\d.])\d(?![\d.]*\d)"
_IN_WORDS = (
    r"\b(?:eleven|twelve|\w{3,5}teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand)"
)


def typed(text):
    """The numbers in a text of the paper that are not generated."""
    for pattern in _ALLOWED:
        text = re.sub(pattern, " ", text)
    text = re.sub(r"\$.*?\$", lambda m: re.sub(_IN_FORMULAS, " ", m[0]), text, flags=re.S)
    return re.findall(rf"\d[\d.,]*|{_IN_WORDS}", text)


@pytest.fixture(scope="module")
def numbers():
    return gather(RESULTS, QUANTITIES)


@pytest.fixture(scope="module")
def files(numbers):
    return paper.read(SOURCE, FIGURES) | {"numbers.json": encode(numbers)}


def test_no_number_is_typed():
    assert typed(TEXT) == []


@pytest.mark.parametrize(
    "words",
    [
        "explodes beyond 10.15",
        "explodes beyond $sigma_w = 10.15$",
        "lost at $71$ layers",
        "after $2.5$ layers",
        '#plate("kink", alt: "lost at 71 layers")[What 3 panels show.]',
        "lost at seventy-one layers",
        '#claim("kink", "a claim", "refuted")[in 8 of them]',
    ],
)
def test_a_typed_number_is_found(words):
    assert typed(f"{TEXT}\n{words}\n")


def test_no_semicolon_is_swallowed():
    """Behind a call Typst takes a semicolon for its end and prints none: it is written \\;."""
    assert re.findall(r"[\])];", TEXT) == []


def test_layout_has_lengths_and_no_numbers():
    code = re.sub(r"(?m)//.*$|regex\(\"[^\"]*\"\)|rgb\(\"[^\"]*\"\)", "", STYLE)
    for words in re.findall(r"\"([^\"]*)\"", code):
        assert not re.search(r"\d", words) or words in ("a4", "1", "1.1", "(1)"), words
    code = re.sub(r"\"[^\"]*\"|luma\(\d+\)", "", code)
    assert re.findall(r"(?<![\w.])(?:\d{2,}|\d*\.\d+)(?![\d.]|pt|mm|em|%|fr)", code) == []


def test_each_number_that_is_named_is_used():
    used = set(re.findall(r"#num\(\"([^\"]*)\"\)", TEXT))
    assert used == set(QUANTITIES["numbers"])


def test_each_reference_is_cited_and_each_citation_is_there():
    entries = re.findall(r"^@\w+\{(\w+),", (SOURCE / "references.bib").read_text(), flags=re.M)
    labels = set(re.findall(r"<([\w-]+)>", TEXT))
    cited = set(re.findall(r"@([\w-]+)", TEXT)) - labels
    cited |= {key for keys in QUANTITIES["papers"].values() for key in keys}
    assert len(entries) == len(set(entries))
    assert set(entries) == cited


def test_each_figure_is_there_and_referred_to():
    read = paper.read(SOURCE, FIGURES)
    shown = [Path(name).stem for name in read if name.startswith("figures/")]
    assert len(shown) == len(set(shown)) >= 8
    assert all((FIGURES / f"{name}.svg").is_file() for name in shown)
    for label in re.findall(r"<([\w-]+)>", TEXT):
        assert re.search(rf"@{label}\b", TEXT), label


def test_each_claim_stands_in_the_table_of_one_section():
    claims = pd.read_csv(RESULTS / "claims.csv", keep_default_na=False)
    tables = re.findall(r"#verdicts\(([^)]*)\)", TEXT)
    listed = [name for table in tables for name in re.findall(r"\"([^\"]*)\"", table)]
    assert sorted(listed) == sorted(claims.experiment.unique())


def test_each_claim_on_the_derivation_or_a_saying_is_in_the_text():
    claims = pd.read_csv(RESULTS / "claims.csv", keep_default_na=False)
    quoted = re.findall(r"#claim\(\s*\"([^\"]*)\",\s*\"([^\"]*)\",", TEXT)
    assert {(r.experiment, r.claim) for r in claims.itertuples() if r.about} <= set(quoted)


def test_a_misquoted_verdict_stops_the_press(files):
    old = '"sigmoid\'s derivative alone decides", "refuted"'
    text = files["paper.typ"].decode()
    assert text.count(old) == 1
    wrong = text.replace(old, old.replace("refuted", "supported"))
    with pytest.raises(ValueError, match="is refuted, and the text says supported"):
        paper.press(files | {"paper.typ": wrong.encode()})


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ('#num("not there")', 'number "not there" is not in numbers.json'),
        ('#claim("kink", "not there", "refuted")[x]', 'claim "not there" is not in numbers.json'),
        ('#est("kink", "not there")', 'claim "not there" is not in numbers.json'),
        ('#verdicts("not there")', "no claim of not there"),
        ('#laws("not there")', 'law "not there" is not in numbers.json'),
        ('#cited("Nobody 1999")', 'paper "Nobody 1999" is not in'),
        ("@nobody1999", "nobody1999"),
        ('@fig-kink #text(font: "No Such Font")[x]', "unknown font family"),
        ("#roll[Tall.][#block(height: 100%)]", "table .* is too tall for its column"),
    ],
)
def test_what_is_not_there_or_has_no_place_stops_the_press(files, words, match):
    text = files["paper.typ"] + f"\n{words}\n".encode()
    with pytest.raises(ValueError, match=match):
        paper.press(files | {"paper.typ": text})


def test_each_number_is_what_its_rows_say(numbers):
    """From the raw CSV, by the provenance that the generated file gives."""
    for key, entry in numbers["numbers"].items():
        frame = pd.read_csv(RESULTS / f"{entry['table']}.csv", keep_default_na=False)
        spans = [list(map(int, span.split("-"))) for span in entry["rows"].split(", ")]
        rows = frame.iloc[[i for span in spans for i in range(span[0], span[-1] + 1)]]
        value = STATISTICS[entry["of"]](rows[entry["column"]])
        assert value == pytest.approx(entry["value"], rel=1e-15), key
        for name, wanted in QUANTITIES["numbers"][key].get("where", {}).items():
            if isinstance(wanted, str):
                assert set(rows[name]) == {wanted}, key


@pytest.mark.parametrize("name", ["claims", "laws", "bench", "capacity"])
def test_tables_printed_whole_are_those_of_their_rows(numbers, name):
    asked = QUANTITIES["tables"][name]
    frame = pd.read_csv(RESULTS / f"{asked['table']}.csv", keep_default_na=False)
    assert len(numbers[name]) == len(frame)
    for record in numbers[name]:
        for column in set(asked["columns"]) - {"threshold"}:
            cell = record[column]
            value = float(cell["value"]) if isinstance(cell, dict) else cell
            assert value == frame[column].iloc[record["row"]]


def test_the_paper_under_version_control_is_that_of_the_results_byte_for_byte_anywhere(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "a hoüse" / "of paper"
    shutil.copytree(SOURCE, moved)
    for path in paper.write(RESULTS, FIGURES, tmp_path, moved):
        assert path.read_bytes() == (SOURCE / path.name).read_bytes(), f"{path.name}: make paper"
    pdf = (SOURCE / "paper.pdf").read_bytes()
    assert len(pdf) < 2_000_000
    assert 10 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 14


def test_missing_results_say_which_command_makes_them(tmp_path):
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("laws", ".parts"))
    with pytest.raises(FileNotFoundError, match="study run laws"):
        commands.press(results, FIGURES)
    assert not list(tmp_path.rglob("paper.pdf"))


def test_a_missing_figure_or_text_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="make figures"):
        paper.read(SOURCE, tmp_path)
    with pytest.raises(FileNotFoundError, match="comes with a checkout"):
        paper.write(RESULTS, FIGURES, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"of": "mode"}, "x.of = 'mode'; allowed: only, median"),
        ({"column": "height"}, "x.column = 'height'; allowed: activation"),
        ({"where": {"format": "float8"}}, "x.where holds for no row"),
        ({"of": "only"}, "different values; allowed: 1"),
    ],
)
def test_a_quantity_that_is_not_there_is_refused(change, match):
    asked = {"table": "precision/depth", "column": "depth_lost", "of": "median"} | change
    with pytest.raises(ValueError, match=match):
        gather(RESULTS, {"numbers": {"x": asked}, "tables": {}})
