"""Estimators of the experiments, against scipy and closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study.statistics import estimators
from study.statistics.claims import below, median_interval, verdict


def by_seed(values):
    return pd.Series(values, index=pd.Index(range(len(values)), name="seed"))


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 20, 64, 101])
def test_the_interval_of_the_median_is_scipys_and_below_six_values_the_range(count):
    values = np.random.default_rng(count).normal(size=count)
    found = median_interval(values)
    scipys = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    expected = scipys if count > 5 else (values.min(), values.max())
    assert (found.low, found.high) == tuple(expected)
    assert found.value == np.median(values)


def test_of_no_values_nothing_is_said_and_of_nan_values_neither():
    assert verdict(median_interval([]), below(0)) == "did not train"
    with pytest.raises(ValueError, match="estimate"):
        median_interval([1.0, np.nan])


def test_medians_are_those_of_each_group():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"name": ["b", "a"] * 15, "x": rng.normal(size=30), "y": -np.inf})
    for sort, names in ((False, ["b", "a"]), (True, ["a", "b"])):
        found = estimators.medians(frame, ["name"], "x", sort)
        assert found["name"].tolist() == names
        at = [median_interval(frame.x[frame["name"] == name]) for name in names]
        assert found["value"].tolist() == [one.value for one in at]
        assert found[["low", "high"]].to_numpy().tolist() == [[one.low, one.high] for one in at]
    assert (estimators.medians(frame, ["name"], "y")["value"] == -np.inf).all()


def test_means_are_resampled_over_seeds():
    values = by_seed(np.random.default_rng(1).normal(3.0, 1.0, 20))
    found, plain = estimators.mean(values), stats.bootstrap((values,), np.mean, rng=2)
    assert found.value == pytest.approx(values.mean(), rel=1e-15)
    t = stats.t.interval(0.95, 19, values.mean(), values.std() / 20**0.5)
    np.testing.assert_allclose([found.low, found.high], t, atol=0.1)
    assert found.low < plain.confidence_interval.low + 0.1


def test_deviations_are_of_means_and_not_of_single_seeds():
    """Two columns whose means are 0 and -3, far from their noise."""
    noise = np.random.default_rng(2).normal(size=20)
    off = pd.DataFrame({"a": noise - noise.mean(), "b": noise - noise.mean() - 3})
    off = off.rename_axis("seed")
    assert estimators.root_mean_square(off).value == pytest.approx(3 / 2**0.5, rel=1e-12)
