"""Sums over layers, against sums by hand; depths at which curves cross."""

import numpy as np
import pandas as pd
import pytest

import study
from study.statistics import summaries

NETS = [study.Network(name, depth, 16, 1.3) for name in ("tanh", "relu") for depth in (2, 6)]


@pytest.fixture(scope="module")
def frame():
    return study.profile(NETS, range(3), batch=2)


def networks(frame):
    return [df for _, df in frame.groupby(["activation", "depth", "seed"], sort=False)]


def test_gains_telescope(frame):
    decays = summaries.gains(frame).log10_gain.tolist()
    passed = summaries.gains(frame[frame.depth == 6], 1, 4).log10_gain.tolist()
    steps = frame.log10_derivative_factor + frame.log10_weight_factor
    every = networks(frame)
    np.testing.assert_allclose(decays, [steps[df.index].sum() for df in every], rtol=1e-12)
    inner = [steps[df.index[1:4]].sum() for df in every if len(df) == 6]
    np.testing.assert_allclose(passed, inner, rtol=1e-12)


def test_gains_need_the_layers_at_the_ends_alone(frame):
    ends = frame[(frame.layer == 0) | (frame.layer == frame.depth - 1)]
    pd.testing.assert_frame_equal(summaries.gains(ends), summaries.gains(frame))


def test_without_what_came_in_gains_need_every_layer(frame):
    factors = frame.drop(columns="log10_upstream_norm").sample(frac=1, random_state=0)
    whole = summaries.gains(frame).sort_index().log10_gain
    np.testing.assert_allclose(summaries.gains(factors).sort_index().log10_gain, whole, atol=1e-12)
    with pytest.raises(ValueError, match="leaves out layers"):
        summaries.gains(factors[factors.layer % 2 == 0])


def test_a_true_zero_is_lost_wherever_it_arose():
    weights = [np.eye(2), -np.eye(2), np.eye(2)]
    df = study.backpropagate(weights, np.ones((1, 2)), "relu", kink=0.0).assign(depth=3)
    for first, last, gain in ((0, None, -np.inf), (1, 2, -np.inf), (0, 1, -np.inf)):
        assert summaries.gains(df, first, last).log10_gain.tolist() == [gain]
    running = summaries.running_factors(df)
    assert (running.derivative + running.weights).iloc[0] == -np.inf
    assert not running[["derivative", "weights"]].isna().any(axis=None)


def test_running_and_mean_factors_are_sums_of_the_layers(frame):
    keys = ["activation", "depth", "seed"]
    running = summaries.running_factors(frame)
    means = summaries.mean_factors(frame, keys, 1, 4).set_index(keys)
    for df in networks(frame):
        own = running.loc[df.index]
        assert own.layers_passed.tolist() == list(range(len(df), 0, -1))
        mean = means.loc[tuple(df[keys].iloc[0])]
        inner = df[df.layer.between(1, 3)]
        for name, short in (("derivative", "derivative"), ("weights", "weight")):
            column = df[f"log10_{short}_factor"]
            assert own[name].iloc[0] == pytest.approx(column.sum(), rel=1e-12)
            assert own[name].iloc[-1] == column.iloc[-1]
            expected = column[inner.index].mean()
            assert mean[f"log10_{short}"] == pytest.approx(expected, rel=1e-12)
        assert mean.log10_derivative_largest == df.log10_derivative_factor.max()
        squares = 10 ** (2 * inner.log10_derivative_factor)
        assert mean.square_passed == pytest.approx(squares.mean(), rel=1e-12)


def test_a_straight_curve_crosses_where_it_should():
    depths = np.array([1, 2, 4, 8, 16])
    assert summaries.lost_at(depths, 0.5 * depths, 3.0) == (pytest.approx(6.0), False)
    assert summaries.lost_at(depths, 5.0 * depths, 3.0) == (pytest.approx(0.6), False)
    assert summaries.lost_at(depths, 0.1 * depths, 3.0) == (16.0, True)
    assert summaries.lost_at(depths, [0, 0, 0, np.inf, np.inf], 3.0) == (4.0, False)


def curves(rate):
    """Twelve networks that lose ``rate`` decades a layer, give or take."""
    rng = np.random.default_rng(0)
    rates = rate * rng.uniform(0.99, 1.01, 12)
    rows = [(d, seed, -rates[seed] * d) for seed in range(12) for d in (1, 4, 16, 64)]
    return pd.DataFrame(rows, columns=["depth", "seed", "log10_decay"])


def test_depths_are_at_least_those_measured_and_rows_left_out_count_as_lost():
    found = summaries.median_lost_at(curves(1e-9), 3.0)
    assert (found.value, found.low, found.high) == (64, 64, np.inf)
    whole = curves(0.2)
    cut = whole[whole.log10_decay.abs() < 7]
    assert len(cut) < len(whole)
    assert summaries.median_lost_at(cut, 3.0) == summaries.median_lost_at(whole, 3.0)
    assert summaries.median_lost_at(whole, 3.0).value == pytest.approx(15, rel=0.02)


def test_the_critical_scale_is_between_the_signs_or_beyond_the_scales():
    scales = np.array([1.0, 2.0, 4.0])
    growth = np.array([-0.2, 0.1, 0.3])
    assert summaries.critical_scale(scales, growth) == pytest.approx(2 ** (2 / 3))
    assert summaries.critical_scale(scales[:1], growth[:1]) == np.inf
    assert summaries.critical_scale(scales[1:], growth[1:]) == 0
