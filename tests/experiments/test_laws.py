"""The laws: every law agrees, every wrong number is flagged, false alarms are rare."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments.laws import LAWS, MEASURES, experiment, law
from experiments.laws.law import (
    FALSE_ALARM,
    FIRST_SEED,
    OFF,
    every,
    mean_of,
    median_of,
    seeds,
    share_of,
    variance_of,
)
from experiments.laws.page import false_alarms, markdown, summary

CHEAP = (
    "zero branches",
    "undamped gradient",
    "batch norm scale",
    "step in proportion",
    "relu slope zero",
    "clipping",
    "euler unequal scales",
    "sigmoid norm bound",
)
"""One of each kind, a second together: they run with the fast tests."""


@pytest.fixture(scope="module")
def frame():
    """The rows of the cheap laws."""
    with np.errstate(all="warn"):
        return pd.concat([experiment.measure(name, 1)["laws"] for name in CHEAP], ignore_index=True)


def test_cheap_laws_agree_and_their_controls_are_flagged(frame):
    assert set(frame.verdict) == {"agrees"}
    assert set(frame.control_verdict) == {"flagged"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_law_agrees_and_its_control_is_flagged(name):
    row = LAWS[name].row(1)
    assert (row["verdict"], row["control_verdict"]) == ("agrees", "flagged")


# --- Judges, on samples whose law is known -----------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_judges_tell_right_from_wrong(seed):
    """Every judge on a fresh sample, its wrong number 5 % off where the statistic can see that."""
    rng = np.random.default_rng(seed)
    x = rng.normal(2.0, 1.0, 8000)
    for finding in (
        mean_of(x, 2.0),
        median_of(x, 2.0, 2.0 * OFF),
        variance_of(rng.normal(2.0, 1.0, 40_000), 1.0, OFF),
        share_of(int((rng.random(40_000) < 0.4).sum()), 40_000, 0.4, 0.4 * OFF),
        every(rng.uniform(1.99, 2.01, 20), 2.0, 2.0 * OFF, tolerance=0.02),
    ):
        assert finding.agrees(finding.expected)
        assert not finding.agrees(finding.wrong)


def test_intervals_raise_false_alarms_as_often_as_they_say(monkeypatch):
    """At a level at which false alarms can be counted: 5 %, of 1000 samples."""
    monkeypatch.setattr(law, "FALSE_ALARM", 0.05)
    rng = np.random.default_rng(5)
    alarms = np.zeros(4)
    for _ in range(1000):
        x = rng.normal(0.0, 2.0, 25)
        alarms += [
            not mean_of(x, 0.0).agrees(0.0),
            not variance_of(x, 4.0, 1.0).agrees(4.0),
            not median_of(x, 0.0, 1.0).agrees(0.0),
            not share_of(int((rng.random(100) < 0.1).sum()), 100, 0.1, 1.0).agrees(0.1),
        ]
    exact, conservative = alarms[:2], alarms[2:]
    assert np.all(np.abs(exact - 50) < 28)  # four standard deviations
    assert np.all(conservative < 78)


@pytest.mark.parametrize(
    ("widened", "agrees"),
    [
        ({"tolerance": 0.05}, False),
        ({"tolerance": 0.11}, True),
        ({"relative": 0.05 / 2.1}, False),
        ({"relative": 0.11 / 2.1}, True),
    ],
)
def test_tolerance_widens_the_interval_and_no_more(widened, agrees):
    x = np.random.default_rng(1).normal(2.0, 0.01, 1000)
    assert mean_of(x, 2.1, 3.0, **widened).agrees(2.1) == agrees


def test_every_network_must_be_within_the_tolerance():
    assert not every([0.0, 5.0], 0.0, 1.0, tolerance=1.0).agrees(0.0)
    assert every([0.0, 0.5], 0.0, 9.0, tolerance=1.0).agrees(0.0)


def test_shares_at_the_ends_have_one_sided_intervals():
    none = share_of(0, 1000, 0.0, 0.5).estimate
    assert none.low == 0 < none.high < 0.02
    all_of_them = share_of(1000, 1000, 1.0, 0.5).estimate
    assert 0.98 < all_of_them.low < 1 == all_of_them.high


# --- The family --------------------------------------------------------------------------------


def test_family_of_laws_rarely_raises_a_false_alarm():
    assert len(LAWS) * FALSE_ALARM < 1.2e-3  # all of them, chance or none
    assert false_alarms(pd.DataFrame({"random": [True, False, True]})) == 2 * FALSE_ALARM


def test_what_laws_say_and_how_they_are_measured_are_in_one_order():
    assert list(LAWS) == list(MEASURES)
    for stated in LAWS.values():
        assert all((stated.paper, stated.statement, stated.regime, stated.control))


def test_seeds_that_judge_are_fresh():
    assert list(seeds(3)) == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert FIRST_SEED >= 10_000


# --- The table, its page and its figure --------------------------------------------------------


def test_a_cell_is_a_law(frame):
    assert [cell["law"] for cell in experiment.cells("paper")] == list(LAWS)
    assert set(experiment.columns) == set(frame)


def test_page(frame):
    page = markdown(frame)
    assert "8 of 8 laws agree, 8 of 8 negative controls are flagged" in page
    assert "## Zhang et al. 2019 (Fixup)" in page
    assert "- *skip connections prevent exploding gradients*? De & Smith 2020" in page
    rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {6}


def test_a_law_that_fails_is_counted_and_refutes_nothing(frame):
    bad = frame.assign(verdict="disagrees")
    assert "0 of 8 laws agree" in summary(bad)
    assert "*skip connections" not in markdown(bad)
    assert "0 of 8 negative controls" in summary(frame.assign(control_verdict="missed"))


def test_the_figure_names_what_is_far_off(frame):
    far = frame.assign(random=True, low=frame.measured - 1, high=frame.measured + 1)
    far = far.assign(expected=far.measured + np.where(far.index == 2, 5.0, 0.1))
    drawn = experiment.figure({"laws": far})
    assert [text.get_text() for text in drawn.axes[1].get_yticklabels()] == [far.law[2]]
    plt.close(drawn)
