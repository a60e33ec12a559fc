"""phi and phi' of scaled numbers of any size, for several networks side by side.

Networks stand in blocks that share an activation: arrays are (networks, batch, units). Where plain
floats hold a whole example, they have the answer. Far beyond their range phi is its asymptote, far
below its tangent at 0; where every phi or phi' of an example has underflowed, it is found by its
exponent.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from study.arithmetic import scaled
from study.arithmetic.kernels import gated
from study.arithmetic.scaled import Exponent, Scaled
from study.core.activations import Activation
from study.tools import Array
from study.tools.elementary import FAR

ACTIVE_SHARE = 0.01  # a unit counts as active where phi'(z) exceeds this share of the largest slope

DEEPEST = -(2**60)  # exponents fall no lower: a derivative below 2^DEEPEST counts as that, a bound

# ln 2 in two parts (Cody and Waite 1980): k * LN2_HIGH is exact for |k| < 2^21.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10


EVERY = slice(None)  # all networks, in the order of the forward pass


class Block(NamedTuple):
    """Networks that share an activation: their range on the networks' axis."""

    networks: slice
    row: Activation
    kink: float


class Activations:
    """The activations of networks side by side, block by block."""

    def __init__(self, blocks: Sequence[Block]):
        self.blocks = blocks
        counts = [block.networks.stop - block.networks.start for block in blocks]
        largest = [block.row.max_slope for block in blocks]
        # A unit of a network is active above this slope.
        self.thresholds = ACTIVE_SHARE * np.repeat(largest, counts)
        self.networks = np.arange(len(self.thresholds))

    def phi(self, z: Scaled) -> Scaled:
        """r = phi(z), in range."""
        values, exponent = self._plain_phi(z)
        r = scaled.settle(values, exponent)
        # Only where something left the range can phi have underflowed.
        return r if r.mantissa is values else self._revived(r, z)

    def derivative(self, z: Scaled) -> Array:
        """phi'(z) as plain floats have it."""
        if len(self.blocks) == 1:
            return _derivative(z, self.blocks[0])
        parts = [_derivative(z[block.networks], block) for block in self.blocks]
        return np.concatenate(parts)

    def active_fraction(self, slopes: Array) -> Array:
        """Share of units, over the batch, with phi'(z) above ACTIVE_SHARE of its maximum."""
        thresholds = self.thresholds.astype(slopes.dtype)[:, None, None]
        return (slopes > thresholds).mean(axis=(1, 2))

    def _plain_phi(self, z: Scaled) -> tuple[Array, Exponent]:
        """phi(z) before it is settled."""
        if len(self.blocks) == 1:
            return _phi(z, self.blocks[0].row)
        parts = [_phi(z[block.networks], block.row) for block in self.blocks]
        values = np.concatenate([of_block for of_block, _ in parts])
        if all(isinstance(exponent, int) for _, exponent in parts):
            return values, 0
        exponents = [scaled.spread(exponent, of_block.shape[:-1]) for of_block, exponent in parts]
        return values, np.concatenate(exponents)

    def _revived(self, r: Scaled, z: Scaled) -> Scaled:
        """phi(z) again, on the rows that have all but underflowed though phi is never 0 there."""
        exponent = scaled.spread(r.exponent, r.squares.shape).copy()
        mantissa = r.mantissa
        for block in self.blocks:
            if block.row.tail is None:
                continue
            at = block.networks
            x = _true(z[at])
            plain = block.row.phi(x)
            # Around 0 phi is as good as linear; a row with one unit there has no need of the tail.
            tiny = np.finfo(x.dtype).tiny
            lost = (np.abs(plain).max(axis=-1) < tiny) & (x < -1).all(axis=-1)
            if lost.any():
                m, k = scaled_tail(block.row, x[lost])
                mantissa = mantissa.copy() if mantissa is r.mantissa else mantissa
                mantissa[at][lost], exponent[at][lost] = scaled.product(np.ones_like(m), m, k)
        if mantissa is r.mantissa:
            return r
        return Scaled(mantissa, exponent, scaled.sum_of_squares(mantissa))


class Slopes:
    """phi'(z): as plain floats have it, and by its exponent where that is nothing."""

    def __init__(self, activations: Activations, z: Scaled, trunk: Array | slice, active: Array):
        self.activations = activations
        self.values = activations.derivative(z)
        self.z = z
        self.trunk = trunk
        self.active = active

    def __rmul__(self, dr: Scaled) -> Scaled:
        """Equation (1)."""
        known = self.activations
        delta = np.empty_like(dr.mantissa)
        squares = np.empty(delta.shape[:-1])
        if gated(
            dr.mantissa,
            self.values,
            known.networks[self.trunk],
            known.thresholds,
            *scaled.SQUARE_RANGE[delta.dtype],
            delta,
            squares,
            self.active,
        ):
            return Scaled(delta, dr.exponent, squares)
        return self.rescued(scaled.settle(delta, dr.exponent), dr)

    def rescued(self, delta: Scaled, dr: Scaled) -> Scaled:
        """Equation (1) again, on the rows whose every derivative has all but underflowed.

        ``delta`` is dr * phi' as plain floats have it, in range.
        """
        decaying = [block for block in self.activations.blocks if block.row.decay is not None]
        if not decaying:
            return delta
        values = self.values[self.trunk]
        limits = np.finfo(values.dtype)
        plain = np.abs(dr.mantissa * values).max(axis=-1)
        size = np.minimum(np.abs(values).max(axis=-1), plain)
        lost = (size < limits.tiny / limits.eps) & dr.mantissa.any(axis=-1)
        if not lost.any():
            return delta
        z = self.z[self.trunk]
        networks = self.activations.networks[self.trunk][:, None]
        above = scaled.spread(dr.exponent, lost.shape)
        exponent = scaled.spread(delta.exponent, lost.shape).copy()
        mantissa = delta.mantissa.copy()
        for block in decaying:
            within = (networks >= block.networks.start) & (networks < block.networks.stop)
            rows = lost & within
            if rows.any():
                m, k = scaled_derivative(block.row, _true(z)[rows], block.kink)
                mantissa[rows], top = scaled.product(dr.mantissa[rows], m, k)
                # Int64 would wrap around after thousands of layers.
                top = np.maximum(above[rows] + top, DEEPEST)
                exponent[rows] = np.where(mantissa[rows].any(axis=-1), top, 0)
        return Scaled(mantissa, exponent, scaled.sum_of_squares(mantissa))


def _true(z: Scaled) -> Array:
    """The arguments as plain floats, clipped to +-FAR, keeping the sign of what underflows."""
    if isinstance(z.exponent, int):
        return z.mantissa
    x = scaled.ldexp(z.mantissa, z.exponent[..., None])
    lost = (x == 0) & (z.mantissa != 0)
    x[lost] = np.copysign(np.finfo(x.dtype).tiny, z.mantissa[lost])  # a kink at 0 asks for the side
    return np.clip(x, -FAR, FAR)


def _phi(z: Scaled, row: Activation) -> tuple[Array, Exponent]:
    if row.scale_free:
        return row.phi(z.mantissa), z.exponent
    if isinstance(z.exponent, int):
        return row.phi(z.mantissa), 0
    x = _true(z)
    r = row.phi(x)
    exponent = np.zeros(z.exponent.shape, np.int64)
    # Where plain floats hold the whole row, they have the answer. Below, phi is its tangent at 0;
    # above, what grows follows its asymptote and what does not is negligible beside it.
    if row.phi(np.zeros(1, x.dtype)) == 0:
        below = np.abs(x).max(axis=-1) < np.finfo(x.dtype).tiny / np.finfo(x.dtype).eps
        left, right = row.slopes_at_zero
        slope = np.where(z.mantissa > 0, x.dtype.type(right), x.dtype.type(left))
        r = np.where(below[..., None], slope * z.mantissa, r)
        exponent = np.where(below, z.exponent, exponent)
    left, right = (x.dtype.type(slope) for slope in row.slopes_at_infinity)
    grows = ((x >= FAR) & (right > 0)) | ((x <= -FAR) & (left > 0))
    above = grows.any(axis=-1)
    asymptote = np.where(z.mantissa > 0, right, left) * z.mantissa
    grown = np.where(grows, asymptote, scaled.ldexp(r, -z.exponent[..., None]))
    return np.where(above[..., None], grown, r), np.where(above, z.exponent, exponent)


def _derivative(z: Scaled, block: Block) -> Array:
    return block.row.derivative(z.mantissa if block.row.scale_free else _true(z), block.kink)


@np.errstate(under="ignore")
def scaled_derivative(row: Activation, z: Array, kink: float = 1.0) -> tuple[Array, Array]:
    """phi'(z) as ``mantissa * 2**exponent`` where phi' itself may be below the float range.

    The error stays at a few units in the last place until decay(z) = 2**30, then grows with
    it; from 2**52 on phi' is given as exp(-2**52), a bound.

    >>> from study.core.activations import activation
    >>> m, k = scaled_derivative(activation("sigmoid"), np.array([1000.0]))    # e^-1000
    >>> round(float(np.log10(m[0]) + k[0] * np.log10(2)), 6)
    -434.294482
    """
    if row.decay is None:
        return row.prefactor(z, None, kink), np.zeros(z.shape, np.int64)
    x = z.astype(np.float64)
    e, power, k = _powers(row, x)  # float64: exp(-decay) magnifies the rounding of decay
    return (row.prefactor(x, e, kink) * power).astype(z.dtype), k


@np.errstate(under="ignore")
def scaled_tail(row: Activation, z: Array) -> tuple[Array, Array]:
    """phi(z) likewise, for z << 0."""
    x = z.astype(np.float64)
    _, power, k = _powers(row, x)
    return (row.tail(x) * power).astype(z.dtype), k


def _powers(row: Activation, z: Array) -> tuple[Array, Array, Array]:
    """exp(-decay(z)) as a float, and as ``power * 2**k``."""
    t, dt = row.decay(z)
    dt = np.where(t < 2.0**52, dt, 0)
    t = np.minimum(t, 2.0**52)
    k = np.rint(t / math.log(2))
    # k ln 2 in three exact pieces: the low 20 bits of k apart, so that nothing rounds.
    k_low = np.fmod(k, 2.0**20)
    rest = ((t - (k - k_low) * LN2_HIGH) - k_low * LN2_HIGH) - k * LN2_LOW + dt
    return np.exp(-t), np.exp(-rest), -k.astype(np.int64)
