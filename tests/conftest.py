"""Every test runs with NumPy's floating-point errors raised, underflow included; toys to run."""

import importlib
import sys

import hypothesis
import matplotlib
import numpy as np
import pytest
from toyhouse import TOY, Typed, build, stop_all

matplotlib.use("Agg")
# No test depends on the machine being idle.
hypothesis.settings.register_profile("study", deadline=None)
hypothesis.settings.load_profile("study")


@pytest.fixture(autouse=True)
def floating_point_errors_raise():
    with np.errstate(all="raise"):
        yield


@pytest.fixture(autouse=True)
def nothing_goes_on():
    yield
    stop_all()


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("toy", None)
    yield importlib.import_module("toy")
    sys.modules.pop("toy", None)


@pytest.fixture
def house(tmp_path):
    """A folder with one experiment, the toy; a space and a letter beyond ASCII in its path."""
    return build(tmp_path / "a hoüse")


@pytest.fixture
def typed(house, monkeypatch, capsys):
    """Commands typed in the house, in this process; its cells do not pause."""
    (house / "experiments" / "toy.py").write_text(TOY.replace("pause=0.15", "pause=0.0"))
    typed = Typed(house, monkeypatch, capsys)
    yield typed
    typed.forget()
