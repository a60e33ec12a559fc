"""The table of laws in one picture."""

import numpy as np
import pandas as pd
from scipy import stats

import study
from experiments.laws.law import FALSE_ALARM

NAMED = 3.0
"""Standard errors, beyond which a law is named."""


def figure(tables: dict[str, pd.DataFrame]):
    """How far the laws' numbers are from what networks have, in standard errors.

    Left: expected less measured, of the laws whose measurement has a statistical interval, with the
    standard normal law that they would follow if all held exactly at the size measured. Right: the
    laws that are off by more than 3 standard errors. Most are laws of a limit, of infinite width or
    depth, whose offset at finite size is resolved; the table states the tolerance of each.
    """
    chance = tables["laws"].query("random")
    errors = (chance.high - chance.low) / (2 * stats.norm.isf(FALSE_ALARM / 2))
    chance = chance.assign(z=(chance.expected - chance.measured) / errors)
    figure, [[left, right]] = study.plot.panels(1, 2, 3.0)
    reach = np.ceil(chance.z.abs().max())
    left.hist(chance.z, np.arange(-reach, reach + 1, 0.5), color="#0072B2", alpha=0.5)
    at = np.linspace(-4, 4, 99)
    left.plot(at, 0.5 * len(chance) * stats.norm.pdf(at), color="black", lw=1.1)
    left.set(xlabel="expected less measured (standard errors)", ylabel="laws")
    off = chance[chance.z.abs() > NAMED].sort_values("z")
    if len(off):
        study.plot.dots(off, "z", "law", ax=right)
        right.set_xlabel(left.get_xlabel())
    return figure
