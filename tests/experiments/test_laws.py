"""The table of laws: every law agrees, every wrong number is flagged, false alarms are rare."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments.laws import LAWS, table
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
from study.plot.old import laws as plotting

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


def named(*names):
    return [law for law in LAWS if law.name in names]


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name.replace(" ", "_"))
def test_law_agrees_and_its_control_is_flagged(law):
    found = law.measure(1)
    assert found.agrees(found.expected)
    assert not found.agrees(found.wrong)


@pytest.mark.parametrize("law", named(*CHEAP), ids=lambda law: law.name.replace(" ", "_"))
def test_cheap_laws_end_to_end(law):
    found = law.measure(1)
    assert found.agrees(found.expected)
    assert not found.agrees(found.wrong)


def test_the_cheap_laws_are_in_the_table():
    assert len(named(*CHEAP)) == len(CHEAP)


# --- Judges, on samples whose law is known -----------------------------------------------------


def judged(rng):
    """Every judge on a fresh sample, its wrong number 5 % off where the statistic can see that."""
    x = rng.normal(2.0, 1.0, 8000)
    return (
        mean_of(x, 2.0, 2.0 * OFF),
        median_of(x, 2.0, 2.0 * OFF),
        variance_of(rng.normal(2.0, 1.0, 40_000), 1.0, OFF),
        share_of(int((rng.random(40_000) < 0.4).sum()), 40_000, 0.4, 0.4 * OFF),
        every(rng.uniform(1.99, 2.01, 20), 2.0, 2.0 * OFF, tolerance=0.02),
    )


@pytest.mark.parametrize("seed", range(20))
def test_judges_tell_right_from_wrong(seed):
    for found in judged(np.random.default_rng(seed)):
        assert found.agrees(found.expected)
        assert not found.agrees(found.wrong)


def test_intervals_raise_false_alarms_as_often_as_they_say(monkeypatch):
    """At a level at which false alarms can be counted: 5 %, of 1000 samples."""
    monkeypatch.setattr("experiments.laws.law.FALSE_ALARM", 0.05)
    rng, alarms = np.random.default_rng(5), np.zeros(4)
    for _ in range(1000):
        x = rng.normal(0.0, 2.0, 25)
        alarms += [
            not mean_of(x, 0.0, 1.0).agrees(0.0),
            not variance_of(x, 4.0, 1.0).agrees(4.0),
            not median_of(x, 0.0, 1.0).agrees(0.0),
            not share_of(int((rng.random(100) < 0.1).sum()), 100, 0.1, 1.0).agrees(0.1),
        ]
    exact, conservative = alarms[:2], alarms[2:]
    assert np.all(np.abs(exact - 50) < 28)  # four standard deviations
    assert np.all(conservative < 78)


def test_tolerance_widens_the_interval_and_no_more():
    x = np.random.default_rng(1).normal(2.0, 0.01, 1000)
    assert not mean_of(x, 2.1, 3.0, tolerance=0.05).agrees(2.1)
    assert mean_of(x, 2.1, 3.0, tolerance=0.11).agrees(2.1)


def test_every_network_must_be_within_the_tolerance():
    assert not every(np.array([0.0, 5.0]), 0.0, 1.0, tolerance=1.0).agrees(0.0)
    assert every(np.array([0.0, 0.5]), 0.0, 9.0, tolerance=1.0).agrees(0.0)


def test_shares_at_the_ends_have_one_sided_intervals():
    none, all_ = share_of(0, 1000, 0.0, 0.5), share_of(1000, 1000, 1.0, 0.5)
    assert none.estimate.low == 0 < none.estimate.high < 0.02
    assert 0.98 < all_.estimate.low < 1 == all_.estimate.high


# --- The family --------------------------------------------------------------------------------


def test_family_of_laws_rarely_raises_a_false_alarm():
    assert len(LAWS) * FALSE_ALARM < 1.2e-3  # all of them, chance or none
    frame = pd.DataFrame({"random": [True, False, True]})
    assert table.false_alarms(frame) == pytest.approx(2 * FALSE_ALARM)


def test_laws_are_named_once_and_say_what_they_are():
    assert len({law.name for law in LAWS}) == len(LAWS)
    for law in LAWS:
        assert all((law.paper, law.statement, law.regime, law.control))


def test_seeds_that_judge_are_fresh():
    assert list(seeds(3)) == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert FIRST_SEED >= 10_000


# --- The table, its page and its figure --------------------------------------------------------


@pytest.fixture(scope="module")
def frame():
    with np.errstate(all="warn"):
        return table.measure(1, named(*CHEAP), workers=1)


def test_the_numbers_do_not_depend_on_the_processes(frame):
    few, lines = named("clipping", "batch norm scale", "zero branches"), []
    other = table.measure(1, few, lines.append, workers=2)
    names = [law.name for law in few]
    alone = frame[frame.law.isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, other, check_exact=True)
    assert lines == [table.line(row) for row in other.to_dict("records")]


def test_table_and_page(tmp_path, frame):
    path = table.write(frame, tmp_path, "quick")
    assert "zero branches" in path.read_text()
    page = table.markdown(frame)
    assert "8 of 8 laws agree, 8 of 8 negative controls are flagged" in page
    assert "## Zhang et al. 2019 (Fixup)" in page
    assert "- *skip connections prevent exploding gradients*? De & Smith 2020" in page
    rows = [line.replace("\\|", "") for line in page.splitlines() if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {6}


def test_a_law_that_fails_is_counted_and_refutes_nothing(frame):
    bad = frame.assign(verdict="disagrees")
    assert "0 of 8 laws agree" in table.summary(bad)
    assert "*skip connections" not in table.markdown(bad)
    missed = frame.assign(control_verdict="missed")
    assert "0 of 8 negative controls" in table.summary(missed)


def test_the_figure_places_numbers_as_the_judges_do(frame):
    for row in frame.itertuples():
        assert abs(plotting._distance(row, row.expected)) <= 1
        assert abs(plotting._distance(row, row.control_expected)) > 1


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("number", [0.0, 0.9, 1.0, 1.29, 1.31, 2.0])
def test_distances_are_the_judges_rule(random, number):
    """Measured 1.0 in [0.9, 1.2], tolerance 0.1: for every network, from 1.1 to 1.0."""
    for tolerance in (0.1, 0.35):
        values = {"measured": 1.0, "low": 0.9, "high": 1.2, "tolerance": tolerance}
        row = next(pd.DataFrame([values | {"random": random}]).itertuples())
        low, high = (0.9, 1.2) if random else (1.2, 0.9)
        inside = low - tolerance <= number <= high + tolerance
        assert (abs(plotting._distance(row, number)) <= 1) == inside


def test_the_figure_is_drawn(frame):
    many = pd.concat([frame.assign(paper=f"paper {i}") for i in range(4)])
    for rows, columns in ((frame, 1), (many, 2)):
        figure = plotting.theory_against_measurement(rows, table.summary(rows))
        assert len(figure.axes) == columns
        plt.close(figure)
