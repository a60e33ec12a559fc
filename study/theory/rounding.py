"""How often a pre-activation is exactly 0: where ReLU'(0) is met, by number format.

z is a dot product of n products a w with a ~ N(0, 1), w ~ N(0, sigma^2 / n): it has a
variance-gamma density, |x|^nu K_nu(|x|) with nu = (n - 1) / 2, x = z sqrt(n) / sigma (Craig 1936).
Formats are those with subnormal numbers (IEEE 754). To leading order in epsilon.

>>> f"{cancellation(100, 'float16'):.2g} {cancellation(100, 'float32'):.2g}"
'1.8e-05 2.2e-09'
>>> f"{underflow(100, 'float16'):.2g}"
'2.4e-08'
"""

import math

import numpy as np
import scipy

from study.theory.maps import positive
from study.theory.quadrature import panels
from study.tools.checks import integer, one_of
from study.tools.elementary import Array

# Bits of the significand, the hidden one included; and log2 of the smallest positive number.
FORMATS = {
    "float16": (11, -24),
    "bfloat16": (8, -133),
    "float32": (24, -149),
    "float64": (53, -1074),
}

_MOST = 150  # products: beyond it K_nu leaves the float range where it is needed
_SMALL = 0.01  # of x, below which the density is that at 0 to 1e-4


def cancellation(products: int, format: str = "float16") -> float:
    """P(z = 0) where each of 3 to 150 products and each partial sum is rounded to the format.

    The last sum is 0 if and only if the last product is the negative of the sum before it (Sterbenz
    1974). A product takes each number v of the format with probability density(v) ulp(v), so P =
    integral f_(n-1)(v) f_1(v) ulp(v) dv: epsilon over sqrt(n), whatever sigma.
    """
    products = integer("products", products, 3, _MOST)
    bits, smallest = FORMATS[one_of("format", format, FORMATS)]
    v, weights = panels(2.0 ** np.arange(-40, 8))
    ulp = 2.0 ** np.maximum(np.floor(np.log2(v)) - bits + 1, smallest)
    x = v * math.sqrt(products)
    with np.errstate(under="ignore"):
        pairs = _density(products - 1, x) * _density(1, x)
        return float(2 * products * np.sum(weights * pairs * ulp))


def underflow(products: int, format: str = "float16", sigma: float = 1.0) -> float:
    """P(z = 0) where only the finished sum, of deviation sigma, is rounded to the format."""
    products = integer("products", products, 3, _MOST)
    _, smallest = FORMATS[one_of("format", format, FORMATS)]
    at_zero = float(_density(products, np.zeros(1))[0])
    return 2.0**smallest * math.sqrt(products) / positive("sigma", sigma) * at_zero


def _density(products: int, x: Array) -> Array:
    """Of the sum of products of two independent standard normals."""
    if products == 1:
        return scipy.special.k0(np.abs(x)) / math.pi
    nu = (products - 1) / 2
    size = np.maximum(np.abs(x), _SMALL)
    log = nu * np.log(size / 2) + np.log(scipy.special.kve(nu, size)) - size
    return np.exp(log - scipy.special.gammaln(nu + 0.5)) / math.sqrt(math.pi)
