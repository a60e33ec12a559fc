"""The reference has every public name, and every name has an example; versions agree."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import study
from study.runs.experiment import discover, question

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.rst"))


def documented():
    """Every name of the reference, as module and name."""
    found = []
    for page in PAGES:
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
