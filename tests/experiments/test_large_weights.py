"""Starts that compute the same, the law of balance step by step, and verdicts both ways."""

import itertools

import numpy as np
import pandas as pd
import pytest
from verdicts import named, verdicts

from experiments import large_weights
from experiments.large_weights import arms, flow
from study.core.backprop import forward
from study.core.blocks import Dense


def outputs(activation, start):
    arm = arms.Arm(activation, "sgd", start)
    weights, _ = arm.start([5])
    layers = [Dense(W, kind) for W, kind in zip(weights, arm.kinds, strict=True)]
    return forward(layers, arm.images[:20])[1], weights


@pytest.mark.parametrize("start", large_weights.SAME)
def test_rescaled_starts_of_larger_norm_compute_the_same(start):
    r, drawn = outputs("relu", "critical")
    same, weights = outputs("relu", start)
    assert np.array_equal(same, r)  # powers of two are exact
    size = [sum(np.square(W).sum() for W in some) for some in (drawn, weights)]
    assert size[1] > 1.4 * size[0]
    other, _ = outputs("tanh", start)
    assert not np.allclose(other, outputs("tanh", "critical")[0], rtol=0.1)


def test_balance_is_left_by_descent_in_proportion_to_its_rate_and_by_sigmoid_anyway():
    """Small rates leave ReLU's layers growing alike; sigmoid's never did: the negative control."""
    found = {}
    for name in ("relu", "sigmoid"):
        runs = [flow.along(name, rate, [1, 2], [0, 1]) for rate in (0.04, 0.02, 0.01)]
        found[name] = pd.concat(runs).query("time == 2")
    relu = found["relu"].pivot(index="rate", columns="seed", values="unbalanced").to_numpy()
    np.testing.assert_allclose(relu[1:] / relu[:-1], 2, rtol=0.15)
    assert np.abs(flow.at_rate_zero(found["relu"], "unbalanced")).max() < 0.02
    assert flow.at_rate_zero(found["sigmoid"], "unbalanced").min() > 0.2


def test_a_dead_and_a_diverged_run_are_no_numbers_of_others():
    arm = arms.Arm("relu", "sgd", "critical")
    start = arm.start
    arm.start = lambda seeds: ([W if k else -np.abs(W) for k, W in enumerate(start(seeds)[0])], 1)
    arm.rate = lambda *_: (0.01, True)
    task = {"few": 1, "many": 1, "tuning_seeds": [0], "seeds": [7, 8]}
    runs = arms.outcomes(arm, 60, **task)["runs"]  # no pixel is negative: no unit is ever on
    assert runs.status.tolist() == ["dead", "dead"]
    assert runs.log10_growth.abs().max() == 0
    arm.start = start
    arm.rate = lambda *_: (1e9, False)
    runs = arms.outcomes(arm, 60, **task)["runs"]
    assert runs.status.tolist() == ["diverged", "diverged"]
    assert runs[["accuracy", "log10_growth", "log10_growth_0"]].isna().all(axis=None)
    assert np.isinf(runs[["train_loss", "steps_to_goal"]]).all(axis=None)


def planted(growth, accuracy, unbalanced, grown):
    """Tables of ten seeds; ``growth`` of (activation, start), ``accuracy`` of a start."""
    kinds = itertools.product(large_weights.CALLED, arms.OPTIMISERS, arms.STARTS, range(10))
    runs = pd.DataFrame(kinds, columns=[*arms.KINDS, "seed"])
    runs["status"] = np.where(runs.seed == 9, "diverged", "ok")
    runs["log10_growth"] = [growth(*row) for row in runs[["activation", "start"]].values]
    runs["accuracy"] = runs.start.map(accuracy)
    runs["steps_to_goal"] = 100.0
    runs.loc[runs.seed == 9, ["log10_growth", "accuracy"]] = 1e9
    rows = [
        (name, rate, seed, time, unbalanced[name], grown(time))
        for name in ("relu", "sigmoid")
        for rate in large_weights.FLOW_RATES
        for seed in range(10)
        for time in large_weights.LONG
    ]
    columns = ["activation", "rate", "seed", "time", "unbalanced", "grown"]
    return {"runs": runs, "flow": pd.DataFrame(rows, columns=columns)}


def test_verdicts_follow_the_tables_and_diverged_runs_are_in_none():
    found = verdicts(
        large_weights.experiment,
        planted(
            lambda name, start: -0.1 if start != "critical" else 0.1 * (1 + (name != "relu")),
            lambda start: 0.9 - 0.1 * (start != "critical"),
            {"relu": 0.01, "sigmoid": 0.8},
            np.log,
        ),
    )
    control = {"sigmoid's layers grow by one amount"}
    assert named(found, "refuted") == control
    assert named(found, "supported") == set(found) - control
    found = verdicts(
        large_weights.experiment,
        planted(
            lambda name, start: 0.5 * (1 + (name == "relu")),
            lambda start: 0.9,
            {"relu": 0.8, "sigmoid": 0.01},
            np.sqrt,
        ),
    )
    assert named(found, "supported") == control
    assert named(found, "refuted") == set(found) - control


def test_of_arms_that_did_not_learn_nothing_else_is_said():
    tables = planted(lambda *_: 0.1, lambda _: 0.1, {"relu": 0.0, "sigmoid": 0.8}, np.log)
    tables["runs"].loc[tables["runs"].seed > 3, "steps_to_goal"] = np.inf
    tables["runs"].loc[tables["runs"].start == "twice critical", "status"] = "dead"
    found = verdicts(large_weights.experiment, tables)
    arms_claims = {claim.name for claim in large_weights.experiment.claims if claim.about}
    assert named(found, "did not train") == arms_claims
