"""One example through random weights, matrix-free and compiled: a march in loops of numba.

What it computes is the law of `study.engines.matrix_free`, by the same draws. `climb` and `descend`
walk a group of layers that has been drawn, for the networks of one activation, whose phi and phi'
they are handed: they are compiled once for all. Only norms go from a layer to the next on the way
up, so signals are made again on the way down. A layer's scale is one number, and keeps what it
multiplies in range by a power of two. Sums are taken in LANES partial sums, in the order of the
source. A network that leaves the range of its format in a way that no such factor mends is lost:
its numbers are not to be used.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numba import carray, types
from numba.np.numpy_support import from_dtype

from study.arithmetic.activations import ACTIVE_SHARE
from study.arithmetic.compiled import compiled, program
from study.arithmetic.scaled import Scaled, settle
from study.core.activations import Activation
from study.core.network import Network
from study.engines.march import Data, March, MarchedWeights, Recorded
from study.sampling import gaussian
from study.tools.compiling import called, inlined, kernel, specialised
from study.tools.elementary import Array

LANES = 64

# About so much is drawn at a time, and stays in a core's cache while it is walked.
GROUP_BYTES = 2**18

KEPT_BYTES = 2**28  # draws of the way up are kept for the way down if they take no more

# A layer's scale is plain within 2^-limit and 2^limit: beyond, phi is its asymptote or its tangent
# at 0 to rounding. Sums of squares below the second are lost unless they are true zeros.
LIMITS = {np.dtype(np.float32): (40, 2.0**-90), np.dtype(np.float64): (60, 2.0**-900)}

# How phi is taken: as it is, or by its slopes at 0 or at infinity.
PLAIN, TANGENT, ASYMPTOTE = range(3)

# dC/dr of a network: not there yet, there, or to be made of what the layer above has left.
ABSENT, GIVEN, PENDING = range(3)


class Traits(NamedTuple):
    """What the loops know of an activation beyond phi and phi'."""

    scale_free: bool
    through_zero: bool
    grows: bool
    falls: bool  # phi falls to 0 for z << 0 but is not 0 there
    decays: bool  # phi' likewise, on either side
    slopes: tuple  # phi'(0-), phi'(0+); phi'(-inf), phi'(inf)
    threshold: float  # a unit is active above this slope
    limit: int
    least: float


class Up(NamedTuple):
    """The way up: of each (layer,) trunk."""

    c: Array  # (2, trunks): sigma_w / sqrt(fan_in) of layer 0 and the others
    sigma_b: Array
    scale: Array  # z^(k+1) = (scale G + bias) 2^exponent
    exponent: Array
    way: Array
    square: Array  # |r^(k)|^2 = square 4^power
    power: Array
    active: Array
    lost: Array


class Down(NamedTuple):
    """The way down: of each (layer,) network, and of the trunk that it shares with others."""

    members: Array  # networks, trunk by trunk
    first: Array  # of each trunk, where its networks begin
    frames: float  # 1 if draws are of norm 1, as orthogonal weights ask, 0 if they are normals
    phase: Array
    dr: Array
    exponent: Array
    m: Array  # c |delta| is m 2^exponent
    u: Array  # (delta / |delta|) G'
    square: Array
    power: Array
    delta_square: Array
    delta_power: Array


def both(z):
    """phi and phi' of a number; `compiled_functions` puts an activation's in its place."""
    return z, z


def only_phi(z_at, r_at, count):
    """r = phi(z), of so many units, by pointers to them."""
    z = carray(z_at, count)
    r = carray(r_at, count)
    for i in range(count):
        r[i] = both(z[i])[0]


def phi_and_slope(z_at, r_at, slope_at, count):
    """r = phi(z) and slope = phi'(z), likewise."""
    z = carray(z_at, count)
    r = carray(r_at, count)
    slope = carray(slope_at, count)
    for i in range(count):
        r[i], slope[i] = both(z[i])


@inlined
def dot(x, y, lanes):
    """The sum of x * y."""
    lanes[:] = 0
    whole = x.size // LANES * LANES
    for start in range(0, whole, LANES):
        a, b = x[start : start + LANES], y[start : start + LANES]
        for lane in range(LANES):
            lanes[lane] += a[lane] * b[lane]
    for i in range(whole, x.size):
        lanes[i - whole] += x[i] * y[i]  # fewer than LANES are left
    for half in (32, 16, 8, 4):  # a tree, in the same order everywhere
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
    return float(lanes[0] + lanes[2]) + float(lanes[1] + lanes[3])


@inlined
def arguments(scale, G, shift, b, z):
    """z = scale G + shift b."""
    scale = z.dtype.type(scale)
    for i in range(z.size):
        z[i] = scale * G[i]
    if shift != 0:
        shift = z.dtype.type(shift)
        for i in range(z.size):
            z[i] += shift * b[i]


@inlined
def by_slopes(z, left, right, r):
    left, right = z.dtype.type(left), z.dtype.type(right)
    for i in range(z.size):
        r[i] = z[i] * (right if z[i] > 0 else left)


@inlined
def chosen_way(e, biased, traits):
    """How phi is taken of a scale m 2^e, and whether the power of two is taken out; -1 if lost."""
    if biased and e < 0:  # the bias is then the larger
        return PLAIN, False
    if traits.scale_free:  # phi(2^e z) = 2^e phi(z)
        return PLAIN, True
    if e > traits.limit:  # phi is its asymptote to rounding
        return ASYMPTOTE if traits.grows else -1, True
    if e < -traits.limit and traits.through_zero:
        return TANGENT, True
    return PLAIN, False


@inlined
def set_scale(k, trunk, traits, up):
    """The scale of z^(k+1), of |r^(k)|, and how phi is taken there."""
    # z^(k+1) is normal with deviation c |r|.
    scale, e = math.frexp(up.c[min(k, 1), trunk] * math.sqrt(up.square[k, trunk]))
    e = e + up.power[k, trunk] if scale > 0 else 0
    way, apart = chosen_way(e, up.sigma_b[trunk] != 0, traits)
    if not apart:
        scale, e = math.ldexp(scale, max(e, -2000)), 0
    up.scale[k, trunk], up.exponent[k, trunk], up.way[k, trunk] = scale, e, way


@inlined
def scaled_bias(k, trunk, up):
    """sigma_b, the power of two of the scale taken out."""
    return math.ldexp(up.sigma_b[trunk], max(-up.exponent[k, trunk], -2000))


@inlined
def signals(G, b, k, trunk, traits, up, z, r):
    """z^(k+1), and r^(k+1) where phi is taken by its slopes."""
    arguments(up.scale[k, trunk], G, scaled_bias(k, trunk, up), b, z)
    way = up.way[k, trunk]
    if way != PLAIN:
        by_slopes(z, traits.slopes[2 * way - 2], traits.slopes[2 * way - 1], r)


@kernel
def climb(G, b, trunks, first, phi, traits, up):
    """The norms of r^(k+1), layer by layer, from those of r^(k)."""
    z, lanes = np.empty(G.shape[2], G.dtype), np.empty(LANES, G.dtype)
    r = np.empty(z.size, G.dtype)
    for trunk in range(trunks[0], trunks[1]):
        seed = trunk % G.shape[1]
        for layer in range(len(G)):
            if up.lost[trunk]:
                break
            k = first + layer
            set_scale(k, trunk, traits, up)
            signals(G[layer, seed], b[layer % len(b), seed], k, trunk, traits, up, z, r)
            way = up.way[k, trunk]
            if way == PLAIN:
                phi(z.ctypes, r.ctypes, z.size)
            square = dot(r, r, lanes)
            up.square[k + 1, trunk], up.power[k + 1, trunk] = square, up.exponent[k, trunk]
            # A sum of squares that has underflowed is no zero, unless every r is.
            fed = up.scale[k, trunk] > 0 or scaled_bias(k, trunk, up) > 0
            nothing = square < traits.least and fed
            up.lost[trunk] = way < 0 or (nothing and (traits.falls or r.any()))


@kernel
def descend(G, H, b, trunks, first, values, traits, up, down):
    """dC/dr^(k+1) from the layer above's draws H, then dC/dz^(k+1), layer by layer downwards."""
    z, lanes = np.empty(G.shape[2], G.dtype), np.empty(LANES, G.dtype)
    r, slope = np.empty(z.size, G.dtype), np.empty(z.size, G.dtype)
    unused = np.empty(z.size, G.dtype)
    for trunk in range(trunks[0], trunks[1]):
        seed = trunk % G.shape[1]
        for layer in range(len(G) - 1, -1, -1):
            if up.lost[trunk]:
                break
            k = first + layer
            way = up.way[k, trunk]
            signals(G[layer, seed], b[layer % len(b), seed], k, trunk, traits, up, z, r)
            if way != PLAIN:
                # phi' is then what it is as far out, or as near 0, as plain numbers go.
                far = math.ldexp(1.0, traits.limit if way == ASYMPTOTE else -traits.limit)
                arguments(far, G[layer, seed], 0.0, b[0, seed], z)
                values(z.ctypes, unused.ctypes, slope.ctypes, z.size)
            else:
                values(z.ctypes, r.ctypes, slope.ctypes, z.size)
            up.active[k, trunk] = share_above(traits.threshold, slope)
            up.lost[trunk] |= passed_down(
                H[layer, seed], G[layer, seed], r, slope, k, trunk, traits, up, down, lanes
            )


@inlined
def share_above(threshold, slope):
    count = 0
    for i in range(slope.size):
        count += slope[i] > threshold
    return count / slope.size


@inlined
def passed_down(H, G, r, slope, k, trunk, traits, up, down, lanes):
    """dC/dr^(k+1), then dC/dz^(k+1), of a trunk's networks; whether one of them is lost."""
    along, norm = dot(H, r, lanes), math.sqrt(up.square[k + 1, trunk])
    lost = False
    for j in down.members[down.first[trunk] : down.first[trunk + 1]]:
        if down.phase[j] == PENDING:  # the layer above has left its delta
            from_above(H, r, along, norm, j, k + 1, down, down.dr[j], lanes)
        if down.phase[j] != ABSENT:
            c = up.c[min(k, 1), trunk]
            lost |= through_slope(slope, G, c, j, k, traits, down, lanes)
    return lost


@inlined
def from_above(H, r, along, norm, j, k, down, dr, lanes):
    """dC/dr^(k) = c [|delta| s (H - a Q) + (delta G') Q], a = H Q', Q = r / |r|, e_1 for r = 0."""
    m, u = down.m[j], down.u[j]
    a = along / norm if norm > 0 else float(H[0])
    # s is 1, or, of orthogonal weights, what keeps the norm.
    s = math.sqrt(max(1 - down.frames * u * u, 0.0) / (1 - down.frames * a * a))
    of_h = dr.dtype.type(m * s)
    of_r = dr.dtype.type(m * (u - s * a) / norm if norm > 0 else 0)
    for i in range(dr.size):
        dr[i] = of_h * H[i] + of_r * r[i]
    if norm == 0:  # of a dead layer Q is e_1
        dr[0] = m * u
    down.square[k, j], down.power[k, j] = dot(dr, dr, lanes), down.exponent[j]


@inlined
def through_slope(slope, G, c, j, k, traits, down, lanes):
    """Equation (1) for network j, in place, and what the layer below needs; whether it is lost."""
    delta = down.dr[j]
    for i in range(delta.size):
        delta[i] *= slope[i]  # (1)
    square = dot(delta, delta, lanes)
    down.delta_square[k, j], down.delta_power[k, j] = square, down.exponent[j]
    size = math.sqrt(square)
    m, e = math.frexp(c * size)  # what (2) multiplies H and Q by
    down.m[j], down.u[j] = m, dot(delta, G, lanes) / size if size > 0 else 0.0
    down.exponent[j] += e
    down.phase[j] = PENDING
    nothing = square < traits.least and down.square[k + 1, j] > 0
    return nothing and (traits.decays or delta.any())


@kernel
def land(H, r, up, down):
    """dC/dr^(0), from layer 0's draws and the input."""
    seeds, units = H.shape
    dr, lanes = np.empty(units, H.dtype), np.empty(LANES, H.dtype)
    for trunk in range(len(r)):
        along = dot(H[trunk % seeds], r[trunk], lanes)
        norm = math.sqrt(up.square[0, trunk])
        for j in down.members[down.first[trunk] : down.first[trunk + 1]]:
            from_above(H[trunk % seeds], r[trunk], along, norm, j, 0, down, dr, lanes)


@functools.cache
def compiled_functions(
    row: Activation, kink: float, dtype: np.dtype
) -> tuple[Callable, Callable] | None:
    """`only_phi` and `phi_and_slope` of an activation, where they can be compiled."""
    source = program(row, kink, dtype)
    if source is None:
        return None
    function, name = compiled(source, dtype)
    units = types.CPointer(from_dtype(dtype))
    phi = specialised(only_phi, name, both=function)
    values = specialised(phi_and_slope, name, both=function)
    return (
        called(phi, types.void(units, units, types.intp)),
        called(values, types.void(units, units, units, types.intp)),
    )


def walked(
    nets: Mapping[int, Network], seeds: Sequence[int], data: Data, chosen: Callable[[int], Array]
) -> list[Recorded]:
    """The columns of those networks and seeds that this walk serves."""
    first = next(iter(nets.values()))
    square = data.inputs is None or data.inputs.shape[1] == first.width
    orthogonal = first.weights == "orthogonal" and square and first.width > 1
    if data.batch > 1 or not (orthogonal or first.weights == "gaussian"):
        return []
    dtype = np.dtype(first.dtype)
    served = {j: net for j, net in nets.items() if compiled_functions(net.row, net.kink, dtype)}
    return Walk(served, seeds, data).columns(chosen) if served else []


def _traits(row: Activation, dtype: np.dtype) -> Traits:
    limit, least = LIMITS[dtype]
    return Traits(
        scale_free=row.scale_free,
        through_zero=bool(row.phi(np.zeros(1)) == 0),
        grows=any(row.slopes_at_infinity),
        falls=row.tail is not None,
        decays=row.decay is not None,
        slopes=(*map(float, row.slopes_at_zero), *map(float, row.slopes_at_infinity)),
        threshold=float(ACTIVE_SHARE * row.max_slope),
        limit=limit,
        least=least,
    )


def keys(seeds: Sequence[int]) -> dict[str, Array]:
    """Of the draws of the way up and of those of the way down, (seeds, 4) each."""
    return {way: gaussian.keys(seeds, "matrix_free", way) for way in ("forward", "backward")}


class Walk(March):
    """A march of one example, through Gaussian or square orthogonal weights."""

    def __init__(self, nets: Mapping[int, Network], seeds: Sequence[int], data: Data):
        super().__init__(MarchedWeights, nets, seeds, data)
        self.kinds = []
        for at, row, kink in self.activations.blocks:
            functions = compiled_functions(row, kink, self.dtype)
            self.kinds.append((functions, (at.start, at.stop), _traits(row, self.dtype)))
        self.keys = keys(seeds) | {"biases": self.weights.bias_keys}
        record, weights, rows = self.record, self.weights, len(self.trunk)
        frames = weights.law == "orthogonal"
        fan_in = 1 if frames else np.array([[self.inputs.shape[-1]], [self.width]])
        shape = (self.depth, self.rows)
        self.up = Up(
            # A copy, as a view of one row would have the loops compiled a second time.
            c=np.broadcast_to(weights.sigma_w / np.sqrt(fan_in), (2, self.rows)).copy(),
            sigma_b=weights.sigma_b.astype(float),
            scale=np.zeros(shape),
            exponent=np.zeros(shape, np.int64),
            way=np.zeros(shape, np.int8),
            square=record.signal.squares[..., 0],
            power=record.signal.exponent[..., 0],
            active=record.active,
            lost=np.zeros(self.rows, bool),
        )
        members = np.argsort(self.trunk, kind="stable")
        self.down = Down(
            members=members,
            first=np.searchsorted(self.trunk[members], np.arange(self.rows + 1)),
            frames=float(frames),
            phase=np.full(rows, ABSENT, np.int8),
            dr=np.zeros((rows, self.width), self.dtype),
            exponent=np.zeros(rows, np.int64),
            m=np.zeros(rows),
            u=np.zeros(rows),
            square=record.upstream.squares[..., 0],
            power=record.upstream.exponent[..., 0],
            delta_square=record.delta.squares[..., 0],
            delta_power=record.delta.exponent[..., 0],
        )

    def _walk(self) -> None:
        r = settle(self._of_each(self.inputs, self.rows), 0)
        r.squares = np.vecdot(r.mantissa, r.mantissa)  # all that follows has the bits of this sum
        self.record.signal.put(0, r)
        shape = (len(self.seeds), self.width)
        layer = math.prod(shape) * self.dtype.itemsize
        groups = self._groups(max(1, GROUP_BYTES // layer))
        count = max(map(len, groups))
        keep = self.depth * layer <= KEPT_BYTES
        kept, fresh = (np.empty((n, *shape), self.dtype) for n in (self.depth, count))
        for layers in groups:
            G = self._draw("forward", layers, kept[layers.start :] if keep else kept)
            b = self._biases(layers)
            for (phi, _), trunks, traits in self.kinds:
                climb(G, b, trunks, layers.start, phi, traits, self.up)
            if layers.stop in self.depths:
                self._end(layers.stop, G[-1], b[-1])
        for layers in reversed(groups):
            if layers.stop in self.depths:
                self._join(layers.stop)
            G = kept[layers.start : layers.stop]
            if not keep:
                G = self._draw("forward", layers, kept)
            # dC/dr is made where r is met, when the layer below is: at the top for nobody.
            H = self._draw("backward", range(layers.start + 1, layers.stop + 1), fresh)
            b = self._biases(layers)
            for (_, values), trunks, traits in self.kinds:
                descend(G, H, b, trunks, layers.start, values, traits, self.up, self.down)
        below = np.empty((1, len(self.seeds), r.mantissa.shape[-1]), self.dtype)
        land(self._draw("backward", range(1), below)[0], r.mantissa[:, 0], self.up, self.down)
        self.lost = self.up.lost[self.trunk]

    def _groups(self, count: int) -> list[range]:
        """Layers that are walked in one go; a group ends where networks end."""
        ends = sorted({*range(0, self.depth, count), *map(int, self.depths)})
        return [range(*pair) for pair in itertools.pairwise(ends)]

    def _draw(self, which: str, layers: range, buffer: Array) -> Array:
        draws = gaussian.fill_layers(self.keys[which], layers, buffer[: len(layers)])
        if self.down.frames and which != "biases":
            draws /= np.sqrt(np.vecdot(draws, draws))[..., None]
        return draws

    def _biases(self, layers: range) -> Array:
        """As many layers as there are, or one of zeros."""
        shape = (len(layers), len(self.seeds), self.width)
        if self.up.sigma_b.any():
            return self._draw("biases", layers, np.empty(shape, self.dtype))
        return np.zeros((1, *shape[1:]), self.dtype)

    def _end(self, depth: int, G: Array, b: Array) -> None:
        """The output of the networks of this depth."""
        up, k = self.up, depth - 1
        trunks = len(up.sigma_b) // len(self.seeds), 1
        shift = np.ldexp(up.sigma_b, np.maximum(-up.exponent[k], -2000).astype(int))
        z = up.scale[k, :, None] * np.tile(G, trunks) + shift[:, None] * np.tile(b, trunks)
        z = Scaled(z.astype(self.dtype)[:, None], up.exponent[k, :, None])
        self.outputs[depth] = self._output(self.activations.phi(z), z)

    def _join(self, depth: int) -> None:
        new, start = self._start(depth)
        self.down.dr[new] = start.mantissa[:, 0]
        self.down.exponent[new] = self.down.power[depth, new]
        self.down.phase[new] = GIVEN
