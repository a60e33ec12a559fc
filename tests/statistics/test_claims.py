"""A verdict is what the interval says, both ways; and the interval covers what it says."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from study.statistics.claims import (
    COLUMNS,
    Claim,
    Estimate,
    above,
    below,
    judge_all,
    median_interval,
    verdict,
    within,
)
from study.statistics.estimators import resampled


def claim(name, statement, threshold, judge=lambda tables: None, **more):
    return Claim(name=name, statement=statement, threshold=threshold, judge=judge, **more)


@pytest.mark.parametrize(
    ("threshold", "low", "high", "expected"),
    [
        (below(1.0), 0.5, 0.9, "supported"),
        (below(1.0), 1.1, 1.5, "refuted"),
        (below(1.0), 0.9, 1.1, "inconclusive"),
        (below(1.0), 0.5, 1.0, "inconclusive"),
        (below(1.0), -math.inf, -math.inf, "supported"),
        (above(1.0), 1.1, 1.5, "supported"),
        (above(1.0), 0.5, 0.9, "refuted"),
        (above(1.0), 1.1, math.inf, "supported"),
        (above(1.0), -math.inf, -math.inf, "refuted"),
        (within(0.9, 1.1), 0.95, 1.05, "supported"),
        (within(0.9, 1.1), 0.1, 0.2, "refuted"),
        (within(0.9, 1.1), 0.8, 1.0, "inconclusive"),
    ],
)
def test_the_verdict_is_what_the_interval_says(threshold, low, high, expected):
    value = (low + high) / 2 if low > -math.inf else low
    assert verdict(Estimate(value, low, high, 20), threshold) == expected


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (-math.inf, math.inf), (math.nan, 1)])
def test_a_threshold_that_divides_nothing_is_refused(bounds):
    with pytest.raises(ValueError, match="threshold"):
        within(*bounds)


@pytest.mark.parametrize("numbers", [(math.nan, 0, 1), (0, math.nan, 1), (0, 1, 0)])
def test_an_estimate_that_is_no_interval_is_refused(numbers):
    with pytest.raises(ValueError, match="estimate"):
        Estimate(*numbers, 20)


def paired(rng, seeds=20, networks=12, mean=0.0):
    """Rows of networks that share the weights of their seed: most of the noise is the seed's."""
    shared = rng.normal(mean, 1.0, seeds)[:, None]
    values = shared + rng.normal(0.0, 0.2, (seeds, networks))
    return pd.Series(values.ravel(), index=np.repeat(np.arange(seeds), networks))


def test_the_interval_over_seeds_covers_and_the_one_over_rows_does_not():
    rng = np.random.default_rng(7)
    covered, covered_by_rows = 0, 0
    for trial in range(100):
        rows = paired(rng)
        found = resampled(rows, np.mean, resamples=200)
        covered += found.low <= 0.0 <= found.high
        if trial >= 25:
            continue
        wrong = resampled(rows.reset_index(drop=True), np.mean, resamples=200)
        covered_by_rows += wrong.low <= 0.0 <= wrong.high
    # Of 100 trials at 95 %, fewer than 88 happens once in a thousand.
    assert covered >= 88
    assert covered_by_rows < 15


def test_a_seed_drawn_twice_counts_as_two():
    rows = paired(np.random.default_rng(1), seeds=5)
    sizes = set()
    resampled(rows, lambda sample: sizes.add(sample.shape) or 0.0, resamples=50)
    assert sizes == {(60,)}


def test_the_interval_repeats_itself_and_leaves_the_rows_alone():
    rows = paired(np.random.default_rng(2)).sample(frac=1, random_state=3)
    before = rows.copy()
    assert resampled(rows, np.mean) == resampled(rows, np.mean)
    pd.testing.assert_series_equal(rows, before)


def test_true_zeros_give_an_interval_and_nan_an_error():
    rows = pd.Series([-math.inf] * 6 + [-3.0, -2.0])
    found = resampled(rows, np.median)
    assert found.value == found.low == -math.inf
    with pytest.raises(ValueError, match="NaN"):
        resampled(rows, lambda x: math.nan)
    with pytest.raises(ValueError, match="seed has 1 different values; allowed: at least 2"):
        resampled(rows.head(1), np.sum)


def test_judging_an_experiment_goes_both_ways():
    def judge(tables):
        return resampled(tables["t"], np.mean)

    claims = [
        claim("falls", "The mean of x is negative.", below(0.0), judge),
        claim("rises", "The mean of x is positive.", above(0.0), judge),
    ]
    experiment = SimpleNamespace(name="toy", claims=claims)
    rng = np.random.default_rng(4)
    for mean, expected in [
        (-5.0, ["supported", "refuted"]),
        (5.0, ["refuted", "supported"]),
        (0.0, ["inconclusive", "inconclusive"]),
    ]:
        table = judge_all(experiment, {"t": paired(rng, mean=mean)})
        assert list(table.columns) == list(COLUMNS)
        assert table["verdict"].tolist() == expected
        assert table["n_seeds"].tolist() == [20, 20]
    assert table["threshold"].tolist() == ["below 0", "above 0"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.4, "negligible"),  # certain, and too small
        (-0.4, -0.1, "negligible"),  # the other way
        (-0.4, 0.4, "negligible"),
        (0.1, 0.6, "supported"),
        (-0.6, 0.6, "inconclusive"),
        (0.6, 0.9, "supported"),
        (-0.9, -0.6, "refuted"),
    ],
)
def test_an_effect_that_would_not_matter_is_negligible(low, high, expected):
    estimate = Estimate((low + high) / 2, low, high, 20)
    assert verdict(estimate, above(0), negligible=within(-0.5, 0.5)) == expected


@pytest.mark.parametrize("learned", [0.0, 0.49])
def test_of_networks_that_did_not_train_nothing_else_is_said(learned):
    assert verdict(Estimate(math.nan, -1, 1, 10, learned), above(0)) == "did not train"
    assert verdict(Estimate(2, 1, 3, 10, learned), above(0)) == "did not train"
    assert verdict(Estimate(2, 1, 3, 10, learned=0.5), above(0)) == "supported"
    with pytest.raises(ValueError, match="estimate = 'nan"):
        Estimate(math.nan, -1, 1, 10)


def levels(*values):
    """What the claims that medians of 40 seeds are above 0 come to; by the level of each."""
    claims = [
        claim(str(i), "…", above(0), lambda tables, x=x: median_interval(tables["t"].x + x))
        for i, x in enumerate(values)
    ]
    frame = pd.DataFrame({"x": np.random.default_rng(0).normal(size=40)})
    table = judge_all(SimpleNamespace(name="toy", claims=claims), {"t": frame})
    return table.level.round(6).tolist(), table.verdict.tolist()


def test_the_claims_of_an_experiment_share_an_error_as_holm_has_it():
    assert levels(9.0) == ([0.95], ["supported"])
    assert levels(9.0, -9.0, 0.0) == (
        [round(1 - 0.05 / 3, 6)] * 2 + [0.95],
        ["supported", "refuted", "inconclusive"],
    )
    assert levels(0.0, 0.0) == ([0.975] * 2, ["inconclusive"] * 2)


def test_a_claim_alone_is_decided_that_is_not_among_many():
    edge = -median_interval(np.random.default_rng(0).normal(size=40)).low + 1e-6
    assert levels(edge) == ([0.95], ["supported"])
    assert levels(edge, *[0.0] * 9)[1][0] == "inconclusive"


def test_a_claim_needs_a_threshold_and_is_about_something_that_the_study_knows():
    assert claim("A", "…", below(0.0), about="saying", source="B 2000").about == "saying"
    for about, source in (("saying", ""), ("A1", "B 2000")):
        with pytest.raises(ValueError, match=r"source of claim 'A' = "):
            claim("A", "…", below(0.0), about=about, source=source)
    with pytest.raises(ValueError, match=r"about of claim 'A' = 'D'; allowed: "):
        claim("A", "…", below(0.0), about="D")
    with pytest.raises(ValueError, match=r"threshold of claim 'A' = 0\.25"):
        claim("A", "…", 0.25)
