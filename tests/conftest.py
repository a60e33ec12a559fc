"""Every test runs with NumPy's floating-point errors raised, underflow included; toys to run."""

import functools
import importlib
import math
import os
import sys

import hypothesis
import matplotlib
import numpy as np
import pytest
from toyhouse import TOY, Typed, build, stop_all

from study.core.activations import TABLE

matplotlib.use("Agg")
# No test needs an idle machine, or fails on one day of many; `make nightly` looks wider.
hypothesis.settings.register_profile("study", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=400)
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


@pytest.fixture(scope="session")
def torch():
    """torch, or a skip; an error where STUDY_WITNESSES=all asks for every witness."""
    if os.environ.get("STUDY_WITNESSES") == "all":
        import torch
    else:
        torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def torch_phi(torch):
    """From the name of a row to torch's function."""
    functions = {
        "linear": lambda z: z,
        "softplus": lambda z: torch.nn.functional.softplus(z, threshold=700),
        "erf": lambda z: torch.erf(math.sqrt(math.pi) / 2 * z),
    }
    for row in TABLE.values():
        if row.torch:
            function = getattr(torch.nn.functional, row.torch)
            functions.setdefault(row.name, functools.partial(function, **dict(row.parameters)))
    return functions
