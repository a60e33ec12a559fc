"""Many networks in step through the same weights: one pass up, one pass down.

Networks that differ only in depth share the forward pass, their trunk, and join the backward pass
at their depth. Signals are kept, or computed again from checkpoints as memory allows.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from study.arithmetic.activations import EVERY, Activations, Block
from study.arithmetic.scaled import Scaled, add, joined, settle
from study.core.backprop import Step, backward, forward
from study.core.network import Network
from study.engines.recorder import Output, RecordedLayer, Recorder
from study.sampling import gaussian
from study.tools import Array


class Recorded(NamedTuple):
    """What was recorded of a network: columns of the frame, each (seeds, layers)."""

    net: int  # its place among the networks of the march
    seeds: list[int]
    columns: dict[str, Array]


class Data(NamedTuple):
    """What the networks of a march see, in their format."""

    batch: int  # number of random inputs (standard normal entries), where ``inputs`` is None
    inputs: Array | None = None  # (batch, n_in): W^(0) then has n_in rows
    # (batch, n_out): the cost is the batch mean of 1/2 |r - y|^2 on the first n_out <= width units
    # of the output layer, which has no others. Without, dC/dr at the output is a random direction
    # of Frobenius norm 1, the same for every network.
    targets: Array | None = None


class MarchedWeights:
    """W^(k) = sigma_w / sqrt(fan_in) G^(k) of every trunk and seed of a march.

    What the engines share; how G^(k) acts, ``up`` and ``down`` (`RecordedLayer`), is theirs. Rows
    stand trunk by trunk, and within a trunk seed by seed.
    """

    # Signals kept for the backward pass take at most this; beyond, checkpoints.
    signal_bytes = 2**30

    def __init__(
        self, trunks: list[Network], seeds: Sequence[int], n_in: int, batch: int, depth: int
    ):
        self.law = trunks[0].weights
        self.units = trunks[0].width
        self.dtype = np.dtype(trunks[0].dtype)
        self.n_in = n_in
        self.seeds = len(seeds)
        self.batch = batch
        self.depth = depth
        self.sigma_w = np.repeat([net.sigma_w for net in trunks], len(seeds))
        self.sigma_b = np.repeat([net.sigma_b for net in trunks], len(seeds))
        self.biases = bool(self.sigma_b.any())
        self.bias_keys = gaussian.keys(seeds if self.biases else (), "biases")
        self.scales = [
            (self.sigma_w / math.sqrt(fan_in)).astype(self.dtype)[:, None, None]
            for fan_in in (n_in, self.units)
        ]
        self.trunk: Array | slice = EVERY

    def width(self, k: int) -> int:
        """Units of r^(k)."""
        return self.n_in if k == 0 else self.units

    def scale(self, k: int) -> Array:
        return self.scales[min(k, 1)]

    def biased(self, k: int, z: Scaled) -> Scaled:
        """z + b^(k)."""
        if not self.biases:
            return z
        b = gaussian.fill_normals(self.bias_keys, k, np.empty((self.seeds, self.units), self.dtype))
        b = np.tile(b, (len(self.sigma_b) // self.seeds, 1))
        return add(z, (self.sigma_b.astype(self.dtype)[:, None] * b)[:, None])

    def log10_norms(self, layers: Array, depth: int, n_out: int) -> Array:
        """log10 of the norm of W^(k), (layers, trunks); NaN where no matrix is formed."""
        return np.full((len(layers), len(self.sigma_w)), np.nan)


class March:
    """One march, of one seed or of several side by side, through one engine's weights.

    Rows of the backward pass stand in order of falling depth, and network by network, within a
    network seed by seed.
    """

    def __init__(
        self,
        weights: Callable[..., MarchedWeights],
        nets: Mapping[int, Network],
        seeds: Sequence[int],
        data: Data,
    ):
        first = next(iter(nets.values()))
        self.seeds = seeds
        self.targets = data.targets
        self.width = first.width
        self.dtype = np.dtype(first.dtype)
        self.inputs = self._inputs(data)
        _, batch, n_in = self.inputs.shape
        self.n_out = self.width if data.targets is None else data.targets.shape[1]

        # The deepest come first on the way back, so that networks join at the end of the rows.
        self.order = sorted(nets, key=lambda j: -nets[j].depth)
        # phi is taken of each activation's rows at once.
        trunks = {trunk_of(net): net for net in reversed(nets.values())}
        trunks = sorted(trunks.values(), key=in_order)
        place = {trunk_of(net): t for t, net in enumerate(trunks)}
        places = np.array([place[trunk_of(nets[j])] for j in self.order])
        self.trunk = (places[:, None] * len(seeds) + np.arange(len(seeds))).ravel()  # seed by seed
        self.rows = len(trunks) * len(seeds)
        self.activations = Activations(_blocks(trunks, len(seeds)))
        self.depths = np.repeat([nets[j].depth for j in self.order], len(seeds))
        self.depth = int(self.depths[0])
        self.weights = weights(trunks, seeds, n_in, batch, self.depth)
        self.record = Recorder(self.depth, len(self.trunk), batch, self.rows)
        self.lost = np.zeros(len(self.trunk), bool)  # whose numbers are not to be used
        if data.targets is None:
            keys = gaussian.keys(seeds, "cotangent")
            self.cotangent = unit_cotangent(keys, (batch, self.width), self.dtype)
        self.outputs: dict[int, Output] = {}

    def columns(self, chosen: Callable[[int], Array]) -> list[Recorded]:
        """What was recorded; ``chosen`` gives the layers, of a network of that depth."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self._walk()
        return self._split(chosen)

    def _walk(self) -> None:
        segments = self._climb()
        dr = None
        for layers, r, trace in reversed(segments):
            trace = self._trace(layers, r)[0] if trace is None else trace  # from the checkpoint
            dr = self._joined(dr, layers.stop)
            for step in backward(trace, dr):
                self.record.put(step.layer.k, step, self.weights.trunk)
                dr = step.dr

    def _climb(self) -> list[tuple[range, Scaled, list[Step] | None]]:
        """The forward pass: segments of layers with the signal each starts from.

        A segment ends wherever a network joins on the way back. The trace is kept where memory
        allows, else made again from the segment's start.
        """
        r = settle(self._of_each(self.inputs, self.rows), 0)
        layer = 2 * r.mantissa.nbytes
        kept = layer * self.depth <= self.weights.signal_bytes  # r and z of every layer
        # About as many checkpoints as layers between two.
        step = self.depth if kept else max(1, round(math.sqrt(self.depth / 2)))
        ends = sorted({*range(step, self.depth, step), *map(int, self.depths)})
        segments = []
        for start, end in itertools.pairwise([0, *ends]):
            layers = range(start, end)
            trace, above = self._trace(layers, r)
            segments.append((layers, r, trace if kept else None))
            r = above
            if end in self.depths:
                self.outputs[end] = self._output(r, trace[-1].z)
        self.record.signal.put(self.depth, r)
        return segments

    def _trace(self, layers: range, r: Scaled) -> tuple[list[Step], Scaled]:
        about = self.weights, self.activations, self.record
        return forward([RecordedLayer(k, *about) for k in layers], r)

    def _output(self, r: Scaled, z: Scaled) -> Output:
        """Where networks end: their output is the first n_out units, and only those count."""
        units = slice(0, self.n_out)
        output = settle(r.mantissa[..., units], r.exponent)
        slopes = self.activations.derivative(Scaled(z.mantissa[..., units], z.exponent))
        return Output(output, self.activations.active_fraction(slopes))

    def _joined(self, dr: Scaled | None, depth: int) -> Scaled | None:
        """dr with the rows of the networks that end at this depth."""
        if depth not in self.depths:
            return dr
        _, start = self._start(depth)
        dr = start if dr is None else joined([dr, start])
        trunk = self.trunk[: len(dr.mantissa)]
        alike = np.array_equal(trunk, np.arange(self.rows))
        # A slice, where it is one, is no copy.
        self.weights.trunk = EVERY if alike else trunk
        return dr

    def _start(self, depth: int) -> tuple[Array, Scaled]:
        """The rows of the networks that end at this depth, and dC/dr at their output."""
        new = np.flatnonzero(self.depths == depth)
        if self.targets is None:
            start = Scaled(self._of_each(self.cotangent, len(new)), 0)
        else:
            start = cost_gradient(self.outputs[depth].r[self.trunk[new]], self.targets)
            missing = self.width - self.n_out  # units that the cost does not see have gradient 0
            padded = np.pad(start.mantissa, ((0, 0), (0, 0), (0, missing)))
            start = Scaled(padded, start.exponent)
        start = settle(start.mantissa, start.exponent)
        self.record.upstream.put((depth, new), start)
        return new, start

    def _inputs(self, data: Data) -> Array:
        """(seeds, batch, n_in)."""
        if data.inputs is not None:
            return np.repeat(data.inputs[None], len(self.seeds), axis=0)
        shape = (len(self.seeds), data.batch, self.width)
        keys = gaussian.keys(self.seeds, "inputs")
        return gaussian.fill_normals(keys, 0, np.empty(shape, self.dtype))

    def _of_each(self, x: Array, rows: int) -> Array:
        """x, one entry a seed, for so many rows."""
        return np.tile(x, (rows // len(self.seeds), 1, 1))

    def _split(self, chosen: Callable[[int], Array]) -> list[Recorded]:
        """Each network's columns, from the arrays of the march."""
        split = []
        for depth, output in self.outputs.items():
            rows = np.flatnonzero((self.depths == depth) & ~self.lost)
            trunks = self.trunk[rows]
            layers = chosen(depth)
            norms = self.weights.log10_norms(layers, depth, self.n_out)[:, trunks]
            columns = self.record.columns(layers, rows, trunks, norms, output)
            places, of_seeds = np.divmod(rows, len(self.seeds))
            for place in np.unique(places):
                here = places == place
                seeds = [self.seeds[i] for i in of_seeds[here]]
                entries = {name: values[:, here].T for name, values in columns.items()}
                split.append(Recorded(self.order[place], seeds, entries))
        return split


def trunk_of(net: Network) -> tuple:
    """What networks must share to share a forward pass."""
    return net.row, net.kink, net.sigma_w, net.sigma_b


def in_order(net: Network) -> tuple:
    """Trunks of one activation and kink stand together."""
    return net.row.name, net.kink, net.sigma_w, net.sigma_b


def _blocks(trunks: list[Network], seeds: int) -> list[Block]:
    """Ranges of rows with one activation and kink; trunks are sorted by these."""
    blocks = []
    start = 0
    for (row, kink), same in itertools.groupby(trunks, key=lambda net: (net.row, net.kink)):
        stop = start + len(list(same)) * seeds
        blocks.append(Block(slice(start, stop), row, kink))
        start = stop
    return blocks


def cost_gradient(r: Scaled, y: Array) -> Scaled:
    """dC/dr at the output for C = the batch mean of 1/2 |r - y|^2."""
    difference = add(r, -y)
    return Scaled(difference.mantissa / y.dtype.type(y.shape[-2]), difference.exponent)


def unit_cotangent(key: Array, shape: tuple[int, int], dtype: np.dtype) -> Array:
    """A random direction of Frobenius norm 1 from the counters of a key, or of each, (keys, 4)."""
    c = gaussian.fill_normals(np.atleast_2d(key), 0, np.empty((key.size // 4, math.prod(shape))))
    c /= np.sqrt(np.vecdot(c, c))[:, None]
    # Rounded last: one direction in both formats.
    return c.astype(dtype).reshape(*key.shape[:-1], *shape)
