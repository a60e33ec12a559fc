"""The exact law at finite width, measured two ways."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from verdicts import changed, committed

from experiments import finite_width as fw
from experiments.finite_width import ensembles
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.theory.finite_width import backward_law, born_dead


def measure(**changes):
    cell = {"activation": "relu", "weights": "gaussian", "width": 32, "narrow_width": 32}
    cell |= {"depths": [5, 20], "seed": 0, "networks": 40}
    return fw.measure(**(cell | changes))["gains"]


def explicit_gains(layers, **net):
    """log10 of the gains over the last layers, summed from the factors of each."""
    net = Network("relu", sigma_w=2**0.5, **net)
    df = profile(net, range(4), engine="matrix_free")
    top = df[df.layer >= net.depth - layers]
    steps = top.log10_derivative_factor + top.log10_weight_factor
    return steps.groupby(top.seed).sum()


@pytest.mark.parametrize("layers", [5, 20])
def test_the_gain_is_that_of_the_last_layers(layers):
    gains = measure(networks=4)
    gains = gains[gains.layers == layers].set_index("seed").log10_gain
    expected = explicit_gains(layers, depth=20, width=32, dtype="float32")
    np.testing.assert_allclose(gains, expected, rtol=1e-12)


def test_float32_is_enough():
    """The same networks in float64: what rounding adds is nothing to the spread of the law."""
    gains = measure(width=64, narrow_width=64, depths=[2000], networks=4).log10_gain
    spread = math.sqrt(backward_law([64] * 2001).variance) / fw.LN
    off = gains.to_numpy() - explicit_gains(2000, depth=2000, width=64).to_numpy()
    assert np.abs(off).max() < 1e-3 * spread


def test_dead_networks_are_dead():
    """A layer without an active unit, and only that, makes the gradient a true zero."""
    gains = measure(width=4, narrow_width=4, depths=[20], networks=200)
    df = profile(Network("relu", 20, 4, sigma_w=2**0.5, dtype="float32"), range(200))
    dead = (df[df.layer == 0].status == "dead").to_numpy()
    np.testing.assert_array_equal(gains.layers_alive.to_numpy() < 20, dead)
    np.testing.assert_array_equal(np.isneginf(gains.log10_gain), dead)
    for width, agrees in ((4, True), (5, False)):
        chance = born_dead([width] * 20)
        error = math.sqrt(chance * (1 - chance) / 200)
        assert (abs(dead.mean() - chance) < 4 * error) == agrees


def test_every_tenth_layer_is_narrow():
    widths = fw.layer_widths(50, 3, 30)
    assert len(widths) == 31
    assert [k for k, n in enumerate(widths) if n == 3] == [5, 15, 25]
    assert fw.layer_widths(7, 7, 4) == [7] * 5


def test_bottlenecks_obey_the_exact_law():
    gains = measure(width=24, narrow_width=6, depths=[30], networks=250)
    alive = gains[gains.layers_alive == 30]
    law = backward_law(fw.layer_widths(24, 6, 30))
    error = math.sqrt(law.variance / len(alive))
    mean = fw.LN * alive.log10_gain.mean()
    assert abs(mean - law.mean) < 4 * error
    assert abs(mean - backward_law([24] * 31).mean) > 4 * error  # the control: no bottleneck


def least_p_value(tables):
    """Of any kind's distance from its exact law, times the number of kinds (Bonferroni)."""
    kinds = fw.places(tables)
    with np.errstate(under="ignore"):
        return len(kinds) * min(stats.kstest(places, "uniform").pvalue for places in kinds)


def test_every_kind_of_network_of_the_results_follows_its_exact_law():
    assert least_p_value(committed("finite_width")) > 1e-3


def test_an_exception_would_be_found_among_many():
    """The control: one kind whose ln G is off by 0.5, hidden among thousands that are right."""
    shift = f"log10_gain = log10_gain + {0.5 / fw.LN}"
    shifted = f"gains: {shift} where width == 256 and layers == depth == 128"
    assert least_p_value(changed(committed("finite_width"), shifted)) < 1e-3


def test_the_plan():
    for cells in fw.experiment.grid.values():
        seeds = [s for c in cells for s in range(c["seed"], c["seed"] + c["networks"])]
        assert len(seeds) == len(set(seeds))


# --- Ensembles -----------------------------------------------------------------------------


def test_a_network_of_unequal_widths_by_hand():
    """Forwards and backwards in plain NumPy: the gains are norms of its gradient."""
    widths = [12, 3, 12, 12]
    gains = ensembles.gains_of_last(ensembles.he_profile(widths, [5]), [1, 3])
    key = gaussian.key(5, "finite width")
    x, dr = gaussian.normal(key, 3, (2, 1, 12))
    masked = []
    for k in range(3):
        W = gaussian.normal(key, k, (widths[k], widths[k + 1])) * (2 / widths[k]) ** 0.5
        masked.append(W * (x @ W > 0))
        x = np.maximum(x @ W, 0)
    norms = [np.linalg.norm(dr)]
    for W in masked[::-1]:
        dr = dr @ W.T
        norms.append(np.linalg.norm(dr))
    expected = np.log10([norms[1] / norms[0], norms[3] / norms[0]])
    np.testing.assert_allclose(gains.log10_gain, expected, rtol=0, atol=1e-6)  # in float32


def test_deaths_are_counted_beside_those_expected():
    """Networks of width 4, 64 layers deep, that die as often as they should, or half as often."""

    def table(share):
        alive = np.random.default_rng(0).geometric(share * 2.0**-4, 4000) - 1
        return pd.DataFrame({"width": 4, "layers_alive": np.minimum(alive, 64)})

    right, half = (ensembles.deaths_at_half_life(table(share)) for share in (1.0, 0.5))
    assert right.low < 1 < right.high
    assert half.high < 0.8
    shares, wrong = (ensembles.deaths_by_depth(table(share)) for share in (1.0, 0.5))
    expected = [born_dead([4] * d) for d in shares.depth]
    np.testing.assert_allclose(shares.theory, expected)
    assert (abs(shares.value - shares.theory) < 2 * shares.half).all()
    assert (abs(wrong.value - wrong.theory) > 2 * wrong.half).any()


def test_the_mean_square_of_numbers_outside_the_float_range():
    decades = pd.Series([300.0, 300.0, 300.2, 300.2])
    found = ensembles.log10_mean_square(decades)
    assert found.value == pytest.approx(600 + math.log10((1 + 10**0.4) / 2), rel=1e-14)
    usual = pd.Series(np.linspace(-0.5, 0.5, 9))
    plain = math.log10((100**usual).mean())
    assert ensembles.log10_mean_square(usual).value == pytest.approx(plain, rel=1e-12)
