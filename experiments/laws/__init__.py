"""The laws of the field, side by side: what papers state, held against networks.

What a law says stands in ``laws.toml``; how it is measured, under its name in the ``MEASURES`` of a
module beside it; ``law`` says how it is judged. What cannot fail, an identity or a bound, is a test
and no law, and neither is the square root of another law.

>>> LAWS["tanh chaos"]["statement"]
'Tanh is chaotic above sigma_w = 1: the gradient explodes by chi'
"""

import tomllib
from importlib import resources

import pandas as pd

from experiments.laws import blocks, finite_width, jacobians, mean_field, precision
from experiments.laws.figure import figure
from experiments.laws.law import COLUMNS, judged
from experiments.laws.page import page
from study.runs.experiment import Experiment

_GROUPS = (finite_width, mean_field, jacobians, blocks, precision)
MEASURES = {name: measure for group in _GROUPS for name, measure in group.MEASURES.items()}

LAWS = tomllib.loads(resources.files(__name__).joinpath("laws.toml").read_text("utf-8"))
"""What each law says, by its name, in the order of the table."""


def measure(law: str, more: int) -> dict[str, pd.DataFrame]:
    """Measure and judge a law, on ``more`` times as many networks as in the quick preset."""
    row = {"law": law, "popular_reading": ""} | LAWS[law] | judged(MEASURES[law](more))
    return {"laws": pd.DataFrame([row], columns=list(COLUMNS))}


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
