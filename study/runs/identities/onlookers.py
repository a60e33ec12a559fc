"""Who looks on at plain runs, blocks and Jacobians, and what these must obey.

- Plain runs: <W, dC/dW> = <z, dC/dz>; under ReLU, whatever ReLU'(0) is, and other homogeneous
  activations <z, dC/dz> is moreover the same in all layers, since phi(z) = z phi'(z).
- Blocks: the same of each branch, r W and phi(x) V beside what comes down through W and V, example
  by example; and <phi(z), dC/dphi> = <z, dC/dz> where phi is homogeneous.
- Jacobians: sum s^2 = ||J||_F^2; sum ln s = ln |det J|, layer by layer, unless a dimension is lost;
  and J v for one v, followed through the layers alone.

Gaps are given as a share of what is allowed: half the digits of the format. Each function yields
what is to be replaced, as (owner, name, stand-in); no number changes by a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from study.arithmetic.formats import quietly
from study.arithmetic.scaled import Array
from study.core.activations import activation as activation_row

HOMOGENEOUS = ("relu", "leaky_relu", "linear")
Standing = Iterator[tuple[Any, str, Callable]]


def of_plain_runs(runs: type, add: Callable[[list[Array]], None]) -> Standing:
    """Onlookers of `PlainRun`."""
    walk, learn = runs.backward, runs.gradient

    def size(x: Array) -> float:
        return float(np.linalg.norm(x))

    @quietly
    def gap(run, one: tuple[Array, Array], two: tuple[Array, Array]) -> float:
        if not all(np.isfinite(x).all() for x in (*one, *two)):
            return 0.0  # what left the range obeys nothing
        u, terms = 1 - math.frexp(run.number.largest)[0], max(*one[0].shape, *two[0].shape)
        scales = [math.frexp(float(np.abs(x).max(initial=0.0)))[1] for x in (*one, *two)]
        pairs = [np.ldexp(x.astype(float), -e) for x, e in zip((*one, *two), scales, strict=True)]
        a, b, c, d = pairs  # no square of theirs leaves float64's range
        top = max(scales[0] + scales[1], scales[2] + scales[3])
        ab, cd = (math.ldexp(1.0, sum(own) - top) for own in (scales[:2], scales[2:]))
        # What is rounded to a multiple of the smallest number, term by term, is lost for good.
        lost = sum(
            np.abs(x).sum() * terms * np.ldexp(run.number.smallest, e - top)
            for x, e in zip(pairs, scales, strict=True)
        )
        allowed = math.sqrt(u) * (size(a) * size(b) * ab + size(c) * size(d) * cd) + lost
        off = abs(np.vdot(a, b) * ab - np.vdot(c, d) * cd)
        return float(off / allowed) if allowed > 0 else 0.0

    def backward(self, dr, kink=0.0, depth=None):
        deltas = walk(self, dr, kink, depth)
        rows = self.rows[: len(deltas) - 1]
        add(
            [
                np.array([gap(self, (self.z[k], deltas[k]), (self.z[k + 1], deltas[k + 1]))])
                for k, row in enumerate(rows)
                if row.name in HOMOGENEOUS
            ]
        )
        return deltas

    def gradient(self, k, delta):
        found = learn(self, k, delta)
        add([np.array([gap(self, (self.weights[k], found), (self.z[k], delta))])])
        return found

    yield runs, "backward", backward
    yield runs, "gradient", gradient


def of_blocks(blocks: type, add: Callable[[list[Array]], None]) -> Standing:
    """Onlookers of `Block`."""
    up, down = blocks.forward, blocks.backward
    passed: dict[int, tuple] = {}  # by trace, which is kept so that its id stays its own

    def gap(one: tuple[Array, Array], two: tuple[Array, Array], beside: Array) -> Array:
        (a, b), (c, d) = one, two
        off = np.vecdot(a, b, dtype=np.float64) - np.vecdot(c, d, dtype=np.float64)
        size = np.linalg.norm(a, axis=-1) * (
            np.linalg.norm(b, axis=-1) + np.linalg.norm(beside, axis=-1)
        ) + np.linalg.norm(c, axis=-1) * np.linalg.norm(d, axis=-1)
        allowed = math.sqrt(np.finfo(b.dtype).eps / 2) * size
        return np.abs(off) / np.where(allowed > 0, allowed, 1)

    def forward(self, r, W, V=None, alpha=1.0, slope=None):
        found, trace = up(self, r, W, V, alpha, slope)
        passed[id(trace)] = trace, r, slope is None
        return found, trace

    def backward(self, dr, trace, W, V=None, alpha=1.0):
        out = down(self, dr, trace, W, V, alpha)
        _, r, own_slopes = passed.pop(id(trace), (trace, None, False))
        if r is None:
            return out
        z = r @ W * r.dtype.type(self.sigma_w)
        h = activation_row(self.activation).phi(z if trace.x is None else trace.x)
        above = self._weight(alpha, dr) * (dr @ V.T) if self.residual else dr
        dz = self.before_weights(above, trace)
        beside = dr if self.residual else np.zeros_like(dr)
        gaps = [gap((r, out - beside), (z, dz), beside)]
        if self.residual:
            gaps.append(gap((h, above), (self._weight(alpha, dr) * (h @ V), dr), above))
        if self.activation in HOMOGENEOUS and self.axis is None and own_slopes:
            gaps.append(gap((h, above), (z, dz), above))
        add([np.max(gaps, axis=0).max(axis=-1)])
        return out

    yield blocks, "forward", forward
    yield blocks, "backward", backward


def of_products(products: type, add: Callable[[float], None]) -> Standing:
    """Onlookers of `Product`."""
    take, values = products.multiply, products.log_singular_values
    followed: dict[Any, tuple[Array, float, float, int]] = {}

    def multiply(self, W, slopes):
        take(self, W, slopes)
        start = np.full(len(W), len(W) ** -0.5), 0.0, 0.0, 0
        v, log, determinant, layers = followed.get(self, start)
        v = slopes * (W.T @ v)
        size = float(np.linalg.norm(v)) or 1.0
        with np.errstate(divide="ignore"):
            determinant += float(np.linalg.slogdet(W)[1] + np.log(np.abs(slopes)).sum())
        followed[self] = v / size, log + math.log(size), determinant, layers + 1

    @np.errstate(under="ignore")
    def log_singular_values(self):
        found = values(self)
        if self.rank == 0:
            return found
        v, log, determinant, layers = followed[self]
        half, top = math.sqrt(np.finfo(float).eps / 2), float(self.log.max())
        norms = [np.log(np.exp(2 * (own - top)).sum()) for own in (found, self.log)]
        gaps = [abs(norms[0] - norms[1]) / half]
        if self.rank == len(found):
            gaps.append(abs(found.sum() - determinant) / (half * max(1, layers)))
        through = self.U @ (np.exp(self.log - top) * self.T.sum(axis=1)) * len(v) ** -0.5
        off = np.linalg.norm(through - v * math.exp(min(log - top, 700.0)))
        gaps.append(off / half)
        add(float(max(gaps)))
        return found

    yield products, "multiply", multiply
    yield products, "log_singular_values", log_singular_values
