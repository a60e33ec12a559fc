"""The dense engine: many networks in step through the same weights.

For one (seed, width, weight law) the unit-variance weights of a layer are drawn once, from a
counter, and every network walks through them together: their rows are one matrix product, sigma_w
a factor on each. Networks that differ only in depth share the forward pass and join the backward
pass at their depth. Weights are drawn again on the way back, not stored, and signals are kept or
computed again from checkpoints as memory allows, so memory does not grow with depth x width^2.

Networks of one march share their weights: comparisons are paired, and intervals must resample over
seeds, never over networks.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from study.arithmetic.nonlinearity import Block, active_fraction, derivative
from study.arithmetic.scaled import Array, Exponent, Scaled, joined, settle, sum_of_squares
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.engines.explicit import (
    Pace,
    Stretch,
    backward,
    cost_gradient,
    forward,
    unit_cotangent,
)
from study.engines.measures import Measures
from study.engines.weights import Unit, one_blas_thread
from study.sampling import gaussian

FEW_ROWS = 128
"""Up to so many rows, G delta' is up to 40 % faster than delta G' in OpenBLAS."""

PART_ENTRIES = 2**16
"""Networks are walked in two parts, each on a thread, from so many entries of r^(k) on: whatever
the number of cores, so that it changes no bit. Below, Python's lock costs more than that saves."""


class Layers:
    """W^(k) = sigma_w / sqrt(fan_in) G^(k) of every trunk and seed of a march.

    What the engines share; how G^(k) acts is theirs. Rows stand trunk by trunk, and within a trunk
    seed by seed.
    """

    signal_bytes = 2**30
    """Signals kept for the backward pass take at most this; beyond, checkpoints."""

    def __init__(
        self, trunks: list[Network], seeds: Sequence[int], n_in: int, batch: int, depth: int
    ):
        self.pace = Pace()
        self.law, self.units, self.n_in = trunks[0].weights, trunks[0].width, n_in
        self.dtype = np.dtype(trunks[0].dtype)
        self.seeds, self.batch, self.depth = len(seeds), batch, depth
        self.sigma_w = np.repeat([net.sigma_w for net in trunks], len(seeds))
        self.sigma_b = np.repeat([net.sigma_b for net in trunks], len(seeds))
        self.biased = bool(self.sigma_b.any())
        self.bias_keys = np.stack([gaussian.key(seed, "biases") for seed in seeds])
        self.scales = [
            (self.sigma_w / math.sqrt(fan_in)).astype(self.dtype)[:, None, None]
            for fan_in in (n_in, self.units)
        ]
        self.trunk: Array | slice = slice(None)
        """The row of the forward pass that each row of the backward pass belongs to."""
        self.stretch: Stretch | None = None
        """The layers that the backward pass is in."""

    def scale(self, k: int) -> Array:
        return self.scales[min(k, 1)]

    def exponent(self, k: int) -> int:
        return 0

    def bias(self, k: int) -> Array | None:
        if not self.biased:
            return None
        b = gaussian.fill_normals(self.bias_keys, k, np.empty((self.seeds, self.units), self.dtype))
        b = np.tile(b, (len(self.sigma_b) // self.seeds, 1))
        return (self.sigma_b.astype(self.dtype)[:, None] * b)[:, None]

    def width(self, k: int) -> int:
        return self.n_in if k == 0 else self.units


class Dense(Layers):
    """Layers of one seed whose G^(k) is drawn."""

    def __init__(
        self,
        trunks: list[Network],
        seeds: Sequence[int],
        n_in: int,
        batch: int,
        depth: int,
        unit: Unit | None = None,
    ):
        super().__init__(trunks, seeds, n_in, batch, depth)
        self.unit = unit or Unit(seeds[0], trunks[0], n_in, depth)
        self.most = max(1, min(32, 2**22 // self.units**2))

    def forward(self, k: int, r: Array, out: Array) -> None:
        np.matmul(r.reshape(-1, r.shape[-1]), self.unit(k, 1), out=out.reshape(-1, out.shape[-1]))
        out *= self.scale(k)

    def backward(self, k: int, delta: Array, out: Array) -> None:
        G = self.unit(k, -1)
        rows, down = delta.reshape(-1, delta.shape[-1]), out.reshape(-1, out.shape[-1])
        if len(rows) <= FEW_ROWS:
            down[...] = np.matmul(G, rows.T).T
        else:
            np.matmul(rows, G.T, out=down)
        out *= self.scale(k)[self.trunk]

    def log10_norms(self, depth: int, n_out: int) -> Array:
        """log10 of the Frobenius norm of W^(k), (depth, trunks), where the last has n_out units."""
        total = self.unit.squares[:depth].copy()
        if n_out < self.units:
            total[-1] = sum_of_squares(self.unit(depth - 1, -1)[:, :n_out]).sum()
        fan_in = np.array([float(self.width(k)) for k in range(depth)])
        with np.errstate(divide="ignore"):
            scale = np.log10(self.sigma_w) - 0.5 * np.log10(fan_in)[:, None]
        return scale + 0.5 * np.log10(total)[:, None]


def march(
    nets: Sequence[Network],
    seed: int,
    batch: int,
    inputs: Array | None = None,
    targets: Array | None = None,
) -> list[dict[str, Array]]:
    """The columns of each network of one seed; all share width, weight law and dtype.

    Parameters
    ----------
    nets : sequence of Network
    seed : int
        Names the weights, biases, random inputs and cotangent of all of them.
    batch : int
        Number of random inputs (standard normal entries), where ``inputs`` is None.
    inputs : (batch, n_in) array, optional
        W^(0) then has n_in rows.
    targets : (batch, n_out) array, optional
        The cost is the batch mean of 1/2 |r - y|^2 on the first n_out <= width units of the output
        layer, which has no others. Without, dC/dr at the output is a random direction of Frobenius
        norm 1, the same for every network.

    Returns
    -------
    list of dict
        In the order of ``nets``: column name -> (depth,) array.
    """
    parts = _parts(nets, batch if inputs is None else len(inputs))
    first = nets[0]
    n_in = first.width if inputs is None else inputs.shape[1]
    unit = Unit(seed, first, n_in, max(net.depth for net in nets), len(parts))

    def walk(part: list[int]) -> list[dict[str, Array]]:
        together = [nets[j] for j in part]
        layers = functools.partial(Dense, unit=unit)
        return March(layers, together, [seed], batch, inputs, targets).columns()[0]

    with one_blas_thread():
        if len(parts) == 1:
            walked = [walk(parts[0])]
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                walked = list(pool.map(walk, parts))
    columns: list = [None] * len(nets)
    for part, own in zip(parts, walked, strict=True):
        for j, column in zip(part, own, strict=True):
            columns[j] = column
    return columns


def _parts(nets: Sequence[Network], batch: int) -> list[list[int]]:
    """The networks that walk together; those that differ only in depth always do."""
    trunks: dict[tuple, list[int]] = {}
    for j in sorted(range(len(nets)), key=lambda j: _trunk(nets[j])):
        trunks.setdefault(_trunk(nets[j]), []).append(j)
    large = len(trunks) * batch * nets[0].width >= PART_ENTRIES
    count = 2 if large and len(trunks) > 1 else 1
    together = list(trunks.values())
    return [list(itertools.chain(*together[i::count])) for i in range(count)]


def _trunk(net: Network) -> tuple:
    """What networks must share to share a forward pass."""
    return net.activation, net.kink, net.sigma_w, net.sigma_b


class March:
    """One march, of one seed or of several side by side, through one engine's ``layers``.

    Rows of the backward pass stand in order of falling depth, and network by network, within a
    network seed by seed.
    """

    def __init__(
        self,
        layers: Callable[..., Layers],
        nets: Sequence[Network],
        seeds: Sequence[int],
        batch: int,
        inputs: Array | None,
        targets: Array | None,
    ):
        self.nets, self.seeds, self.targets = nets, seeds, targets
        first = nets[0]
        self.width, self.dtype = first.width, np.dtype(first.dtype)
        if inputs is None:
            keys = np.stack([gaussian.key(seed, "inputs") for seed in seeds])
            shape = (len(seeds), batch, self.width)
            inputs = gaussian.fill_normals(keys, 0, np.empty(shape, self.dtype))
        else:
            inputs = np.repeat(inputs[None], len(seeds), axis=0)
        self.inputs = inputs
        _, batch, n_in = inputs.shape
        self.n_out = self.width if targets is None else targets.shape[1]

        # The deepest come first on the way back, so that networks join at the end of the rows.
        self.order = sorted(range(len(nets)), key=lambda j: -nets[j].depth)
        trunk_of = [_trunk(net) for net in nets]
        keys = sorted(set(trunk_of))
        place = {key: t for t, key in enumerate(keys)}
        places = np.array([place[trunk_of[j]] for j in self.order])
        self.trunk = (places[:, None] * len(seeds) + np.arange(len(seeds))).ravel()
        trunks = [next(n for n, t in zip(nets, trunk_of, strict=True) if t == key) for key in keys]
        self.blocks = _blocks(trunks, len(seeds))
        self.depths = np.repeat([nets[j].depth for j in self.order], len(seeds))
        self.depth = int(self.depths[0])

        self.linear = layers(trunks, seeds, n_in, batch, self.depth)
        self.rows = len(trunks) * len(seeds)
        self.measures = Measures.empty(self.depth, len(self.trunk), batch, trunks=self.rows)
        if targets is None:
            keys = [gaussian.key(seed, "cotangent") for seed in seeds]
            shape = (batch, self.width)
            self.cotangent = np.stack([unit_cotangent(key, shape, self.dtype) for key in keys])
        self.outputs: dict[int, Scaled] = {}
        self.output_signal: dict[int, tuple[Array, Exponent]] = {}
        self.output_active: dict[int, Array] = {}

    def columns(self) -> list[list[dict[str, Array]]]:
        """Of each seed, of each network: column name -> (depth,) array."""
        # What overflows in the layers run ahead is dropped.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self._walk()
        return self._split()

    def _walk(self) -> None:
        segments = self._climb()
        dr = None
        for layers, r, trace in reversed(segments):
            trace = self._trace(layers, r)[0] if trace is None else trace
            for stretch in reversed(trace):
                dr = self._joined(dr, stretch.first + len(stretch.z.mantissa))
                self.linear.stretch = stretch
                dr = backward(
                    self.linear, stretch, dr, self.blocks, self.measures, self.linear.trunk
                )

    def _climb(self) -> list[tuple[range, Scaled, list[Stretch] | None]]:
        """The forward pass: segments of layers with the signal each starts from.

        A segment ends wherever a network joins on the way back. The trace is kept where memory
        allows, else made again from the segment's start.
        """
        r, s = settle(self._of_each(self.inputs, self.rows), 0)
        self.measures.signal.put(0, s, r.exponent)
        layer = 2 * r.mantissa.nbytes
        kept = layer * self.depth <= self.linear.signal_bytes
        step = self.depth if kept else max(1, round(math.sqrt(self.depth / 2)))
        ends = sorted({*range(step, self.depth, step), *map(int, self.depths)})
        segments = []
        for start, end in itertools.pairwise([0, *ends]):
            layers = range(start, end)
            trace, above = self._trace(layers, r)
            segments.append((layers, r, trace if kept else None))
            # A copy, or a checkpoint would keep the whole stretch that it is part of.
            r = above if kept else Scaled(above.mantissa.copy(), above.exponent)
            if end in self.depths:
                self._output(end, r, trace[-1].z[-1])
        return segments

    def _output(self, depth: int, r: Scaled, z: Scaled) -> None:
        """Where networks end: their output is the first n_out units, and only those count."""
        units = slice(0, self.n_out)
        self.outputs[depth], s = settle(r.mantissa[..., units], r.exponent)
        self.output_signal[depth] = s, self.outputs[depth].exponent
        z = Scaled(z.mantissa[..., units], z.exponent)[None]
        slopes = derivative(z, self.blocks)
        self.output_active[depth] = active_fraction(slopes, self.blocks)[0]

    def _trace(self, layers: range, r: Scaled) -> tuple[list[Stretch], Scaled]:
        return forward(self.linear, r, self.blocks, layers, self.measures)

    def _joined(self, dr: Scaled | None, depth: int) -> Scaled | None:
        """dr with the rows of the networks that end at this depth."""
        new = np.flatnonzero(self.depths == depth)
        if not len(new):
            return dr
        trunk = self.trunk[new]
        if self.targets is None:
            start = Scaled(self._of_each(self.cotangent, len(new)), 0)
        else:
            start = cost_gradient(self.outputs[depth][trunk], self.targets)
            missing = self.width - self.n_out
            padded = np.pad(start.mantissa, ((0, 0), (0, 0), (0, missing)))
            start = Scaled(padded, start.exponent)
        start, s = settle(*start)
        self.measures.upstream.put((depth, new), s, start.exponent)
        dr = start if dr is None else joined([dr, start])
        trunk = self.trunk[: len(dr.mantissa)]
        alike = np.array_equal(trunk, np.arange(self.rows))
        self.linear.trunk = slice(None) if alike else trunk  # a slice, where it is one, is no copy
        return dr

    def _of_each(self, x: Array, rows: int) -> Array:
        """x, one entry a seed, for so many rows."""
        return np.tile(x, (rows // len(self.seeds), 1, 1))

    def _split(self) -> list[list[dict[str, Array]]]:
        """Each network's columns, from the arrays of the march."""
        split: list[list] = [[None] * len(self.nets) for _ in self.seeds]
        for depth in set(map(int, self.depths)):
            rows = np.flatnonzero(self.depths == depth)
            trunk = self.trunk[rows]
            own = self.measures.of(rows, trunk, depth)
            s, e = self.output_signal[depth]
            own.signal.put(depth, s[trunk], e if isinstance(e, int) else e[trunk])
            own.active[-1] = self.output_active[depth][trunk]
            columns = own.columns(self.linear.log10_norms(depth, self.n_out)[:, trunk])
            for i, row in enumerate(rows):
                position, seed = divmod(int(row), len(self.seeds))
                split[seed][self.order[position]] = {name: x[:, i] for name, x in columns.items()}
        return split


def _blocks(trunks: list[Network], seeds: int) -> list[Block]:
    """Ranges of rows with one activation and kink; trunks are sorted by these."""
    blocks, at = [], 0
    for (name, kink), same in itertools.groupby(trunks, key=lambda n: (n.activation, n.kink)):
        count = len(list(same)) * seeds
        blocks.append(Block(slice(at, at + count), activation_row(name), kink))
        at += count
    return blocks
