"""An independent witness: the activations and the three equations in rigorous ball arithmetic.

Written from the definitions and, but for rows without a formula here, with none of the library's
code. A ball holds the true value; what these functions return is trusted only as far as
`relative_error` finds its radius negligible.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

import flint
import numpy as np
from flint import arb, arb_mat, fmpq

from study.core.activations import activation

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
# Rationals: a ball takes the precision of the moment.
LEAKY = fmpq(1, 100)
SELU_ALPHA = fmpq(16732632423543772848170429916717, 10**31)  # Klambauer et al. 2017
SELU_LAMBDA = fmpq(10507009873554804934193349852946, 10**31)


@contextmanager
def bits(precision: int):
    """Work to so many bits."""
    before, flint.ctx.prec = flint.ctx.prec, precision
    try:
        yield
    finally:
        flint.ctx.prec = before


def normal_density(z: arb) -> arb:
    return (-z * z / 2).exp() / (2 * arb.pi()).sqrt()


def normal_cdf(z: arb) -> arb:
    return (-z / arb(2).sqrt()).erfc() / 2


def _logistic(z: arb) -> arb:
    return 1 / (1 + (-z).exp())


def _step(z: arb, left, right, kink, at: int = 0) -> arb:
    if z == at:
        return (1 - arb(kink)) * left + arb(kink) * right
    return arb(right) if z > at else arb(left)


def _soft(z: arb, scale, alpha) -> arb:
    return z * scale if z > 0 else z.expm1() * (scale * alpha)


PHI = {
    "relu": lambda z: z if z > 0 else arb(0),
    "sigmoid": _logistic,
    "tanh": lambda z: z.tanh(),
    "linear": lambda z: z,
    "leaky_relu": lambda z: z if z > 0 else LEAKY * z,
    "selu": lambda z: _soft(z, SELU_LAMBDA, SELU_ALPHA),
    "elu": lambda z: _soft(z, fmpq(1), fmpq(1)),
    "gelu": lambda z: z * normal_cdf(z),
    "silu": lambda z: z * _logistic(z),
    "softplus": lambda z: z.exp().log1p(),
    "hard_tanh": lambda z: arb(-1) if z < -1 else arb(1) if z > 1 else z,
    "erf": lambda z: (arb.pi().sqrt() * z / 2).erf(),
}

SLOPE = {
    "relu": lambda z, kink: _step(z, 0, 1, kink),
    "sigmoid": lambda z, kink: _logistic(z) * _logistic(-z),
    "tanh": lambda z, kink: z.sech() ** 2,
    "linear": lambda z, kink: arb(1),
    "leaky_relu": lambda z, kink: _step(z, LEAKY, 1, kink),
    "selu": lambda z, kink: (
        z.exp() * (SELU_LAMBDA * SELU_ALPHA)
        if z < 0
        else _step(z, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA, kink)
    ),
    "elu": lambda z, kink: z.exp() if z < 0 else arb(1),
    "gelu": lambda z, kink: normal_cdf(z) + z * normal_density(z),
    "silu": lambda z, kink: _logistic(z) * (1 + z * _logistic(-z)),
    "softplus": lambda z, kink: _logistic(z),
    "hard_tanh": lambda z, kink: (
        _step(z, 0, 1, kink, at=-1) if z < 0 else _step(z, 1, 0, kink, at=1)
    ),
    "erf": lambda z, kink: (-arb.pi() * z * z / 4).exp(),
}


def _chain(z, value, slope):
    """A function of a ball, or of the series z_0 + z_1 t, that loses nothing near 0."""
    if isinstance(z, flint.arb_series):
        return flint.arb_series([value(z[0]), slope(z[0]) * z[1]], prec=2)
    return value(z)


class Ball:
    """The functions of a row's textbook formula, for balls and for power series of balls."""

    @staticmethod
    def exp(z):
        return z.exp()

    @staticmethod
    def expm1(z):
        return _chain(z, lambda x: x.expm1(), lambda x: x.exp())

    @staticmethod
    def log1p(z):
        return _chain(z, lambda x: x.log1p(), lambda x: 1 / (1 + x))

    @staticmethod
    def tanh(z):
        return _chain(z, lambda x: x.tanh(), lambda x: x.sech() ** 2)

    @staticmethod
    def erf(z):
        return z.erf()

    @staticmethod
    def choose(z, at, below, above):
        constant = z[0] if isinstance(z, flint.arb_series) else z
        return above(z) if constant >= at else below(z)


def slope(name: str, z: float, kink: float = 1.0) -> arb:
    """phi'(z), to a relative 2^-100 whatever the cancellation on the way.

    A row that has no formula here is held to its own textbook formula, differentiated as a series.
    """
    if name in SLOPE:
        return _sharp(lambda: SLOPE[name](arb(float(z)), kink))
    row = activation(name)
    if z in row.kinks:
        with np.errstate(under="ignore"):
            sides = [np.nextafter(z, side) for side in (-np.inf, np.inf)]
        left, right = (slope(name, side) for side in sides)
        return (1 - arb(kink)) * left + arb(kink) * right
    return _sharp(lambda: row.formula(flint.arb_series([arb(float(z)), 1], prec=2), Ball)[1])


def ball_slope(name: str, z: arb, kink: float) -> arb:
    """phi'(z) of a ball, as exactly as the precision of the moment allows."""
    if name in SLOPE:
        return SLOPE[name](z, kink)
    row = activation(name)
    if any(z == at for at in row.kinks):
        return slope(name, float(z), kink)
    return row.formula(flint.arb_series([z, 1], prec=2), Ball)[1]


def value(name: str, z: float) -> arb:
    """phi(z), likewise."""
    if name in PHI:
        return _sharp(lambda: PHI[name](arb(float(z))))
    return _sharp(lambda: activation(name).formula(arb(float(z)), Ball))


def _sharp(compute) -> arb:
    for precision in (200, 1000, 20_000, 400_000):
        with bits(precision):
            x = compute()
        if x.is_exact() or x.rel_accuracy_bits() >= 100:
            return x
    raise AssertionError(f"not sharp at {precision} bits: {x}")


def relative_error(mantissa: float, exponent: int, true: arb) -> float:
    """|mantissa 2^exponent / true - 1|, rigorously from above; 0 when both are 0."""
    with bits(max(200, flint.ctx.prec)):
        if true == 0:
            return 0.0 if mantissa == 0 else np.inf
        computed = arb(float(mantissa)) * arb(2) ** int(exponent)
        assert true.is_exact() or true.rel_accuracy_bits() >= 80, "the witness is not sharp"
        return float((computed / true - 1).abs_upper())


def log10(x: arb) -> float:
    """Base-10 logarithm of a ball, -inf for an exact 0."""
    return -np.inf if x == 0 else float(x.log() / arb.const_log10())


def matrix(x: np.ndarray, exponent=0) -> arb_mat:
    """Rows ``x * 2**exponent`` exactly; one exponent a row."""
    x = np.atleast_2d(np.asarray(x, np.float64))
    e = np.broadcast_to(np.asarray(exponent, object), x.shape[:1])
    powers = [arb(2) ** int(k) for k in e]
    return arb_mat([[arb(v) * p for v in row] for row, p in zip(x.tolist(), powers, strict=True)])


def frobenius(x: arb_mat) -> arb:
    entries = (x[i, j] for i in range(x.nrows()) for j in range(x.ncols()))
    return sum((v * v for v in entries), arb(0)).sqrt()


class Layer(NamedTuple):
    """Norms of dW^(k) and of dC/dz^(k+1)."""

    gradient: arb
    delta: arb


def backward(weights, rs, slopes, dr: arb_mat) -> list[Layer]:
    """Equations (1) to (3), from the top; ``rs`` and ``slopes`` give r^(k) and phi'(z^(k+1))."""
    layers = []
    for k in reversed(range(len(weights))):
        delta = entrywise(lambda a, b: a * b, dr, slopes(k))
        dr = delta * weights[k].transpose()
        layers.append(Layer(frobenius(rs(k).transpose() * delta), frobenius(delta)))
    return layers[::-1]


def entrywise(f, *matrices: arb_mat) -> arb_mat:
    """f of corresponding entries."""
    first = matrices[0]
    entries = zip(*(m.entries() for m in matrices), strict=True)
    return arb_mat(first.nrows(), first.ncols(), [f(*values) for values in entries])
