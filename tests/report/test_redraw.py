"""The page of scripts: each redraws a figure from a committed CSV with pandas and seaborn alone."""

import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "redraw.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"^## (\w+): .*?```python\n(.*?)```", PAGE, flags=re.M | re.S))


def test_every_table_of_gradient_norms_has_a_script():
    tables = {path.parent.name for path in (ROOT / "results").glob("*/gradient_norms.csv")}
    assert set(SCRIPTS) == tables


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # seaborn's own
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_draws(name, tmp_path, monkeypatch):
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    script = SCRIPTS[name]
    assert len(ast.parse(script).body) <= 10
    assert "study" not in script.replace("results/", "")
    with np.errstate(all="ignore"):
        exec(script, {})
    plt.close("all")
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
