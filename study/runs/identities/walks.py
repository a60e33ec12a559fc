"""Networks that are measured again, held to what every layer of them must obey."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from study.arithmetic.plain import PlainRun
from study.arithmetic.scaled import Array, ldexp, spread, sum_of_squares
from study.engines import dense, explicit
from study.engines.blocks import Block
from study.engines.explicit import Linear, Stretch
from study.engines.jacobian import Product
from study.runs.identities.columns import TOLERANCE
from study.runs.identities.onlookers import of_blocks, of_plain_runs, of_products


class Walks:
    """What `watched` saw of the backward passes."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float, float]] = []  # appended to by the engines' threads
        self._products: list[float] = []

    def add(self, gaps: list[Array], promise: float = 0.0) -> None:
        """Take in some layers: each network's gap, as a share of what is allowed."""
        found = np.concatenate([*gaps, []], axis=None)
        self._seen.append((found.size, found.max(initial=0.0), promise))

    def add_product(self, gap: float) -> None:
        """Take in a product of layers: its worst gap, as a share of what is allowed."""
        self._products.append(gap)

    @property
    def layers(self) -> int:
        """How many layers were walked back, of all networks together."""
        return sum(count for count, _, _ in self._seen)

    @property
    def said(self) -> str:
        """What was held to what; empty if nothing was."""
        euler = f"Euler in {self.layers:,} layers" if self.layers else ""
        products = len(self._products)
        spectra = f"norm, determinant, direction of {products:,} Jacobians" if products else ""
        return "; ".join(filter(None, (euler, spectra)))

    @property
    def wrong(self) -> str:
        """How far an identity is off where it is worst, if that is more than allowed."""
        worst = np.max([*(gap for _, gap, _ in self._seen), *self._products], initial=0.0)
        return "" if worst <= 1 else f"off by {worst:.3g} times what is allowed"

    @property
    def tolerance(self) -> float:
        """What numbers that follow from these layers may differ by on another machine.

        A norm is right to 4 x depth x unit roundoff on a given forward pass (see
        `study.backpropagate`). What another machine's rounding makes of the forward pass comes on
        top, by the conditioning of the network, for which there is no bound beforehand: so it is
        never less than `TOLERANCE`, 200 times that promise in float64 at depth 10,000. In float32
        the promise itself is the larger, and is what is allowed.
        """
        return max([TOLERANCE, *(promise for _, _, promise in self._seen)])


@contextlib.contextmanager
def watched() -> Iterator[Walks]:
    """Look on while networks are walked back, and hold every layer of each to Euler's identity.

    In each layer sum_ij W_ij dC/dW_ij = sum_j (z_j - b_j) dC/dz_j = sum_i r_i dC/dr_i, example by
    example: what went up through the weights must match what comes down, whichever engine it is,
    with a matrix or without. They may differ by half the digits of the format, of which rounding
    takes a few in wide layers and more where a matrix-free draw lies near 0. So are plain runs in
    any format and blocks, and Jacobians to theirs (see `study.runs.identities.onlookers`). What
    `study.engines.training` steps is seen where its layers' norms are taken; its steps
    are only computed again.

    Examples
    --------
    >>> import study
    >>> with watched() as seen:
    ...     _ = study.profile(study.Network("tanh", depth=9, width=8, sigma_w=2.0), [0, 1])
    >>> seen.layers, seen.wrong
    (18, '')
    """
    seen, walk = Walks(), explicit.backward

    def backward(linear, stretch, dr, blocks, measures, trunk=slice(None)):
        beside = _Beside(linear, stretch, trunk)
        below = walk(beside, stretch, dr, blocks, measures, trunk)
        depth, u = stretch.first + len(stretch.z.mantissa), np.finfo(dr.mantissa.dtype).eps / 2
        seen.add([*beside.gaps.values()], 4 * depth * float(u))
        return below

    with contextlib.ExitStack() as undo:
        for owner, name, other in (
            (explicit, "backward", backward),
            (dense, "backward", backward),
            *of_plain_runs(PlainRun, seen.add),
            *of_blocks(Block, seen.add),
            *of_products(Product, seen.add_product),
        ):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, other)
        yield seen


class _Beside:
    """A `Linear` that compares what went up through W^(k) with what comes down."""

    def __init__(self, linear: Linear, stretch: Stretch, trunk: Array | slice):
        self.linear, self.stretch, self.trunk = linear, stretch, trunk
        self.gaps: dict[int, Array] = {}  # of a layer that is walked again, the last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.linear, name)

    def backward(self, k: int, delta: Array, out: Array) -> None:
        self.linear.backward(k, delta, out)
        j = k - self.stretch.first
        r, z = self.stretch.r[j][self.trunk], self.stretch.z[j]
        b = self.linear.bias(k)
        b = np.broadcast_to(0.0 if b is None else b, z.mantissa.shape)[self.trunk]
        z = z[self.trunk]
        e_z = spread(z.exponent, z.mantissa.shape[:-1])
        up = z.mantissa - ldexp(b.astype(np.float64), -e_z[..., None])
        shift = e_z - r.exponent - self.linear.exponent(k)
        below, above = np.vecdot(r.mantissa, out, dtype=np.float64), np.vecdot(up, delta)
        size = np.sqrt(np.vecdot(z.mantissa, z.mantissa, dtype=np.float64) * sum_of_squares(delta))
        size = ldexp(size, shift) + np.sqrt(sum_of_squares(r.mantissa) * sum_of_squares(out))
        allowed = np.sqrt(np.finfo(out.dtype).eps / 2) * size
        gap = np.abs(ldexp(above, shift) - below) / np.where(allowed > 0, allowed, 1)
        self.gaps[k] = gap.max(axis=-1)
