"""The page with the answer says of each claim what its verdict is; its code is run as a doctest."""

import re
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "answer.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [ABC]\. .* \| (\w+): \*(.+)\* \|$", PAGE, flags=re.M)


def test_every_verdict_of_the_answer_is_that_of_its_claim():
    verdicts = pd.read_csv(ROOT / "results" / "claims.csv").set_index("claim").verdict
    assert len(ROWS) >= 8
    for verdict, claim in ROWS:
        assert verdicts[claim] == verdict, claim
