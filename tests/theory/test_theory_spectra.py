"""Spectra of Jacobians, and deep linear networks, against closed forms and random matrices."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

from study.core.activations import activation
from study.theory import deep_linear, finite_width, maps
from study.theory.spectra import spectrum


def moment(density, k):
    with np.errstate(under="ignore"):
        return np.trapezoid(np.exp(k * density.log_x) * density.density, -density.log_x)


@pytest.mark.parametrize("depth", [1, 2, 5, 32])
def test_gaussian_products_have_fuss_catalan_moments(depth):
    at = spectrum("linear", depth)
    density = at.density()
    for k in range(4):
        exact = special.comb((depth + 1) * k, k) / (depth * k + 1)
        assert_allclose(moment(density, k), exact, rtol=3e-4)
    assert_allclose(at.largest, (depth + 1) ** (depth + 1) / depth**depth, rtol=1e-12)
    assert (at.zero_mass, at.top_mass, at.normalised_variance) == (0, 0, depth)


def test_marchenko_pastur():
    log_x, density = spectrum("linear", 1).density()
    x = np.exp(log_x)
    assert_allclose(density, np.sqrt(x * (4 - x)) / (2 * math.pi), rtol=1e-5)
    # One layer of ReLU halves the rank: the ratio is 1/2, the ends (1 +- sqrt(1/2))^2.
    log_x, density = spectrum("relu", 1).density()
    y, ends = np.exp(log_x) / 2, (1 + np.array([-1, 1]) * 0.5**0.5) ** 2
    exact = np.sqrt(np.maximum((ends[1] - y) * (y - ends[0]), 0)) / (2 * math.pi)
    assert_allclose(density, exact, atol=1e-5)


def test_two_free_projections():
    """ReLU with orthogonal weights, two layers: the arcsine law and as much again at 0."""
    at = spectrum("relu", 2, "orthogonal")
    log_x, density = at.density()
    x = np.exp(log_x) / 4
    exact = np.sqrt(x / np.maximum(1 - x, 1e-12)) / (2 * math.pi)
    inner = x < 0.999
    assert_allclose(density[inner], exact[inner], rtol=1e-4)
    assert (round(at.largest, 9), at.zero_mass) == (4.0, pytest.approx(0.5))


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
@pytest.mark.parametrize(
    ("name", "q"),
    [
        ("relu", 1.0),
        ("leaky_relu", 1.0),
        ("hard_tanh", 0.2),
        ("hard_tanh", 1.0),
        ("erf", 0.1),
        ("tanh", 0.01),
        ("tanh", 1.0),
        ("erf", 40.0),
        ("sigmoid", 45.6),
        ("gelu", 1.0),
        ("selu", 1.0),
        ("softplus", 2.0),
    ],
)
def test_the_density_has_the_moments(name, q, weights):
    """Atoms and density together: mass 1, mean 1, and the variance known from mu_2."""
    at = spectrum(name, 8, weights, q)
    density = at.density()
    masses = moment(density, 0) + at.zero_mass + at.top_mass
    assert_allclose(masses, 1, atol=2e-4)
    assert_allclose(moment(density, 1) + at.top_mass * at.largest, 1, rtol=3e-4)
    second = moment(density, 2) + at.top_mass * at.largest**2
    assert_allclose(second, 1 + at.normalised_variance, rtol=3e-4)
    if at.top_mass == 0:
        assert abs(density.log_x[0] - math.log(at.largest)) < 1e-4
    else:  # the atom stands apart
        assert density.log_x[0] < math.log(at.largest) - 0.1


def test_printed_spectra():
    for name, weights, q, depth, variance, largest in (
        ("linear", "gaussian", 1.0, 32, 32, 88.3),
        ("relu", "gaussian", 1.0, 16, 32, 87.0),
        ("relu", "orthogonal", 1.0, 16, 16, 42.13),
        ("relu", "orthogonal", 1.0, 1, 1, 2),
        ("hard_tanh", "orthogonal", 0.2, 1, 0.0260, 1.026),
        ("hard_tanh", "orthogonal", 0.2, 4, 0.1040, 1.108),
        ("hard_tanh", "orthogonal", 0.2, 16, 0.416, 1.508),
        ("hard_tanh", "orthogonal", 0.2, 64, 1.664, 4.489),
        ("hard_tanh", "gaussian", 0.2, 64, 65.7, None),
        ("erf", "orthogonal", 0.1, 64, 1.911, None),
        ("tanh", "orthogonal", 0.1, 1, 0.0397, None),
        ("tanh", "orthogonal", 1.0, 1, 0.5835, None),
        ("tanh", "orthogonal", 1e-4, 10_000, 7.99e-4, None),
    ):
        at = spectrum(name, depth, weights, q)
        assert at.normalised_variance == pytest.approx(variance, rel=1.5e-3)
        if largest is not None:
            assert at.largest == pytest.approx(largest, rel=1e-3)


def test_erf_variance_in_closed_form():
    """Pennington et al. 2018: mu_1 and mu_2 of erf are powers of 1 + pi q and 1 + 2 pi q."""
    for q in (1e-3, 0.1, 3.0, 40.0):
        t = math.pi * q
        exact = (1 + t) / math.sqrt(1 + 2 * t) - 1
        assert_allclose(spectrum("erf", 1, "orthogonal", q).normalised_variance, exact, rtol=1e-9)


def jacobian_eigenvalues(name, depth, weights, q, n, seed):
    """Of explicit networks whose pre-activations have variance q, over their mean."""
    rng, row = np.random.default_rng(seed), activation(name)
    j = np.eye(n)
    for _ in range(depth):
        w = rng.standard_normal((n, n)) / math.sqrt(n)
        if weights == "orthogonal":
            w, r = np.linalg.qr(w)
            w *= np.sign(np.diag(r))
        j = row.derivative(math.sqrt(q) * rng.standard_normal(n))[:, None] * (w @ j)
    with np.errstate(under="ignore"):
        eigenvalues = np.linalg.svd(j, compute_uv=False) ** 2
    return eigenvalues / eigenvalues.mean()


@pytest.mark.parametrize(
    ("name", "depth", "weights", "q"),
    [
        ("relu", 4, "gaussian", 1.0),
        ("hard_tanh", 8, "orthogonal", 0.3),
        ("tanh", 6, "orthogonal", 0.5),
        ("sigmoid", 3, "gaussian", 4.0),
    ],
)
def test_random_matrices_have_the_spectrum(name, depth, weights, q):
    at = spectrum(name, depth, weights, q)
    log_x, density = at.density()
    eigenvalues = np.concatenate(
        [jacobian_eigenvalues(name, depth, weights, q, 200, seed) for seed in range(4)]
    )
    cuts = np.exp(np.interp([0.1, 0.3, 0.5, 0.7, 0.9], *_distribution(log_x, density)))
    shares = np.array([np.mean(eigenvalues > cut) for cut in cuts])
    expected = (np.array([0.1, 0.3, 0.5, 0.7, 0.9])) * moment(at.density(), 0) + at.top_mass
    assert_allclose(shares, expected, atol=0.02)
    other = spectrum(name, 2 * depth, weights, q)  # the control: another depth
    log_x, density = other.density()
    cuts = np.exp(np.interp([0.1, 0.3, 0.5, 0.7, 0.9], *_distribution(log_x, density)))
    shares = np.array([np.mean(eigenvalues > cut) for cut in cuts])
    assert np.abs(shares - expected).max() > 0.05


def _distribution(log_x, density):
    """Share of the density's mass above, and where."""
    above = np.concatenate([[0.0], np.cumsum(-np.diff(log_x) * (density[1:] + density[:-1]) / 2)])
    return above / above[-1], log_x


def test_deep_networks_are_traced_to_the_end():
    for weights, q in (("gaussian", 1.0), ("orthogonal", 1e-4)):
        at = spectrum("tanh", 10_000, weights, q)
        assert_allclose(moment(at.density(), 0), 1, atol=2e-4)


# --- Deep linear networks ------------------------------------------------------------------


def test_lyapunov_exponents_add_up_to_the_determinant():
    exponents, variances = deep_linear.lyapunov_spectrum(30, sigma_w=0.8)
    rng = np.random.default_rng(0)
    log_det = np.array(
        [np.linalg.slogdet(0.8 * rng.standard_normal((30, 30)) / 30**0.5)[1] for _ in range(3000)]
    )
    error = math.sqrt(variances.sum() / log_det.size)
    assert abs(log_det.mean() - exponents.sum()) < 4 * error
    assert abs(log_det.var() / variances.sum() - 1) < 4 * math.sqrt(2 / log_det.size) + 0.02


def test_lyapunov_exponents_of_a_product():
    n, depth = 10, 3000
    exponents, variances = deep_linear.lyapunov_spectrum(n)
    rng, q, logs = np.random.default_rng(4), np.eye(n), np.zeros(n)
    for _ in range(depth):
        q, r = np.linalg.qr(rng.standard_normal((n, n)) @ q / math.sqrt(n))
        logs += np.log(np.abs(np.diag(r)))
    errors = np.sqrt(variances / depth)
    assert np.all(np.abs(logs / depth - exponents) < 4 * errors)
    wrong = exponents + 0.5 * math.log(1.05)  # the control: 2.5 % in the scale
    assert np.any(np.abs(logs / depth - wrong) > 4 * errors)


@pytest.mark.parametrize("law", ["gaussian", "orthogonal"])
def test_relu_exponents_add_up_to_volumes(law):
    """The first is half the exact law's mean; k of them are the growth of a volume."""
    n, k = 64, 5
    found, widths = deep_linear.relu_exponents(n, law), [n, n]
    assert_allclose(found[0], finite_width.forward_law(widths, "relu", law).mean / 2, rtol=1e-12)
    rng, logs = np.random.default_rng(0), []
    for _ in range(4000):
        frame = rng.standard_normal((n, k)) / n**0.5
        frame = np.linalg.qr(frame)[0] if law == "orthogonal" else frame
        kept = 2**0.5 * frame[rng.random(n) < 0.5]
        logs.append(0.5 * np.linalg.slogdet(kept.T @ kept)[1])
    error = np.std(logs) / len(logs) ** 0.5
    assert abs(np.mean(logs) - found[:k].sum()) < 4 * error
    other = deep_linear.relu_exponents(n, "orthogonal" if law == "gaussian" else "gaussian")
    assert abs(np.mean(logs) - other[:k].sum()) > 4 * error  # the control


def test_directions_left_are_those_of_the_thinnest_layer():
    rng, n, depth, k = np.random.default_rng(1), 20, 10, 7
    units = rng.binomial(n, 0.5, (20_000, depth)).min(axis=1)
    chance = deep_linear.directions_left(n, depth, k)
    error = (chance * (1 - chance) / len(units)) ** 0.5
    assert abs((units >= k).mean() - chance) < 4 * error
    assert abs((units >= k + 1).mean() - chance) > 4 * error  # the control


def test_printed_lyapunov_exponents():
    exponents, _ = deep_linear.lyapunov_spectrum(50)
    printed = [-0.0101, -0.1242, -0.3668, -0.8564, -2.591]
    assert_allclose(exponents[[0, 10, 25, 40, 49]], printed, atol=3e-4)
    assert np.all(np.diff(exponents) < 0)


def test_learning_time():
    times = [deep_linear.learning_time(d, 1.0, 0.5, 0.95) for d in (2, 4, 8, 16, 64, 1024, 4096)]
    assert [round(t, 3) for t in times] == [2.944, 3.37, 3.618, 3.751, 3.856, 3.89, 3.891]
    s, u, v = 1.7, 0.1, 1.6
    shallow = math.log(v * (s - u) / (u * (s - v))) / s
    assert_allclose(deep_linear.learning_time(2, s, u, v), shallow, rtol=1e-13)
    deepest = shallow / s + (1 / u - 1 / v) / s
    assert_allclose(deep_linear.learning_time(math.inf, s, u, v), deepest, rtol=1e-13)
    assert_allclose(deep_linear.learning_time(1, s, u, v), math.log((s - u) / (s - v)), rtol=1e-13)
    assert deep_linear.learning_time(3, s, u, u) == 0


def test_gradient_descent_takes_the_learning_time():
    for depth in (3, 40):
        a, eta, steps = 0.5 ** (1 / depth), 1e-3, 0
        while a**depth < 0.95:
            a += eta / depth * a ** (depth - 1) * (1 - a**depth)
            steps += 1
        assert_allclose(steps * eta, deep_linear.learning_time(depth, 1.0, 0.5, 0.95), rtol=2e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spectrum("relu", 0), r"depth = 0; allowed"),
        (lambda: spectrum("swish", 3), r"activation = 'swish'; allowed"),
        (lambda: spectrum("relu", 3, "uniform"), r"weights = 'uniform'; allowed: gaussian, ortho"),
        (lambda: spectrum("tanh", 3, q=0.0), r"q = 0.0; allowed"),
        (lambda: spectrum("linear", 3, "orthogonal").density(), r"no density; allowed: depth >= 2"),
        (lambda: spectrum("tanh", 1, "orthogonal").density(), r"depth = 1, .*no density"),
        (lambda: deep_linear.lyapunov_spectrum(0), r"n = 0; allowed"),
        (lambda: deep_linear.learning_time(2.5, 1.0, 0.1, 0.2), r"depth = 2.5; allowed"),
        (lambda: deep_linear.learning_time(2, 1.0, 0.1, 1.0), r"end = 1.0; allowed"),
        (lambda: deep_linear.learning_time(2, 1.0, 0.3, 0.2), r"start = 0.3; allowed"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_mean_is_that_of_mean_field_theory():
    """What `spectrum` divides by: the mean eigenvalue of a network at scale sigma_w is chi^L."""
    eigenvalues, rng = [], np.random.default_rng(2)
    chi = maps.gradient_factor("tanh", 0.7, 1.3)
    for _ in range(6):
        d = activation("tanh").derivative(math.sqrt(0.7) * rng.standard_normal((2, 300)))
        w = 1.3 * rng.standard_normal((2, 300, 300)) / math.sqrt(300)
        j = (d[1][:, None] * w[1]) @ (d[0][:, None] * w[0])
        eigenvalues.append(np.sum(j**2) / 300)
    assert abs(np.mean(eigenvalues) - chi**2) < 4 * np.std(eigenvalues) / math.sqrt(6)


@pytest.mark.parametrize(("depth", "weights"), [(2, "gaussian"), (4, "orthogonal")])
def test_largest_eigenvalue_of_finite_networks(depth, weights):
    """Tracy and Widom's shift tells where the largest of finite matrices is, not the edge."""
    rng, n, logs = np.random.default_rng(depth), 96, []
    for _ in range(150):
        J = np.eye(n)
        for _ in range(depth):
            W = rng.standard_normal((n, n)) / math.sqrt(n)
            W = np.linalg.qr(W)[0] if weights == "orthogonal" else W
            J = J @ W * (rng.random(n) < 0.5)
        squares = np.linalg.eigvalsh(J.T @ J)
        logs.append(math.log(squares.max() / squares.mean()))
    at = spectrum("relu", depth, weights)
    error = 4 * np.std(logs) / math.sqrt(len(logs)) + depth / n
    assert abs(np.mean(logs) - math.log(at.largest_at(n))) < error
    assert at.largest_at(n) < at.largest_at(10 * n) < at.largest


def test_scale_of_the_edge_is_that_of_wishart_matrices():
    """Johnstone 2001: (sqrt n + sqrt n)^2 - 1.2065 (2 sqrt n) (2 / sqrt n)^(1/3), over n."""
    n = 10**9
    exact = 4 - 1.2065335745820 * 2 * 2 ** (1 / 3) * n ** (-2 / 3)
    shift = 4 - spectrum("linear", 1).largest_at(n)
    assert_allclose(shift, 4 - exact, rtol=1e-5)


@pytest.mark.parametrize(("name", "depth"), [("linear", 3), ("relu", 2), ("hard_tanh", 3)])
def test_edges_without_fluctuations_of_tracy_and_widom_are_refused(name, depth):
    with pytest.raises(ValueError, match="an atom or a hard edge; allowed: Gaussian"):
        spectrum(name, depth, "orthogonal", 0.2).largest_at(100)
