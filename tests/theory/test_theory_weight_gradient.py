"""The norm of dC/dW that theory expects, against networks."""

import numpy as np
import pytest

import study
from study.theory.gradient_norms import log10_norms

DEPTH, LAYERS = 200, [0, 1, 100, 198, 199]


@pytest.mark.parametrize(
    ("activation", "sigma_w", "sigma_b", "width", "weights"),
    [
        ("sigmoid", 1.0, 0.0, 64, "gaussian"),
        ("tanh", 1.0, 0.0, 64, "gaussian"),
        ("tanh", 2.0, 0.3, 64, "gaussian"),
        ("relu", 2.0, 0.0, 64, "gaussian"),
        ("relu", 1.0, 0.5, 64, "gaussian"),
        ("selu", 1.0, 0.0, 64, "gaussian"),
        ("relu", 2**0.5, 0.0, 48, "uniform"),
    ],
)
def test_theory_expects_what_networks_have(activation, sigma_w, sigma_b, width, weights):
    net = study.Network(
        activation=activation, depth=DEPTH, width=width, sigma_w=sigma_w, sigma_b=sigma_b,
        weights=weights
    )  # fmt: skip
    norms = study.profile(net, seeds=range(60)).log10_grad_norm.to_numpy().reshape(60, DEPTH)
    of = (activation, sigma_w, sigma_b, DEPTH, width, LAYERS)
    finite, infinite = log10_norms(*of, weights), log10_norms(*of)
    mean, error = norms.mean(axis=0)[LAYERS], norms.std(axis=0)[LAYERS] / 60**0.5
    away = np.abs(mean - finite)
    assert (away < 4 * error + 0.04).all(), (mean, finite, error)
    # The negative control: infinite width is not what such networks have next to the input.
    assert np.abs(mean - infinite)[0] > max(4 * error[0], 3 * away[0])
    assert np.abs(finite - infinite)[0] < 0.03 * DEPTH  # and no more than its order


@pytest.mark.parametrize("sigma_b", [0.0, 1.0, 3.0])
def test_one_layer_is_known_exactly(sigma_b):
    """||dC/dW||^2 = |x|^2 |dC/dz|^2: a chi^2 of n degrees of freedom, and here 1."""
    found = log10_norms("linear", 1.5, sigma_b, 1, 40, [0], "gaussian")
    expected = (np.log(40) - 1 / 40) / np.log(100)
    # What the gain counts is dC/dr^(0), whose weights add the -1 / n of another chi^2.
    np.testing.assert_allclose(found, expected - 1 / 40 / np.log(100), rtol=1e-12)


def test_a_bias_that_outweighs_the_weights_leaves_their_signal():
    mean_square = study.theory.variance_map("tanh", 4.0, 1.0)  # of r, from the bias alone
    slope = study.theory.gradient_factor("tanh", 4.0, 1.0)
    expected = 0.5 * np.log10(50 * mean_square * slope)
    for sigma_w, weights in ((1e-9, None), (2e-5, "gaussian")):
        found = log10_norms("tanh", sigma_w, 2.0, 3, 50, [0, 1, 2], weights)
        np.testing.assert_allclose(found[2], expected, atol=0.02)


def test_it_goes_beyond_every_float():
    up = log10_norms("relu", 2.0, 0.0, 5000, 100, [0, 4999])
    np.testing.assert_allclose(up, 0.5 * 4999 * np.log10(2) + 0.5 * np.log10(50), rtol=1e-9)
    down = log10_norms("tanh", 0.5, 0.0, 3000, 64, [0, 2999], "gaussian")
    assert (np.abs(down + 912.2) < 0.2).all()


@pytest.mark.parametrize("sigma_w", [0.2, 30.0])
def test_where_floats_lose_the_variance_the_tangent_goes_on(sigma_w):
    """In layers so far from 1 that SELU is as good as homogeneous, all norms are the same."""
    far = log10_norms("selu", sigma_w, 0.0, 300, 64, range(200, 300))
    np.testing.assert_allclose(far, far[0], rtol=1e-9, atol=0)
