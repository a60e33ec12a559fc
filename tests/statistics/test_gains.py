"""Gains over the last layers and their two factors, against plain NumPy and the laws."""

import numpy as np
import pandas as pd
import pytest

from study.sampling import gaussian
from study.statistics import gains
from study.theory.dying import born_dead

WIDTHS = [12, 3, 12, 12]


def test_a_network_of_unequal_widths_by_hand():
    """Forwards and backwards in plain NumPy: the gains are norms of its gradient."""
    df = gains.he_profile(WIDTHS, [5, 6])
    found = gains.gains(df, [5, 6], [1, 3], {"kind": "mine"})
    assert list(found.columns) == [
        "kind", "layers", "depth", "seed", "log10_gain", "layers_alive",
    ]  # fmt: skip
    for seed in (5, 6):
        key = gaussian.key(seed, "finite width")
        x, dr = gaussian.normal(key, 3, (2, 1, 12))
        masks, weights = [], []
        for k in range(3):
            shape = WIDTHS[k], WIDTHS[k + 1]
            weights.append(gaussian.normal(key, k, shape) * (2 / WIDTHS[k]) ** 0.5)
            z = x @ weights[k]
            masks.append(z > 0)
            x = np.maximum(z, 0)
        norms = [np.linalg.norm(dr)]
        for W, mask in zip(weights[::-1], masks[::-1], strict=True):
            dr = (dr * mask) @ W.T
            norms.append(np.linalg.norm(dr))
        own = found[found.seed == seed].set_index("layers").log10_gain
        expected = np.log10([norms[1] / norms[0], norms[3] / norms[0]])
        np.testing.assert_allclose(own.loc[[1, 3]], expected, rtol=1e-12)


def test_running_and_mean_factors_are_sums_of_the_layers():
    df = gains.he_profile([16] * 6, range(3)).assign(seed=np.repeat([0, 1, 2], 5))
    df = df.reset_index(drop=True)
    running = gains.running_factors(df, ["seed"])
    assert set(running) == {"seed", *list(gains.FACTORS)[:3]}
    means = gains.mean_factors(df, ["seed"], 1, 4)
    assert set(means) == {"seed", *list(gains.FACTORS)[3:]}
    for seed, own in df.groupby("seed"):
        down = running[running.seed == seed].set_index("layers_passed")
        inner = own[own.layer.between(1, 3)]
        for name, column, mean in (
            ("derivative", "log10_derivative_factor", "log10_derivative"),
            ("weights", "log10_weight_factor", "log10_weight"),
        ):
            assert down[name].loc[5] == pytest.approx(own[column].sum(), rel=1e-12)
            assert down[name].loc[1] == own[column].iloc[-1]
            assert means[mean][seed] == pytest.approx(inner[column].mean(), rel=1e-12)
        largest = own.log10_derivative_factor.max()
        assert means.log10_derivative_largest[seed] == largest


def table(share_of_deaths):
    """Networks of width 4, 64 layers deep, that die as often as is asked at every depth."""
    rng = np.random.default_rng(0)
    chance = share_of_deaths * 2.0**-4
    alive = np.minimum(rng.geometric(chance, 4000) - 1, 64)
    return pd.DataFrame({"width": 4, "layers_alive": alive})


def test_deaths_are_counted_beside_those_expected():
    right, half = (gains.deaths_at_half_life(table(share)) for share in (1.0, 0.5))
    assert right.low < 1 < right.high
    assert half.high < 0.8
    shares = gains.deaths_by_depth(table(1.0))
    np.testing.assert_allclose(shares.theory, [born_dead([4] * d) for d in shares.depth])
    assert (abs(shares.value - shares.theory) < 2 * shares.half).all()
    wrong = gains.deaths_by_depth(table(0.5))
    assert (abs(wrong.value - wrong.theory) > 2 * wrong.half).any()
