"""The laws of the field, side by side: what papers state, held against networks.

What a law says stands in ``laws.toml``; what theory expects and how it is measured, under its name
in the ``LAWS`` of a module beside it; ``law`` says how it is judged. What cannot fail, an identity
or a bound, is a test and no law, and neither is the square root of another law.

>>> TEXTS["tanh chaos"]["statement"]
'Tanh is chaotic above sigma_w = 1: the gradient explodes by chi'
"""

import tomllib
from importlib import resources

import pandas as pd

from experiments.laws import (
    architectures,
    attention,
    blocks,
    finite_width,
    jacobians,
    mean_field,
    precision,
)
from experiments.laws.law import COLUMNS, ESTIMATES, TABLE, critical_score
from experiments.laws.page import figure, page
from study.runs.experiment import Experiment

_GROUPS = (finite_width, mean_field, jacobians, architectures, blocks, precision, attention)
LAWS = {name: law for group in _GROUPS for name, law in group.LAWS.items()}

# What each law says, by its name, in the order of the table.
TEXTS = tomllib.loads(resources.files(__name__).joinpath("laws.toml").read_text("utf-8"))

TESTS = sum(law.tests for law in LAWS.values())
CRITICAL = critical_score(TESTS)


def measure(law: str, more: float) -> dict[str, pd.DataFrame]:
    """Measure and judge a law; ``more`` as in `Law.estimates`."""
    text = {"popular_reading": "", "of": "width"} | TEXTS[law]
    sizes = f"{text.pop('of')} {', '.join(map(str, LAWS[law].sizes))}"
    estimates = LAWS[law].estimates(more).assign(law=law)
    networks = int(estimates["freedom"].sum()) + len(estimates)
    row = {"law": law, "sizes": sizes, "networks": networks} | text
    row |= LAWS[law].judged(estimates, CRITICAL)
    return {
        "laws": pd.DataFrame([row], columns=TABLE),
        "estimates": estimates[ESTIMATES],
    }


def cells(more: float) -> list[dict[str, str | float]]:
    """A cell a law."""
    return [{"law": name, "more": more} for name in LAWS]


experiment = Experiment(
    question="Do networks obey the laws of the field, and would a wrong law be noticed?",
    grid={"quick": cells(1 / 16), "paper": cells(8)},
    measure=measure,
    figure=figure,
    page=page,
    columns=COLUMNS,
    version=3,
)
