"""What is kept of networks that were trained: the best rate, gradient norms, growth of weights."""

import numpy as np
import pandas as pd
import pytest

from experiments import training
from experiments.training.trainability import CRITICAL, weight_growth
from study.core.columns import LAYER


@pytest.fixture(scope="module")
def tables():
    cell = training.experiment.grid["quick"][0] | {"steps": 20, "depth": 3}
    return training.measure(**cell)


def test_the_first_rate_is_not_chosen_but_the_best(tables):
    for _, networks in tables["networks"].groupby("sigma_w"):
        assert networks.chosen.sum() == 1
        assert networks.train_loss[networks.chosen].item() == networks.train_loss.min()


def test_gradient_norms_are_kept_along_training_at_the_chosen_rates(tables):
    networks = tables["networks"].query("chosen").set_index("sigma_w")
    norms = tables["gradient_norms"]
    assert set(LAYER) < set(norms)
    for sigma_w, rows in norms.groupby("sigma_w"):
        assert set(rows.rate) == {networks.rate[sigma_w]}
        assert rows.step.tolist() == np.repeat([0, 10, 20], 3).tolist()
        assert rows.layer.tolist() == [0, 1, 2] * 3
        spans = rows.groupby("step").log10_grad_norm.agg(lambda norm: norm.max() - norm.min())
        before, after = networks.loc[sigma_w, ["spread_before", "spread_after"]]
        np.testing.assert_allclose([spans[0], spans[20]], [before, after], atol=1e-7)


def test_weights_that_a_diverged_run_had_last_count():
    """Twice critical: one seed grows by a decade, the other diverges half way to it."""
    rows = [
        (seed, step, 1.0 - 0.5 * (seed and step > 0), np.nan if seed and step > 10 else 0.5)
        for seed in (0, 1)
        for step in (0, 10, 20)
        if not (seed and step == 20)
    ]
    course = pd.DataFrame(rows, columns=["seed", "step", "log10_weight_growth", "accuracy"])
    course = course.assign(method="momentum", activation="relu", sigma_w=2 * CRITICAL["relu"])
    growth = weight_growth(course).set_index("step")
    assert set(growth.start) == {"twice critical"}
    assert growth.value.tolist() == [1.0, 0.75, 0.75]
