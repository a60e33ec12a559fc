"""Modules whose libraries are missing are not collected; each example has figures of its own."""

import importlib.util
import sys

import pytest

collect_ignore = [] if importlib.util.find_spec("torch") else ["study/torch"]
collect_ignore += [
    f"study/torch/{name}.py"
    for name in ("lightning", "transformers")
    if not importlib.util.find_spec(name)
]


@pytest.fixture(autouse=True)
def figures_are_closed():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
