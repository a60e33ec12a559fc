"""What is kept against a plain SVD, and steps to the goal by hand."""

import numpy as np
import pytest

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


def test_judged_seeds_did_not_tune():
    for cell in learning.experiment.grid["paper"]:
        assert not set(cell["tuning_seeds"]) & set(cell["seeds"])
