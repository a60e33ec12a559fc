"""Training is torch's, step by step; what diverges is reported; verdicts can go either way."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from experiments import training as experiment
from experiments.training.trainability import reach
from study.engines.explicit import backpropagate
from study.engines.optimisers import (
    OPTIMISERS,
    clip_to,
    cross_entropy,
    norms,
    squared_error,
)
from study.engines.training import gaussian_weights, train
from study.runs.experiment import load
from study.sampling import gaussian
from study.statistics.claims import judge_all

torch = pytest.importorskip("torch")

WIDTHS, BATCH, STEPS = [7, 6, 5, 6, 4], 9, 12
KEYS = [gaussian.key(seed, "test") for seed in range(3)]
RATES = [0.05, 0.02, 0.1]
PHI = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda z: z,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "selu": torch.selu,
    "elu": torch.nn.functional.elu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus,
    "hard_tanh": torch.nn.functional.hardtanh,
    "erf": lambda z: torch.erf(math.sqrt(math.pi) / 2 * z),
}


def problem(dtype="float64", biased=True):
    """Weights and biases of three networks, and what to learn."""
    key = gaussian.key(5, "data")
    weights = gaussian_weights(KEYS, WIDTHS, [1.0, 1.5, 2.0], dtype)
    biases = [0.3 * gaussian.normal(key, k, (3, n), dtype) for k, n in enumerate(WIDTHS[1:])]
    x = gaussian.normal(key, 10, (STEPS + 1, BATCH, WIDTHS[0]), dtype)
    y = np.eye(WIDTHS[-1], dtype=dtype)[np.arange((STEPS + 1) * BATCH) % WIDTHS[-1]]
    return weights, biases if biased else [], x, y.reshape(STEPS + 1, BATCH, WIDTHS[-1])


def by_torch(i, steps, activation, cost, optimiser, clip, biased, change=1.0):
    """Parameters of network i after each step, and the losses on the way."""
    weights, biases, x, y = problem(biased=biased)
    x, y = torch.tensor(x), torch.tensor(y)
    parameters = [torch.tensor(p[i], requires_grad=True) for p in (*weights, *biases)]
    made = {
        "sgd": lambda: torch.optim.SGD(parameters, lr=RATES[i]),
        "momentum": lambda: torch.optim.SGD(parameters, lr=RATES[i], momentum=0.9 * change),
        "adam": lambda: torch.optim.Adam(parameters, lr=RATES[i]),
    }[optimiser]()
    losses, after = [], []
    for step in range(steps):
        r = x[step]
        for k, name in enumerate(activation):
            r = r @ parameters[k]
            if biased:
                r = r + parameters[len(weights) + k]
            r = PHI[name](r)
        if cost == "cross_entropy":
            loss = torch.nn.functional.cross_entropy(r, y[step])
        else:
            loss = 0.5 * ((r - y[step]) ** 2).sum(dim=1).mean()
        made.zero_grad()
        loss.backward()
        total = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
        for p in parameters:
            p.grad *= min(1.0, clip / total)
        made.step()
        losses.append(loss.item())
        after.append([p.detach().numpy().copy() for p in parameters])
    return after, losses


def ours(steps, activation, cost, optimiser, clip, biased):
    weights, biases, x, y = problem(biased=biased)
    return train(
        weights,
        RATES,
        lambda step: (x[step], y[step]),
        steps,
        activation,
        biases,
        cost=cost,
        optimiser=optimiser,
        clip=clip,
    )


def largest_error(found, expected):
    """The largest error of an array, relative to its norm."""
    return max(
        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("clip", [math.inf, 0.3])
@pytest.mark.parametrize("cost", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_every_step_is_torchs(optimiser, cost, clip, biased):
    activation = ["relu", "tanh", "sigmoid", "linear"]
    case = (activation, cost, optimiser, clip, biased)
    witness = [by_torch(i, STEPS, *case) for i in range(3)]
    for steps in range(1, STEPS + 1):
        course = ours(steps, *case)
        for i, (after, losses) in enumerate(witness):
            found = [p[i] for p in (*course.weights, *course.biases)]
            assert largest_error(found, after[steps - 1]) < 1e-10
            np.testing.assert_allclose(course.losses[:, i], losses[:steps], rtol=1e-10)


@pytest.mark.parametrize("name", PHI)
def test_every_activation_trains_as_in_torch(name):
    """The output's activation too: the derivation's cost is of r = phi(z)."""
    course = ours(STEPS, name, "squared_error", "adam", math.inf, True)
    for i in range(3):
        after, _ = by_torch(i, STEPS, [name] * 4, "squared_error", "adam", math.inf, True)
        found = [p[i] for p in (*course.weights, *course.biases)]
        assert largest_error(found, after[-1]) < 1e-10


def test_negative_control_a_momentum_one_part_in_a_million_off_is_seen():
    case = (["tanh"] * 3 + ["linear"], "cross_entropy", "momentum", math.inf, True)
    course = ours(STEPS, *case)
    after, _ = by_torch(0, STEPS, *case, change=1 + 1e-6)
    assert largest_error([p[0] for p in (*course.weights, *course.biases)], after[-1]) > 1e-9


def test_clipping_bounds_the_norm_and_keeps_the_ratios():
    weights, _, _, _ = problem()
    gradients = [W.copy() for W in weights]
    size = norms(gradients)
    total = np.sqrt(sum((W**2).sum(axis=(1, 2)) for W in weights))
    np.testing.assert_allclose(np.ldexp(*size), total, rtol=1e-14)
    clip_to(float(total[1]), gradients, size)
    after = np.sqrt(sum((g**2).sum(axis=(1, 2)) for g in gradients))
    np.testing.assert_allclose(after, np.minimum(total, total[1]), rtol=1e-14)
    for g, W in zip(gradients, weights, strict=True):
        np.testing.assert_allclose(g[2] / W[2], total[1] / total[2], rtol=1e-14)


def test_norms_beyond_the_range_of_squares():
    a = np.array([[[3e-200, 4e-200]], [[3e200, 4e200]], [[0.0, 0.0]], [[1.0, np.nan]]])
    with np.errstate(all="ignore"):
        mantissa, exponent = norms([a])
    np.testing.assert_allclose(
        np.log10(mantissa[:2]) + exponent[:2] * np.log10(2), np.log10([5e-200, 5e200]), rtol=1e-14
    )
    assert mantissa[2] == 0
    assert np.isnan(mantissa[3])


@pytest.mark.parametrize("cost", [cross_entropy, squared_error])
def test_costs_by_finite_differences(cost):
    key = gaussian.key(0, "cost")
    r, y = gaussian.normal(key, 0, (2, 3, 4)), np.abs(gaussian.normal(key, 1, (2, 3, 4)))
    y /= y.sum(axis=-1, keepdims=True)
    _, dr = cost(r, y)
    for at in itertools.product(*map(range, r.shape)):
        moved = [r.copy(), r.copy()]
        moved[0][at] += 1e-6
        moved[1][at] -= 1e-6
        up, down = (cost(m, y)[0][at[0]] for m in moved)
        np.testing.assert_allclose((up - down) / 2e-6, dr[at], rtol=1e-6, atol=1e-9)


def test_a_stack_is_its_networks_one_by_one():
    weights, biases, x, y = problem("float32")
    together = train(weights, RATES, lambda s: (x[s], y[s]), STEPS, "tanh", biases)
    for i in range(3):
        own = [W[i : i + 1] for W in weights], [b[i : i + 1] for b in biases]
        alone = train(own[0], RATES[i : i + 1], lambda s: (x[s], y[s]), STEPS, "tanh", own[1])
        for a, b in zip(together.weights, alone.weights, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-6)


def test_each_network_may_have_data_of_its_own():
    weights, _, x, y = problem(biased=False)
    held_out = np.broadcast_to(x[0], (3, *x[0].shape)), np.zeros((3, BATCH), int)
    course = train(
        weights,
        RATES,
        lambda s: (x[[s, 0, s]], y[[s, 0, s]]),
        STEPS,
        "tanh",
        held_out=held_out,
        logged=[STEPS],
    )
    fixed = train(
        [W[1:2] for W in weights], RATES[1:2], lambda s: (x[0], y[0]), STEPS, "tanh",
        held_out=(x[0], np.zeros(BATCH, int)), logged=[STEPS],
    )  # fmt: skip
    np.testing.assert_allclose(course.losses[:, 1], fixed.losses[:, 0], rtol=1e-12)
    assert course.log.accuracy[1] == fixed.log.accuracy[0]


def test_weights_given_are_not_changed():
    weights, biases, x, y = problem()
    kept = [p.copy() for p in (*weights, *biases)]
    train(weights, RATES, lambda s: (x[s], y[s]), STEPS, "relu", biases, optimiser="adam")
    assert all(map(np.array_equal, kept, (*weights, *biases)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_that_diverges_stops_and_the_others_go_on(dtype):
    weights, _, x, y = problem(dtype, biased=False)
    rates = [0.01, 1e30, 0.01]
    course = train(
        weights,
        rates,
        lambda s: (x[s], y[s]),
        STEPS,
        "relu",
        cost="squared_error",
        logged=[0, STEPS],
        layered=[0, STEPS],
        optimiser="momentum",
    )
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
    alone = train(
        [W[2:] for W in weights], [0.01], lambda s: (x[s], y[s]), STEPS, "relu",
        cost="squared_error", optimiser="momentum",
    )  # fmt: skip
    rtol = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(course.losses[:, 2], alone.losses[:, 0], rtol=rtol)


def test_all_diverging_is_no_crash():
    weights, _, x, y = problem("float32", biased=False)
    course = train(weights, [1e38] * 3, lambda s: (x[s], y[s]), STEPS, "relu", cost="squared_error")
    assert course.networks.status.tolist() == ["diverged"] * 3


def test_a_vanished_gradient_is_not_recorded_as_zero():
    """300 layers of sigmoid in float32: a plain run's gradient is 0, the record's is not."""
    widths = [8] * 300 + [2]
    weights = gaussian_weights(KEYS[:1], widths, [1.0], "float32")
    x, y = (
        gaussian.normal(KEYS[0], 400, (4, 8), np.float32),
        np.eye(2, dtype=np.float32)[[0, 1] * 2],
    )
    names = ["sigmoid"] * 299 + ["linear"]
    course = train(weights, [0.1], lambda s: (x, y), 1, names, layered=[0], logged=[0])
    assert np.array_equal(course.weights[0], weights[0])  # the plain step moved nothing
    norm = course.layers.log10_grad_norm
    assert -250 < norm[0] < -100
    assert (course.layers.log10_weight_norm > 0).all()
    out = x
    with np.errstate(under="ignore"):
        for W in weights[:-1]:
            out = 1 / (1 + np.exp(-(out @ W[0])))
        _, dr = cross_entropy((out @ weights[-1][0])[None], y)
    direct = backpropagate([W[0] for W in weights], x, activation=names, cotangent=dr[0])
    np.testing.assert_allclose(norm, direct.log10_grad_norm, rtol=1e-5)


def test_layers_are_those_of_the_plain_gradient():
    weights, biases, x, y = problem()
    names = ["tanh"] * 3 + ["linear"]
    course = train(weights, RATES, lambda s: (x[s], y[s]), 1, names, biases, layered=[0])
    for i in range(3):
        moved = [
            (W[i] - after[i]) / RATES[i] for W, after in zip(weights, course.weights, strict=True)
        ]
        own = course.layers[course.layers.network == i]
        np.testing.assert_allclose(
            own.log10_grad_norm, [np.log10(np.linalg.norm(g)) for g in moved], atol=1e-12
        )


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
