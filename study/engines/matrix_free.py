"""The matrix-free engine: the law of every gradient, without a weight matrix.

A layer's weights act on the few directions that the batch spans, forwards and backwards, and on
nothing else: those actions are drawn, each from its law given what has been drawn before. In one
layer write R = r^(k), D = dC/dz^(k+1) (rows are examples), R = T Q with m = min(batch, fan_in)
orthonormal rows of Q, and G1, H for fresh normals; then

    Gaussian    R W = c T G1    D W' = c [(D G1') Q + S (H - (H Q') Q)]    S S' = D D'
    orthogonal  R W = c T F     D W' = c [(D F') Q + S E]                  S S' = D2 D2'

with frames F of G1 and E of H - (H Q') Q, and D2 = D - (D F') F. docs/matrix_free.md proves that
this is the joint law over all layers, and says what networks of a seed share.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from study.arithmetic.scaled import Scaled, settle
from study.core.network import Network
from study.engines.march import Data, March, MarchedWeights, Recorded
from study.engines.walk import keys, walked
from study.engines.weights import CORES, side_by_side
from study.sampling import gaussian
from study.tools import Array

LAWS = ("gaussian", "orthogonal")  # the laws of weights that this engine serves

# Householder takes over from Cholesky where an example's part that is orthogonal to those before it
# has less than this share of its norm.
PIVOT = 2.0**-12

BLOCK_BYTES = 2**18  # signals of one layer that are walked together: what a core's cache holds

# And their draws: more would be new memory each time, whose pages cost a tenth of the draws.
DRAWN_BYTES = 2**25

THREAD_BYTES = 2**16  # signals of one layer, of all seeds, from which threads pay

# Roots of Gram matrices are kept for the backward pass if those of all layers take no more.
ROOT_BYTES = 2**26

# About so much is drawn at a time: a call for every layer would take longer than small draws.
GROUP_BYTES = 2**17


class Draws:
    """Normals of each layer, (seeds, directions, units), drawn a few layers at a time.

    The latest group is kept, or all are.
    """

    def __init__(
        self, keys: Array, dtype: np.dtype, depth: int, shapes: Sequence[tuple], keep: bool
    ):
        self.keys, self.dtype, self.depth, self.keep = keys, dtype, depth, keep
        self.shapes = shapes  # of layer 0, and of the others: (directions, units)
        layer = len(keys) * math.prod(shapes[1]) * dtype.itemsize
        self.count = max(1, GROUP_BYTES // max(layer, 1))
        self.groups: dict[int, Array] = {}

    def __call__(self, k: int) -> Array:
        at, place = divmod(k - 1, self.count)
        group = self.groups.get(at)
        if group is None:
            if not self.keep:
                self.groups.clear()
            group = self.groups[at] = self._group(at)
        return group[place if k else 0]

    def _group(self, at: int) -> Array:
        first = 1 + at * self.count
        layers = range(first, min(first + self.count, self.depth)) if at >= 0 else range(1)
        shape = (len(layers), len(self.keys), *self.shapes[at >= 0])
        return gaussian.fill_layers(self.keys, layers, np.empty(shape, self.dtype))


class Frames(Draws):
    """Uniform frames, with orthonormal rows, for normals."""

    def _group(self, at: int) -> Array:
        return factor(super()._group(at))[1]


class MatrixFreeWeights(MarchedWeights):
    """Weights whose G^(k) is known by its action alone."""

    signal_bytes = 2**27  # to draw again costs no more than to fetch what has left the cache

    def __init__(
        self, trunks: list[Network], seeds: Sequence[int], n_in: int, batch: int, depth: int
    ):
        super().__init__(trunks, seeds, n_in, batch, depth)
        self.back = BACK[self.law]
        known = Draws
        up, down = zip(*map(self._shapes, (n_in, self.units)), strict=True)
        if self.law == "orthogonal":
            known = Frames
            for scale, fan_in in zip(self.scales, (n_in, self.units), strict=True):
                scale *= self.dtype.type(math.sqrt(max(fan_in, self.units)))
        ways = keys(seeds)
        size = len(seeds) * batch * max(n_in, self.units) * self.dtype.itemsize
        keep = size * depth <= self.signal_bytes
        # Q G^(k), which the forward pass reveals: normals, or a uniform frame.
        self.known = known(ways["forward"], self.dtype, depth, up, keep)
        self.fresh = Draws(ways["backward"], self.dtype, depth, down, keep=False)
        keep = batch > 1 and 8 * len(self.sigma_w) * batch**2 * depth <= ROOT_BYTES
        # Of r^(k), from the forward to the backward pass.
        self.roots: dict[int, Root] | None = {} if keep else None

    def up(self, k: int, r: Scaled) -> Scaled:
        root = None
        if self.roots is not None:
            root = self.roots[k] = gram_root(r.mantissa)
        T, _ = factor(r.mantissa, frame=False, root=root)  # R W = c T G1
        T *= self.scale(k)
        z = np.empty((*r.mantissa.shape[:-1], self.units), self.dtype)
        times(self._by_seed(T), self.known(k)[..., : self.units], self._by_seed(z))
        return self.biased(k, Scaled(z, r.exponent))

    def down(self, k: int, delta: Scaled, r: Scaled) -> Scaled:
        root = None if self.roots is None else self.roots.pop(k)
        _, Q = factor(r.mantissa, root=root)  # made again: frames of all layers would not fit
        dr = np.empty((*delta.mantissa.shape[:-1], self.width(k)), self.dtype)
        c = self._by_seed(self.scale(k)[self.trunk])
        D = self._by_seed(delta.mantissa)
        Q = self._by_seed(Q[self.trunk])
        self.back(c, D, Q, self.known(k), self.fresh(k), self._by_seed(dr))
        return settle(dr, delta.exponent)

    def _by_seed(self, x: Array) -> Array:
        """(networks, seeds, ...), or (seeds, ...) of one, which broadcast against the draws."""
        return x if len(x) == self.seeds else x.reshape(-1, self.seeds, *x.shape[1:])

    def _shapes(self, n_in: int) -> tuple[tuple, tuple]:
        """Draws of the forward and of the backward pass: (directions, units)."""
        n_out, m = self.units, min(self.batch, n_in)
        if self.law == "gaussian":
            return (m, n_out), (min(self.batch, n_out), n_in)
        size = max(n_in, n_out)
        return (m, size), (min(self.batch, size - m), size)


def gaussian_back(c: Array, D: Array, Q: Array, G1: Array, H: Array, out: Array) -> None:
    """D W' = c [S (H - (H Q') Q) + (D G1') Q]."""
    S, _ = factor(D, frame=False)
    times(c * S, H, out)
    out += times(c * (D @ G1.mT - times(S, H @ Q.mT)), Q)  # known part less what H has along Q


def haar_back(c: Array, D: Array, Q: Array, F: Array, H: Array, out: Array) -> None:
    """D W' = c [S E + (D F') Q]."""
    n_in, n_out = out.shape[-1], D.shape[-1]
    A = D @ F[..., :n_out].mT
    times(c * A, Q, out)
    if not H.size:  # O is known
        return
    D2 = times(-A, F)
    D2[..., :n_out] += D
    H = np.broadcast_to(H, (*D.shape[:-2], *H.shape[-2:])).copy()
    H[..., :n_in] -= times(H[..., :n_in] @ Q.mT, Q)  # within the complement of Q
    _, E = factor(H)
    S, _ = factor(D2, frame=False, rank=E.shape[-2])
    out += times(c * S, E[..., :n_in])


BACK = {"gaussian": gaussian_back, "orthogonal": haar_back}


def times(T: Array, Q: Array, out: Array | None = None) -> Array:
    """T @ Q; for a single direction BLAS is several times slower than the outer product."""
    return (np.multiply if T.shape[-1] == 1 else np.matmul)(T, Q, out=out)


class Root(NamedTuple):
    """Of the Gram matrix of examples scaled to norm 1."""

    norms: Array  # (..., batch, 1), of the examples
    L: Array  # (..., batch, batch), lower triangular; the identity where ``poor``
    poor: Array  # (...), where examples depend so nearly on one another that Householder takes over


def gram_root(R: Array) -> Root:
    """Cholesky's root for `factor`, of examples R, (..., batch, units)."""
    norms = np.sqrt(np.vecdot(R, R).astype(np.float64))[..., None]
    wide, size = R.astype(np.float64, copy=False), _or_one(norms)
    K = wide @ wide.mT / (size * size.mT)  # examples of norm 1, so that no size hides a small one
    L = _cholesky(K.reshape(-1, *K.shape[-2:])).reshape(K.shape)
    poor = L.diagonal(axis1=-2, axis2=-1).min(axis=-1, initial=1) < PIVOT
    L[poor] = np.eye(L.shape[-1])  # invertible until Householder's takes its place
    return Root(norms, L, poor)


def factor(
    R: Array, frame: bool = True, root: Root | None = None, rank: int | None = None
) -> tuple[Array, Array | None]:
    """R = T Q, with orthonormal rows of Q even where R, (..., batch, units), has lost rank.

    T is (..., batch, m), m = min(batch, units, rank), Q (..., m, units), or None without ``frame``;
    ``root`` is ``gram_root(R)``, ``rank`` what R's is at most. It works in float64 on the examples
    scaled to norm 1. Cholesky of their Gram matrix, T its root, is several times faster than
    LAPACK's QR but loses twice the digits that near dependence costs. So it serves while every
    example keeps a share PIVOT of its norm orthogonal to those before it; covariances are then
    right to batch x eps / PIVOT^2, about 4e-9 batch. Beyond, Householder QR gives what explicit
    float64 weights would: covariances of T' rows are those of examples moved by a few eps of their
    norm.

    A zero example (a dead layer) has a zero row in T, equal examples have equal rows; Q is then
    completed by any orthonormal directions. As a function of R it commutes with rotations of R's
    rows where R has full rank: of normals it is uniformly distributed.

    >>> R = np.array([[3.0, 4.0, 0.0], [3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    >>> T, Q = factor(R)
    >>> bool(np.allclose(T @ Q, R) and np.allclose(Q @ Q.T, np.eye(3))), bool((T[0] == T[1]).all())
    (True, True)
    """
    batch, units = R.shape[-2:]
    if batch == 1:
        T = np.sqrt(np.vecdot(R, R))[..., None]
        if not frame:
            return T, None
        Q = R / np.where(T > 0, T, T.dtype.type(1))
        Q[..., :1] += T == 0  # any unit vector serves a zero example
        return T, Q
    norms, L, poor = root or gram_root(R)
    m = min(batch, units)
    T = L[..., :m].copy()
    Q = None
    if frame:
        wide = R.astype(np.float64, copy=False)
        Q = ((np.linalg.inv(L) / _or_one(norms).mT) @ wide)[..., :m, :]
    if poor.any():
        unit = R[poor] / _or_one(norms[poor])
        T[poor], rows = _householder(unit, frame, pivot=rank is not None and rank < m)
        if frame:
            Q[poor] = rows
    T = T[..., :rank]
    T *= norms
    return T.astype(R.dtype, copy=False), Q.astype(R.dtype, copy=False) if frame else None


def _or_one(norms: Array) -> Array:
    """What examples are divided by to have norm 1, or stay 0."""
    return np.where(norms > 0, norms, 1)


def _cholesky(K: Array) -> Array:
    """Lower roots of a stack of Gram matrices (stack, batch, batch); zeros if poor, at will."""
    try:
        return np.linalg.cholesky(K)
    except np.linalg.LinAlgError:  # NumPy does not say which of a stack failed
        none = ~(_least_pivots(K) > _POOR)
        roots = np.linalg.cholesky(np.where(none[:, None, None], np.eye(K.shape[-1]), K))
        roots[none] = 0
        return roots


_POOR = PIVOT**2 / 2  # a pivot that rounding does not take beyond PIVOT^2


def _least_pivots(K: Array) -> Array:
    """Of Gaussian elimination, (stack,), to rounding."""
    left = K.copy()
    least = np.full(len(K), np.inf)
    for j in range(K.shape[-1]):
        column = left[:, j:, j]
        pivot = column[:, 0]
        least = np.minimum(least, pivot)
        share = column[:, 1:] / np.maximum(pivot, _POOR)[:, None]
        left[:, j + 1 :, j + 1 :] -= share[..., None] * column[:, None, 1:]
    return least


def _householder(unit: Array, frame: bool, pivot: bool) -> tuple[Array, Array | None]:
    """T and Q of a stack of batches; equal rows of T for equal examples.

    With ``pivot``, without Q and by decreasing share of new directions, so that nothing is left in
    the columns beyond the rank.
    """
    rows = None
    if pivot:
        T = np.stack([_pivoted(batch) for batch in unit])
    else:
        Q, right = np.linalg.qr(unit.mT) if frame else (None, np.linalg.qr(unit.mT, mode="r"))
        sign = np.copysign(1, right.diagonal(axis1=-2, axis2=-1))
        T = right.mT * sign[..., None, :]  # R_ii > 0 makes the factors unique
        if frame:
            rows = Q.mT * sign[..., None]
    return np.take_along_axis(T, _first_equal(unit), axis=-2), rows


def _pivoted(unit: Array) -> Array:
    """T of one batch."""
    import scipy.linalg  # not at the top: it takes longer to import than all else here

    right, order = scipy.linalg.qr(unit.T, mode="r", pivoting=True, check_finite=False)
    T = np.empty((len(unit), min(unit.shape)))
    T[order] = right[: min(unit.shape)].T
    return T


def _first_equal(rows: Array) -> Array:
    """Of each row, (..., batch, units), the first with the same entries; (..., batch, 1).

    By a multilinear hash: others have the same once in 2^64, or 2^33 if signs alone differ.
    """
    words = (rows + 0.0).view(np.uint32).astype(np.uint64)  # + 0.0: 0 and -0 are the same
    keys = np.vecdot(words, _odd(words.shape[-1]))
    return (keys[..., None] == keys[..., None, :]).argmax(axis=-1)[..., None]


@functools.cache
def _odd(count: int) -> Array:
    """Odd 64-bit numbers, to hash rows with."""
    return np.random.default_rng(0).integers(2**63, size=count, dtype=np.uint64) * 2 + 1


def _columns(
    nets: Mapping[int, Network], data: Data, chosen: Callable[[int], Array], block: Sequence[int]
) -> list[Recorded]:
    """Of a block of seeds: compiled where that serves, else marched."""
    columns = walked(nets, block, data, chosen)
    met = {(part.net, seed) for part in columns for seed in part.seeds}
    left: dict[tuple, list[int]] = {}
    for seed in block:
        rest = tuple(j for j in nets if (j, seed) not in met)
        left.setdefault(rest, []).append(seed)
    for rest, seeds in left.items():
        if rest:
            some = {j: nets[j] for j in rest}
            columns += March(MatrixFreeWeights, some, seeds, data).columns(chosen)
    return columns


def matrix_free(
    nets: Mapping[int, Network], seeds: Sequence[int], data: Data, chosen: Callable[[int], Array]
) -> list[Recorded]:
    """The columns of each network of each seed; parameters as in `study.engines.dense.dense`.

    Seeds are walked in blocks, side by side, and blocks on as many threads as there are cores.
    Neither changes a bit of the result.
    """
    first = next(iter(nets.values()))
    shape = (data.batch, first.width) if data.inputs is None else data.inputs.shape
    itemsize = np.dtype(first.dtype).itemsize
    row = len(nets) * shape[0] * max(shape[1], first.width) * itemsize
    # Of the way up, kept by the walk.
    draws = max(net.depth for net in nets.values()) * first.width * itemsize
    # Where all seeds are little, two threads would but wait for each other's turn in Python.
    threads = CORES if len(seeds) * row > THREAD_BYTES else 1
    size = max(1, min(BLOCK_BYTES // row, DRAWN_BYTES // draws, -(-len(seeds) // threads)))
    blocks = [seeds[i : i + size] for i in range(0, len(seeds), size)]

    return side_by_side(functools.partial(_columns, nets, data, chosen), blocks, CORES)
