"""Networks of several depths side by side are those networks one by one, beyond floats too."""

import math

import numpy as np
import pytest

from study.core.backprop import backward, forward
from study.core.blocks import Dense, Linear, Residual
from study.engines.pullback import pullback


def test_each_network_has_the_gradient_that_it_has_alone():
    rng = np.random.default_rng(3)
    x, cotangent = rng.normal(size=(2, 5, 7))
    weights = rng.normal(size=(4, 2, 7, 7)) / 7**0.5
    depths, scales = [4, 4, 2, 1], rng.uniform(0.2, 2.0, size=(4, 4, 1, 1))

    def layer(k, count):
        W, V = weights[k]
        return Residual([Dense(W, "relu"), Linear(V, scales[:count, k])])

    found = pullback(layer, depths, x[None], cotangent)
    for j, depth in enumerate(depths):
        alone = [
            Residual([Dense(weights[k, 0], "relu"), Linear(weights[k, 1], scales[j, k])])
            for k in range(depth)
        ]
        trace, _ = forward(alone, x)
        *_, last = backward(trace, cotangent)
        gradient = np.ldexp(found.mantissa[j], found.exponent[j])
        np.testing.assert_allclose(gradient, last.dr, rtol=1e-12, atol=1e-14)
        norm = np.log10(np.linalg.norm(last.dr))
        assert found.log10_norms()[j] == pytest.approx(norm, abs=1e-12)


def test_gradients_go_on_where_floats_end_and_a_true_zero_stays_one():
    W, dr = np.eye(4) * 1e-3, np.ones((1, 4))
    norms = pullback(lambda k, _: Dense(W, "linear"), [2000, 5], 0 * dr[None], dr).log10_norms()
    np.testing.assert_allclose(norms, np.array([-6000.0, -15.0]) + np.log10(2))
    zero = pullback(lambda k, _: Dense(0 * W, "relu"), [2], dr[None], dr)
    assert zero.log10_norms().tolist() == [-math.inf]


@pytest.mark.parametrize("depths", [[1, 2], [2, 0]])
def test_depths_out_of_order_are_named(depths):
    x = np.ones((1, 2))
    with pytest.raises(ValueError, match=r"depths = .*allowed"):
        pullback(lambda k, _: Dense(np.eye(2), "relu"), depths, x[None], x)
