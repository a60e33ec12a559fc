"""The experiment on number formats, in pieces."""

import numpy as np
import pytest
from verdicts import changed, committed

import study
from experiments import precision
from study.arithmetic.rounded import FORMATS, Rounded, rounded_layers
from study.theory.gradient_norms import largest_of

FIRST_UNIT = np.array([[1.0, 0.0]])


@pytest.mark.parametrize(
    ("factor", "name", "lost", "norm_lost"),
    [
        # dC/dW^(0) has one entry, factor^(depth - 1): 2^-25, 2^-134 and 2^-150 round to 0
        (0.5, "float16", 26, 26),
        (0.5, "bfloat16", 135, 76),
        (0.5, "float32", 151, 76),
        (0.5, "float64", np.inf, 539),
        # the output is factor^depth, and the square of dC/dW^(0) is factor^(2 depth - 2)
        (2.0, "float16", 16, 16),
        (2.0, "bfloat16", 128, 65),
        (2.0, "float32", 128, 65),
        (2.0, "float64", np.inf, 513),
    ],
)
def test_the_depth_lost_is_that_of_a_geometric_series(factor, name, lost, norm_lost):
    first = Rounded(FIRST_UNIT, FORMATS[name])
    layers = rounded_layers([factor * np.eye(2)] * 1000, "linear", first.number)
    assert precision.depths_lost(layers, first, first, 1000) == (lost, norm_lost)


@pytest.mark.parametrize(("activation", "sigma"), [("sigmoid", 1.0), ("sigmoid", 2.0), ("relu", 1)])
@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
def test_the_expected_depth_is_the_range_over_the_rate(activation, sigma, name):
    """Up to where the series starts, a few powers of two; a rate 10 % off is seen."""
    bits = 1 - np.log2(FORMATS[name].smallest)
    drift = 5 / (2 * 64) + 49 / (12 * 64**2) if activation == "relu" else 0  # Hanin and Nica 2018
    rate = (drift / np.log(2) - np.log2(study.theory.mean_field(activation, sigma).chi)) / 2
    found = precision.expected_depth(activation, sigma, name)
    if bits > rate * precision.DEEPEST:
        assert found == np.inf
    else:
        assert abs(found * rate - bits) < 4
        assert abs(found * 1.1 * rate - bits) > 4


def test_at_criticality_theory_expects_no_loss():
    assert precision.expected_depth("tanh", 1.0, "float16") == np.inf
    assert precision.expected_depth("relu", 2**0.5, "float32") == np.inf


def test_the_largest_of_many_normal_numbers():
    draws = np.abs(np.random.default_rng(0).normal(size=(20_000, 64))).max(axis=1)
    np.testing.assert_allclose(np.median(draws), largest_of(64), rtol=0.005)


def test_the_networks_that_only_one_format_loses_do_not_count():
    tables = committed("precision")
    lost = "depth: depth_lost = {} where activation == 'relu' and format == '{}'"
    apart = changed(tables, lost.format(1.0, "bfloat16"))
    assert precision.bfloat16_reach(apart).value < 0.1
    kept = changed(apart, lost.format("inf", "float32"))
    assert precision.bfloat16_reach(kept).value > 0.8


def test_measure_agrees_with_the_run_and_with_the_scaled_engine():
    """What is lost is below half the smallest number, by the engine that loses nothing."""
    with np.errstate(under="ignore"):
        df = precision.measure(0, 1.0)["depth"].set_index(["activation", "format"])
    sigmoid = df.loc["sigmoid"]
    for name in precision.FOUR:
        lowest = np.log10(FORMATS[name].smallest) - np.log10(2)
        assert lowest < sigmoid.log10_true_norm[name] < lowest + np.log10(64)  # 64 x 64 entries
    assert (sigmoid.depth_norm_lost <= sigmoid.depth_lost).all()
