"""What became of trained networks is told apart, and verdicts go both ways."""

import numpy as np
import pandas as pd
import pytest
from verdicts import named, verdicts

from benchmarks import again
from experiments import edge_of_stability, large_weights, training
from experiments.training import networks


def table(steps):
    """Networks of every arm that a claim asks for, by the steps that each takes to the goal."""
    arms = training.experiment.grid["paper"]
    rows = [
        {k: a[k] for k in ("activation", "depth", "share", "remedy")} | {"seed": seed}
        for a in arms
        for seed in a["seeds"]
    ]
    df = pd.DataFrame(rows)
    to_goal = df.apply(steps, axis=1)
    outcome = np.where(np.isfinite(to_goal), "learned", "stuck")
    return {"networks": df.assign(steps_to_goal=to_goal, outcome=outcome, dead_after=0.01)}


def test_where_all_learn_and_where_none_does():
    fast = verdicts(training.experiment, table(lambda r: 100.0 if r.activation == "relu" else 300))
    kept = {name for name in fast if "from learning" in name}
    assert named(fast, "refuted") == kept
    assert named(fast, "supported") == set(fast) - kept
    stuck = verdicts(training.experiment, table(lambda r: np.inf))
    assert named(stuck, "supported") == kept
    of_learned = {
        "ReLU learns several times as fast as tanh",
        "few ReLU units are dead after training",
    }
    assert named(stuck, "did not train") == of_learned


def test_a_small_difference_of_speed_is_negligible():
    found = verdicts(training.experiment, table(lambda r: 300.0))
    assert found["ReLU learns several times as fast as tanh"] == "negligible"


def test_judged_seeds_did_not_tune_and_all_have_one_budget():
    for cells in training.experiment.grid.values():
        assert len({cell["steps"] for cell in cells}) == 1
        assert not any({*cell["seeds"]} & {*cell["tuning_seeds"]} for cell in cells)
    assert len(training.experiment.grid["paper"][0]["seeds"]) == 10


@pytest.fixture(scope="module")
def tables():
    cell = training.experiment.grid["quick"][-1] | {"depth": 3, "activation": "tanh", "steps": 90}
    return training.measure(
        **cell | {"sigma_w": 1.0, "share": 1.0, "is_followed": True} | {"remedy": "none"}
    )


def test_an_arm_is_followed_along_training(tables):
    rows = tables["networks"]
    assert set(rows.outcome) <= {"learned", "falling", "stuck", "dead", "diverged"}
    assert (np.isfinite(rows.steps_to_goal) == (rows.outcome == "learned")).all()
    norms = tables["gradient_norms"]
    assert norms.step.unique().tolist() == [0, 9, rows.steps[0]]
    np.testing.assert_allclose(
        norms.log10_relative_update,
        np.log10(norms.rate) + norms.log10_grad_norm - norms.log10_weight_norm,
        rtol=1e-8,
    )
    assert tables["course"].groupby("seed").step.max().tolist() == rows.steps.tolist()


def test_outcomes_are_told_apart():
    steps = 300
    falls = np.linspace(2.3, 0.6, steps)
    losses = np.stack([falls, np.full(steps, 2.3), np.where(np.arange(steps) < 9, 1, np.nan)], 1)
    assert networks.mean_loss(losses[:, 0], steps) == pytest.approx(falls[-49:].mean())
    assert networks.mean_loss(losses[:, 2], 9) == np.inf


def test_a_verdict_is_taken_again_with_all_the_arms_that_it_rests_on():
    tables = table(lambda r: 300.0)
    tables["networks"] = tables["networks"].assign(rate=0.01, enclosed=True)
    found = [*again.deciding(training.experiment, tables)]
    assert set().union(*(claims for _, claims in found)) == {
        claim.name for claim in training.experiment.claims
    }
    faster = [
        cell for cell, claims in found if "ReLU learns several times as fast as tanh" in claims
    ]
    assert [(cell["activation"], cell["depth"]) for cell in faster] == [("tanh", 10), ("relu", 10)]
    assert all(cell["near"] == 0.01 for cell, _ in found)
    assert len(found) == 25


def test_rates_that_are_given_are_taken_again_with_twice_the_steps_and_others_between():
    edge = again.given_rates(edge_of_stability.experiment)
    tanh = [cell for cell in edge if cell["activation"] == "tanh"]
    assert sorted(cell["rate"] for cell in tanh) == pytest.approx(
        [0.05, 0.05 * 2**0.5, 0.1, 0.1 * 1.4**0.5, 0.14]
    )
    for cell in edge:
        twice = again.longer(cell)
        assert (twice["steps"], twice["looks"]) == (4800, 16)
        assert twice["rate"] == cell["rate"]
    flow = again.given_rates(large_weights.experiment)
    assert len(flow) == 3 * 5
    for cell in flow:  # at the same times
        twice = again.longer(cell)
        assert again.most_steps(twice) == pytest.approx(2 * again.most_steps(cell), abs=1)
        assert twice["times"] == cell["times"]
    assert again.given_rates(training.experiment) == []


def test_verdicts_on_tables_before_and_after_stand_side_by_side():
    before = table(lambda r: 300.0)
    after = table(lambda r: 100.0 if r.activation == "relu" else 300.0)
    both = again.side_by_side(training.experiment, before, after, 4000).set_index("claim")
    fell = both[~both.stood]
    assert fell.index.to_list() == ["ReLU learns several times as fast as tanh"]
    assert fell.verdict.to_list() == ["negligible"]
    assert fell.verdict_again.to_list() == ["supported"]
    assert set(both.steps) == {4000}
