"""Every row of the table against arbitrary precision, and what textbook formulas lose."""

import numpy as np
import pytest
import witness_arb as witness

from study.arithmetic.activations import Activations, Block, scaled_derivative, scaled_tail
from study.core.activations import (
    LEAKY_SLOPE,
    SELU_ALPHA,
    SELU_LAMBDA,
    TABLE,
    activation,
    leaky_relu,
)

NAMES = tuple(TABLE)
DTYPES = ("float32", "float64")
DECAYING = tuple(name for name, row in TABLE.items() if row.decay is not None)
EXACT_SLOPES = ("relu", "linear", "hard_tanh")

# Largest error of phi'(z) in units of u (2^-24, 2^-53).
ALLOWED = dict.fromkeys(NAMES, 6.0) | dict.fromkeys(EXACT_SLOPES, 0.0)
ALLOWED["leaky_relu"] = 1.0

# Where phi' crosses zero: right there as if z were right to a few ulps.
ZEROS = {
    "gelu": -0.7517915246935645,
    "silu": -1.278464542761074,
    "mish": -1.1924312145154952,
    "hardswish": -1.5,
}


def arguments(dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Of either sign: the bulk, and every size from 1e-6 to where phi' stays normal."""
    top = np.log10(80 if dtype == "float32" else 700)
    spread = rng.choice([-1, 1], 600) * 10 ** rng.uniform(-6, top, 600)
    return np.concatenate([3 * rng.normal(size=500), spread, [0.0]]).astype(dtype)


def errors(row, values, exponents, z, kink=1.0):
    """Relative errors of phi', in units of u times its condition."""
    found = [
        witness.relative_error(v, k, witness.slope(row.name, x, kink))
        for v, k, x in zip(values.tolist(), exponents.tolist(), z.tolist(), strict=True)
    ]
    zero = ZEROS.get(row.name, 0.0)
    condition = 1 + np.abs(zero / (z.astype(np.float64) - zero)) if zero else 1
    return np.array(found) / condition / witness.UNIT_ROUNDOFF[z.dtype.name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_right_to_a_few_units_in_the_last_place(name, dtype):
    row, z = TABLE[name], arguments(dtype, np.random.default_rng(1))
    with np.errstate(under="ignore"):
        d = row.derivative(z)
    assert d.dtype == dtype
    normal = (np.abs(d) >= np.finfo(dtype).tiny) | (d == 0)  # below, a float has fewer bits
    underflowed = (d == 0) & (name not in EXACT_SLOPES)
    keep = normal & ~underflowed
    found = errors(row, d[keep], np.zeros(len(d), int)[keep], z[keep])
    assert found.max() <= ALLOWED[name], f"{found.max():.2f} u at z = {z[keep][found.argmax()]}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_scaled_derivative_is_right_in_the_deepest_saturation(name, dtype):
    row, rng = TABLE[name], np.random.default_rng(2)
    z = rng.choice([-1, 1], 300) * 10 ** rng.uniform(-3, 4, 300)
    z = np.concatenate([z, [-1e4, 1e4, 0]]).astype(dtype)
    m, k = scaled_derivative(row, z)
    assert m.dtype == dtype
    assert k.dtype == np.int64
    found = errors(row, m, k, z)
    # float32 goes through float64 where there is a decay
    allowed = 2.0 if dtype == "float32" and row.decay else 12.0
    assert found.max() <= allowed, f"{found.max():.2f} u at z = {z[found.argmax()]}"


def test_beyond_2_to_the_52_the_derivative_is_given_as_a_bound_and_never_fails():
    for name in DECAYING:
        m, k = scaled_derivative(TABLE[name], np.array([-(2.0**60)]))
        assert np.isfinite(m[0])
        assert m[0] != 0
        assert k[0] < -(2**52)


@pytest.mark.parametrize(
    ("name", "z"), [("sigmoid", 37.0), ("sigmoid", 40.0), ("tanh", 19.1), ("tanh", 25.0)]
)
def test_negative_control_the_textbook_forms_are_exactly_zero_there(name, z):
    z = np.array([z])
    s = 1 / (1 + np.exp(-z)) if name == "sigmoid" else np.tanh(z)
    textbook = s * (1 - s) if name == "sigmoid" else 1 - s * s
    assert textbook[0] == 0
    d = TABLE[name].derivative(z)
    assert witness.relative_error(d[0], 0, witness.slope(name, z[0])) < 6 * 2.0**-53


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_phi_is_right_to_a_few_units_in_the_last_place(name, dtype):
    row, z = TABLE[name], arguments(dtype, np.random.default_rng(3))
    with np.errstate(under="ignore"):
        r = row.phi(z)
    assert r.dtype == dtype
    allowed = 4.0 if name != "gelu" else 8.0
    u = witness.UNIT_ROUNDOFF[dtype]
    for value, x in zip(r.tolist(), z.tolist(), strict=True):
        if abs(value) >= np.finfo(dtype).tiny or value == 0 == x:
            error = witness.relative_error(value, 0, witness.value(name, x))
            assert error <= allowed * u, f"{error / u:.2f} u at z = {x}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.tail is not None])
def test_the_tail_of_phi_is_right_where_phi_underflows(name, dtype):
    z = np.array([-120.0, -800.0, -1234.5, -1e4], dtype)
    m, k = scaled_tail(TABLE[name], z)
    for v, e, x in zip(m.tolist(), k.tolist(), z.tolist(), strict=True):
        error = witness.relative_error(v, e, witness.value(name, x))
        assert error <= 8 * witness.UNIT_ROUNDOFF[dtype], x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kink", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("name", "at", "left", "right"),
    [
        ("relu", 0.0, 0.0, 1.0),
        ("leaky_relu", 0.0, LEAKY_SLOPE, 1.0),
        ("selu", 0.0, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA),
        ("hard_tanh", -1.0, 0.0, 1.0),
        ("hard_tanh", 1.0, 1.0, 0.0),
    ],
)
def test_the_slope_at_a_kink_is_the_weighted_mean_and_leaves_its_neighbours_alone(
    name, at, left, right, kink, dtype
):
    row, least = TABLE[name], np.finfo(dtype).eps if at else np.finfo(dtype).tiny
    z = np.array([at - least, at, at + least], dtype)
    expected = np.array([left, (1 - kink) * left + kink * right, right], dtype)
    with np.errstate(under="ignore"):
        slopes = row.derivative(z, kink)
    np.testing.assert_allclose(slopes, expected, rtol=2 * np.finfo(dtype).eps, atol=0)
    assert at in row.kinks


def test_kinks_are_where_the_table_says_and_nowhere_else():
    kinks = {at for row in TABLE.values() for at in row.kinks}
    z = np.array([-0.0, *sorted(kinks | {-at for at in kinks}), -0.5, 0.7])
    for name, row in TABLE.items():
        jumps = set(z[row.derivative(z, 0.0) != row.derivative(z, 1.0)])
        assert jumps == set(row.kinks), name


@pytest.mark.parametrize("name", NAMES)
def test_slopes_at_zero_and_infinity_are_the_limits(name):
    row = TABLE[name]
    with np.errstate(under="ignore"):
        near = row.derivative(np.array([-1e-300, 1e-300]))
        far = row.derivative(np.array([-1e30, -1e5, 1e5, 1e30]))
    np.testing.assert_allclose(near, row.slopes_at_zero, rtol=1e-15)
    np.testing.assert_allclose(far, np.repeat(row.slopes_at_infinity, 2), rtol=1e-15, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_no_argument_whatever_gives_nan(name, dtype):
    top = np.finfo(dtype).max
    z = np.array([-top, -1e30, -1e10, -0.0, 0.0, 1e10, 1e30, top], dtype)
    with np.errstate(under="ignore", over="ignore"):
        assert np.isfinite(TABLE[name].derivative(z)).all()
        if name != "selu":  # whose slope 1.05 takes the largest float to infinity
            assert np.isfinite(TABLE[name].phi(z)).all()


@pytest.mark.parametrize("name", NAMES)
def test_max_slope_is_the_supremum(name):
    row = TABLE[name]
    z = np.concatenate([np.linspace(-12, 12, 200_001), [2**0.5, -1e-12, 1e-12]])
    with np.errstate(under="ignore"):
        largest = np.abs(row.derivative(z)).max()
    assert largest <= row.max_slope * (1 + 1e-15)
    allowed = {"softplus": 1e-5, "hardswish": 1e-4}.get(name, 1e-9)  # at infinity, at a kink
    assert largest >= row.max_slope * (1 - allowed)


def test_active_means_above_a_hundredth_of_the_largest_slope():
    blocks = [
        Block(slice(0, 1), activation("relu"), 1.0),
        Block(slice(1, 2), activation("tanh"), 1),
    ]
    slopes = np.array([[[0.0, 1.0, 0.011, 0.01]], [[0.5, 0.009, 0.02, 0.0]]])
    assert Activations(blocks).active_fraction(slopes).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", ["step", "", "ReLU", None, 3, ["relu"], {}])
def test_an_unknown_name_is_refused_with_the_names_there_are(name):
    with pytest.raises(ValueError, match=r"activation = .*allowed: relu, sigmoid, tanh"):
        activation(name)


# --- Parameters, aliases, functions --------------------------------------------------------------

WITH_PARAMETER = ("leaky_relu(0.2)", "elu(2)", "celu(0.5)", "softplus(5)", "gelu(tanh)")


@pytest.mark.parametrize("name", [*(n for n, r in TABLE.items() if r.torch), *WITH_PARAMETER])
def test_rows_are_what_torch_calls_them(name):
    torch = pytest.importorskip("torch")
    row = activation(name)
    z = torch.linspace(-3.91, 3.87, 157, dtype=torch.float64, requires_grad=True)
    r = getattr(torch.nn.functional, row.torch)(z, **dict(row.parameters))
    (slopes,) = torch.autograd.grad(r.sum(), z)
    ours = z.detach().numpy()
    np.testing.assert_allclose(row.phi(ours), r.detach().numpy(), rtol=1e-8, atol=1e-14)
    # Beyond 20 / beta torch's softplus is linear.
    tolerance = 1e-8 if name == "softplus(5)" else 1e-13
    np.testing.assert_allclose(row.derivative(ours), slopes.numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [*TABLE, *WITH_PARAMETER])
def test_the_textbook_formula_has_the_same_derivative_by_a_complex_step(name):
    row, z = activation(name), np.linspace(-5.97, 5.91, 99)
    with np.errstate(under="ignore"):
        slopes = row.textbook(z + 1e-100j).imag / 1e-100
    np.testing.assert_allclose(row.derivative(z), slopes, rtol=5e-14, atol=5e-15)


def test_a_parameter_in_a_name_is_the_function_s_argument():
    assert activation("elu(2)") is activation("elu(2)")
    assert activation("elu(1)").name == "elu"
    assert activation("swish") is TABLE["silu"]
    z = np.array([-2.0])
    assert activation("leaky_relu(0.3)").phi(z) == -0.6
    assert leaky_relu(0.3).name == "leaky_relu(0.3)"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("prelu", "its slope is trained"),
        ("elu(x)", "allowed: a number from 1e-6 to 1e6"),
        ("softplus(-1)", "allowed: a number"),
        ("gelu(exact)", "allowed: none, tanh"),
        ("relu(2)", "allowed: relu, sigmoid"),
        (lambda z: z.sum(), r"returns shape \(\) for"),
        (lambda z: z[:1], "returns shape"),
        (np.log, "no finite number at z = -8.05"),
        (lambda z: float(z), "raises TypeError"),
    ],
)
def test_what_is_no_activation_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        activation(kind)


@pytest.mark.parametrize(
    ("function", "slope", "kinks"),
    [
        (np.sin, np.cos, ()),
        (lambda z: z**3, lambda z: 3 * z**2, ()),
        (lambda z: z * np.tanh(np.log1p(np.exp(z))), TABLE["mish"].derivative, ()),
        (lambda z: np.abs(z) ** 2.5, lambda z: 2.5 * np.sign(z) * np.abs(z) ** 1.5, ()),
        (lambda z: np.where(z > 1, z, z**2), lambda z: np.where(z > 1, 1, 2 * z), (1.0,)),
    ],
)
def test_a_derivative_is_found_and_as_accurate_as_it_says(function, slope, kinks):
    row, z = activation(function, name="mine", kinks=kinks), np.linspace(-20.03, 20.11, 401)
    error = np.abs(row.derivative(z) - slope(z)) / np.maximum(np.abs(slope(z)), 1)
    assert error.max() <= 100 * row.accuracy
    assert row.accuracy <= 1e-6
    assert row.derivative(np.array([800.0], np.float32)).dtype == np.float32


def test_a_derivative_that_is_given_is_taken_and_kinks_weigh_its_sides():
    row = activation(np.abs, derivative=np.sign, kinks=[0])
    assert row.derivative(np.array([-2.0, 0.0, 3.0]), 0.25).tolist() == [-1, -0.5, 1]
    assert row.scale_free
