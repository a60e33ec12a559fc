"""The exact law at finite width, measured two ways; and the verdicts, both ways."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from verdicts import named
from verdicts import verdicts as verdicts_of

from experiments import finite_width as fw
from experiments.finite_width import ensembles
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.theory.finite_width import backward_law, born_dead

WIDTHS = (16, 64, 256, 1024)


def measure(**changes):
    cell = {"activation": "relu", "weights": "gaussian", "width": 32, "narrow_width": 32}
    cell |= {"depths": [5, 20], "seed": 0, "networks": 40}
    return fw.measure(**(cell | changes))["gains"]


def test_the_gain_is_that_of_the_last_layers():
    gains = measure()
    df = profile(
        Network("relu", 20, 32, sigma_w=2**0.5, dtype="float32"), range(40), engine="matrix_free"
    )
    for layers in (5, 20):
        top = df[df.layer >= 20 - layers]
        steps = top.log10_derivative_factor + top.log10_weight_factor
        expected = steps.groupby(top.seed).sum()
        found = gains[gains.layers == layers].set_index("seed").log10_gain
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_float32_is_enough():
    """The same networks in float64: what rounding adds is nothing to the spread of the law."""
    double = profile(Network("relu", 2000, 64, sigma_w=2**0.5), range(4), engine="matrix_free")
    steps = double.log10_derivative_factor + double.log10_weight_factor
    found = measure(width=64, narrow_width=64, depths=[2000], networks=4)
    spread = math.sqrt(backward_law([64] * 2001).variance) / fw.LN
    off = found.log10_gain.to_numpy() - steps.groupby(double.seed).sum().to_numpy()
    assert np.abs(off).max() < 1e-3 * spread


def test_dead_networks_are_dead():
    """A layer without an active unit, and only that, makes the gradient a true zero."""
    gains = measure(width=4, narrow_width=4, depths=[20], networks=200)
    df = profile(Network("relu", 20, 4, sigma_w=2**0.5, dtype="float32"), range(200))
    dead = (df[df.layer == 0].status == "dead").to_numpy()
    np.testing.assert_array_equal(gains.layers_alive.to_numpy() < 20, dead)
    np.testing.assert_array_equal(np.isneginf(gains.log10_gain), dead)
    chance = born_dead([4] * 20)
    assert abs(dead.mean() - chance) < 4 * math.sqrt(chance * (1 - chance) / 200)
    control = born_dead([5] * 20)
    assert abs(dead.mean() - control) > 4 * math.sqrt(control * (1 - control) / 200)


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


def test_each_network_is_at_its_place_in_its_own_law():
    gains = measure(networks=60)
    (found,) = fw.places({"gains": gains})
    values = fw.LN * gains[gains.layers == 20].log10_gain.to_numpy()
    np.testing.assert_array_equal(found, backward_law([32] * 21).cdf(values))


# --- Verdicts ------------------------------------------------------------------------------


def synthetic(law_of, dead=born_dead, typical=0.0):
    """Tables in which ln G has the quantiles of ``law_of(widths)``, plus ``typical``."""
    frames, seed = [], 0

    def add(width, narrow, depth, layers, ln, alive=None):
        nonlocal seed
        row = {"activation": "relu", "weights": "gaussian", "width": width}
        row |= {"narrow_width": narrow, "layers": layers, "depth": depth}
        seeds = np.arange(seed, seed + len(ln))
        row |= {"seed": seeds, "log10_gain": ln / fw.LN}
        frames.append(pd.DataFrame(row | {"layers_alive": depth if alive is None else alive}))
        seed += len(ln)

    def quantiles(widths, count=400):
        law = law_of(widths)
        x = law.mean + math.sqrt(law.variance) * np.linspace(-5, 5, 2000)
        order = np.random.default_rng(seed).permutation(count)
        return np.interp((order + 0.5) / count, law.cdf(x), x) + typical

    for width in WIDTHS:
        for layers in sorted({width // 2, 2048}):
            add(width, width, 2048, layers, quantiles([width] * (layers + 1)))
    add(128, 8, 100, 100, quantiles(fw.UNEQUAL))
    for n in (3, 5):
        half_life = round(2**n * math.log(2))
        alive = np.full(1000, 2 ** (n + 1))
        alive[: round(1000 * dead([n] * half_life))] = 0
        add(n, n, 2 ** (n + 1), 2 ** (n + 1), np.where(alive, 0.0, -np.inf), alive)
    return {"gains": pd.concat(frames, ignore_index=True)}


def verdicts(tables):
    return verdicts_of(fw.experiment, tables)


FOLLOWS = "the log gradient follows the exact law"
EXCEPTION = "no kind of network is an exception"
TYPICAL = "He initialisation preserves the typical gradient"
MEAN = "He initialisation preserves the mean squared gradient"
AVERAGE = "an average over networks shows that mean"
RATIO = "depth over width alone decides"
BOTTLENECK = "a bottleneck costs what its 1/n says"
MEAN_WIDTH = "the mean width decides"
DEAD = "networks are born dead as often as 1 - (1 - 2^-n)^L"


def test_verdicts_on_the_exact_law():
    found = verdicts(synthetic(backward_law))
    assert named(found, "supported") == {
        FOLLOWS, EXCEPTION, MEAN, RATIO, BOTTLENECK, DEAD,
    }  # fmt: skip
    assert named(found, "refuted") == {
        TYPICAL, AVERAGE, MEAN_WIDTH,
    }  # fmt: skip


def test_verdicts_where_width_plays_no_part():
    """Every network as if it were very wide, and none dead: what the popular readings say."""

    def wide(widths):
        return backward_law([10**5] * len(widths))

    found = verdicts(synthetic(wide, dead=lambda _: 0.0))
    assert named(found, "supported") == {TYPICAL, MEAN, AVERAGE}
    assert named(found, "refuted") == {
        FOLLOWS, EXCEPTION, RATIO, BOTTLENECK, MEAN_WIDTH, DEAD,
    }  # fmt: skip


def test_verdicts_where_the_mean_width_decides():
    def averaged(widths):
        inner = round(float(np.mean(widths[1:-1])))
        return backward_law([widths[0], *[inner] * (len(widths) - 2), widths[-1]])

    found = verdicts(synthetic(averaged))
    assert (found[BOTTLENECK], found[MEAN_WIDTH]) == ("refuted", "supported")


def test_the_mean_can_be_refuted():
    assert verdicts(synthetic(backward_law, typical=-3.0))[MEAN] == "refuted"


def test_an_exception_is_found_among_many():
    """The control: one width 5 % off in its scale, hidden among thousands that are right."""
    tables = synthetic(backward_law)
    gains = tables["gains"]
    wrong = (gains.width == 1024) & (gains.layers == gains.depth)
    tables["gains"] = gains.assign(log10_gain=gains.log10_gain + np.where(wrong, 4 / fw.LN, 0))
    assert verdicts(tables)[EXCEPTION] == "refuted"


def test_the_plan():
    for cells in fw.experiment.grid.values():
        seeds = [s for c in cells for s in range(c["seed"], c["seed"] + c["networks"])]
        assert len(seeds) == len(set(seeds))


# --- Ensembles -----------------------------------------------------------------------------


def test_a_network_of_unequal_widths_by_hand():
    """Forwards and backwards in plain NumPy: the gains are norms of its gradient."""
    widths = [12, 3, 12, 12]
    found = ensembles.gains_of_last(ensembles.he_profile(widths, [5, 6]), [1, 3])
    for seed in (5, 6):
        key = gaussian.key(seed, "finite width")
        x, dr = gaussian.normal(key, 3, (2, 1, 12))
        masks, weights = [], []
        for k in range(3):
            shape = widths[k], widths[k + 1]
            weights.append(gaussian.normal(key, k, shape) * (2 / widths[k]) ** 0.5)
            z = x @ weights[k]
            masks.append(z > 0)
            x = np.maximum(z, 0)
        norms = [np.linalg.norm(dr)]
        for W, mask in zip(weights[::-1], masks[::-1], strict=True):
            dr = (dr * mask) @ W.T
            norms.append(np.linalg.norm(dr))
        gains = found[found.seed == seed].set_index("layers").log10_gain
        expected = np.log10([norms[1] / norms[0], norms[3] / norms[0]])
        np.testing.assert_allclose(gains.loc[[1, 3]], expected, rtol=1e-12)


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


def test_massarts_band_and_p_value_hold_for_the_right_law_and_not_for_a_wrong_one():
    rng = np.random.default_rng(5)
    kinds = [rng.random(300) for _ in range(40)]
    # The band covers the true distance, 0.
    assert sum(ensembles.distance_from_law(places).low > 0 for places in kinds) <= 4
    assert ensembles.least_p_value(kinds).value > 0.05
    exact = stats.kstest(kinds[0], "uniform").pvalue
    assert ensembles.least_p_value(kinds[:1]).value >= exact
    assert ensembles.least_p_value([*kinds, rng.random(300) ** 1.4]).value < 1e-3
    assert ensembles.distance_from_law(rng.random(300) ** 1.4).low > 0
