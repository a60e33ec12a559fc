"""The page of findings says what the table of claims says, and nothing else."""

import re

import numpy as np
import pandas as pd
import pytest

from study.report.findings import DERIVATION, markdown
from study.statistics.claims import ABOUT, COLUMNS


def table(rows):
    """Claims of made-up experiments: (experiment, about, verdict), numbered."""
    return pd.DataFrame(
        [
            {
                "experiment": experiment,
                "claim": f"claim {i}",
                "about": about,
                "statement": f"Statement {i}: a | b, q* < 2.",
                "threshold": f"below {i + 0.125}",
                "estimate": i + 0.0625,
                "low": -np.inf,
                "high": i + 0.1875,
                "n_seeds": 100 + i,
                "verdict": verdict,
            }
            for i, (experiment, about, verdict) in enumerate(rows)
        ],
        columns=list(COLUMNS),
    )


ROWS = [
    ("one", "A", "supported"),
    ("one", "B", "refuted"),
    ("two", "B", "inconclusive"),
    ("two", "saying", "refuted"),
    ("two", "", "supported"),
]
QUESTIONS = {"two": "Second, first?", "one": "And then?", "bare": "Nothing?"}
FIGURES = {"two": ["../figures/two_a.png", "../figures/two_b.png"]}


def sections(page):
    """From heading to what stands under it, up to the next heading of any size."""
    parts = re.split(r"^#+ (.*)$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows_of(text):
    return [
        line for line in text.splitlines() if line.startswith("| **")
    ]  # a verdict stands in bold


def test_every_claim_is_under_its_experiment_and_under_what_it_is_about():
    page = sections(markdown(table(ROWS), QUESTIONS, FIGURES))
    headings = {letter: f"{letter}. {text}" for letter, text in DERIVATION.items()}
    assert set(ABOUT) == {"", "saying", *DERIVATION}
    for about, count in (("A", 1), ("B", 2), ("C", 0)):
        assert len(rows_of(page[headings[about]])) == count
    assert "No experiment in the table bears on this claim." in page[headings["C"]]
    assert len(rows_of(page["Popular sayings"])) == 1
    assert "1 claim: 1 refuted." in page["Popular sayings"]
    assert "2 claims: 1 refuted, 1 inconclusive." in page[headings["B"]]
    assert len(rows_of(page["one"])) == 2
    assert len(rows_of(page["two"])) == 3
    assert "No claim of this experiment is in the table." in page["bare"]
    assert "**5 claims: 2 supported, 2 refuted, 1 inconclusive.**" in page["What the study found"]
    assert list(page).index("two") < list(page).index("one")  # in the order that was asked for


def test_a_row_says_all_that_its_claim_does_and_markdown_reads_none_of_it():
    page = sections(markdown(table(ROWS), QUESTIONS, FIGURES))
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", rows_of(page["one"])[1])[1:-1]]
    statement = r"Statement 1: a \| b, q\* \< 2."
    numbers = ["1.062 [-inf, 1.188]", "below 1.125", "101"]
    assert cells == ["**refuted**", "claim 1", statement, *numbers]
    short = rows_of(page["B. " + DERIVATION["B"]])[0]
    assert "[claim 1](#one)" in short


def test_figures_are_linked_where_there_are_any():
    page = sections(markdown(table(ROWS), QUESTIONS, FIGURES))
    links = ["../figures/two_a.png", "../figures/two_b.png"]
    assert re.findall(r"!\[two: Second, first\?\]\((.*)\)", page["two"]) == links
    assert "![" not in page["one"]


@pytest.mark.parametrize("column", ["estimate", "high", "n_seeds"])
def test_no_number_is_typed(column):
    """Every number on the page but those of the words around it comes from the table."""
    before = markdown(table(ROWS), QUESTIONS, FIGURES)
    changed = table(ROWS)
    changed[column] = changed[column] + 7000
    after = markdown(changed, QUESTIONS, FIGURES)
    pairs = zip(before.splitlines(), after.splitlines(), strict=True)
    altered = [a for a, b in pairs if a != b]
    assert altered == rows_of(before)


def test_an_empty_table_makes_a_page():
    page = markdown(table([]), {}, {})
    assert "**0 claims: none judged.**" in page
    assert "of 0 at 95 %, about 0 miss" in page
