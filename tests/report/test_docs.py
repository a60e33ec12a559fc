"""The pages of the docs hold what they say: the answer, scripts that redraw, the reference.

The answer says of each claim what its verdict is; each script redraws a figure from a committed CSV
with pandas and seaborn alone; the reference has every public name, and every name has an example.
"""

import ast
import importlib
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from toyhouse import ROOT

import study
from study.runs.experiment import discover, question
from study.statistics.claims import ABOUT

ANSWER = (ROOT / "docs" / "answer.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([ABC]\d)\. .* \| ([\w ]+): \*(.+)\* \|$", ANSWER, flags=re.M)
REDRAW = (ROOT / "docs" / "redraw.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"^## (\w+): .*?```python\n(.*?)```", REDRAW, flags=re.M | re.S))
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.rst"))


def test_every_verdict_of_the_answer_is_that_of_its_claim():
    claims = pd.read_csv(ROOT / "results" / "claims.csv", keep_default_na=False).set_index("claim")
    assert {part for part, _, _ in ROWS} == {*ABOUT} - {"", "saying"}
    for part, verdict, claim in ROWS:
        assert claims.verdict[claim] == verdict, claim
        assert claims.about[claim] in (part, ""), claim


def test_the_verdicts_that_fell_with_twice_the_steps_are_those_of_the_table():
    again = pd.read_csv(ROOT / "results" / "again" / "again.csv")
    assert f"{len(again)} verdicts were taken again" in ANSWER
    assert f"{int(again.stood.sum())} of them stood" in ANSWER
    fell = again[~again.stood]
    assert {*fell.claim} == {claim for claim in again.claim if f"| {claim} |" in ANSWER}
    for row in fell.itertuples():
        ends = f"{row.verdict}, {row.estimate:.2g} | {row.verdict_again}, {row.estimate_again:.2g}"
        assert f"| `{row.experiment}` | {row.claim} | {ends} |" in ANSWER


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


def documented():
    """Every name of the reference, as module and name."""
    found = []
    for page in REFERENCE:
        module = ""
        for kind, name in re.findall(r"^\.\. (\w+):: (\S+)$", page.read_text(), flags=re.M):
            if kind == "currentmodule":
                module = name
            elif kind in ("autofunction", "autoclass", "autodata"):
                found.append((module, name))
    return found


@pytest.mark.parametrize("module", ["study", "study.plot", "study.theory", "study.torch"])
def test_the_reference_has_every_public_name(module):
    if module == "study.torch":
        pytest.importorskip("torch")
    package = importlib.import_module(module)
    names = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
    assert names <= {name for of, name in documented() if of == module}
    modules = {f"{module}.{name}" for name in set(package.__all__) - names}
    assert modules <= {of for of, _ in documented()} | {"study.plot", "study.theory"}


def test_every_name_has_an_example():
    found = documented()
    assert len(found) > 60
    for module, name in found:
        if module == "study.torch":
            pytest.importorskip("torch")
        thing = getattr(importlib.import_module(module), name)
        if callable(thing):
            assert ">>>" in inspect.getdoc(thing), f"{module}.{name}"


def test_every_experiment_stands_on_its_page_with_its_question():
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for name in discover():
        assert f"| `{name}` | {question(name)} |" in page


def test_the_version_is_one():
    for page in ("CITATION.cff", "docs/cite.md", "CHANGELOG.md"):
        assert study.__version__ in (ROOT / page).read_text(encoding="utf-8")
