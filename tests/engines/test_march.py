"""A march gives each network what it would get alone, on the same weights."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import study
from study.core.activations import TABLE
from study.engines import dense, weights
from study.engines.march import MarchedWeights
from study.sampling import gaussian

WIDTH = 24
NORMS = [
    "log10_grad_norm",
    "log10_delta_norm",
    "log10_signal_norm",
    "log10_weight_norm",
    "log10_derivative_factor",
    "log10_weight_factor",
]


def weights_of(net, seed, n_in=None):
    """The matrices of one network of a march: W = sigma_w / sqrt(fan_in) G."""
    n_in = n_in or net.width
    draw = {"gaussian": gaussian.fill_normal, "uniform": gaussian.fill_uniform}.get(net.weights)
    matrices = []
    for k in range(net.depth):
        rows = n_in if k == 0 else net.width
        key = gaussian.key(seed, "weights")
        if draw is None:
            G = gaussian.haar(key, k, rows, net.width, net.dtype) * max(rows, net.width) ** 0.5
        else:
            G = draw(key, k, np.empty((rows, net.width), net.dtype))
        matrices.append((G * (net.sigma_w / rows**0.5)).astype(net.dtype))
    return matrices


def alone(net, seed, batch):
    """The same network through `backpropagate`."""
    x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (batch, net.width), net.dtype)
    c = gaussian.normal(gaussian.key(seed, "cotangent"), 0, (batch, net.width))
    b = gaussian.key(seed, "biases")
    biases = [
        (net.sigma_b * gaussian.normal(b, k, (net.width,), net.dtype)).astype(net.dtype)
        for k in range(net.depth)
    ]
    c = (c / np.linalg.norm(c)).astype(net.dtype)
    return study.backpropagate(
        weights_of(net, seed), x, net.activation, biases, cotangent=c, kink=net.kink
    )


def rows_of(df, net, seed):
    for field, value in {**net.fields(), "seed": seed}.items():
        df = df[df[field] == value]
    return df


@pytest.mark.parametrize("law", ["gaussian", "uniform", "orthogonal"])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_network_gets_what_it_would_get_alone(law, batch):
    # Scales at which no activation is chaotic, so that rounding stays rounding.
    nets = [
        study.Network(name, depth, WIDTH, sigma, bias, law)
        for name in TABLE
        for depth in (1, 7, 30)
        for sigma, bias in ((0.4, 0.3), (1.0, 0.0))
    ]
    df = study.profile(nets, [3], batch, engine="dense")
    for net in nets:
        own, expected = rows_of(df, net, 3), alone(net, 3, batch)
        for column in NORMS:
            assert_allclose(own[column], expected[column], rtol=0, atol=1e-10, err_msg=str(net))
        assert_allclose(own.active_fraction, expected.active_fraction, rtol=1e-15)


def test_other_weights_are_noticed():
    net = study.Network("tanh", 7, WIDTH, 1.0)
    own, other = study.profile(net, [3], engine="dense"), alone(net, 4, 1)
    assert np.abs(own.log10_grad_norm - other.log10_grad_norm).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_order_nor_company_in_depth_matters(dtype):
    nets = [
        study.Network(name, depth, WIDTH, 1.2, dtype=dtype)
        for name in ("relu", "tanh")
        for depth in (5, 20, 60)
    ]
    df = study.profile(nets, [1], engine="dense")
    back = study.profile(nets[::-1], [1], engine="dense")
    for net in nets:
        assert_array_equal(
            rows_of(df, net, 1).log10_grad_norm, rows_of(back, net, 1).log10_grad_norm
        )
        single = study.profile(net, [1], engine="dense")
        tolerance = 4 * net.depth * np.finfo(dtype).eps
        assert_allclose(
            rows_of(df, net, 1).log10_grad_norm, single.log10_grad_norm, rtol=0, atol=tolerance
        )


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (MarchedWeights, "signal_bytes", 1),
        *[(weights, "GROUP_ENTRIES", entries) for entries in (1, 2**12)],
        *[(weights, "CORES", cores) for cores in (1, 2)],
    ],
)
def test_neither_checkpoints_nor_groups_nor_helpers_change_a_bit(monkeypatch, place, name, value):
    nets = [study.Network(phi, 80, WIDTH, 1.5) for phi in ("relu", "sigmoid", "linear")]
    expected = study.profile(nets, [2], 2, engine="dense")
    monkeypatch.setattr(place, name, value)
    found = study.profile(nets, [2], 2, engine="dense")
    assert_array_equal(found[NORMS].to_numpy(), expected[NORMS].to_numpy())


@pytest.mark.parametrize("n_out", [1, 4, WIDTH])
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_inputs_and_targets_shape_the_ends(n_out, depth):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 40)), rng.normal(size=(5, n_out))
    nets = [study.Network(name, depth, WIDTH, 0.9) for name in ("relu", "sigmoid", "selu")]
    df = study.profile(nets, [6], engine="dense", inputs=x, targets=y)
    for net in nets:
        matrices = weights_of(net, 6, n_in=40)
        matrices[-1] = matrices[-1][:, :n_out]
        expected = study.backpropagate(matrices, x, net.activation, targets=y)
        own = rows_of(df, net, 6)
        for column in [*NORMS, "active_fraction"]:
            assert_allclose(own[column], expected[column], rtol=0, atol=1e-11, err_msg=str(net))


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sigma", [0.25, 4.0])
def test_where_the_scale_is_a_power_of_two_one_network_has_the_bits_of_backpropagate(
    name, dtype, sigma
):
    """sigma_w / sqrt(width) is then no rounding, and one example the same sums: equal at any depth,
    in chaos and far beyond the range of the format."""
    net = study.Network(name, 150, 16, sigma, weights="uniform", dtype=dtype, kink=0.5)
    own, expected = study.profile(net, [3], engine="dense"), alone(net, 3, 1)
    columns = [c for c in NORMS if c != "log10_weight_norm"]  # which sums G^2 column by column
    columns += ["grad_norm_mantissa", "grad_norm_exponent", "active_fraction"]
    for column in columns:
        assert_array_equal(own[column], expected[column], err_msg=column)
    assert_allclose(
        own.log10_weight_norm, expected.log10_weight_norm, rtol=0, atol=2 * np.finfo(dtype).eps
    )
    if dtype == "float32" and name in ("relu", "linear"):
        assert f"float32_{'under' if sigma < 1 else 'over'}flow" in set(own.status)


def test_rows_far_out_of_range_side_by_side_do_not_touch_one_another():
    nets = [study.Network("gelu", 40, 16, sigma, weights="uniform") for sigma in (1e-6, 1.0, 1e6)]
    nets += [study.Network("tanh", 25, 16, sigma, weights="uniform") for sigma in (1e-6, 0.5)]
    df = study.profile(nets, [1], batch=3, engine="dense")
    for net in nets:
        own, expected = rows_of(df, net, 1), alone(net, 1, 3)
        for column in NORMS:
            assert_allclose(own[column], expected[column], rtol=1e-13, atol=1e-11, err_msg=str(net))


def test_with_checkpoints_memory_grows_with_the_root_of_depth(monkeypatch):
    """600 layers of signals are 39 MB and of weights 79 MB: neither is ever held."""
    monkeypatch.setattr(MarchedWeights, "signal_bytes", 2**20)
    monkeypatch.setattr(weights, "GROUP_ENTRIES", 2**14)
    net = study.Network("tanh", 600, 128, 1.0)
    study.profile(study.Network("tanh", 2, 128, 1.0), [0], batch=32, engine="dense")
    tracemalloc.start()
    try:
        study.profile(net, [0], batch=32, engine="dense")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12e6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_parts_on_two_threads_give_what_one_gives(monkeypatch, dtype):
    nets = [
        study.Network(name, depth, 48, sigma, 0.1, dtype=dtype)
        for name in ("relu", "sigmoid", "tanh")
        for sigma in (0.8, 1.4)
        for depth in (9, 40)
    ]
    whole = study.profile(nets, [0, 1], 3, engine="dense")
    monkeypatch.setattr(dense, "PART_ENTRIES", 1)
    monkeypatch.setattr(weights, "GROUP_ENTRIES", 48 * 48)
    found = study.profile(nets, [0, 1], 3, engine="dense")
    # The products have other sizes, so BLAS may sum in another order.
    tolerance = 4 * 40 * np.finfo(dtype).eps
    assert_allclose(found[NORMS], whole[NORMS], rtol=0, atol=tolerance)
    assert_array_equal(found.active_fraction, whole.active_fraction)
    again = study.profile(nets, [0, 1], 3, engine="dense")
    assert_array_equal(again[NORMS].to_numpy(), found[NORMS].to_numpy())


def test_seeds_walked_side_by_side_have_the_bits_of_each_alone(monkeypatch):
    nets = [study.Network(name, depth, 48) for name in ("relu", "tanh") for depth in (5, 40)]
    each = [study.profile(nets, [seed], 3, engine="dense") for seed in range(5)]
    monkeypatch.setattr(dense, "LAYER_PRODUCTS", 1)
    assert dense.seeds_at_a_time(dict(enumerate(nets)), 3) == 2
    found = study.profile(nets, range(5), 3, engine="dense")
    for seed, expected in enumerate(each):
        rows = found[found.seed == seed].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, expected)


@pytest.mark.parametrize("walkers", [1, 2])
def test_whoever_draws_it_a_layer_has_its_own_weights(monkeypatch, walkers):
    monkeypatch.setattr(weights, "GROUP_ENTRIES", 3 * 8 * 8)
    net, depth = study.Network("relu", 40, 8, dtype="float32"), 40
    unit = weights.Unit(0, net, 8, depth, walkers)
    alone = [gaussian.fill_normal(unit.key, k, np.empty((8, 8), np.float32)) for k in range(depth)]

    def walk(seed):
        jumps = np.random.default_rng(seed).integers(0, depth, 40)
        for start, end in itertools.pairwise([0, depth - 1, 0, *jumps]):
            step = 1 if end > start else -1
            for k in range(start, end + step, step):
                assert_array_equal(unit(k, step), alone[k])
        unit.leave()

    with ThreadPoolExecutor(walkers) as pool:
        list(pool.map(walk, range(walkers)))
    assert len(unit.drawn) <= unit.keep


def test_nothing_is_drawn_over_what_somebody_walks_through(monkeypatch):
    monkeypatch.setattr(weights, "GROUP_ENTRIES", 8 * 8)
    unit = weights.Unit(0, study.Network("relu", 40, 8), 8, 40)
    G = unit(0, 1)
    unit.leave()  # so that the other is not held
    with ThreadPoolExecutor(1) as other:
        held = list(other.map(lambda k: unit(k, 1), range(40)))
    assert len({W.ctypes.data for W in held}) < 40  # some have been drawn over
    assert_array_equal(G, gaussian.fill_normal(unit.key, 0, np.empty((8, 8))))


def test_two_parts_share_every_draw_also_where_one_is_slower(monkeypatch):
    drawn = []
    monkeypatch.setattr(dense, "PART_ENTRIES", 1)
    monkeypatch.setattr(weights, "GROUP_ENTRIES", 8 * 8)
    draw = weights.Unit._draw
    monkeypatch.setattr(weights.Unit, "_draw", lambda unit, at: drawn.append(at) or draw(unit, at))
    slow = study.activation(lambda z: sum(np.tanh(z) for _ in range(200)) / 200)
    study.profile([study.Network(name, 60, 8) for name in ("relu", slow)], engine="dense")
    assert len(drawn) <= 2 * 60


def test_an_error_while_drawing_reaches_the_caller(monkeypatch):
    def broken(*_):
        raise MemoryError("no room for the weights")

    monkeypatch.setattr(gaussian, "fill_normals", broken)
    unit = weights.Unit(0, study.Network("relu", 8, 16), 16, 8)
    with pytest.raises(MemoryError, match="no room"):
        unit(0, 1)
