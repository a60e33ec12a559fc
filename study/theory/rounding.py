"""How often a pre-activation is exactly 0: where ReLU'(0) is met, by number format.

z is a dot product of n products a w with a ~ N(0, 1) and w ~ N(0, sigma^2 / n), whose density is
known: n products have that of a variance-gamma law, |x|^nu K_nu(|x|) with nu = (n - 1) / 2 and
x = z sqrt(n) / sigma (one product: K_0, Craig 1936).

cancellation    each product and each sum is rounded to the format. The last sum is 0 if and only
                if the last product is the negative of the sum before it, for a sum of two numbers
                of one format that nearly cancel is exact (Sterbenz 1974). The product takes each
                number v of the format with probability density(v) ulp(v), so that

                    P(z = 0) = integral f_(n-1)(v) f_1(v) ulp(v) dv

                of the order of the format's epsilon over sqrt(n), whatever sigma.

underflow       sums are exact and only z is rounded, as in mixed precision. Then z = 0 below half
                of the smallest number, and P = 2 f_n(0) times that half: rare, but as 1 / sigma.

Formats are those with subnormal numbers (IEEE 754). To leading order in epsilon.

>>> f"{cancellation(100, 'float16'):.2g} {cancellation(100, 'float32'):.2g}"
'1.8e-05 2.2e-09'
>>> f"{underflow(100, 'float16'):.2g}"
'2.4e-08'
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from study.checks import one_of
from study.core.activations import Array
from study.theory import checks
from study.theory.quadrature import panels

FORMATS = {
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
}
"""Bits of the significand, the hidden one included; and log2 of the smallest positive number."""

_MOST = 150  # products: beyond it K_nu leaves the float range where it is needed
_SMALL = 0.01  # of x, below which the density is that at 0 to 1e-4


def cancellation(products: int, format: str = "float16") -> float:
    """P(z = 0) where every product and every partial sum is rounded to the format.

    Parameters
    ----------
    products : int
        n, from 3 to 150.
    format : {"float16", "bfloat16", "float32", "float64"}

    >>> round(cancellation(10, "float16") / cancellation(40, "float16"), 2)      # about sqrt 4
    1.88
    """
    products = _checked(products)
    bits, smallest = FORMATS[one_of("format", format, FORMATS)]
    powers = np.arange(-40, 8)
    v, weights = panels(2.0**powers)  # ulp(v) is the same from one power of two to the next
    ulp = 2.0 ** np.maximum(
        np.repeat(powers[:-1], v.size // (powers.size - 1)) - bits + 1, smallest
    )
    x = v * math.sqrt(products)
    with np.errstate(under="ignore"):
        pairs = _density(products - 1, x) * _density(1, x)
        return float(2 * products * np.sum(weights * pairs * ulp))


def underflow(products: int, format: str = "float16", sigma: float = 1.0) -> float:
    """P(z = 0) where only the finished sum is rounded to the format.

    Parameters
    ----------
    products : int
        n, from 3 to 150.
    format : {"float16", "bfloat16", "float32", "float64"}
    sigma : float
        Standard deviation of z, far above the smallest number of the format.
    """
    products = _checked(products)
    smallest = FORMATS[one_of("format", format, FORMATS)][1]
    sigma = checks.positive("sigma", sigma)
    at_zero = float(_density(products, np.zeros(1))[0])
    return 2.0**smallest * math.sqrt(products) / sigma * at_zero


def _checked(products: int) -> int:
    if checks.count("products", products, low=3) > _MOST:
        raise ValueError(f"products = {products}; allowed: an integer from 3 to {_MOST}")
    return int(products)


def _density(products: int, x: Array) -> Array:
    """Of the sum of products of two independent standard normals."""
    nu = (products - 1) / 2
    size = np.maximum(np.abs(x), 0.0 if nu == 0 else _SMALL)
    power = nu * np.log(size / 2) if nu else 0.0
    log = power + np.log(special.kve(nu, size)) - size - special.gammaln(nu + 0.5)
    return np.exp(log) / math.sqrt(math.pi)
