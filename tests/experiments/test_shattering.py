"""Shattered gradients: theory in closed form, and networks against it."""

import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from experiments import shattering
from study.core.backprop import backward, forward
from study.core.blocks import BATCH, Dense, Normalised
from study.theory import blocks

# --- Theory --------------------------------------------------------------------------------


def test_erf_in_closed_form():
    """phi' = exp(-pi x^2 / 4), so that every mean over two normals is elementary."""
    sw2, q, c = 4.0, 4.0, 0.3
    log_variance = log_covariance = 0.0
    found = blocks.plain_shattering("erf", 2.0, 12, c_0=c)
    for k in range(12):
        t = math.pi * q / 2
        log_variance += math.log(sw2 / math.sqrt((1 + t) ** 2 - t**2))
        log_covariance += math.log(sw2 / math.sqrt((1 + t) ** 2 - (t * c) ** 2))
        assert_allclose(found.log_variance[k], log_variance, rtol=1e-9)
        assert_allclose(found.log_covariance[k], log_covariance, rtol=1e-9)
        q, both = (sw2 * 2 / math.pi * math.asin(t * x / (1 + t)) for x in (1.0, c))
        c = both / q


@pytest.mark.parametrize("c_0", [0.0, 0.6])
def test_relu_by_quadrature_is_relu_in_closed_form(c_0):
    general = blocks.plain_shattering("relu", 2**0.5, 30, c_0)
    assert_allclose(
        general.log_covariance, blocks.shattering(30, c_0=c_0).log_covariance, rtol=1e-9
    )
    assert_allclose(general.log_variance, 0, atol=1e-12)


def test_where_signals_have_arrived_the_rates_stay():
    """Stopping early changes nothing: sigmoid's likeness tends to a limit, chaotic tanh's falls."""
    ordered = blocks.plain_shattering("sigmoid", 4.0, 60).correlation
    assert ordered[-1] == pytest.approx(ordered[40], rel=1e-9)
    assert 0.1 < ordered[-1] < 0.9
    chaotic = blocks.plain_shattering("tanh", 2.0, 60)
    fall = np.diff(chaotic.log_covariance - chaotic.log_variance)
    assert_allclose(fall[-1], fall[30], rtol=1e-9)
    assert fall[-1] < -0.2


def test_scales_of_batch_normalisation_in_closed_form():
    """Var relu = (1 - 1/pi) / 2, so the spread grows by 1 - 1/pi a block of unit mean square."""
    scales = blocks.normalised_scales(50)
    assert_allclose(scales**-2, 1 + np.arange(50) * (1 - 1 / math.pi), rtol=1e-12)
    assert_allclose(blocks.normalised_scales(50, batch=32), scales * (32 / 29) ** 0.5)
    linear = blocks.normalised_scales(9, "linear", 1.0)
    assert_allclose(linear, blocks.branch_scales("1/sqrt(l)", 9), rtol=1e-12)


# --- Networks ------------------------------------------------------------------------------


def likeness(rows):
    return shattering.likeness(rows[["covariance", "variance"]].to_numpy())


def test_networks_follow_theory():
    tables = [shattering.measure("orthogonal", seed, [4, 2]) for seed in range(10)]
    overlaps = pd.concat([table["overlaps"] for table in tables])
    for (kind, depth), own in overlaps.groupby(["kind", "depth"]):
        expected = own.expected.iloc[0]
        off = abs(likeness(own) - expected)
        spread = (own.covariance.std() + expected * own.variance.std()) / own.variance.mean()
        # Three finite-width and finite-batch corrections of some 1 / 32 beside the noise.
        assert off < 4 * spread / 10**0.5 + 0.1 * expected, (kind, depth)
    at = overlaps[overlaps.depth == 4].groupby("kind").apply(likeness)
    assert at["relu"] > 1.5 * at["relu, coins"]  # the control: the two theories are told apart
    assert at["residual"] > 1.1 * at["residual, coins"]


def test_digits_are_not_at_right_angles():
    found = shattering.measure("digits", 0, [1])["overlaps"].set_index("kind")
    right = shattering.expected(shattering.KINDS["relu"], 1, 0.0)[0]
    assert found.expected["relu"] > 1.1 * right
    assert_allclose(found.expected["relu, coins"], right, rtol=1e-12)


def test_overlaps_are_those_of_each_pair():
    rng = np.random.default_rng(3)
    x, u, weights = rng.normal(size=(3, 6)), rng.normal(size=(2, 6)), rng.normal(size=(4, 6, 6))
    layers = [Dense(W, "tanh") for W in weights]
    covariance, variance = shattering.overlaps(layers, [4, 2], x, u)
    for j, depth in enumerate([4, 2]):
        g = np.empty((2, 3, 6))
        for m, i in np.ndindex(2, 3):
            trace, _ = forward(layers[:depth], x[[i]])
            *_, last = backward(trace, u[[m]])
            g[m, i] = last.dr[0]
        gram = np.mean(g @ g.mT, axis=0)
        assert variance[j] == pytest.approx(np.trace(gram) / 3, rel=1e-12)
        pairs = gram[np.triu_indices(3, 1)].mean()
        assert covariance[j] == pytest.approx(pairs, rel=1e-9, abs=1e-12 * variance[j])


def test_batch_normalisation_of_own_outputs_is_differentiated_through():
    rng = np.random.default_rng(5)
    x, u = rng.normal(size=(8, 6)), rng.normal(size=(1, 6))
    layers = [Normalised(W, "tanh", BATCH) for W in rng.normal(size=(3, 6, 6))]
    covariance, variance = shattering.own_overlaps(layers, [3, 1], x, u)
    for j, depth in enumerate([3, 1]):
        g = np.empty((shattering.OWN, 6))
        for i in range(shattering.OWN):
            trace, _ = forward(layers[:depth], x)
            dr = np.zeros_like(x)
            dr[i] = u
            *_, last = backward(trace, dr)
            g[i] = last.dr[i]
        gram = g @ g.T
        assert variance[j] == pytest.approx(np.trace(gram) / len(g), rel=1e-12)
        pairs = gram[np.triu_indices(len(g), 1)].mean()
        assert covariance[j] == pytest.approx(pairs, rel=1e-9, abs=1e-12 * variance[j])


def test_averages_are_taken_before_the_division():
    frame = pd.DataFrame({"covariance": [1.0, 0.0], "variance": [1.0, 9.0]})
    assert likeness(frame) == 0.1
