"""Scaled numbers against exact rational arithmetic: only powers of two are ever taken out."""

import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from witness_arb import bits
from witness_arb import log10 as arb_log10

from study.arithmetic import scaled
from study.arithmetic.scaled import MATRIX_RANGE, SQUARE_RANGE, Scaled

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
DEPTHS = st.integers(-40_000, 40_000)  # exponents as deep networks have them, and further


@st.composite
def rows(draw, span64=900, span32=100, max_rows=3):
    """(rows, units) of floats of all sizes, some rows all zero."""
    dtype = draw(st.sampled_from(DTYPES))
    span = span64 if dtype == np.float64 else span32
    n, count = draw(st.integers(1, 5)), draw(st.integers(1, max_rows))
    size = st.integers(-span, span)
    out = np.zeros((count, n), dtype)
    for i in range(count):
        common = draw(size)
        for j in range(n):
            out[i, j] = math.ldexp(draw(st.integers(-1000, 1000)) / 1024, common)
    return out


def parts(x: Scaled):
    return x.mantissa, x.exponent


def exact(mantissa, exponent):
    """Rows of fractions."""
    e = np.broadcast_to(np.asarray(exponent, object), mantissa.shape[:-1])
    return [
        [Fraction(float(v)) * Fraction(2) ** int(k) for v in row]
        for row, k in zip(mantissa, e, strict=True)
    ]


# --- settle --------------------------------------------------------------------------------------


@given(rows(), DEPTHS)
def test_settle_changes_no_value_only_the_power_of_two(x, e):
    with np.errstate(over="ignore", under="ignore"):  # of the squares, as in a pass
        settled = scaled.settle(x, np.full(len(x), e))
    assert exact(*parts(settled)) == exact(x, [e if row.any() else 0 for row in x])
    fraction, _ = np.frexp(x)
    assert np.array_equal(np.frexp(settled.mantissa)[0], fraction)  # the bits
    low, high = SQUARE_RANGE[x.dtype]
    zero = ~x.any(axis=1)
    s = settled.squares
    assert np.array_equal(s == 0, zero)
    assert ((low <= s) & (s <= high))[~zero].all()
    wide = settled.mantissa.astype(np.float64)
    np.testing.assert_allclose(s, np.vecdot(wide, wide), rtol=1e-15)


def test_what_is_in_range_is_left_alone_without_a_copy():
    x = np.ones((2, 3))
    settled = scaled.settle(x, 0)
    assert settled.mantissa is x
    assert settled.exponent == 0
    assert settled.squares.tolist() == [3, 3]


def test_the_input_of_settle_is_not_written_to():
    x = np.array([[2.0**300, 1.0], [1.0, 1.0]])
    before = x.copy()
    settled = scaled.settle(x, 0)
    assert np.array_equal(x, before)
    assert settled.exponent.tolist() == [301 + 125, 0]  # a quarter of the range beyond its middle


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_zero_row_keeps_mantissa_and_exponent_zero_beside_one_that_has_all_but_underflowed(dtype):
    least = np.finfo(dtype).tiny
    x = np.array([[0, 0], [least, 0]], dtype)
    with np.errstate(under="ignore"):
        settled = scaled.settle(x, np.array([-5000, -5000]))
    across = {np.float32: 12, np.float64: 125}[np.dtype(dtype).type]
    assert settled.mantissa.tolist() == [[0, 0], [2.0 ** (across - 1), 0]]
    assert settled.exponent[0] == 0
    assert settled.exponent[1] == -5000 + np.finfo(dtype).minexp + 1 - across
    assert settled.squares.tolist() == [0, 4.0 ** (across - 1)]


@given(rows(span64=500, span32=60, max_rows=4))
def test_settle_matrix_changes_no_value_and_brings_it_into_range(W):
    with np.errstate(over="ignore", under="ignore"):
        settled, e, s = scaled.settle_matrix(W)
    assert exact(settled, e) == exact(W, 0)
    low, high = MATRIX_RANGE[W.dtype]
    assert s == 0 or low**2 <= s <= high**2
    with np.errstate(under="ignore"):
        assert s == pytest.approx(float(np.square(settled.astype(np.float64)).sum()), rel=1e-6)


# --- arithmetic ----------------------------------------------------------------------------------


@given(rows(span64=400, span32=40), DEPTHS, st.data())
def test_add_is_the_exact_sum_rounded_once_relative_to_its_row(x, e, data):
    v = data.draw(rows(span64=900, span32=100, max_rows=1).filter(lambda v: v.dtype == x.dtype))
    v = np.resize(v[0], x.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        start = scaled.settle(x, np.full(len(x), e))
        total = scaled.add(start, v)
    u = np.finfo(x.dtype).epsneg
    for row, got in zip(exact(*parts(start)), exact(*parts(total)), strict=True):
        true = [a + Fraction(float(b)) for a, b in zip(row, v, strict=True)]
        size = max(abs(a) + abs(Fraction(float(b))) for a, b in zip(row, v, strict=True))
        # What lies further below its row than the format reaches is nothing to it.
        lost = Fraction(2) ** (np.finfo(x.dtype).minexp + 50)
        for t, g in zip(true, got, strict=True):
            assert abs(g - t) <= Fraction(float(u)) * abs(t) + lost * size


@given(
    st.lists(st.tuples(st.floats(2.0**-500, 2.0**500), DEPTHS), min_size=1, max_size=6),
    st.integers(0, 2),
)
def test_total_is_the_exact_sum(parts, zeros):
    s = np.array([s for s, _ in parts] + [0.0] * zeros)
    e = np.array([e for _, e in parts] + [40_000] * zeros)  # a zero's exponent means nothing
    got, exponent = scaled.total(s, e)
    with bits(100_000):
        true = sum((arb(v) * arb(4) ** int(k) for v, k in zip(s, e, strict=True)), arb(0))
        error = abs(arb(float(got)) * arb(4) ** int(exponent) / true - 1)
        assert error < len(parts) * 2.0**-53
    assert 2.0**-2 <= got <= len(parts) + 1


def test_total_of_ordinary_squares_has_the_bits_of_a_plain_sum():
    s = np.random.default_rng(0).random(7) * 1e3
    got, e = scaled.total(s, 0)
    assert np.ldexp(got, 2 * e) == s.sum()


@given(st.floats(2.0**-1000, 2.0**1000) | st.just(0.0), DEPTHS)
def test_norm_is_the_root_with_its_mantissa_in_1_to_2(s, e):
    m, k = scaled.norm(np.array([s]), np.array([e]))
    if s == 0:
        assert (m[0], k[0]) == (0, 0)
        return
    assert 1 <= m[0] < 2
    assert math.ldexp(m[0], int(k[0]) - e) == math.sqrt(s)


@given(st.floats(1, 2, exclude_max=True), DEPTHS | st.integers(-(2**60), 2**60))
def test_log10_is_right_to_a_few_units_in_the_last_place(m, e):
    got = scaled.log10(np.array([m]), np.array([e]))[0]
    with bits(300):
        true = arb_log10(arb(m) * arb(2) ** e)
    assert got == pytest.approx(true, rel=4 * 2.0**-52, abs=0)


def test_log10_keeps_its_relative_accuracy_near_norm_1():
    m, e = np.array([1 + 2.0**-40, 2 - 2.0**-40]), np.array([0, -1])
    with bits(200):
        true = [arb_log10(arb(v) * arb(2) ** int(k)) for v, k in zip(m, e, strict=True)]
    np.testing.assert_allclose(scaled.log10(m, e), true, rtol=1e-15, atol=0)


def test_log10_is_minus_infinity_for_a_true_zero_and_nothing_else():
    got = scaled.log10(np.array([0.0, 1.0, 1.0]), np.array([0, -(2**60), -1074]))
    assert np.isneginf(got).tolist() == [True, False, False]


@given(
    st.tuples(st.floats(1, 2, exclude_max=True), DEPTHS),
    st.tuples(st.floats(1, 2, exclude_max=True), DEPTHS),
)
def test_log10_ratio_is_the_logarithm_of_the_quotient(a, b):
    pair = [(np.array([m]), np.array([e])) for m, e in (a, b)]
    got = scaled.log10_ratio(*pair)[0]
    with bits(300):
        true = arb_log10(arb(a[0]) / arb(b[0]) * arb(2) ** (a[1] - b[1]))
    # The quotient is right to one rounding: its logarithm to that, and to its own.
    assert got == pytest.approx(true, rel=4 * 2.0**-52, abs=2.0**-53)


@given(rows(span64=900, span32=100), st.data())
def test_product_is_the_exact_product_rounded_and_nothing_underflows_on_the_way(x, data):
    n = x.shape[1]
    units = st.lists(st.integers(-1000, 1000), min_size=n, max_size=n)
    m = np.array([data.draw(units) for _ in x], x.dtype) / x.dtype.type(512)
    k = np.array([[data.draw(DEPTHS)] * n for _ in x])
    k = k + np.array(data.draw(st.lists(st.integers(-30, 30), min_size=n, max_size=n)))
    got, top = scaled.product(x, m, k)
    u = Fraction(float(np.finfo(x.dtype).eps)) / 2
    for row, factors, powers, mantissa, e in zip(x, m, k, got, top, strict=True):
        true = [
            Fraction(float(a)) * Fraction(float(b)) * Fraction(2) ** int(p)
            for a, b, p in zip(row, factors, powers, strict=True)
        ]
        for t, g in zip(true, mantissa, strict=True):
            assert abs(Fraction(float(g)) * Fraction(2) ** int(e) - t) <= u * abs(t)
            assert (g == 0) == (t == 0)


# --- status --------------------------------------------------------------------------------------


def status_of(x: Fraction | int) -> str:
    """Of an exact number, by the formats' own definition: normal numbers, rounding to nearest."""
    if x == 0:
        return "dead"
    if x < Fraction(2) ** -1022:
        return "float64_underflow"
    if x > Fraction(float(np.finfo(np.float64).max)):
        return "float64_overflow"
    if x < Fraction(2) ** -126:
        return "float32_underflow"
    if x > Fraction(float(np.finfo(np.float32).max)):
        return "float32_overflow"
    return "ok"


EDGES = [
    Fraction(float(edge)) * (1 + step * Fraction(2) ** -52)
    for edge in (
        *(2.0**-126, np.float64(np.finfo(np.float32).max)),
        *(2.0**-1022, np.float64(np.finfo(np.float64).max)),
        *(2.0**-149, 2.0**127, 2.0**1023, 1.0),
    )
    for step in (-1, 0, 1)
]


@pytest.mark.parametrize("x", [*EDGES, Fraction(2) ** 1024, Fraction(2) ** -1023, Fraction(0)])
def test_status_changes_exactly_at_the_limits_of_the_formats(x):
    e = 0
    while x and x / Fraction(2) ** e >= 2:
        e += 1
    while x and x / Fraction(2) ** e < 1:
        e -= 1
    m = float(x / Fraction(2) ** e)
    if Fraction(m) * Fraction(2) ** e != x:  # not a float64: the steps below the smallest normal
        return
    assert scaled.status(np.array([m]), np.array([e]))[0] == status_of(x)
