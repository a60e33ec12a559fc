"""Estimators of the experiments, against scipy, closed forms and their own names."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.statistics import estimators
from study.statistics.claims import bootstrap_over_seeds, median_interval


def by_seed(values):
    return pd.Series(values, index=pd.Index(range(len(values)), name="seed"))


def test_medians_are_those_of_each_group_and_column():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"name": ["b", "a"] * 15, "x": rng.normal(size=30), "y": -np.inf})
    found = estimators.medians(frame, ["name"], ["x", "y"], "which")
    assert list(zip(found["name"], found.which, strict=True)) == [
        ("b", "x"), ("b", "y"), ("a", "x"), ("a", "y"),
    ]  # fmt: skip
    one = median_interval(frame.x[frame["name"] == "b"])
    assert found.loc[0, ["value", "low", "high"]].to_list() == [one.value, one.low, one.high]
    assert (found.value[found.which == "y"] == -np.inf).all()


def test_one_of_many_is_the_worst():
    found = estimators.worst(pd.Series([0.1, 9.0, 0.2, 0.3]), pd.Series([0, 0, 1, 2]))
    assert (found.value, found.low, found.high, found.n) == (9.0, 9.0, 9.0, 3)


def test_means_are_resampled_over_seeds():
    values = by_seed(np.random.default_rng(1).normal(3.0, 1.0, 20))
    found, plain = estimators.mean(values), stats.bootstrap((values,), np.mean, rng=2)
    assert found.value == pytest.approx(values.mean(), rel=1e-15)
    t = stats.t.interval(0.95, 19, values.mean(), values.std() / 20**0.5)
    np.testing.assert_allclose([found.low, found.high], t, atol=0.1)
    assert found.low < plain.confidence_interval.low + 0.1
    turned = estimators.mean(values, unit=-2.0)
    assert turned.value == pytest.approx(-found.value / 2, rel=1e-15)
    assert turned.low <= turned.value <= turned.high


def test_the_mean_square_of_numbers_outside_the_float_range():
    decades = by_seed(np.array([300.0, 300.0, 300.2, 300.2]))
    found = estimators.log10_mean_square(decades)
    assert found.value == pytest.approx(600 + math.log10((1 + 10**0.4) / 2), rel=1e-14)
    usual = by_seed(np.linspace(-0.5, 0.5, 9))
    plain = math.log10((100**usual).mean())
    assert estimators.log10_mean_square(usual).value == pytest.approx(plain, rel=1e-12)


def test_deviations_are_of_means_and_not_of_single_seeds():
    """Two columns whose means are 0 and -3, far from their noise."""
    noise = np.random.default_rng(2).normal(size=20)
    off = pd.DataFrame({"a": noise - noise.mean(), "b": noise - noise.mean() - 3}).rename_axis(
        "seed"
    )
    assert estimators.farthest(off).value == pytest.approx(3, rel=1e-12)
    assert estimators.root_mean_square(off).value == pytest.approx(3 / 2**0.5, rel=1e-12)
    long = off.reset_index()
    plain = bootstrap_over_seeds(long, lambda f: max(abs(f.a.mean()), abs(f.b.mean())))
    found = estimators.farthest(off)
    np.testing.assert_allclose([found.low, found.high], [plain.low, plain.high], rtol=1e-12)


def test_deaths_beside_those_expected():
    rng, chances = np.random.default_rng(3), np.full(2000, 0.3)
    found = estimators.happened(rng.random(2000) < chances, chances)
    assert found.low < 1 < found.high
    assert found.high - found.value == pytest.approx(1.96 * (0.7 / 0.3 / 2000) ** 0.5, rel=1e-12)
    assert estimators.happened(rng.random(2000) < chances / 2, chances).high < 1  # the control


def test_the_distance_is_kolmogorovs():
    values = np.random.default_rng(4).normal(size=300)
    places = stats.norm.cdf(values)
    expected = stats.kstest(values, "norm").statistic
    assert estimators.distance(places) == pytest.approx(expected, rel=1e-12)


def test_massarts_band_and_p_value_hold_for_the_right_law_and_not_for_a_wrong_one():
    rng = np.random.default_rng(5)
    kinds = [rng.random(300) for _ in range(40)]
    bands = [estimators.distance_interval(own) for own in kinds]
    # The band covers the true distance, 0.
    assert sum(band.low > 0 for band in bands) <= 4
    assert estimators.least_p_value(kinds).value > 0.05
    exact = stats.kstest(kinds[0], "uniform").pvalue
    assert estimators.least_p_value(kinds[:1]).value >= exact
    wrong = [*kinds, rng.random(300) ** 1.4]
    assert estimators.least_p_value(wrong).value < 1e-3
    assert estimators.distance_interval(rng.random(300) ** 1.4).low > 0
