"""An activation on scaled numbers: phi and phi' of any argument, several networks at once.

Networks stand in blocks that share an activation; shape (networks, batch, units), or with layers
leading.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from study.arithmetic.scaled import Array, Exponent, Scaled, ldexp, product, spread, sum_of_squares
from study.core.activations import FAR, Activation

ACTIVE_SHARE = 0.01
"""A unit counts as active where phi'(z) exceeds this share of the largest slope."""

DEEPEST = -(2**60)
"""Exponents fall no lower: a derivative below 2^DEEPEST counts as that, a bound."""


# ln 2 in two parts (Cody and Waite 1980): k * LN2_HIGH is exact for |k| < 2^21.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10


class Block(NamedTuple):
    """Networks that share an activation: their range on the networks' axis."""

    networks: slice
    row: Activation
    kink: float


def phi(z: Scaled, blocks: list[Block], out: Array) -> Exponent:
    """r = phi(z), block by block, for arguments of any size; returns the exponent of ``out``."""
    if len(blocks) == 1:
        out[...], exponent = _phi(z, blocks[0].row)
        return exponent
    exponents = []
    for block in blocks:
        out[block.networks], e = _phi(z[block.networks], block.row)
        exponents.append(e)
    if all(isinstance(e, int) for e in exponents):
        return 0
    exponent = np.empty(out.shape[:-1], np.int64)
    for block, e in zip(blocks, exponents, strict=True):
        exponent[block.networks] = e
    return exponent


def revived(r: Scaled, s: Array, z: Scaled, blocks: list[Block]) -> tuple[Scaled, Array]:
    """r = phi(z) again, on the rows that have all but underflowed though phi is never 0 there.

    ``r`` and ``s`` are phi(z) as plain floats have it, after ``settle``.
    """
    tails = [block for block in blocks if block.row.tail is not None]
    if not tails:
        return r, s
    e = spread(r.exponent, s.shape).copy()
    mantissa = r.mantissa
    for block in tails:
        at = block.networks
        x = _true(z[at])
        plain = block.row.phi(x)
        # Around 0 phi is as good as linear; a row with one unit there has no need of the tail.
        lost = (np.abs(plain).max(axis=-1) < np.finfo(x.dtype).tiny) & (x < -1).all(axis=-1)
        if lost.any():
            m, k = scaled_tail(block.row, x[lost])
            mantissa = mantissa.copy() if mantissa is r.mantissa else mantissa
            mantissa[at][lost], e[at][lost] = product(np.ones_like(m), m, k)
    if mantissa is r.mantissa:
        return r, s
    return Scaled(mantissa, e), sum_of_squares(mantissa)


def derivative(z: Scaled, blocks: list[Block]) -> Array:
    """phi'(z), block by block, for arguments of any size; layers leading."""
    if len(blocks) == 1:
        return _derivative(z, blocks[0])
    return np.concatenate([_derivative(z[:, block.networks], block) for block in blocks], axis=1)


def active_fraction(slopes: Array, blocks: list[Block]) -> Array:
    """Share of units, over the batch, with phi'(z) above ACTIVE_SHARE of its maximum.

    Shapes: (layers, networks, batch, units) -> (layers, networks).
    """
    layers, networks, batch, units = slopes.shape
    share = np.empty((layers, networks))
    for block in blocks:
        live = slopes[:, block.networks] > slopes.dtype.type(ACTIVE_SHARE * block.row.max_slope)
        counts = np.count_nonzero(live.reshape(layers, live.shape[1], -1), axis=2)
        share[:, block.networks] = counts / (batch * units)
    return share


def _true(z: Scaled) -> Array:
    """The arguments as plain floats, clipped to +-FAR, keeping the sign of what underflows."""
    if isinstance(z.exponent, int):
        return z.mantissa
    x = ldexp(z.mantissa, z.exponent[..., None])
    lost = (x == 0) & (z.mantissa != 0)
    x[lost] = np.copysign(np.finfo(x.dtype).tiny, z.mantissa[lost])
    return np.clip(x, -FAR, FAR)


def _phi(z: Scaled, row: Activation) -> tuple[Array, Exponent]:
    if row.scale_free:
        return row.phi(z.mantissa), z.exponent
    if isinstance(z.exponent, int):
        return row.phi(z.mantissa), 0
    x = _true(z)
    r = row.phi(x)
    e = np.zeros(z.exponent.shape, np.int64)
    # Where plain floats hold the whole row, they have the answer. Below, phi is its tangent at 0;
    # above, what grows follows its asymptote and what does not is negligible beside it.
    size = np.abs(x).max(axis=-1)
    if row.phi(np.zeros(1, x.dtype)) == 0:
        below = size < np.finfo(x.dtype).tiny / np.finfo(x.dtype).eps
        left, right = row.slopes_at_zero
        slope = np.where(z.mantissa > 0, x.dtype.type(right), x.dtype.type(left))
        r = np.where(below[..., None], slope * z.mantissa, r)
        e = np.where(below, z.exponent, e)
    left, right = (x.dtype.type(slope) for slope in row.slopes_at_infinity)
    grows = ((x >= FAR) & (right > 0)) | ((x <= -FAR) & (left > 0))
    above = grows.any(axis=-1)
    asymptote = np.where(z.mantissa > 0, right, left) * z.mantissa
    scaled = np.where(grows, asymptote, ldexp(r, -z.exponent[..., None]))
    return np.where(above[..., None], scaled, r), np.where(above, z.exponent, e)


def _derivative(z: Scaled, block: Block) -> Array:
    return block.row.derivative(z.mantissa if block.row.scale_free else _true(z), block.kink)


def rescued(
    delta: Scaled,
    s_delta: Array,
    slopes: Array,
    z: Scaled,
    dr: Scaled,
    blocks: list[Block],
    trunk: Array | slice,
) -> tuple[Scaled, Array]:
    """Equation (1) again, on the rows whose every derivative has all but underflowed.

    ``delta`` and ``s_delta`` are dr * phi' as plain floats have it, after ``settle``; ``slopes``,
    ``z`` and ``dr`` are row by row with it, ``trunk[j]`` the network of the forward pass of row j.
    """
    limits = np.finfo(slopes.dtype)
    size = np.minimum(np.abs(slopes).max(axis=-1), np.abs(dr.mantissa * slopes).max(axis=-1))
    shape = s_delta.shape
    lost = (size < limits.tiny / limits.eps) & dr.mantissa.any(axis=-1)
    decays = [block for block in blocks if block.row.decay is not None]
    if not lost.any() or not decays:
        return delta, s_delta
    e_dr, e = spread(dr.exponent, shape), spread(delta.exponent, shape).copy()
    mantissa = delta.mantissa.copy()
    owner = np.arange(len(z.mantissa))[:, None] if isinstance(trunk, slice) else trunk[:, None]
    for block in decays:
        rows = lost & (owner >= block.networks.start) & (owner < block.networks.stop)
        if rows.any():
            m, k = scaled_derivative(block.row, _true(z)[rows], block.kink)
            mantissa[rows], top = product(dr.mantissa[rows], m, k)
            e_rows = np.maximum(e_dr[rows] + top, DEEPEST)
            e[rows] = np.where(mantissa[rows].any(axis=-1), e_rows, 0)
    return Scaled(mantissa, e), sum_of_squares(mantissa)


@np.errstate(under="ignore")
def scaled_derivative(row: Activation, z: Array, kink: float = 1.0) -> tuple[Array, Array]:
    """phi'(z) as ``mantissa * 2**exponent`` where phi' itself may be below the float range.

    The error stays at a few units in the last place until decay(z) = 2**30, then grows with
    it; from 2**52 on phi' is given as exp(-2**52), a bound.
    """
    if row.decay is None:
        return row.prefactor(z, None, kink), np.zeros(z.shape, np.int64)
    x = z.astype(np.float64)
    e, power, k = _powers(row, x)
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
