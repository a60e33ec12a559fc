"""The atlas: the layers that stand for all, the theory beside them, verdicts both ways."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

import study
from experiments import atlas
from experiments.atlas.profiles import expected_norms, middle, profiled, told_apart
from study.records.norms import recorded_layers
from study.statistics.claims import median_interval


def test_a_tenth_of_the_seeds_is_left_out_at_either_end_true_zeros_included():
    values = np.random.default_rng(1).permutation(20.0 + np.arange(20))
    assert [*middle(values)] == [29.5, 22.0, 37.0]
    values[values < 31] = -np.inf
    assert [*middle(values)] == [-np.inf, -np.inf, 37.0]
    both = np.stack([values, -values], axis=1)
    assert [end.tolist() for end in middle(both)] == [
        [-np.inf, np.inf], [-np.inf, -37.0], [37.0, np.inf]
    ]  # fmt: skip
    assert middle(np.array([3.0])) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_exact_line_is_the_median_of_networks_and_a_wrong_scale_is_not(activation, weights):
    net = study.Network(activation, 12, 16, 1.3, weights=weights)
    df = study.profile(net, range(800), engine="matrix_free")
    # The line is for an input of norm sqrt(width); the norm drawn is a factor of every layer.
    start = np.random.default_rng(2).chisquare(16, 100_000)
    shift = np.median(0.5 * np.log10(start / 16))
    for layer in (0, 5, 11):
        own = df[df.layer == layer].log10_grad_norm - shift
        found = median_interval(own, level=1 - 1e-6)
        (line,) = expected_norms(net, [layer])
        (wrong,) = expected_norms(dataclasses.replace(net, sigma_w=1.3 * 1.05), [layer])
        slack = 0.02  # the median of a product is not the product of medians
        assert found.low - slack < line < found.high + slack
        assert not found.low - slack < wrong < found.high + slack


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_uniform_weights_move_the_median_by_their_kurtosis_and_gaussian_ones_do_not(activation):
    """20,000 networks of explicit uniform weights, by NumPy alone."""
    depth, width, count, layer = 12, 24 if activation == "relu" else 12, 20_000, 5
    rng = np.random.default_rng(3)

    def start():
        x = rng.normal(size=(count, 1, width)).astype(np.float32)
        return x / np.linalg.norm(x, axis=2, keepdims=True)

    def layers(r, many):
        for _ in range(many):
            W = rng.random((count, width, width), np.float32) * 2 - 1
            r = r @ (W * np.float32((3 / width) ** 0.5))
            r = np.maximum(r, 0) if activation == "relu" else r
        return np.linalg.norm(r[:, 0], axis=1)

    # On the way down the mask comes first: that of half of all units, whatever the gradient.
    top = start() * (rng.random((count, 1, width)) < (0.5 if activation == "relu" else 1.0))
    signal, gradient = (
        layers(np.float32(width**0.5) * start(), layer),
        layers(top, depth - 1 - layer),
    )
    found = np.median(np.log10(signal * gradient))
    line, other = (
        expected_norms(study.Network(activation, depth, width, 1.0, weights=law), [layer])[0]
        for law in ("uniform", "gaussian")
    )
    assert abs(found - line) < 0.5 * (line - other) < abs(found - other)


@pytest.mark.parametrize("weights", atlas.LAWS)
def test_networks_walked_at_one_scale_are_those_of_every_scale(weights):
    """Also out of the float range, and where a gradient is a true zero, as of one ReLU unit."""
    nets = [
        study.Network(name, depth, width, sigma_w, weights=weights)
        for name, width in itertools.product(["relu", "linear", "tanh"], [1, 16])
        for sigma_w, depth in itertools.product([0.02, 1.0, 2**0.5, 40.0], [3, 400])
    ]
    found, expected = profiled(nets, [0, 7]), study.profile(nets, [0, 7])
    assert {"dead", "float64_underflow", "float32_overflow", "ok"} <= {*expected.status}
    pd.testing.assert_frame_equal(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("weights", atlas.LAWS)
def test_measure_keeps_what_a_profile_says(weights):
    cell = next(cell for cell in atlas.experiment.grid["quick"] if cell["weights"] == weights)
    cell = cell | {"kinds": [["relu", 1.2]], "depths": [4, 20]}
    engine = "dense" if weights == "uniform" else "matrix_free"
    with np.errstate(under="ignore"):
        tables = atlas.measure(**cell)
        net = study.Network("relu", 20, cell["width"], 1.2, weights=weights)
        df = study.profile(net, cell["seeds"], engine=engine)
    networks, layers, ends = (tables[name] for name in ("networks", "layers", "ends"))
    assert networks.network.tolist() == [cell["first"], cell["first"] + 1]
    own = layers[layers.network == cell["first"] + 1].set_index("layer")
    assert own.index.tolist() == recorded_layers(20, atlas.SHOWN).tolist()
    by_layer = df.groupby("layer").log10_grad_norm.median()[own.index]
    np.testing.assert_allclose(own["median"], by_layer, rtol=0, atol=0.00501)
    assert (own.low <= own["median"]).all()
    assert (own["median"] <= own.high).all()
    for column, factor in (("derivative", "derivative"), ("weight", "weight")):
        down = df[::-1].groupby("seed")[f"log10_{factor}_factor"].cumsum()
        summed = down.groupby(df.layer).median()[own.index]
        np.testing.assert_allclose(own[column], summed, rtol=0, atol=0.00501)
    assert ends.network.unique().tolist() == [cell["first"] + 1]
    at_input = df[df.layer == 0].log10_grad_norm
    np.testing.assert_allclose(ends.log10_first_norm, at_input, rtol=0, atol=0.00501)


def test_a_dead_network_is_a_true_zero():
    """ReLU networks two units wide: most die within thirty layers, and nothing is NaN."""
    cell = {"width": 2, "weights": "gaussian", "first": 0, "kinds": [["relu", 2.0]]}
    with np.errstate(under="ignore"):
        tables = atlas.measure(**cell, depths=[30], seeds=[*range(20)])
    assert 0 < np.isneginf(tables["ends"].log10_gain).sum() <= 20
    assert tables["networks"].gain.tolist() == [-np.inf]
    assert np.isneginf(tables["layers"]["median"]).all()
    for table in tables.values():
        assert not table.isna().any(axis=None)


def test_the_networks_are_numbered_once():
    for cells in atlas.experiment.grid.values():
        many = [len(cell["kinds"]) * len(cell["depths"]) for cell in cells]
        firsts = [cell["first"] for cell in cells]
        assert firsts == [0, *np.cumsum(many)[:-1]]
    for activation, scales in atlas.SCALES.items():
        critical = study.theory.critical_sigma_w(activation)
        assert np.isclose(scales, critical, rtol=1e-6).sum() == 1
        assert scales == sorted(scales)


def test_what_tells_laws_apart_has_no_bias_and_an_interval():
    rng = np.random.default_rng(7)

    def drawn(shift):
        """20 seeds of 30 networks in ten kinds, of which those of a kind differ little."""
        kinds = rng.normal(size=(20, 10, 1)) + 0.3 * rng.normal(size=(20, 10, 3))
        return shift + kinds.reshape(20, 30)

    alike = [told_apart(drawn(0.0), drawn(0.0)) for _ in range(100)]
    assert abs(np.mean([found.value for found in alike])) < 0.006  # its own error is 0.002
    assert np.mean([found.low <= 0 <= found.high for found in alike]) >= 0.95
    # P = 2/3 where the shift is 0.431 standard deviations of the difference.
    shift = 0.4307 * (2 * 1.09) ** 0.5
    apart = [told_apart(drawn(shift), drawn(0.0)) for _ in range(100)]
    assert abs(np.mean([found.value for found in apart]) - 1 / 9) < 0.025
    assert np.mean([found.low <= 1 / 9 <= found.high for found in apart]) >= 0.85
    assert np.mean([found.low <= 0 <= found.high for found in apart]) < 0.5
    # Dead networks are ties.
    dead = np.full((20, 3), -np.inf)
    assert told_apart(dead, dead).value == 0


def test_comparisons_that_share_a_seed_do_not_count():
    one, other = np.random.default_rng(8).normal(size=(2, 6, 1))
    sign = np.sign(one - other.T)
    products = [sign[i, j] * sign[k, m] for i, j, k, m in itertools.permutations(range(6), 4)]
    np.testing.assert_allclose(told_apart(one, other).value, np.mean(products), atol=1e-12)
