"""What is kept against a plain SVD, steps to the goal by hand, and verdicts both ways."""

import numpy as np
import pandas as pd
import pytest
from verdicts import named, verdicts

from experiments import isometry_learning as learning

FUNCTIONS = {
    "linear": (lambda z: z, np.ones_like),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_kept_directions_are_those_of_the_jacobian(activation):
    weights = [W[0].astype(float) for W in learning.arm_of(activation, "gaussian", 4).start([3])[0]]
    x = np.random.default_rng(0).normal(size=(1, learning.TASK.side**2))
    phi, slope = FUNCTIONS[activation]
    r = phi(x @ weights[0])
    jacobian = np.eye(learning.WIDTH)
    for W in weights[1:-1]:
        z = r @ W
        jacobian = jacobian @ (W * slope(z))
        r = phi(z)
    s = np.linalg.svd(jacobian, compute_uv=False)
    found = learning.kept_directions(weights, activation, x)
    assert found == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), rel=1e-9)


def test_orthogonal_linear_networks_keep_all_directions_and_only_square_matrices_differ():
    ours, theirs = (learning.arm_of("linear", law, 6).start([0, 1])[0] for law in learning.LAWS)
    for k in (0, -1):
        assert np.array_equal(ours[k], theirs[k])
    x = np.ones((1, learning.TASK.side**2))
    for i in range(2):
        kept = learning.kept_directions([W[i] for W in theirs], "linear", x)
        assert kept == pytest.approx(learning.WIDTH, rel=1e-5)
        assert learning.kept_directions([W[i] for W in ours], "linear", x) < learning.WIDTH / 2


def test_steps_to_the_goal_are_those_of_the_running_mean():
    losses = np.stack([np.linspace(2, 0, 101), np.full(101, 3.0), np.full(101, np.nan)], axis=1)
    first = next(
        step for step in range(learning.WINDOW, 102)
        if losses[step - learning.WINDOW : step, 0].mean() <= learning.GOAL
    )  # fmt: skip
    assert learning.steps_to_goal(losses, learning.GOAL, learning.WINDOW).tolist() == [
        first,
        np.inf,
        np.inf,
    ]


def planted(steps):
    """Steps of (activation, law, depth), with a little of every seed's own."""
    rows = [
        (name, law, depth, seed, steps(name, law, depth) * 1.01**seed)
        for name in learning.SIGMA_W
        for law in learning.LAWS
        for depth in (4, 12, 40)
        for seed in range(10)
    ]
    columns = ["activation", "weights", "depth", "seed", "steps_to_goal"]
    return {"learning": pd.DataFrame(rows, columns=columns)}


def test_verdicts_follow_the_steps():
    def isometric(name, law, depth):
        return 30 if law == "orthogonal" or name == "relu" else 30 * depth

    found = verdicts(learning.experiment, planted(isometric))
    assert named(found, "refuted") == {
        "linear networks with gaussian weights learn as fast at any depth"
    }
    slow = planted(lambda name, law, depth: np.inf if name == "relu" else 30 * depth)
    relu = (slow["learning"].activation == "relu") & (slow["learning"].weights == "orthogonal")
    slow["learning"].loc[relu, "steps_to_goal"] = 900.0
    found = verdicts(learning.experiment, slow)
    assert set(found.values()) == {"refuted"}


def test_judged_seeds_did_not_tune():
    for cell in learning.experiment.grid["paper"]:
        assert not set(cell["tuning_seeds"]) & set(cell["seeds"])
