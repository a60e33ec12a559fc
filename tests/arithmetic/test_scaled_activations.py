"""phi and phi' of scaled arguments of any size, against ball arithmetic."""

import numpy as np
import pytest
import witness_arb as witness
from flint import arb

from study.arithmetic.activations import EVERY, Activations, Block, Slopes
from study.arithmetic.scaled import Scaled, sum_of_squares
from study.core.activations import FAR, TABLE, activation

NAMES = tuple(TABLE)
DTYPES = ("float32", "float64")
TAILS = tuple(name for name, row in TABLE.items() if row.tail is not None)
DECAYING = tuple(name for name, row in TABLE.items() if row.decay is not None)


def one(name, kink=1.0, at=0):
    return [Block(slice(at, at + 1), activation(name), kink)]


def phi(z: Scaled, blocks: list[Block]):
    """Before it is settled."""
    return Activations(blocks)._plain_phi(z)


def true_phi(name: str, m: float, e: int) -> arb:
    """phi(m 2^e); where e is far out, by the asymptote or the tangent, as exact as it is there."""
    row = TABLE[name]
    z = arb(m) * arb(2) ** e
    if m == 0 or -200 < e < 40:
        return witness.value(name, z) if m else witness.value(name, 0.0)
    if name == "softsign":
        return z / (1 + abs(z))
    exact = {"leaky_relu": witness.LEAKY, "selu": witness.SELU_LAMBDA}
    sharp = exact.get(name, row.slopes_at_infinity[1])
    if e > 0:
        if m > 0 and row.slopes_at_infinity[1]:
            return z * arb(sharp) if name != "leaky_relu" else z
        if m < 0 and row.slopes_at_infinity[0]:
            return z * witness.LEAKY if name == "leaky_relu" else z
        return witness.value(name, 60.0 if m > 0 else -60.0) if name != "gelu" else arb(0)
    if row.phi(np.zeros(1))[0]:
        return witness.value(name, 0.0)
    left = witness.SELU_LAMBDA * witness.SELU_ALPHA if name == "selu" else row.slopes_at_zero[0]
    left = witness.LEAKY if name == "leaky_relu" else left
    right = witness.SELU_LAMBDA if name == "selu" else row.slopes_at_zero[1]
    return z * arb(right if m > 0 else left)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("e", [-70_000, -1100, -300, -3, 0, 5, 45, 70, 300, 70_000])
def test_phi_of_a_row_of_any_size(name, dtype, e):
    m = np.array([[[0.75, -0.5, 0.0]], [[-0.75, -0.9, -0.6]], [[1.0, 2.0, 3.0]]], dtype)
    z = Scaled(m, np.full((3, 1), e))
    with np.errstate(over="ignore", under="ignore"):
        blocks = [Block(slice(0, 3), activation(name), 1.0)]
        r, power = phi(z, blocks)
    power = np.broadcast_to(power, (3, 1))
    u = witness.UNIT_ROUNDOFF[dtype]
    for i in range(3):
        true = [true_phi(name, float(v), e) for v in m[i, 0]]
        size = max((abs(float(r[i, 0, j])) for j in range(3)), default=0)
        if all(t == 0 for t in true) or (size < np.finfo(dtype).tiny and name in TAILS):
            continue  # what has underflowed in a whole row is revived below
        with witness.bits(200):
            row = [arb(float(v)) * arb(2) ** int(power[i, 0]) for v in r[i, 0]]
            largest = true[0]
            for t in true:
                largest = t if abs(t) > abs(largest) else largest
            errors = [abs(a - b) / abs(largest) for a, b in zip(row, true, strict=True)]
        worst = max(float(error.abs_upper()) for error in errors)
        assert worst <= 20 * u, (i, worst / u)


@pytest.mark.parametrize("name", [n for n, row in TABLE.items() if row.slopes_at_infinity[1]])
@pytest.mark.parametrize("e", [0, -100])
def test_large_mantissas_beside_a_rescaled_row_are_not_clipped(name, e):
    # A row not rescaled, or rescaled the other way, may still hold numbers beyond FAR.
    z = Scaled(np.array([[[2.0**200, 1.0]], [[0.5, 0.5]]]), np.array([[e], [-2000]]))
    with np.errstate(over="ignore", under="ignore"):
        r, power = phi(z, [Block(slice(0, 2), activation(name), 1.0)])
    right = TABLE[name].slopes_at_infinity[1]
    assert r[0, 0, 0] * 2.0 ** power[0, 0] == pytest.approx(right * 2.0 ** (200 + e), rel=1e-15)
    assert 2.0 ** (200 + e) > FAR


@pytest.mark.parametrize("kink", [0.0, 0.5, 1.0])
def test_what_underflows_keeps_its_side_of_the_kink(kink):
    z = Scaled(np.array([[[0.5, -0.5, 0.0]]]), np.array([[-70_000]]))
    with np.errstate(under="ignore"):
        for name in ("selu", "relu"):
            got = Activations(one(name, kink)).derivative(z)
            left, right = TABLE[name].slopes_at_zero
            middle = (1 - kink) * left + kink * right
            np.testing.assert_allclose(got[0, 0], [right, left, middle], rtol=1e-15)


def equation_1(z, dr, blocks):
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return dr * Slopes(Activations(blocks), z, EVERY, np.empty(len(z.mantissa)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DECAYING)
def test_a_row_whose_every_slope_underflows_is_rescued(name, dtype):
    z = np.array([[[-900.0, -1000.0, -950.0]]], dtype)
    dr = Scaled(np.array([[[1.0, 0.5, -0.25]]], dtype), np.array([[77]]))
    delta = equation_1(Scaled(z, 0), dr, one(name))
    with witness.bits(200):
        true = [
            witness.slope(name, float(a)) * arb(float(b)) * arb(2) ** 77
            for a, b in zip(z[0, 0], dr.mantissa[0, 0], strict=True)
        ]
    largest = int(np.abs(delta.mantissa[0, 0]).argmax())
    error = witness.relative_error(
        delta.mantissa[0, 0, largest], delta.exponent[0, 0], true[largest]
    )
    assert error <= 16 * witness.UNIT_ROUNDOFF[dtype]
    with np.errstate(under="ignore"):
        assert np.array_equal(delta.squares, sum_of_squares(delta.mantissa))
    # negative control: as plain floats have it, there is nothing left
    with np.errstate(under="ignore"):
        assert not (dr.mantissa * TABLE[name].derivative(z)).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TAILS)
def test_a_row_whose_every_phi_underflows_is_revived(name, dtype):
    m = np.array([[[-900.0, -1000.0, -950.0]], [[1.0, 2.0, -3.0]]], dtype)
    z, blocks = Scaled(m, 0), [Block(slice(0, 2), activation(name), 1.0)]
    with np.errstate(under="ignore"):
        plain, _ = phi(z, blocks)
        assert not plain[0].any()  # negative control
        r = Activations(blocks).phi(z)
    error = witness.relative_error(
        r.mantissa[0, 0, 0], r.exponent[0, 0], witness.value(name, -900.0)
    )
    assert error <= 8 * witness.UNIT_ROUNDOFF[dtype]
    assert r.exponent[1, 0] == 0
    assert np.array_equal(r.mantissa[1], plain[1])
    with np.errstate(under="ignore"):
        assert np.array_equal(r.squares, sum_of_squares(r.mantissa))
