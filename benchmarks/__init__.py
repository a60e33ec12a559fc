"""Speed, and what the bridge costs and brings, measured by hand."""

import re
from collections.abc import Sequence
from pathlib import Path


def insert(page: str, place: str, lines: Sequence[str]) -> None:
    """Write a table into a page of docs/, between ``<!-- place -->`` and ``<!-- end -->``."""
    path = Path(__file__).parents[1] / "docs" / page
    new = "\n".join([f"<!-- {place} -->", *lines, "<!-- end -->"])
    text = path.read_text(encoding="utf-8")
    text = re.sub(f"<!-- {place} -->.*?<!-- end -->", lambda _: new, text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")
