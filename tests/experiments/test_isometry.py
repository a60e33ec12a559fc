"""Singular values of deep products, against arbitrary precision and closed forms."""

import math

import mpmath
import numpy as np
import pytest
from scipy import special

from experiments import isometry
from study.core.network import Network
from study.engines import jacobian
from study.engines.profile import profile
from study.sampling import gaussian
from study.theory import spectra

N = 7


def layers(kind, depth):
    """Weights and slopes of a product of width N."""
    rng = np.random.default_rng(depth)
    for _ in range(depth):
        W = rng.standard_normal((N, N)) / N**0.5
        if "orthogonal" in kind:
            W = np.linalg.qr(W)[0]
        slopes = np.ones(N)
        if "relu" in kind:
            slopes = 1.0 * (rng.permutation(N) < rng.integers(5, N + 1))
        if "smooth" in kind:
            slopes = rng.uniform(0.2, 1, N)
        yield W, slopes


def product_of(kind, depth):
    product = jacobian.Product(N)
    for W, slopes in layers(kind, depth):
        known = kind == "orthogonal smooth"
        product.multiply(W, slopes, slopes.max() / slopes.min() if known else math.inf)
    return product


def exact(kind, depth, rank):
    """ln of the singular values, with as many digits as they need."""
    with mpmath.workdps(40 + 4 * depth):
        J = mpmath.eye(N)
        for W, slopes in layers(kind, depth):
            J = mpmath.diag(slopes.tolist()) * mpmath.matrix(W.T.tolist()) * J
        values = mpmath.svd_r(J, compute_uv=False)
        return np.array([float(mpmath.log(values[k])) for k in range(rank)])


@pytest.mark.parametrize(
    "kind", ["linear", "smooth", "relu", "orthogonal relu", "orthogonal smooth"]
)
@pytest.mark.parametrize("depth", [1, 3, 4, 60])
def test_every_singular_value_is_that_of_arbitrary_precision(kind, depth):
    product = product_of(kind, depth)
    found = product.log_singular_values()
    assert np.all(np.diff(found[: product.rank]) <= 0)
    assert np.all(np.isneginf(found[product.rank :]))
    # Relative error of the values: what four layers' condition number leaves.
    np.testing.assert_allclose(found[: product.rank], exact(kind, depth, product.rank), atol=1e-8)


def test_a_plain_product_would_have_lost_them():
    """The control: multiplied out in float64, all but the first few are rounding error."""
    J = np.eye(N)
    for W, _ in layers("linear", 60):
        J = W.T @ J
    plain = np.log(np.linalg.svd(J, compute_uv=False))
    assert abs(plain - exact("linear", 60, N))[-1] > 10


def test_a_condition_number_that_is_too_small_costs_digits():
    product = jacobian.Product(N)
    for W, slopes in layers("linear", 60):
        product.multiply(W, slopes, condition=1.0)
    assert np.abs(product.log_singular_values() - exact("linear", 60, N)).max() > 1


def test_orthogonal_products_are_isometric_and_dead_ones_empty():
    product = jacobian.Product(N)
    for k in range(500):
        product.multiply(gaussian.haar(gaussian.key(0), k, N, N), np.ones(N))
    assert np.abs(product.log_singular_values()).max() < 1e-13
    product.multiply(np.eye(N), np.eye(N)[0])
    np.testing.assert_allclose(product.log_singular_values()[0], 0, atol=1e-13)
    product.multiply(np.eye(N), np.zeros(N))
    assert np.all(np.isneginf(product.log_singular_values()))


def test_gaussian_products_have_newmans_exponents():
    n, depth = 12, 4000
    found = jacobian.log10_singular_values([Network("linear", 1, n, sigma_w=1.0)], 3, [depth])[0, 0]
    exponents = spectra.lyapunov_exponents(n)
    # Var ln s_k per layer is a quarter of that of ln chi^2 of n - k + 1 degrees of freedom.
    error = np.sqrt(special.polygamma(1, np.arange(n, 0, -1) / 2) / 4 / depth)
    rates = found * math.log(10) / depth
    assert np.all(np.abs(rates - exponents) < 4 * error)
    assert np.any(np.abs(rates - exponents - 0.5 * math.log(1.05)) > 4 * error)  # the control


@pytest.mark.parametrize("law", ["gaussian", "orthogonal"])
def test_the_jacobian_is_that_of_the_dense_engine(law):
    """Six layers by hand: their singular values, and the gain of the engine's own gradient."""
    nets = [
        Network(name, 6, 16, sigma_w=w, sigma_b=b, weights=law)
        for name, w, b in (("tanh", 1.5, 0.3), ("relu", 2**0.5, 0.0), ("sigmoid", 4.0, 0.1))
    ]
    found = jacobian.log10_singular_values(nets, 5, [6])[:, 0]
    for net, own in zip(nets, found, strict=True):
        J, r = np.eye(16), gaussian.normal(gaussian.key(5, "inputs"), 0, (1, 16))
        for k in range(6):
            key = gaussian.key(5, "weights")
            G = gaussian.normal(key, k, (16, 16)) / 4
            W = gaussian.haar(key, k, 16, 16) if law == "orthogonal" else G
            b = gaussian.normal(gaussian.key(5, "biases"), k, (16,))
            z = net.sigma_w * (r @ W) + net.sigma_b * b
            J, r = J @ (net.sigma_w * W) * net.row.derivative(z, 0.0), net.row.phi(z)
        alive = np.isfinite(own)
        values = np.linalg.svd(J, compute_uv=False)
        # The plain ones are good to rounding of the largest.
        np.testing.assert_allclose(10 ** own[alive], values[alive], rtol=1e-9, atol=1e-14)
        c = gaussian.normal(gaussian.key(5, "cotangent"), 0, (1, 16))
        df = profile(net, [5], engine="dense")
        decay = (df.log10_derivative_factor + df.log10_weight_factor).sum()
        size = np.linalg.norm(J @ c[0]) / np.linalg.norm(c)
        np.testing.assert_allclose(decay, math.log10(size), rtol=1e-9)


def test_bad_input_is_named():
    nets = [Network("relu", 3, 8), Network("relu", 3, 9)]
    for wrong in (nets, [Network("relu", 3, 8, weights="uniform")]):
        with pytest.raises(ValueError, match="one width and one weight law"):
            jacobian.log10_singular_values(wrong, 0, [3])


# --- Theory -------------------------------------------------------------------


def test_directions_are_kept_and_lost_as_algebra_says():
    with np.errstate(under="ignore"):
        tables = isometry.measure(0, [4, 256])
    found = tables["spectra"].set_index(["activation", "weights", "depth"])
    assert found.loc["linear", "orthogonal", 256].filter(like="log10").abs().max() < 1e-9
    assert found.loc["linear", "gaussian", 256].surviving_directions < 1.5
    kept = found.loc["tanh", "orthogonal", 256]
    assert abs(kept.log10_s_1 - kept.log10_s_64) < 0.05
    lost = found.loc["tanh", "gaussian", 256]
    assert lost.log10_s_1 - lost.log10_s_64 > 100
    assert found.loc["relu", "orthogonal", 256].log10_s_64 == -np.inf
    norms = tables["gradient_norms"]
    assert (
        norms.groupby(["activation", "weights", "depth"])
        .layer.max()
        .unstack()
        .eq([3, 255])
        .all(axis=None)
    )
