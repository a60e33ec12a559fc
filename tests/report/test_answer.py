"""The page with the answer says of each claim what its verdict is; its code is run as a doctest."""

import re
from pathlib import Path

import pandas as pd

from study.statistics.claims import ABOUT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "answer.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([ABC]\d)\. .* \| ([\w ]+): \*(.+)\* \|$", PAGE, flags=re.M)


def test_every_verdict_of_the_answer_is_that_of_its_claim():
    claims = pd.read_csv(ROOT / "results" / "claims.csv", keep_default_na=False).set_index("claim")
    assert {part for part, _, _ in ROWS} == {*ABOUT} - {"", "saying"}
    for part, verdict, claim in ROWS:
        assert claims.verdict[claim] == verdict, claim
        assert claims.about[claim] in (part, ""), claim


def test_the_verdicts_that_fell_with_twice_the_steps_are_those_of_the_table():
    again = pd.read_csv(ROOT / "results" / "again" / "again.csv")
    assert f"{len(again)} verdicts were taken again" in PAGE
    assert f"{int(again.stood.sum())} of them stood" in PAGE
    fell = again[~again.stood]
    assert {*fell.claim} == {claim for claim in again.claim if f"| {claim} |" in PAGE}
    for row in fell.itertuples():
        ends = f"{row.verdict}, {row.estimate:.2g} | {row.verdict_again}, {row.estimate_again:.2g}"
        assert f"| `{row.experiment}` | {row.claim} | {ends} |" in PAGE
