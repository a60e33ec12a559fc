"""Residual and normalised networks train as in torch; a network that has reached the goal stops."""

import math

import numpy as np
import pytest

from study.core.backprop import forward
from study.core.blocks import BATCH, UNITS, Dense, Residual
from study.engines import arms
from study.engines.learned import Learned, LearnedBottom, LearnedLinear, LearnedNormalised
from study.engines.training import WINDOW, gaussian_weights, train
from study.sampling import gaussian

torch = pytest.importorskip("torch")

WIDTHS, EXAMPLES, STEPS, ALPHA = [7, 6, 6, 6, 4], 9, 12, 0.7
EPSILON = 0.01  # so large that a program without it is another
PHI = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
KEYS = [gaussian.key(seed, "test") for seed in range(3)]
RATES = [0.05, 0.02, 0.1]


def data():
    key = gaussian.key(5, "data")
    x = gaussian.normal(key, 10, (STEPS + 1, EXAMPLES, WIDTHS[0]))
    y = np.eye(WIDTHS[-1])[np.arange((STEPS + 1) * EXAMPLES) % WIDTHS[-1]]
    return x, y.reshape(STEPS + 1, EXAMPLES, WIDTHS[-1])


def normalised(axis, phi):
    def build(weights, biases):
        hidden = [LearnedNormalised(W, phi, axis, epsilon=EPSILON) for W in weights[:-1]]
        return [*hidden, Learned(weights[-1], "linear")]

    return build


def residual(phi):
    def build(weights, biases):
        branch = Residual([Learned(weights[1], phi), LearnedLinear(weights[2], ALPHA)])
        return [LearnedBottom(weights[0], phi), branch, Learned(weights[3], "linear")]

    return build


def norm(z, dim):
    variance = z.var(dim, correction=0, keepdim=True)
    return (z - z.mean(dim, keepdim=True)) / torch.sqrt(variance + EPSILON)


def by_torch(kind, phi, i, slip=0.0):
    """Weights and losses of network i; ``slip`` is an error of the branch's scale."""
    x, y = map(torch.tensor, data())
    weights = gaussian_weights(KEYS, WIDTHS, [1.0, 1.5, 2.0])
    parameters = [torch.tensor(W[i], requires_grad=True) for W in weights]
    descent = torch.optim.SGD(parameters, lr=RATES[i], momentum=0.9)
    act = PHI[phi]
    losses = []
    for step in range(STEPS):
        r = x[step]
        if kind == "residual":
            r = act(r @ parameters[0])
            r = r + (ALPHA + slip) * (act(r @ parameters[1]) @ parameters[2])
        else:
            for W in parameters[:-1]:
                r = act(norm(r @ W, 0 if kind == "BatchNorm" else 1))
        loss = torch.nn.functional.cross_entropy(r @ parameters[-1], y[step])
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(loss.item())
    return [p.detach().numpy() for p in parameters], losses


def ours(kind, phi):
    axes = {"BatchNorm": BATCH, "LayerNorm": UNITS}
    build = residual(phi) if kind == "residual" else normalised(axes[kind], phi)
    x, y = data()
    weights = gaussian_weights(KEYS, WIDTHS, [1.0, 1.5, 2.0])
    how = {"optimiser": "momentum", "build": build, "layered": [0]}
    return train(weights, RATES, lambda step: (x[step], y[step]), STEPS, **how)


@pytest.mark.parametrize("phi", PHI)
@pytest.mark.parametrize("kind", ["residual", "BatchNorm", "LayerNorm"])
def test_blocks_train_as_in_torch(kind, phi):
    course = ours(kind, phi)
    for i in range(3):
        after, losses = by_torch(kind, phi, i)
        np.testing.assert_allclose(course.losses[:, i], losses, rtol=1e-10)
        for W, expected in zip(course.weights, after, strict=True):
            assert np.linalg.norm(W[i] - expected) < 1e-10 * np.linalg.norm(expected)


def test_negative_control_a_branch_one_part_in_a_million_off_is_seen():
    course = ours("residual", "tanh")
    after, _ = by_torch("residual", "tanh", 0, slip=1e-6)
    assert np.linalg.norm(course.weights[1][0] - after[1]) > 1e-9


def test_norms_of_blocks_are_those_of_the_first_step():
    course = ours("residual", "relu")
    start = gaussian_weights(KEYS, WIDTHS, [1.0, 1.5, 2.0])
    x, y = data()
    one = train(start, RATES, lambda step: (x[0], y[0]), 1, build=residual("relu"), optimiser="sgd")
    for i in range(3):
        pairs = zip(start, one.weights, strict=True)
        moved = [np.linalg.norm(W[i] - after[i]) / RATES[i] for W, after in pairs]
        shown = course.layers[course.layers.network == i].log10_grad_norm
        np.testing.assert_allclose(shown, np.log10(moved), atol=1e-12)


def test_a_network_without_hope_is_given_up_and_the_others_go_on():
    x = np.ones((1, 1))
    how = {"activation": "linear", "cost": "squared_error"}
    task = [np.zeros((2, 1, 1))], [0.01, 1e-4], lambda step: (x, x), 200
    free = train(*task, **how)
    course = train(*task, **how, patience=(100, free.losses[51:101].mean()))
    assert course.networks.status.tolist() == ["ok", "given up"]
    assert course.networks.steps.tolist() == [200, 100]
    assert np.array_equal(course.losses[:, 0], free.losses[:, 0])
    assert np.array_equal(course.losses[:101, 1], free.losses[:101, 1])
    assert train(*task, **how, patience=(100, 0.5)).networks.status.tolist() == ["ok", "ok"]


def test_a_network_that_has_reached_the_goal_stops_and_the_others_go_on():
    x = np.ones((1, 1))
    start = [np.zeros((3, 1, 1))]
    rates = [0.01, 1e-4, 1e9]
    how = {"activation": "linear", "cost": "squared_error", "logged": [0], "layered": [0]}
    batch = lambda step: (x, x)  # noqa: E731
    course = train(start, rates, batch, 400, goal=0.1, **how)
    free = train(start, rates, batch, 400, **how)
    steps = course.networks.steps[0]
    assert course.networks.status.tolist() == ["ok", "ok", "diverged"]
    assert course.networks.steps.tolist()[1] == 400
    means = np.convolve(free.losses[:, 0], np.ones(WINDOW) / WINDOW, "valid")
    assert steps == WINDOW - 1 + np.flatnonzero(means <= 0.1)[0] < 400
    assert np.array_equal(course.losses[: steps + 1, 0], free.losses[: steps + 1, 0])
    assert np.isnan(course.losses[steps + 1 :, 0]).all()
    assert np.array_equal(course.losses[:, 1], free.losses[:, 1])
    stopped = train([W[:1] for W in start], rates[:1], batch, steps, **how)
    assert course.weights[0][0] == stopped.weights[0][0] != free.weights[0][0]
    for rows in (course.log, course.layers):
        assert rows[rows.network == 0].step.tolist() == [0, steps]


@pytest.mark.parametrize("remedy", arms.REMEDIES)
def test_every_remedy_learns_and_is_the_network_that_it_says(remedy):
    arm = arms.Arm("tanh", 1.2, 6, remedy)
    weights, scale = arm.start([5, 6])
    course = arm.course([5, 6], [0.01, 0.01], 25)
    assert course.losses[-1].mean() < 0.8 * course.losses[0].mean()
    assert arm.dead(weights).shape == (2,)
    layers = arm.layers(weights)
    trace, out = forward(layers, arm.images[: arms.TRAIN : 10])
    if remedy == "orthogonal":
        np.testing.assert_allclose(weights[2][1].T @ weights[2][1], 1.44 * np.eye(64), atol=1e-5)
    if remedy == "layers rescaled":
        for step in trace:
            np.testing.assert_allclose(np.mean(step.z**2, axis=(1, 2)), 1, rtol=1e-3)
    if remedy == "residual":
        r = np.tanh(arm.images[:3] @ weights[0][0])
        for W, V in ((1, 2), (3, 4)):
            r = r + np.tanh(r @ weights[W][0]) @ weights[V][0] / math.sqrt(2)
        _, ours = forward(layers, arm.images[:3])
        np.testing.assert_allclose(ours[0], r @ weights[-1][0], rtol=2e-3, atol=1e-5)
    if remedy != "output rescaled":
        assert (scale == 1).all()
    assert np.isfinite(out).all()


def test_a_unit_that_no_image_activates_is_dead():
    arm = arms.Arm("relu", 1.0, 3)
    weights, _ = arm.start([5])
    before = arm.dead(weights)[0]
    alive = np.maximum(arm.images[: arms.TRAIN] @ weights[0][0], 0).max(axis=0) > 0
    layer = Dense(weights[1][0], "relu")
    second = layer.up(np.maximum(arm.images[: arms.TRAIN] @ weights[0][0], 0)).max(axis=0) > 0
    assert before == pytest.approx(1 - np.mean([alive.mean(), second.mean()]))
    weights[0][0][:, :32] = -1  # images are not negative
    assert arm.dead(weights)[0] >= 0.25
