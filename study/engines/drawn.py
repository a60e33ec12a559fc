"""A Gaussian matrix that is known only by what has been asked of it.

It stands where `study.core.blocks` takes a matrix, so that normalised, residual and attention
layers need none: examples are multiplied by it once on the way up, and gradients by its transpose
once on the way down. The law of all that they meet is exact (docs/matrix_free.md), at a cost of
batch x width. Leading axes are networks, each with a matrix of its own.
"""

import math

import numpy as np

from study.engines.matrix_free import factor, gaussian_back
from study.sampling import gaussian
from study.tools import Array


class Drawn:
    """W with entries N(0, scale^2 / n_in); ``r @ W`` first, then ``delta @ W.mT``.

    ``key`` and ``layer`` name its draws, as in `study.sampling.gaussian.normal`.

    >>> W = Drawn(gaussian.key(0), 0, (3, 100, 200))       # three networks
    >>> r = np.ones((3, 1, 100))
    >>> (r @ W).shape, (np.ones((3, 1, 200)) @ W.mT).shape
    ((3, 1, 200), (3, 1, 100))
    """

    __array_ufunc__ = None  # r @ W then asks W

    def __init__(self, key: int, layer: int, shape: tuple[int, ...], scale: float = 1.0):
        self.key = key
        self.layer = layer
        self.shape = shape
        self.scale = scale / math.sqrt(shape[-2])
        self.frame: Array | None = None  # q of the examples R = T Q, orthonormal
        self.seen: Array | None = None  # q W over the scale: normals

    def __rmatmul__(self, r: Array) -> Array:
        T, self.frame = factor(r)
        self.seen = self._normal(0, (T.shape[-1], self.shape[-1]), r.dtype)
        return self.scale * T @ self.seen

    @property
    def mT(self) -> "_Transposed":
        return _Transposed(self)

    def back(self, delta: Array) -> Array:
        """delta W', given the way up."""
        n_in, n_out = self.shape[-2:]
        fresh = self._normal(1, (min(delta.shape[-2], n_out), n_in), delta.dtype)
        out = np.empty((*delta.shape[:-1], n_in), delta.dtype)
        gaussian_back(self.scale, delta, self.frame, self.seen, fresh, out)
        return out

    def _normal(self, way: int, shape: tuple[int, int], dtype: np.dtype) -> Array:
        return gaussian.normal(self.key, 2 * self.layer + way, (*self.shape[:-2], *shape), dtype)


class _Transposed:
    __array_ufunc__ = None

    def __init__(self, matrix: Drawn):
        self.matrix = matrix
        self.shape = (*matrix.shape[:-2], *matrix.shape[:-3:-1])

    def __rmatmul__(self, delta: Array) -> Array:
        return self.matrix.back(delta)
