"""The laws of the field, side by side: what papers state, held against networks.

What a law says stands in ``laws.toml``, how it is measured under its name in a module a group of
laws: ``MEASURES``, from how many times as many networks as in the quick preset to a `Finding`.
``law`` says how it is judged.

>>> from experiments.laws import LAWS
>>> LAWS["tanh chaos"].statement
'Tanh is chaotic above sigma_w = 1: the gradient explodes by chi'
"""

from __future__ import annotations

import tomllib
from importlib import resources

import pandas as pd

from experiments.laws import (
    finite_width,
    jacobians,
    mean_field,
    normalised,
    precision,
    residual,
    shattered,
    training,
)
from experiments.laws.figure import figure
from experiments.laws.law import COLUMNS, Law
from experiments.laws.page import page
from study.runs.experiment import Experiment

_GROUPS = (
    finite_width,
    mean_field,
    jacobians,
    normalised,
    residual,
    shattered,
    precision,
    training,
)
MEASURES = {name: measure for group in _GROUPS for name, measure in group.MEASURES.items()}

_TEXTS = tomllib.loads(resources.files(__name__).joinpath("laws.toml").read_text("utf-8"))

LAWS = {name: Law(name=name, measure=MEASURES[name], **text) for name, text in _TEXTS.items()}
"""By name, in the order of the table."""


def measure(law: str, more: int) -> dict[str, pd.DataFrame]:
    """Measure and judge a law, on ``more`` times as many networks as in the quick preset."""
    return {"laws": pd.DataFrame([LAWS[law].row(more)])}


def cells(more: int) -> list[dict[str, str | int]]:
    """A cell a law."""
    return [{"law": name, "more": more} for name in LAWS]


experiment = Experiment(
    question="Do networks obey the laws of the field, and would a wrong law be noticed?",
    grid={"quick": cells(1), "paper": cells(6)},
    measure=measure,
    figure=figure,
    page=page,
    columns=COLUMNS,
)
