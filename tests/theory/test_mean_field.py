"""Mean-field theory against closed forms, rigorous integrals and the printed tables."""

import math

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import special
from witness_arb import PHI, SLOPE, normal_cdf, normal_density

from study import theory
from study.core.activations import LEAKY_SLOPE, SELU_ALPHA, SELU_LAMBDA, TABLE, activation
from study.theory.maps import half_square_step, overlap
from study.theory.quadrature import break_points, expectation, pair_mean

VARIANCES = (1e-6, 1e-3, 0.1, 1.0, 7.0, 45.6, 500.0)
NAMES = tuple(TABLE)


def assert_printed(value, text):
    """The value, rounded to as many decimals as were printed, is what was printed."""
    decimals = len(text.partition(".")[2])
    assert f"{value:.{decimals}f}" == text


def squares(name, q):
    """E phi^2 and E phi'^2."""
    return theory.variance_map(name, q, 1.0), theory.gradient_factor(name, q, 1.0)


def closed_form(name, q):
    s = np.sqrt(q)
    if name == "linear":
        return q, 1.0
    if name in ("relu", "leaky_relu"):
        share = (1 + (LEAKY_SLOPE if name == "leaky_relu" else 0.0) ** 2) / 2
        return q * share, share
    if name == "erf":
        t = np.pi * q / 2
        return 2 / np.pi * np.arcsin(t / (1 + t)), 1 / np.sqrt(1 + 2 * t)
    if name == "hard_tanh":
        inside = special.erf(1 / (s * math.sqrt(2)))
        edge = 2 * s * np.exp(-1 / (2 * q)) / math.sqrt(2 * math.pi)
        return q * inside - edge + special.erfc(1 / (s * math.sqrt(2))), inside
    alpha, scale = (SELU_ALPHA, SELU_LAMBDA) if name == "selu" else (1.0, 1.0)
    once, twice = special.erfcx(s / math.sqrt(2)) / 2, special.erfcx(s * math.sqrt(2)) / 2
    square = q / 2 + alpha**2 * (twice - 2 * once + 0.5)
    return scale**2 * square, scale**2 * (0.5 + alpha**2 * twice)


@pytest.mark.parametrize(
    "name", ["linear", "relu", "leaky_relu", "erf", "hard_tanh", "selu", "elu"]
)
def test_moments_have_their_closed_forms(name):
    q = np.array([0.05, 0.2, 1.0, 3.0, 30.0, 500.0])
    for computed, exact in zip(squares(name, q), closed_form(name, q), strict=True):
        assert_allclose(computed, np.broadcast_to(exact, q.shape), rtol=2e-13, atol=0)


def test_gauss_hermite_would_be_caught():
    z, w = np.polynomial.hermite_e.hermegauss(64)
    _, exact = closed_form("hard_tanh", 1.0)
    wrong = w @ activation("hard_tanh").derivative(z) ** 2 / w.sum()
    assert abs(wrong / exact - 1) > 1e-4
    assert_allclose(squares("hard_tanh", 1.0)[1], exact, rtol=1e-14, atol=0)


def rigorous(f, q):
    """E f(sqrt(q) z) by Arb's adaptive integration with proven error bounds."""
    flint.ctx.prec = 100
    s, norm = flint.arb(q).sqrt(), (2 * flint.arb.pi()).sqrt()
    ball = flint.acb.integral(
        lambda z, analytic: f(s * z, analytic) * (-z * z / 2).exp() / norm, -13, 13
    ).real
    assert ball.rad() < 1e-20 * abs(ball.mid())
    return float(ball.mid())


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "silu", "softplus"])
@pytest.mark.parametrize("q", VARIANCES)
def test_moments_equal_rigorous_integrals(name, q):
    def phi(z, analytic):
        return (1 + z.exp()).log(analytic=analytic) if name == "softplus" else PHI[name](z)

    mean_square, slope = squares(name, q)
    assert_allclose(mean_square, rigorous(lambda z, a: phi(z, a) ** 2, q), rtol=1e-13, atol=0)
    assert_allclose(slope, rigorous(lambda z, _: SLOPE[name](z, 1) ** 2, q), rtol=1e-13, atol=0)


GAPS = (1.9, 1.0, 0.3, 1e-2, 1e-5, 1e-9, 1e-12)


@pytest.mark.parametrize("gap", GAPS)
def test_arc_cosine_kernels(gap):
    """Cho and Saul 2009, in 60 digits: 1 - C keeps its own digits as c -> 1."""
    flint.ctx.prec = 200
    c = 1 - flint.arb(gap)
    angle = c.acos()
    share = 1 - angle / flint.arb.pi()
    kernel = (angle.sin() + c * (flint.arb.pi() - angle)) / flint.arb.pi()
    relu = activation("relu")
    half_step = half_square_step(relu, 9.0, gap) / 4.5
    assert_allclose(half_step, float(1 - kernel), rtol=2e-12 + 1e-16 / gap**0.5, atol=0)
    assert_allclose(2 * overlap(relu, 9.0, gap), float(share), rtol=1e-13, atol=0)
    a = LEAKY_SLOPE
    leaky = a**2 * float(c) + a * (1 - a) * float(c) + (1 - a) ** 2 * float(kernel) / 2
    computed = theory.correlation_map("leaky_relu", float(c), 5.0, 0.7)
    assert_allclose(computed, leaky * 2 / (1 + a**2), rtol=1e-11, atol=0)


@pytest.mark.parametrize("gap", [1.9, 0.3, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("q", [1e-6, 0.1, 1.0, 30.0, 500.0])
def test_erf_kernels(q, gap):
    """Williams 1997."""
    row, c, t = activation("erf"), 1 - gap, np.pi * q / 2
    product = pair_mean(lambda u, v: row.phi(u) * row.phi(v), row, q, gap)
    assert_allclose(product, 2 / np.pi * np.arcsin(t * c / (1 + t)), rtol=1e-12, atol=0)
    exact = 1 / np.sqrt((1 + t * gap) * (1 + t * (1 + c)))
    assert_allclose(overlap(row, q, gap), exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("c", [-0.7, 0.2, 0.9, 0.9999])
@pytest.mark.parametrize("q", [0.2, 1.0, 40.0])
def test_two_kinks_at_once(q, c):
    """P(|u1| < 1, |u2| < 1): hard-tanh's overlap of slopes."""
    flint.ctx.prec = 100
    row, s, spread = activation("hard_tanh"), flint.arb(q).sqrt(), (1 - flint.arb(c) ** 2).sqrt()

    def strip(z, _):
        upper, lower = normal_cdf((1 / s - c * z) / spread), normal_cdf((-1 / s - c * z) / spread)
        return (upper - lower) * normal_density(z)

    end = min(1 / q**0.5, 13.0)
    exact = float(flint.acb.integral(strip, -flint.arb(end), flint.arb(end)).real.mid())
    assert_allclose(overlap(row, q, 1 - c), exact, rtol=1e-12, atol=0)


CRITICAL_LINES = [  # sigma_b^2; sigma_w^2 and q of tanh, then of erf
    (0.001, 1.1891895852, 0.1072923561, 1.1724858073, 0.1192780254),
    (0.05, 1.7609546396, 0.5700478816, 1.6873614079, 0.5879783678),
    (0.3, 2.5051271897, 1.4611694469, 2.3620305181, 1.4576008646),
]


@pytest.mark.parametrize("line", CRITICAL_LINES, ids=lambda line: f"sb2={line[0]}")
def test_critical_lines(line):
    sb = line[0] ** 0.5
    for name, sw2, q in (("tanh", *line[1:3]), ("erf", *line[3:])):
        sigma_w = theory.critical_sigma_w(name, sb)
        at = theory.mean_field(name, sigma_w, sb)
        assert_printed(sigma_w**2, f"{sw2:.10f}")
        assert_printed(at.q_star, f"{q:.10f}")
        assert (at.phase, at.xi_grad, at.xi_c, at.c_star) == ("critical", np.inf, np.inf, 1.0)


CRITICAL_SCALES = {
    "linear": 1.0,
    "relu": 2**0.5,
    "leaky_relu": (2 / (1 + LEAKY_SLOPE**2)) ** 0.5,
    "tanh": 1.0,
    "erf": 1.0,
    "hard_tanh": 1.0,
    "elu": 1.0,
    "selu": (2 / (1 + SELU_ALPHA**2)) ** 0.5 / SELU_LAMBDA,  # where ln chi is 0.53 (excess)^2
    "softplus": 2**0.5,
    "sigmoid": 10.149263710019525,
}


@pytest.mark.parametrize("name", CRITICAL_SCALES)
def test_critical_scale_without_bias(name):
    sigma_w = theory.critical_sigma_w(name)
    assert_allclose(sigma_w, CRITICAL_SCALES[name], rtol=1e-12, atol=0)
    below, above = (theory.mean_field(name, sigma_w * f).phase for f in (0.999, 1.001))
    assert (below, above) == ("ordered", "chaotic")


@pytest.mark.parametrize(("name", "jump"), [("gelu", 1.4680112605), ("silu", 1.5587599301)])
def test_bistable_activations_jump(name, jump):
    sigma_w = theory.critical_sigma_w(name)
    assert_printed(sigma_w, str(jump))
    # At the jump q_1 = sigma_w^2 is the repelling fixed point: E phi(sigma_w z)^2 = 1.
    second = rigorous(lambda z, _: PHI[name](z) ** 2, sigma_w**2)
    assert_allclose(second, 1, rtol=1e-12, atol=0)
    below, above = (theory.mean_field(name, sigma_w + d) for d in (-1e-9, 1e-9))
    assert (below.q_star, above.q_star) == (0, np.inf)
    assert_allclose((below.chi, above.chi), (sigma_w**2 / 4, sigma_w**2 / 2), rtol=1e-8, atol=0)


def test_a_tangency_is_no_crossing():
    """ELU's and SiLU's chi come down to touch 1 at sigma_w^2 = 2; the crossing is below."""
    for name, sb in (("elu", 10.0), ("silu", 1.0)):
        sigma_w = theory.critical_sigma_w(name, sb)
        assert sigma_w < 1.4139
        assert theory.mean_field(name, 2**0.5, sb).phase == "critical"
        assert theory.mean_field(name, (sigma_w + 2**0.5) / 2, sb).phase == "chaotic"


# sigma_w^2, sigma_b^2; q_star, chi, c_star; xi_c of tanh or xi_grad of sigmoid; xi_q.
PRINTED = [
    ("tanh", 1.2, 0.05, "0.26990", "0.84517", "1.000", "5.945", "1.81"),
    ("tanh", 1.7, 0.05, "0.53308", "0.98674", "1.000", "74.9", "1.56"),
    ("tanh", 2.5, 0.05, "1.06396", "1.13352", "0.4468", "11.8", None),
    ("tanh", 4.0, 0.05, "2.19549", "1.34240", "0.165", "6.98", None),
    ("sigmoid", 1, 0.0, "0.264687", "0.055721", "1", "0.346", "0.333"),
    ("sigmoid", 16, 0.0, "5.855404", "0.398879", "1", "1.088", "0.480"),
    ("sigmoid", 64, 0.0, "27.382523", "0.794823", "1", "4.355", "0.388"),
    ("sigmoid", 100, 0.0, "44.207442", "0.985806", "1", "69.95", "0.358"),
    ("sigmoid", 144, 0.0, "65.048390", "1.175578", "0.966", "-6.18", "0.336"),
    ("sigmoid", 1024, 0.0, "493.674741", "3.060356", "0.851", "-0.89", "0.250"),
]


@pytest.mark.parametrize("line", PRINTED, ids=lambda line: f"{line[0]} {line[1]}")
def test_printed_fixed_points(line):
    name, sw2, sb2, *printed = line
    at = theory.mean_field(name, sw2**0.5, sb2**0.5)
    scale = at.xi_c if name == "tanh" else at.xi_grad
    for value, text in zip((at.q_star, at.chi, at.c_star, scale, at.xi_q), printed, strict=True):
        if text is not None:
            assert_printed(value, text)


def test_scale_free_fixed_points():
    he = theory.mean_field("relu", 2**0.5)
    assert_allclose(he.q_star, 2.0, rtol=1e-15, atol=0)
    assert (he.phase, he.c_star) == ("critical", 1.0)
    assert he.xi_grad == he.xi_q == he.xi_c == np.inf
    for sigma_w, q in ((1.0, 0.0), (2.0, np.inf)):
        at = theory.mean_field("relu", sigma_w)
        assert (at.q_star, at.c_star, at.xi_c) == (q, 1.0, np.inf)
    biased = theory.mean_field("relu", 1.2, 0.3)
    assert_allclose(biased.q_star, 0.09 / (1 - 0.72), rtol=1e-12, atol=0)
    assert_allclose(biased.xi_c, -1 / np.log(0.72), rtol=1e-12, atol=0)
    assert theory.mean_field("relu", 2**0.5, 0.3).q_star == np.inf
    assert np.isnan(theory.mean_field("linear", 0.7).c_star)
    assert np.isnan(theory.mean_field("tanh", 0.7).c_star)
    assert theory.mean_field("linear", 1.0, 0.1).c_star == 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(0.9, 0.2), (1.3, 0.0), (1.3, 0.4)])
def test_q_star_is_where_the_recursion_ends(name, sigma_w, sigma_b):
    at = theory.mean_field(name, sigma_w, sigma_b)
    q, chi = theory.trajectory(name, sigma_w, sigma_b, layers=2000)
    if 0 < at.q_star < np.inf:
        assert_allclose(q[-1], at.q_star, rtol=1e-10, atol=0)
    else:
        assert q[-1] < 1e-100 or q[-1] > 1e100
    assert_allclose(chi[-1], at.chi, rtol=1e-10, atol=0)


def test_c_star_is_where_the_recursion_ends():
    at = theory.mean_field("erf", 2.0, 0.3)
    t, c = np.pi * at.q_star / 2, 0.5
    for _ in range(300):  # Williams 1997's kernel: no quadrature
        c = (4 * 2 / np.pi * np.arcsin(t * c / (1 + t)) + 0.09) / at.q_star
    assert_allclose(at.c_star, c, rtol=1e-11, atol=0)
    slope = 4 / np.sqrt((1 + t) ** 2 - (t * c) ** 2)
    assert_allclose(at.xi_c, -1 / np.log(slope), rtol=1e-10, atol=0)


def test_just_above_criticality():
    """tanh: V(q) = sigma_w^2 (q - 2 q^2 + 17/3 q^3), so q_star has a series in the excess."""
    for excess in (1e-4, 1e-6, 1e-8):
        at = theory.mean_field("tanh", math.sqrt(1 + excess))
        rest = excess / (1 + excess)  # 2 q - 17/3 q^2 = rest
        q = (2 - math.sqrt(4 - 68 / 3 * rest)) * 3 / 34
        assert_allclose(at.q_star, q, rtol=max(excess, 1e-6), atol=0)
        assert abs(math.log(at.chi)) < excess**2 + 1e-14  # tangential: no first order


def test_trajectory_survives_the_float_range():
    for sigma_w, end, chi in ((4.0, np.inf, 8.0), (0.5, 0.0, 0.125)):
        path = theory.trajectory("relu", sigma_w, 0.0, layers=1000)
        assert path.q[-1] == end
        assert_allclose(path.chi, chi, rtol=1e-13, atol=0)
    gelu = theory.trajectory("gelu", 2.0, 0.0, layers=1500)
    assert gelu.q[-1] == np.inf
    assert_allclose(gelu.chi[-1], 2.0, rtol=1e-13, atol=0)


@given(st.sampled_from(NAMES), st.floats(0.05, 40), st.one_of(st.just(0.0), st.floats(1e-6, 5)))
def test_what_holds_for_every_network(name, sigma_w, sigma_b):
    at = theory.mean_field(name, sigma_w, sigma_b)
    row = activation(name)
    assert 0 <= at.chi <= (sigma_w * row.max_slope) ** 2 * (1 + 1e-12)
    assert at.phase == {True: "chaotic", False: "ordered"}[at.chi > 1] or at.xi_grad == np.inf
    if 0 < at.q_star < np.inf:
        v = theory.variance_map(name, at.q_star, sigma_w, sigma_b)
        assert_allclose(v, at.q_star, rtol=1e-11, atol=0)
        between = np.geomspace(sigma_w**2 + sigma_b**2, at.q_star, 12)[1:-1]
        steps = theory.variance_map(name, between, sigma_w, sigma_b) - between
        away = np.abs(between / at.q_star - 1) > 1e-9
        assert np.all(steps[away] * (at.q_star - between)[away] > 0)  # none is skipped
    if at.phase == "chaotic" and 0 <= at.c_star < 1:
        c = theory.correlation_map(name, at.c_star, at.q_star, sigma_w, sigma_b)
        assert abs(c - at.c_star) < 1e-10
        assert at.xi_c > 0


@pytest.mark.parametrize("name", NAMES)
def test_variance_map_increases_and_reaches_its_limits(name):
    q = np.geomspace(1e-12, 1e12, 200)
    assert np.all(np.diff(theory.variance_map(name, q, 1.0)) >= 0)
    row = activation(name)
    chi = theory.gradient_factor(name, np.array([0.0, 1e-24, 1e30, np.inf]), 1.0)
    assert_allclose(chi[0], chi[1], rtol=1e-11, atol=0)
    assert_allclose(chi[0], np.mean(np.square(row.slopes_at_zero)), rtol=1e-15, atol=0)
    assert_allclose(chi[3], np.mean(np.square(row.slopes_at_infinity)), rtol=1e-15, atol=0)
    assert abs(chi[2] - chi[3]) < 1e-14


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sigma_w", "sigma_b"), [(0.0, 0.0), (0.0, 1.0), (1e50, 1e-50), (1e-50, 0.0), (1e-50, 1e50)]
)
def test_extreme_scales(name, sigma_w, sigma_b):
    at = theory.mean_field(name, sigma_w, sigma_b)
    assert at.q_star >= 0
    assert at.chi >= 0


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda z: np.maximum(z, 0)),
        ("hard_tanh", lambda z: np.clip(z, -1, 1)),
        ("tanh", lambda z: np.tanh(z)),
        ("elu", lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0)))),
    ],
)
def test_functions_have_the_theory_of_their_rows(name, function):
    """Also where nobody says where the kinks are."""
    with np.errstate(over="ignore"):
        assert_allclose(theory.critical_sigma_w(function), theory.critical_sigma_w(name), rtol=1e-9)
        for sigma_b in (0.0, 0.3):
            found = theory.mean_field(function, 1.3, sigma_b)
            at = theory.mean_field(activation(name), 1.3, sigma_b)
            assert_allclose((found.q_star, found.chi), (at.q_star, at.chi), rtol=1e-9)
            assert_allclose(found.c_star, at.c_star, rtol=1e-9)


@pytest.mark.parametrize("function", [np.sin, lambda z: np.tanh(200 * z), lambda z: abs(z - 0.3)])
def test_quadrature_converges_on_what_is_steep_or_turns_often(function):
    z = np.linspace(-12, 12, 2_000_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    found = theory.variance_map(function, 2.0, 1.0)
    with np.errstate(under="ignore"):
        assert_allclose(found, density @ function(2**0.5 * z) ** 2, rtol=1e-9)


def test_kinks_that_no_row_names_are_found():
    assert_allclose(break_points(activation(lambda z: np.clip(z, -1, 1))).kinks, [-1, 0, 1])
    assert len(break_points(activation("relu")).breaks) == 1


def test_std_zero_and_shapes():
    std = np.array([[0.0, 0.5], [1.0, 2.0]])
    computed = expectation(np.cos, std, breaks=np.arange(-20.0, 21.0, 2.0))
    assert_allclose(computed, np.exp(-(std**2) / 2), rtol=1e-13, atol=0)
