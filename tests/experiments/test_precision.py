"""The experiment on number formats: its pieces, and its verdicts both ways."""

import numpy as np
import pandas as pd
import pytest

import study
from experiments import precision
from study.arithmetic.formats import FORMATS
from study.arithmetic.plain import PlainRun, depths_lost
from study.statistics.claims import verdict
from study.theory.reach import largest_of

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
    run = PlainRun([factor * np.eye(2)] * 1000, FIRST_UNIT, "linear", FORMATS[name])
    assert depths_lost(run, FIRST_UNIT) == [lost, norm_lost]


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


def frames(depth=1.0, norm=0.5, float64=np.inf, bfloat16=0.9):
    """Synthetic tables of twelve seeds in which every claim can be made true or false."""
    rows = []
    for seed in range(12):
        for activation, sigma in (("sigmoid", 1.0), ("relu", precision.HE)):
            reach = {
                "float16": 12 * depth,
                "float32": 72 * depth,
                "float64": float64,
                "bfloat16": 72 * depth * bfloat16,
            }
            for name, lost in reach.items():
                rows.append((activation, sigma, seed, name, lost, lost * norm, 72.0))
    columns = ["activation", "sigma_w", "seed", "format"]
    columns += ["depth_lost", "depth_norm_lost", "expected_depth"]
    return {"depth": pd.DataFrame(rows, columns=columns)}


def test_each_claim_can_be_supported_and_refuted():
    good = frames()
    bad = frames(depth=1.2, norm=1.0, float64=500.0, bfloat16=0.3)
    for claim in precision.experiment.claims:
        assert verdict(claim.judge(good), claim.threshold) == "supported", claim.name
        assert verdict(claim.judge(bad), claim.threshold) == "refuted", claim.name


def test_the_networks_that_only_one_format_loses_do_not_count():
    tables = frames()
    own = tables["depth"]
    own.loc[(own.activation == "relu") & (own.format != "float64"), "depth_lost"] = np.inf
    assert precision.bfloat16_reach(tables).value == pytest.approx(0.9)


def test_measure_agrees_with_the_run_and_with_the_scaled_engine():
    """What is lost is below half the smallest number, by the engine that loses nothing."""
    with np.errstate(under="ignore"):
        df = precision.measure(0, 1.0)["depth"].set_index(["activation", "format"])
    own = df.loc["sigmoid"]
    for name in precision.FOUR:
        lowest = np.log10(FORMATS[name].smallest) - np.log10(2)
        assert lowest < own.log10_true_norm[name] < lowest + np.log10(64)  # 64 x 64 entries
    assert (own.depth_norm_lost <= own.depth_lost).all()


def test_the_title_counts_the_cases():
    """Theory expects sigmoid to be lost at 12, 64, 72 and 516, and ReLU much deeper or never."""
    for words, tables in ("4 of 8", frames(float64=500.0)), ("0 of 8", frames(0.5, float64=250.0)):
        title = precision.figure(tables).get_suptitle()
        assert f"in {words} cases" in " ".join(title.split())  # whatever its lines are
