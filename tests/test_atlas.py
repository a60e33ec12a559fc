"""The atlas: the layers that stand for all, the theory beside them, verdicts both ways."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import study
from experiments import atlas
from study.atlas import expected_norms, middle, shown_layers
from study.claims import median_interval, verdict


@pytest.mark.parametrize("depth", [1, 2, 3, 10, 100, 1000, 10000])
def test_both_ends_are_shown_and_few_between(depth):
    layers = shown_layers(depth, 7)
    assert (layers[0], layers[-1]) == (0, depth - 1)
    assert (np.diff(layers) > 0).all()
    assert len(layers) <= 15
    if depth <= 10:
        assert layers.tolist() == list(range(depth))


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


@pytest.mark.parametrize("weights", atlas.LAWS)
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
        (line,) = expected_norms(activation, 1.3, 12, 16, weights, [layer])
        (wrong,) = expected_norms(activation, 1.3 * 1.05, 12, 16, weights, [layer])
        slack = 0.02  # the median of a product is not the product of medians
        assert found.low - slack < line < found.high + slack
        assert not found.low - slack < wrong < found.high + slack


@pytest.mark.parametrize(
    ("activation", "sigma_w"),
    [
        ("sigmoid", 1.0), ("sigmoid", 15.0), ("tanh", 0.5), ("tanh", 2.0), ("selu", 3.0),
        ("gelu", 4.0), ("gelu", 0.5),
    ],
)  # fmt: skip
def test_mean_field_is_where_wide_networks_are_beyond_the_float_range_too(activation, sigma_w):
    with np.errstate(under="ignore"):
        depth, width = (700, 512) if sigma_w in (0.5, 3.0, 4.0) else (60, 1024)
        net = study.Network(activation, depth, width, sigma_w, weights="orthogonal")
        df = study.profile(net, range(8), engine="matrix_free")
        at = shown_layers(depth, 5)
        line = expected_norms(activation, sigma_w, depth, width, "orthogonal", at)
        wrong = expected_norms(activation, 1.1 * sigma_w, depth, width, "orthogonal", at)
    median = df.groupby("layer").log10_grad_norm.median().to_numpy()[at]
    drift = 0.02 + 10 * depth / width / np.log(10)  # of the typical norm, at finite width
    assert np.abs(median - line).max() < drift
    assert np.abs(median - wrong).max() > drift


def test_measure_keeps_what_a_profile_says():
    cell = atlas.GRID["quick"][2] | {"scales": [1.2], "depths": [4, 20]}
    with np.errstate(under="ignore"):
        tables = atlas.measure(**cell)
        net = study.Network(cell["activation"], 20, cell["width"], 1.2, weights=cell["weights"])
        df = study.profile(net, cell["seeds"], engine="matrix_free")
    networks, layers, ends = (tables[name] for name in ("networks", "layers", "ends"))
    assert networks.network.tolist() == [cell["first"], cell["first"] + 1]
    own = layers[layers.network == cell["first"] + 1].set_index("layer")
    assert own.index.tolist() == shown_layers(20, atlas.NEAR).tolist()
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
    cell = {"activation": "relu", "width": 2, "weights": "gaussian", "first": 0}
    with np.errstate(under="ignore"):
        tables = atlas.measure(**cell, scales=[2.0], depths=[30], seeds=[*range(20)])
    assert 0 < np.isneginf(tables["ends"].log10_gain).sum() <= 20
    assert tables["networks"].gain.tolist() == [-np.inf]
    assert np.isneginf(tables["layers"]["median"]).all()
    for table in tables.values():
        assert not table.isna().any(axis=None)


def test_the_networks_are_numbered_once():
    for cells in atlas.GRID.values():
        many = [len(cell["scales"]) * len(cell["depths"]) for cell in cells]
        firsts = [cell["first"] for cell in cells]
        assert firsts == [0, *np.cumsum(many)[:-1]]
    for activation, scales in atlas.SCALES.items():
        critical = study.theory.critical_sigma_w(activation)
        assert np.isclose(scales, critical, rtol=1e-6).sum() == 1
        assert scales == sorted(scales)


def synthetic(right):
    """Twelve seeds of small networks of which every claim can be made true or false."""
    rng, networks, layers, ends = np.random.default_rng(4), [], [], []
    for activation in ("relu", "tanh"):
        critical = study.theory.critical_sigma_w(activation)
        for sigma in (0.5, critical, 4.0):
            for width in (64, 256):
                for law in atlas.LAWS:
                    number = len(networks)
                    sign = 0.0 if sigma == critical else np.sign(sigma - critical)
                    gain = 80.0 * sign if right else -10.0
                    spread = 0.3 if (law == "orthogonal") == right else 1.0
                    drawn = gain + spread * rng.normal(size=12)
                    about = {"activation": activation, "sigma_w": sigma, "depth": 100}
                    about |= {"width": width, "weights": law, "n_seeds": 12, "gain": gain}
                    networks.append({"network": number, **about})
                    off = 0.1 if right else 2.0
                    levels = {"median": gain, "low": gain - 1, "high": gain + 1}
                    layers.append({"network": number, "layer": 0, **levels, "theory": gain + off})
                    both = {"log10_gain": drawn, "log10_first_norm": drawn}
                    ends.append(pd.DataFrame({"network": number, "seed": range(12), **both}))
    return {
        "networks": pd.DataFrame(networks),
        "layers": pd.DataFrame(layers),
        "ends": pd.concat(ends),
    }


def test_each_claim_can_be_supported_and_refuted():
    with np.errstate(all="ignore"):
        for right, expected in ((True, "supported"), (False, "refuted")):
            tables = synthetic(right)
            for claim in atlas.CLAIMS:
                assert verdict(claim.judge(tables), claim.threshold) == expected, claim.name


def test_the_title_counts_the_networks_that_leave_float32():
    figure = atlas.figure(synthetic(True))
    assert figure.get_suptitle().startswith("At 100 layers 4 of 6 networks leave")
    plt.close(figure)
    figure = atlas.figure(synthetic(False))
    assert figure.get_suptitle().startswith("At 100 layers 0 of 6 networks leave")
    plt.close(figure)
