"""Remedies: where a curve crosses, what theory expects."""

import math

import numpy as np
import pandas as pd
import pytest
from verdicts import committed

from experiments import remedies
from experiments.remedies.catalogue import CAPS, expected_decay, reach

DECADE = 2 * math.log(10)


@pytest.mark.parametrize(
    ("remedy", "log_factor"),
    [
        ("relu, PyTorch default", math.log(6)),
        ("relu, Xavier", math.log(2)),
        ("relu, residual", math.log(2)),
        ("selu, LeCun", 0.0691296),
        ("sigmoid, LeCun", -math.log(0.05572)),
    ],
)
def test_expected_depths_in_closed_form(remedy, log_factor):
    """3 decades of the norm at a constant factor of the squared one; half-octaves interpolated."""
    assert remedies.expected_depth(remedy) == pytest.approx(3 * DECADE / log_factor, rel=0.06)


@pytest.mark.parametrize(
    ("remedy", "factor", "first"),
    [("tanh, LayerNorm", 1.17781, 0.46441), ("relu, LayerNorm", 1.0, 0.5)],
)
def test_the_first_normalisation_divides_by_the_inputs_spread(remedy, factor, first):
    decay = (9 * math.log(factor) + math.log(first)) / DECADE
    assert expected_decay(remedy, 10) == pytest.approx(decay, rel=1e-4)


def test_what_theory_never_loses():
    for remedy in ("relu, residual × 1/√L", "relu, residual × 0", "relu, LayerNorm", "tanh, LeCun"):
        assert remedies.expected_depth(remedy) == np.inf
        assert reach(remedy) == CAPS[remedies.GROUP[remedy]]
    he = remedies.expected_depth("relu, He")  # 5/2n a layer at width 256
    assert he == pytest.approx(3 * DECADE / 0.00982866, rel=0.01)
    assert remedies.expected_depth(remedies.CLIPPED) == remedies.expected_depth("sigmoid, LeCun")


def test_schedules_that_depend_on_depth_are_not_cut_short():
    for depth in (3, 700):
        decay = expected_decay("relu, residual × 1/√L", depth)
        assert decay == pytest.approx(depth * math.log1p(1 / depth) / DECADE, rel=1e-12)


def test_networks_decay_as_theory_says():
    tables = [remedies.measure("random", seed, [4, 6, 8]) for seed in range(3)]
    decays, kept, clips = (
        pd.concat([table[name] for table in tables]) for name in ("decays", "remedies", "clipping")
    )
    median = decays[decays.depth == 8].groupby("remedy").log10_decay.median()
    for remedy in ("relu, Xavier", "relu, BatchNorm", "tanh, PyTorch default"):
        expected = expected_decay(remedy, 8)
        assert abs(median[remedy] - expected) < 0.25
        assert abs(median[remedy] - 2 * expected) > 0.25  # the control
    assert (decays[decays.remedy == "relu, residual × 0"].log10_decay.abs() < 1e-6).all()
    assert (clips.clip_factor < 1).all()  # it does clip
    assert clips.ratio_change.max() < 1e-12  # and changes no ratio
    assert set(kept.remedy) == set(remedies.GROUP)
    censored = kept.groupby("remedy").censored.agg(["all", "any"])
    assert censored["all"]["relu, residual × 0"]
    assert not censored["any"]["sigmoid, PyTorch default"]


def test_depths_that_are_not_theorys_are_named():
    rows = committed("remedies")["remedies"].assign(depth_kept=20.0, censored=False)
    rows["expected_depth"] = np.where(rows.remedy == "relu, He", 30.0, 20.0)
    assert remedies.misses({"remedies": rows}) == {"relu, He"}
    rows["censored"] = True  # none was lost
    assert remedies.misses({"remedies": rows}) == set(remedies.GROUP)
