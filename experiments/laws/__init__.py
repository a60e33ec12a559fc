"""The laws of the field, side by side: what papers state, held against networks.

What a law says stands in ``laws.toml``; what theory expects and how it is measured, under its name
in the ``LAWS`` of a module beside it; ``law`` says how it is judged. What cannot fail, an identity
or a bound, is a test and no law, and neither is the square root of another law.

>>> TEXTS["tanh chaos"]["statement"]
'Tanh is chaotic above sigma_w = 1: the gradient explodes by chi'
"""

import functools
import importlib
import tomllib
from importlib import resources

import pandas as pd

from experiments.laws.law import COLUMNS, ESTIMATES, TABLE, Law, critical_score
from experiments.laws.page import figure, page
from study.runs.experiment import Experiment

_GROUPS = (
    "finite_width", "mean_field", "jacobians", "architectures", "blocks", "precision", "attention",
)  # fmt: skip

# What each law says, by its name, in the order of the table.
TEXTS = tomllib.loads(resources.files(__name__).joinpath("laws.toml").read_text("utf-8"))


@functools.cache
def laws() -> dict[str, Law]:
    """The laws by name, imported once one is measured: their theory takes a second."""
    modules = [importlib.import_module(f"{__name__}.{group}") for group in _GROUPS]
    return {name: law for module in modules for name, law in module.LAWS.items()}


def critical() -> float:
    """The score that none of all laws' tests passes by chance; see `critical_score`."""
    return critical_score(sum(law.tests for law in laws().values()))


def measure(law: str, more: float) -> dict[str, pd.DataFrame]:
    """Measure and judge a law; ``more`` as in `Law.estimates`."""
    text = {"popular_reading": "", "of": "width"} | TEXTS[law]
    held = laws()[law]
    sizes = f"{text.pop('of')} {', '.join(map(str, held.sizes))}"
    estimates = held.estimates(more).assign(law=law)
    networks = int(estimates["freedom"].sum()) + len(estimates)
    row = {"law": law, "sizes": sizes, "networks": networks} | text
    row |= held.judged(estimates, critical())
    return {
        "laws": pd.DataFrame([row], columns=TABLE),
        "estimates": estimates[ESTIMATES],
    }


def cells(more: float) -> list[dict[str, str | float]]:
    """A cell a law."""
    return [{"law": name, "more": more} for name in TEXTS]


experiment = Experiment(
    question="Do networks obey the laws of the field, and would a wrong law be noticed?",
    grid={"quick": cells(1 / 16), "paper": cells(8)},
    measure=measure,
    figure=figure,
    page=page,
    columns=COLUMNS,
    version=3,
)
