"""The laws of finite width against arbitrary precision, closed forms and explicit networks."""

import itertools
import math

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import special, stats
from witness_arb import bits

from study.core.backprop import backward, forward
from study.core.blocks import Dense
from study.theory import finite_width, fluctuations


def within(sample, exact, sigmas=4.0):
    """Whether the mean of the sample is the exact one, to 4 standard errors."""
    return abs(np.mean(sample) - exact) < sigmas * np.std(sample) / math.sqrt(len(sample))


def variance_within(sample, exact):
    return within((sample - np.mean(sample)) ** 2, exact)


def cumulants_in_balls(n):
    """Those of ln(2 chi^2_B / n), summed as they are defined, in 60 digits."""
    with bits(200):
        reach = n if n <= 2000 else int(6 * n**0.5)
        first, last = max(1, n // 2 - reach), min(n, n // 2 + reach)
        log_p = flint.arb(n + 1).lgamma() - flint.arb(first + 1).lgamma()
        p = (log_p - flint.arb(n - first + 1).lgamma() - n * flint.arb(2).log()).exp()
        rows = []
        for k in range(first, last + 1):
            x = flint.arb(k) / 2
            rows.append((p, x.digamma() + (flint.arb(4) / n).log(), flint.arb(2).zeta(x)))
            p = p * (n - k) / (k + 1)
        total = sum(row[0] for row in rows)
        mean = sum(p * a for p, a, _ in rows) / total
        second = sum(p * (b + (a - mean) ** 2) for p, a, b in rows) / total
        return [float(mean), float(second)]


@pytest.mark.parametrize("n", [2, 3, 10, 101, 1000, 100_000])
def test_cumulants_equal_sums_in_arbitrary_precision(n):
    assert_allclose(finite_width.masked_cumulants(n), cumulants_in_balls(n), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [10**5, 10**6, 10**9])
def test_cumulants_of_wide_layers_have_their_expansion(n):
    mean, variance = finite_width.masked_cumulants(n)
    assert_allclose(
        mean, -5 / (2 * n) - 49 / (12 * n**2), rtol=20 / n**2 + 1e-13 + 1e-15 * n**0.5, atol=0
    )
    assert_allclose(variance, 5 / n + 37 / (2 * n**2), rtol=40 / n**2 + 1e-12, atol=0)
    assert_allclose(finite_width.spherical_cumulants(n), (-1.5 / n, 3 / n), rtol=6 / n, atol=0)


@pytest.mark.parametrize("n", [1, 2, 5, 40, 1000, 10**6])
def test_one_gaussian_layer_is_a_mixture_of_incomplete_gamma_functions(n):
    law = finite_width.forward_law([n, n])
    units, p = finite_width.active_units(n)
    x = law.mean + math.sqrt(law.variance) * np.linspace(-4, 3, 9)
    with np.errstate(under="ignore"):
        exact = special.gammainc(units / 2, np.exp(x)[:, None] * n / 4) @ p
    assert_allclose(law.cdf(x), exact, rtol=0, atol=3e-13)
    assert abs(law.cdf(law.median) - 0.5) < 1e-11
    if 1 < n <= 40:  # the control: the normal law of the same mean and variance is another
        normal = special.ndtr((x - law.mean) / math.sqrt(law.variance))
        assert np.abs(normal - exact).max() > 1e-3


@pytest.mark.parametrize("n", [16, 31, 32, 33, 40, 64, 1000])
def test_the_median_of_one_linear_layer_is_that_of_chi_squared(n):
    """Also where half of the width is where Stirling's series begins."""
    law = finite_width.NormLaw(0.0, plain=(n,))
    assert_allclose(law.median, np.log(stats.chi2.median(n) / n), atol=1e-13)
    assert_allclose(law.cdf(law.median), 0.5, rtol=1e-12)


@pytest.mark.parametrize("n", [64, 500])
def test_one_orthogonal_layer_is_a_mixture_of_incomplete_beta_functions(n):
    law = finite_width.forward_law([n, n], weights="orthogonal")
    units, p = finite_width.active_units(n)
    units, p = units[units < n], p[units < n]
    x = law.mean + math.sqrt(law.variance) * np.linspace(-4, 3, 9)
    with np.errstate(under="ignore"):
        exact = special.betainc(units / 2, (n - units) / 2, np.exp(x)[:, None] / 2) @ p
    assert_allclose(law.cdf(x), exact, rtol=0, atol=1e-12)


def square(x):
    return np.sum(x**2, axis=(1, 2))


def networks(widths, size, seed, weights, activation, sigma_w):
    """Squared norms of explicit networks: the signal's growth, the gradient's, those of dC/dW."""
    rng = np.random.default_rng(seed)

    def sphere(n):
        v = rng.standard_normal((size, 1, n))
        return v / np.linalg.norm(v, axis=-1, keepdims=True)

    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        if weights == "orthogonal":
            W = stats.ortho_group.rvs(n_in, size, random_state=rng)
        else:
            W = rng.standard_normal((size, n_in, n_out)) / math.sqrt(n_in)
        layers.append(Dense(sigma_w * W, activation))
    trace, top = forward(layers, sphere(widths[0]))
    steps = list(backward(trace, sphere(widths[-1])))[::-1]
    return square(top), square(steps[0].dr), [square(x.r) * square(x.delta) for x in steps]


CASES = [
    ([12, 5, 20, 7, 9], "gaussian", "relu", 1.3),
    ([6] * 13, "gaussian", "relu", 2**0.5),
    ([8] * 9, "orthogonal", "relu", 1.5),
    ([3, 4, 2, 5], "gaussian", "linear", 0.8),
]


@pytest.mark.parametrize(("widths", "weights", "activation", "sigma_w"), CASES)
def test_laws_are_those_of_explicit_networks(widths, weights, activation, sigma_w):
    args = (activation, weights, sigma_w)
    signal, gradient, by_layer = networks(widths, 4000, 7, weights, activation, sigma_w)
    alive = signal > 0
    pairs = [
        (signal, finite_width.forward_law(widths, *args)),
        (gradient, finite_width.backward_law(widths, *args)),
    ]
    middle = len(widths) // 2 - 1
    for layer in (0, middle, len(widths) - 2):
        law = finite_width.weight_gradient_law(widths, layer, *args)
        pairs.append((by_layer[layer], law))
    for squares, law in pairs:
        assert within(alive, law.alive) or law.alive == 1
        log_g = np.log(squares[alive])
        assert within(log_g, law.mean)
        assert variance_within(log_g, law.variance)
        ranks = law.cdf(np.sort(log_g)) - (np.arange(log_g.size) + 0.5) / log_g.size
        assert np.abs(ranks).max() < 1.95 / math.sqrt(log_g.size)  # Kolmogorov, p = 0.001
        assert not within(log_g, law.mean + 0.1 * math.sqrt(law.variance))  # the control


def test_typical_and_mean_part_company():
    law = finite_width.forward_law([100] * 1001)
    assert abs(law.log_expectation) < 1e-12
    assert law.median < -25
    assert abs(law.cdf(2 * math.log(1e-3)) - 0.946) < 1e-3  # the share of norms below 1e-3
    scaled = finite_width.forward_law([100] * 1001, sigma_w=1.0)
    assert_allclose(scaled.mean - law.mean, -1000 * math.log(2), rtol=1e-12)
    assert_allclose(scaled.variance, law.variance, rtol=1e-15)


def test_what_is_certain():
    rigid = finite_width.forward_law([7] * 5, "linear", "orthogonal", 2.0)
    assert_allclose(rigid.mean, 8 * math.log(2), rtol=1e-15)
    assert (rigid.variance, rigid.alive) == (0, 1)
    assert rigid.quantile(0.3) == rigid.median == rigid.mean
    assert list(rigid.cdf(np.array([0.0, 9.0]))) == [0.0, 1.0]


@given(st.lists(st.integers(2, 300), min_size=4, max_size=9))
def test_what_holds_for_every_network(widths):
    law = finite_width.forward_law(widths)
    x = law.mean + math.sqrt(law.variance) * np.linspace(-6, 6, 60)
    cdf = law.cdf(x)
    assert np.all(np.diff(cdf) > -1e-13)
    assert law.quantile(0.1) < law.median < law.quantile(0.9)
    # Jensen, for the living; the dead pull the expectation down.
    assert law.mean < law.log_expectation - math.log(law.alive)
    swapped = finite_width.weight_gradient_law(widths, len(widths) - 2)
    assert swapped.variance > law.variance - finite_width.masked_cumulants(widths[-1])[1]


def test_second_order_of_the_kurtosis_shift():
    """One layer of coins: ln of a mean of n terms d t^2, t with a known fourth moment."""
    n, width = 200, 10**9
    first, second = (
        fluctuations.kurtosis_shift([n] * 3, "relu", kappa) for kappa in (3 + 1e-6, 3 + 2e-6)
    )
    per_unit = (second.mean - first.mean) / 1e-6
    # -(f rho / 2n) (1 - 3/n), f = 3 / (n + 2) at the input and (6 - 18/n) / n after it.
    exact = -(3 / (n + 2) + (6 - 18 / n) / n) / n * (1 - 3 / n)
    assert_allclose(per_unit, exact, rtol=1e-4)
    leading = fluctuations.kurtosis_shift([width] * 2, "relu", 1.8)
    assert_allclose(leading.variance, -2 * leading.mean, rtol=1e-7)
