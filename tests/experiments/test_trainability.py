"""Verdicts on training can go either way; the best rate is chosen."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments import training as experiment
from experiments.training.trainability import reach
from study.runs.experiment import load
from study.statistics.claims import judge_all

SYNTHETIC = {"accuracy": 0.1, "log10_weight_growth": 0.0, "spread_after": 1.0, "active_after": 0.5}


def tables(**changes):
    """Tables of every network of the paper preset; ``changes`` are functions of them."""
    rows = []
    for cell in experiment.experiment.grid["paper"]:
        for sigma in cell["scales"]:
            row = {key: cell[key] for key in ("activation", "method", "depth", "seed")}
            rows.append(row | {"sigma_w": sigma, "chosen": True, "status": "ok"} | SYNTHETIC)
    networks = pd.DataFrame(rows)
    return {"networks": networks.assign(**changes)}


def verdicts(**changes):
    found = load("training")
    return judge_all(found, tables(**changes)).set_index("claim").verdict


def within_reach(networks):
    limit = [reach(*pair) for pair in zip(networks.activation, networks.sigma_w, strict=True)]
    return networks.depth < np.array(limit)


def large(networks, name):
    scale = 1.5 * experiment.CRITICAL[name]
    return (networks.activation == name) & (networks.sigma_w > scale)


def test_the_rule_and_the_sayings_can_go_either_way():
    obeyed = verdicts(accuracy=lambda n: np.where(within_reach(n), 0.9, 0.1))
    nothing, all_of_it = (verdicts(accuracy=value) for value in (0.1, 0.9))
    for claim, good, bad in (
        ("beyond 6 xi_c nothing trains", obeyed, all_of_it),
        ("within 6 xi_c all train", obeyed, nothing),
        ("deep sigmoid networks cannot be trained, 10 layers", nothing, all_of_it),
        ("deep sigmoid networks cannot be trained, 50 layers", nothing, all_of_it),
        ("He initialisation makes deep ReLU trainable, 50 layers", all_of_it, nothing),
        ("He initialisation makes deep ReLU trainable, the deepest networks", all_of_it, nothing),
    ):
        assert (good[claim], bad[claim]) == ("supported", "refuted"), claim


def test_a_diverged_run_tells_digits_by_chance_and_is_not_healthy():
    found = verdicts(accuracy=np.nan, spread_after=np.nan, active_after=np.nan)
    assert found["He initialisation makes deep ReLU trainable, 50 layers"] == "refuted"
    assert found["deep sigmoid networks cannot be trained, 50 layers"] == "supported"
    assert found["a healthy relu network stays healthy"] == "refuted"
    assert found["ReLU's derivative is 1 often enough in training"] == "refuted"


@pytest.mark.parametrize("sign", [-1, 1])
def test_claim_c_can_go_either_way(sign):
    expected = "supported" if sign < 0 else "refuted"
    found = verdicts(
        log10_weight_growth=lambda n: np.where(large(n, "relu"), 0.2 * sign, 0.0),
        accuracy=lambda n: np.where(large(n, "relu"), 0.5 + 0.3 * sign, 0.5),
    )
    for method in experiment.METHODS:
        claim = f"ReLU leaves large weights more than tanh and sigmoid do, {method}"
        assert found[claim] == expected
    assert found["descent takes ReLU back from large weights"] == expected
    assert found["large weights are poor solutions for ReLU"] == expected


@pytest.mark.parametrize(("growth", "verdict"), [(0.01, "supported"), (0.5, "refuted")])
def test_growth_from_a_critical_start_can_go_either_way(growth, verdict):
    assert (
        verdicts(log10_weight_growth=growth)["descent does not take ReLU to large weights"]
        == verdict
    )


@pytest.mark.parametrize(
    ("spread", "active", "verdict"), [(1, 0.5, "supported"), (4, 0.9, "refuted")]
)
def test_health_can_go_either_way(spread, active, verdict):
    found = verdicts(spread_after=spread, active_after=active)
    assert found["ReLU's derivative is 1 often enough in training"] == verdict
    for name in experiment.CRITICAL:
        assert found[f"a healthy {name} network stays healthy"] == verdict


def test_seeds_that_disagree_leave_it_open():
    found = verdicts(spread_after=lambda n: np.where(n.seed % 2, 5.0, 1.0))
    assert found["a healthy tanh network stays healthy"] == "inconclusive"


def test_the_reach_of_a_critical_network_is_infinite_and_else_6_xi():
    assert reach("tanh", 1.0) == math.inf
    assert reach("relu", 2.0) == math.inf
    np.testing.assert_allclose(reach("tanh", 0.5), 6 / math.log(4), rtol=1e-9)
    np.testing.assert_allclose(reach("relu", 1.0), 6 / math.log(2), rtol=1e-9)


def test_the_first_rate_is_not_chosen_but_the_best():
    cell = experiment.experiment.grid["quick"][0] | {"steps": 20, "depth": 3}
    networks = experiment.measure(**cell)["networks"]
    for _, own in networks.groupby("sigma_w"):
        assert own.chosen.sum() == 1
        assert own.train_loss[own.chosen].item() == own.train_loss.min()
