"""Levels and profiles by hand, and an arm of the training by a plain loop."""

import numpy as np
import pandas as pd
import pytest

import study
from experiments import relu_against_sigmoid
from study.core.backprop import forward
from study.core.blocks import Dense
from study.engines import arms
from study.engines.training import WINDOW, steps_to_goal
from study.statistics.summaries import profile_and_level


def test_profile_and_level_are_a_fit_and_a_mean():
    nets = [study.Network(name, depth, 24, 1.2) for name in ("relu", "tanh") for depth in (2, 17)]
    df = study.profile(nets, seeds=[3, 4])
    rows = profile_and_level(df).set_index(["activation", "depth", "seed"])
    for key, network in df.groupby(["activation", "depth", "seed"]):
        slope, _ = np.polyfit(network.layer, network.log10_grad_norm, 1)
        np.testing.assert_allclose(rows.log10_profile[key], -slope, rtol=1e-9, atol=1e-12)
        assert rows.log10_level[key] == pytest.approx(network.log10_grad_norm.mean(), rel=1e-12)


def test_a_factor_of_the_cost_moves_the_level_alone():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(20, 20)) / 5 for _ in range(12)]
    inputs = rng.normal(size=(1, 20))
    cotangent = rng.normal(size=(1, 20))
    rows = []
    for factor in (1.0, 1e30):
        df = study.backpropagate(weights, inputs, "sigmoid", cotangent=factor * cotangent)
        rows.append(profile_and_level(df.assign(depth=12, seed=0)).iloc[0])
    assert rows[1].log10_level - rows[0].log10_level == pytest.approx(30, abs=1e-9)
    for column in ("log10_profile", "log10_spread", "log10_derivative", "log10_weight"):
        assert rows[1][column] == pytest.approx(rows[0][column], abs=1e-9)


def test_a_true_zero_has_a_level_and_no_profile():
    df = pd.DataFrame({"layer": [0, 1], "depth": 2, "seed": 0, "log10_grad_norm": [-np.inf, 0.0]})
    df = df.assign(log10_derivative_factor=0.0, log10_weight_factor=0.0)
    row = profile_and_level(df).iloc[0]
    assert row.log10_level == -np.inf
    assert not np.isfinite(row.log10_profile)


def test_rescaled_outputs_have_unit_size_and_nothing_else_is_touched():
    arm = arms.Arm("relu", 1.0, 6, "output rescaled")
    weights, scale = arm.start([5, 6])
    plain, _ = arms.Arm("relu", 1.0, 6).start([5, 6])
    for W, same in zip(weights[:-1], plain[:-1], strict=True):
        assert np.array_equal(W, same)
    np.testing.assert_allclose(weights[-1], plain[-1] * scale[:, None, None], rtol=1e-6)
    layers = [Dense(W, kind) for W, kind in zip(weights, arm.kinds, strict=True)]
    _, outputs = forward(layers, arm.images[: arms.TRAIN : 10])
    np.testing.assert_allclose(np.mean(outputs**2, axis=(1, 2)), 1, rtol=1e-4)


def test_steps_to_the_goal_are_those_of_the_running_mean():
    falling = np.linspace(1, 0, 101)
    losses = np.stack([falling, np.ones(101), np.full(101, np.nan)], axis=1)
    reached = steps_to_goal(losses, arms.GOAL)
    means = pd.Series(falling).rolling(WINDOW).mean()
    assert reached[0] == 1 + np.flatnonzero(means <= arms.GOAL)[0]
    assert reached[1] == reached[2] == np.inf


def test_seeds_of_an_arm_differ_and_judged_ones_did_not_tune():
    cell = next(c for c in relu_against_sigmoid.experiment.grid["paper"] if c["table"] == "trained")
    assert not set(cell["tuning_seeds"]) & set(cell["seeds"])
    arm = arms.Arm("tanh", 1.0, 2)
    course = arm.course([100, 101, 100], [0.1, 0.1, 0.1], 5)
    assert np.array_equal(course.losses[:, 0], course.losses[:, 2])
    assert not np.array_equal(course.losses[:, 0], course.losses[:, 1])
    assert course.losses[-1, 0] < course.losses[0, 0]
