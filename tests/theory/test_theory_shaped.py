"""Shaped activations, against Hermite series and the numbers of their authors' own package."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

import study
from study import theory
from study.theory.shaped import dks, tat, tat_leaky_relu

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(140)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
ORDERS = np.arange(60)
PLAIN = {
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
    "gelu": lambda x: x * special.ndtr(x),
}
SMOOTH = ("tanh", "sigmoid", "gelu", "softplus", "erf")


def shares(phi, q=1.0):
    """a_k^2 of phi(sqrt(q) x) = sum a_k He_k / sqrt(k!): C(c) = sum a_k^2 c^k (Daniely 2016)."""
    polynomials = np.polynomial.hermite_e.hermevander(NODES, len(ORDERS) - 1)
    coefficients = (WEIGHTS * phi(math.sqrt(q) * NODES)) @ polynomials
    return coefficients**2 / special.factorial(ORDERS)


def variance_slope(phi, h=1e-4):
    return (shares(phi, 1 + h).sum() - shares(phi, 1 - h).sum()) / (2 * h)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("depth", [3, 40, 3000])
def test_deep_kernel_shaping_meets_its_conditions(name, depth):
    row = dks(name, depth)
    a2 = shares(row.phi)
    assert_allclose(a2.sum(), 1, rtol=1e-11)
    assert_allclose(variance_slope(row.phi), 1, rtol=1e-6)
    assert a2[0] < 1e-24
    assert_allclose((ORDERS @ a2) ** depth, 1.5, rtol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("depth", [3, 40, 3000])
def test_tailored_transformation_meets_its_conditions(name, depth):
    row = tat(name, depth)
    a2 = shares(row.phi)
    assert_allclose([a2.sum(), ORDERS @ a2], 1, rtol=1e-10)
    assert_allclose(variance_slope(row.phi), 1, rtol=1e-6)
    assert_allclose(depth * ORDERS * (ORDERS - 1) @ a2, 0.3, rtol=1e-6)


def test_unshaped_activations_meet_none_of_them():
    """The negative control: even at the scale at which V(1) = 1."""
    for phi in (np.tanh, PLAIN["gelu"]):
        a2 = shares(phi)
        a2 /= a2.sum()
        assert abs((ORDERS @ a2) ** 40 - 1.5) > 0.5
        assert abs(variance_slope(phi) / shares(phi).sum() - 1) > 0.05


# Scale and shift of the input and of the output, as the authors' tests print them, rounded:
# github.com/google-deepmind/dks, tests/test_activation_transform.py. Their network's share of zeta
# and tau that falls to one layer is computed from them.
PRINTED = {
    (dks, "softplus"): (0.1876100817, 0.4068806344, 8.878672544, -0.9213466151),
    (dks, "tanh"): (0.07461073057541, 0.5566915199964, 18.00263596444, -0.5034378768692),
    (dks, "gelu"): (0.07043253127, 0.2594892979, 20.21158902, -0.1581537896),
    (tat, "softplus"): (0.1501148979, 0.5374599901, 10.54880188, -0.9964810145),
    (tat, "tanh"): (0.05802052186, 0.5218638044, 22.36066262, -0.4796430704),
}


@pytest.mark.parametrize(("method", "name"), PRINTED)
def test_parameters_are_those_of_the_authors(method, name):
    alpha, beta, gamma, delta = PRINTED[method, name]

    def printed(x):
        return gamma * (PLAIN[name](alpha * x + beta) + delta)

    factor = ORDERS if method is dks else ORDERS * (ORDERS - 1)
    row = method(name, 1, float(factor @ shares(printed)))
    x = np.linspace(-4, 4, 9)
    assert_allclose(row.phi(x), printed(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.9, 0.5])
def test_tailored_leaky_relu_brings_inputs_together_as_asked(eta):
    row = tat_leaky_relu(12, eta)
    assert_allclose(theory.variance_map(row, 3.0, 1.0), 3.0, rtol=1e-14)
    correlations = {}
    for kind, sigma_w in ((row, 1.0), ("relu", math.sqrt(2))):
        c = 0.0
        for _ in range(12):
            c = float(theory.correlation_map(kind, c, 1.0, sigma_w))
        correlations[kind] = c
    expected = min(eta, correlations["relu"])  # a shallow network falls short with any slope
    assert_allclose(correlations[row], expected, rtol=1e-9)


def test_a_shaped_row_is_a_row_like_any_other():
    row = dks("tanh", 60)
    z = np.linspace(-3, 3, 7)
    slopes = row.textbook(z + 1e-30j).imag / 1e-30
    assert_allclose(row.derivative(z), slopes, rtol=1e-13)
    assert row.phi(z.astype("float32")).dtype == np.float32
    tailored = tat("gelu", 60)
    phases = [theory.mean_field(tailored, sigma_w).phase for sigma_w in (0.999, 1.001)]
    assert phases == ["ordered", "chaotic"]
    shaped, plain = (
        study.profile(study.Network(kind, 60, 256, sigma_w=1.0), seeds=range(4), layers=2)
        for kind in (row, "tanh")
    )
    lost = [
        df.groupby("layer").log10_upstream_norm.mean().diff().iloc[-1] for df in (shaped, plain)
    ]
    assert abs(lost[0]) < 0.25 < lost[1]
