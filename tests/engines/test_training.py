"""Training is torch's, step by step; what diverges is reported and leaves the others alone."""

import itertools
import math
from functools import partial

import numpy as np
import pytest

from study.core.activations import TABLE, activation
from study.engines import training
from study.engines.explicit import backpropagate
from study.engines.optimisers import OPTIMISERS, clip_shares, cross_entropy, norms, squared_error
from study.engines.training import gaussian_weights, train
from study.sampling import gaussian

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402 - not where torch is missing

WIDTHS, BATCH, STEPS = [7, 6, 5, 6, 4], 9, 12
KEYS = [gaussian.key(seed, "test") for seed in range(3)]
RATES = [0.05, 0.02, 0.1]
MIXED = ["relu", "tanh", "sigmoid", "linear"]


def problem(dtype="float64", biased=True):
    """Weights and biases of three networks, and what to learn."""
    key = gaussian.key(5, "data")
    weights = gaussian_weights(KEYS, WIDTHS, [1.0, 1.5, 2.0], dtype)
    biases = [0.3 * gaussian.normal(key, k, (3, n), dtype) for k, n in enumerate(WIDTHS[1:])]
    x = gaussian.normal(key, 10, (STEPS + 1, BATCH, WIDTHS[0]), dtype)
    y = np.eye(WIDTHS[-1], dtype=dtype)[np.arange((STEPS + 1) * BATCH) % WIDTHS[-1]]
    return weights, biases if biased else [], x, y.reshape(STEPS + 1, BATCH, WIDTHS[-1])


def ours(steps=STEPS, kinds="tanh", dtype="float64", biased=False, rates=RATES, **how):
    weights, biases, x, y = problem(dtype, biased)
    return train(weights, rates, lambda step: (x[step], y[step]), steps, kinds, biases, **how)


def phi(name):
    if name == "linear":
        return lambda z: z
    row = activation(name)
    return partial(getattr(functional, row.torch), **dict(row.parameters))


def by_torch(i, kinds, cost, optimiser, clip, biased, momentum=0.9):
    """Parameters of network i after each step, and the losses on the way."""
    weights, biases, x, y = problem(biased=biased)
    x = torch.tensor(x)
    y = torch.tensor(y)
    parameters = [torch.tensor(p[i], requires_grad=True) for p in (*weights, *biases)]
    descent = {
        "sgd": torch.optim.SGD,
        "momentum": partial(torch.optim.SGD, momentum=momentum),
        "adam": torch.optim.Adam,
    }[optimiser](parameters, lr=RATES[i])
    after = []
    losses = []
    for step in range(STEPS):
        r = x[step]
        for k, name in enumerate(kinds):
            z = r @ parameters[k]
            r = phi(name)(z + parameters[len(weights) + k] if biased else z)
        if cost == "cross_entropy":
            loss = functional.cross_entropy(r, y[step])
        else:
            loss = 0.5 * ((r - y[step]) ** 2).sum(dim=1).mean()
        descent.zero_grad()
        loss.backward()
        total = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
        for p in parameters:
            p.grad *= min(1.0, clip / total)
        descent.step()
        losses.append(loss.item())
        after.append([p.detach().numpy().copy() for p in parameters])
    return after, losses


def largest_error(course, i, expected):
    """The largest error of a parameter of network i, relative to its norm."""
    pairs = zip((*course.weights, *course.biases), expected, strict=True)
    return max(np.linalg.norm(p[i] - b) / np.linalg.norm(b) for p, b in pairs)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("clip", [math.inf, 0.3])
@pytest.mark.parametrize("cost", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_step_is_torchs(optimiser, cost, clip, biased):
    how = {"cost": cost, "optimiser": optimiser, "clip": clip, "biased": biased}
    courses = {steps: ours(steps, MIXED, **how) for steps in (1, 2, STEPS)}
    for i in range(3):
        after, losses = by_torch(i, MIXED, **how)
        for steps, course in courses.items():
            assert largest_error(course, i, after[steps - 1]) < 1e-10
            np.testing.assert_allclose(course.losses[:, i], losses[:steps], rtol=1e-10)


@pytest.mark.parametrize("name", ["linear", *(name for name, row in TABLE.items() if row.torch)])
def test_every_activation_trains_as_in_torch(name):
    """The output's activation too: the derivation's cost is of r = phi(z)."""
    how = {"cost": "squared_error", "optimiser": "adam", "biased": True}
    course = ours(STEPS, name, **how)
    for i in range(3):
        after, _ = by_torch(i, [name] * 4, clip=math.inf, **how)
        assert largest_error(course, i, after[-1]) < 1e-10


def test_negative_control_a_momentum_one_part_in_a_million_off_is_seen():
    course = ours(STEPS, MIXED, optimiser="momentum")
    after, _ = by_torch(0, MIXED, "cross_entropy", "momentum", math.inf, False, 0.9 * (1 + 1e-6))
    assert largest_error(course, 0, after[-1]) > 1e-9


def test_an_activation_of_ones_own_trains():
    own = ours(STEPS, [np.tanh] * 3 + ["linear"])
    for a, b in zip(own.weights, ours(STEPS, ["tanh"] * 3 + ["linear"]).weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_clipping_bounds_the_norm_and_keeps_the_ratios():
    weights, _, _, _ = problem()
    gradients = [W.copy() for W in weights]
    size = norms(gradients)
    total = np.sqrt(sum((W**2).sum(axis=(1, 2)) for W in weights))
    np.testing.assert_allclose(np.ldexp(*size), total, rtol=1e-14)
    shares = clip_shares(float(total[1]), size)
    gradients = [g * shares[:, None, None] for g in gradients]
    after = np.sqrt(sum((g**2).sum(axis=(1, 2)) for g in gradients))
    np.testing.assert_allclose(after, np.minimum(total, total[1]), rtol=1e-14)
    for g, W in zip(gradients, weights, strict=True):
        np.testing.assert_allclose(g[2] / W[2], total[1] / total[2], rtol=1e-14)


def test_norms_beyond_the_range_of_squares():
    a = np.array([[[3e-200, 4e-200]], [[3e200, 4e200]], [[0.0, 0.0]], [[1.0, np.nan]]])
    with np.errstate(all="ignore"):
        mantissa, exponent = norms([a])
    log2 = np.log2(mantissa[:2]) + exponent[:2]
    np.testing.assert_allclose(log2, np.log2([5e-200, 5e200]), rtol=1e-14)
    assert mantissa[2] == 0
    assert np.isnan(mantissa[3])


@pytest.mark.parametrize("cost", [cross_entropy, squared_error])
def test_costs_by_finite_differences(cost):
    key = gaussian.key(0, "cost")
    r = gaussian.normal(key, 0, (2, 3, 4))
    y = np.abs(gaussian.normal(key, 1, (2, 3, 4)))
    y /= y.sum(axis=-1, keepdims=True)
    _, dr = cost(r, y)
    for at in itertools.product(*map(range, r.shape)):
        nudge = np.zeros_like(r)
        nudge[at] = 1e-6
        rise = cost(r + nudge, y)[0][at[0]] - cost(r - nudge, y)[0][at[0]]
        np.testing.assert_allclose(rise / 2e-6, dr[at], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("in_a_thread", [1, 20])
def test_a_stack_is_its_networks_one_by_one(in_a_thread, monkeypatch):
    monkeypatch.setattr(training, "NETWORKS_A_THREAD", in_a_thread)
    weights, biases, x, y = problem("float32")
    together = ours(biased=True, dtype="float32")
    for i in range(3):
        W, b = ([p[i : i + 1] for p in parameters] for parameters in (weights, biases))
        alone = train(W, RATES[i : i + 1], lambda s: (x[s], y[s]), STEPS, "tanh", b)
        for stacked, single in zip(together.weights, alone.weights, strict=True):
            np.testing.assert_allclose(stacked[i], single[0], rtol=1e-4, atol=1e-6)


def test_each_network_may_have_data_of_its_own():
    weights, _, x, y = problem(biased=False)
    classes = np.zeros((3, BATCH), int)
    course = train(
        weights, RATES, lambda s: (x[[s, 0, s]], y[[s, 0, s]]), STEPS, "tanh",
        held_out=(np.broadcast_to(x[0], (3, *x[0].shape)), classes), logged=[STEPS],
    )  # fmt: skip
    fixed = train(
        [W[1:2] for W in weights], RATES[1:2], lambda s: (x[0], y[0]), STEPS, "tanh",
        held_out=(x[0], classes[0]), logged=[STEPS],
    )  # fmt: skip
    np.testing.assert_allclose(course.losses[:, 1], fixed.losses[:, 0], rtol=1e-12)
    assert course.log.accuracy[1] == fixed.log.accuracy[0]


def test_weights_given_are_not_changed():
    weights, biases, x, y = problem()
    copies = [p.copy() for p in (*weights, *biases)]
    train(weights, RATES, lambda s: (x[s], y[s]), STEPS, "relu", biases, optimiser="adam")
    assert all(map(np.array_equal, copies, (*weights, *biases)))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_that_diverges_stops_and_the_others_go_on(dtype, optimiser):
    how = {"kinds": "relu", "dtype": dtype, "cost": "squared_error", "optimiser": optimiser}
    rates = [0.01, 1e30 if dtype == "float32" else 1e100, 0.01]
    course = ours(rates=rates, logged=[0, STEPS], layered=[0, STEPS], **how)
    assert course.networks.status.tolist() == ["ok", "diverged", "ok"]
    step = course.networks.steps[1]
    assert 0 < step < STEPS
    assert np.isfinite(course.losses[:step, 1]).all()
    assert np.isnan(course.losses[step:, 1]).all()
    last = course.log[course.log.network == 1].iloc[-1]
    assert last.step == step
    assert math.isnan(last.accuracy)
    assert last.log10_weight_norm > 20
    assert set(course.layers[course.layers.step == STEPS].network) == {0, 2}
    before = ours(step, rates=rates, **how)  # it keeps the weights that it had last
    for W, stopped in zip(before.weights, course.weights, strict=True):
        assert np.array_equal(W[1], stopped[1])
    calm = ours(rates=[0.01] * 3, **how)
    assert np.array_equal(course.losses[:, [0, 2]], calm.losses[:, [0, 2]])


def test_all_diverging_is_no_crash():
    course = ours(rates=[1e38] * 3, kinds="relu", dtype="float32", cost="squared_error")
    assert course.networks.status.tolist() == ["diverged"] * 3


def test_a_block_without_rows_leaves_the_types_of_the_others(monkeypatch):
    monkeypatch.setattr(training, "NETWORKS_A_THREAD", 1)
    how = {"kinds": "relu", "dtype": "float32", "cost": "squared_error", "layered": [STEPS]}
    course = ours(rates=[0.01, 0.01, 1e30], **how)
    assert set(course.layers.network) == {0, 1}
    assert course.layers.step.dtype == course.layers.layer.dtype == np.int64


def test_a_vanished_gradient_is_not_recorded_as_zero():
    """300 layers of sigmoid in float32: a plain run's gradient is 0, the record's is not."""
    weights = gaussian_weights(KEYS[:1], [8] * 300 + [2], [1.0], "float32")
    x = gaussian.normal(KEYS[0], 400, (4, 8), np.float32)
    y = np.eye(2, dtype=np.float32)[[0, 1] * 2]
    names = ["sigmoid"] * 299 + ["linear"]
    course = train(weights, [0.1], lambda s: (x, y), 1, names, layered=[0], logged=[0])
    assert np.array_equal(course.weights[0], weights[0])  # the plain step moved nothing
    norm = course.layers.log10_grad_norm
    assert -250 < norm[0] < -100
    assert (course.layers.log10_weight_norm > 0).all()
    r = x
    for W in weights[:-1]:
        r = 1 / (1 + np.exp(-(r @ W[0])))
    _, dr = cross_entropy((r @ weights[-1][0])[None], y)
    direct = backpropagate([W[0] for W in weights], x, activation=names, cotangent=dr[0])
    np.testing.assert_allclose(norm, direct.log10_grad_norm, rtol=1e-5)


def test_layers_are_those_of_the_plain_gradient():
    weights, _, _, _ = problem()
    course = ours(1, ["tanh"] * 3 + ["linear"], biased=True, layered=[0])
    for i in range(3):
        moved = zip(weights, course.weights, strict=True)
        plain = [np.linalg.norm(W[i] - after[i]) / RATES[i] for W, after in moved]
        shown = course.layers[course.layers.network == i].log10_grad_norm
        np.testing.assert_allclose(shown, np.log10(plain), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rates": [0.1]}, "rates"),
        ({"cost": "hinge"}, "cost"),
        ({"optimiser": "rmsprop"}, "optimiser"),
        ({"activation": ["tanh"] * 3}, "activation"),
        ({"activation": "step"}, "activation"),
        ({"biases": [np.zeros((3, 6))]}, "biases"),
    ],
)
def test_bad_input_is_named(change, named):
    weights, _, x, y = problem()
    given = {"weights": weights, "rates": RATES, "steps": 1} | change
    with pytest.raises(ValueError, match=named):
        train(batch=lambda s: (x[s], y[s]), **given)
