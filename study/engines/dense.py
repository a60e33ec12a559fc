"""The dense engine: for one (seed, width, weight law) the weights of a layer are drawn once.

Every network walks through them together: their rows are one matrix product, sigma_w a factor on
each. Weights are drawn again on the way back, not stored, so memory does not grow with depth x
width^2. Networks of one seed share their weights: comparisons are paired, and intervals must
resample over seeds, never over networks.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from study.arithmetic.scaled import Scaled, settle, sum_of_squares
from study.core.network import Network
from study.engines.march import Data, March, MarchedWeights, Recorded, in_order, trunk_of
from study.engines.weights import Unit, side_by_side
from study.tools import Array

# Up to so many rows, G delta' is a few per cent faster than delta G' in OpenBLAS, and committed
# float32 tables have its bits.
FEW_ROWS = 128

# Networks are walked in two parts, each on a thread, from so many entries of r^(k) on: whatever the
# number of cores, so that it changes no bit. Below, Python's lock costs more than that saves.
PART_ENTRIES = 2**16

# Otherwise two seeds are walked at a time, where a layer takes so many multiplications or more.
LAYER_PRODUCTS = 2**24


class DenseWeights(MarchedWeights):
    """Weights of one seed whose G^(k) is drawn."""

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

    def up(self, k: int, r: Scaled) -> Scaled:
        rows = r.mantissa.reshape(-1, self.width(k))
        # All networks in one product.
        z = (rows @ self.unit(k, 1)).reshape(*r.mantissa.shape[:-1], self.units)
        z *= self.scale(k)  # sigma_w apart, so that networks share G
        return self.biased(k, Scaled(z, r.exponent))

    def down(self, k: int, delta: Scaled, r: Scaled) -> Scaled:
        G = self.unit(k, -1)
        rows = delta.mantissa.reshape(-1, self.units)
        below = (G @ rows.T).T if len(rows) <= FEW_ROWS else rows @ G.T
        dr = below.reshape(*delta.mantissa.shape[:-1], self.width(k))
        dr = np.multiply(dr, self.scale(k)[self.trunk], order="C")
        return settle(dr, delta.exponent)

    def log10_norms(self, layers: Array, depth: int, n_out: int) -> Array:
        """log10 of the Frobenius norm of W^(k), (layers, trunks), the last with n_out units."""
        total = self.unit.squares[layers]
        if n_out < self.units:
            # The last matrix is cut.
            total[-1] = sum_of_squares(self.unit(depth - 1, -1)[:, :n_out]).sum()
        fan_in = np.array([float(self.width(k)) for k in layers])
        with np.errstate(divide="ignore"):
            scale = np.log10(self.sigma_w) - 0.5 * np.log10(fan_in)[:, None]
        return scale + 0.5 * np.log10(total)[:, None]


def dense(
    nets: Mapping[int, Network], seeds: Sequence[int], data: Data, chosen: Callable[[int], Array]
) -> list[Recorded]:
    """The columns of each network of each seed; all share width, weight law and dtype.

    ``chosen`` gives the layers that are recorded of a network of some depth, the last one included.
    """
    parts = _parts(nets, data.batch)

    def walk(seed: int) -> list[Recorded]:
        return _of_seed(parts, seed, data, chosen)

    return side_by_side(walk, seeds, seeds_at_a_time(nets, data.batch))


def seeds_at_a_time(nets: Mapping[int, Network], batch: int) -> int:
    """How many seeds are walked side by side: two of few networks, whose layers take long."""
    width = next(iter(nets.values())).width
    rows = len({trunk_of(net) for net in nets.values()}) * batch
    return 1 if len(_parts(nets, batch)) > 1 or rows * width**2 < LAYER_PRODUCTS else 2


def _of_seed(
    parts: list[dict[int, Network]], seed: int, data: Data, chosen: Callable[[int], Array]
) -> list[Recorded]:
    """The columns of one seed, whose parts share its weights."""
    first = next(iter(parts[0].values()))
    n_in = first.width if data.inputs is None else data.inputs.shape[1]
    depth = max(net.depth for part in parts for net in part.values())
    unit = Unit(seed, first, n_in, depth, len(parts))
    weights = functools.partial(DenseWeights, unit=unit)

    def walk(part: dict[int, Network]) -> list[Recorded]:
        try:
            return March(weights, part, [seed], data).columns(chosen)
        finally:
            unit.leave()

    return side_by_side(walk, parts)


def _parts(nets: Mapping[int, Network], batch: int) -> list[dict[int, Network]]:
    """The networks that walk together; those that differ only in depth always do."""
    trunks: dict[tuple, list[int]] = {}
    for j in sorted(nets, key=lambda j: in_order(nets[j])):
        trunks.setdefault(trunk_of(nets[j]), []).append(j)
    width = next(iter(nets.values())).width
    large = len(trunks) * width * batch >= PART_ENTRIES  # whatever the machine: bits stay
    count = 2 if large and len(trunks) > 1 else 1
    parts: list[dict[int, Network]] = [{} for _ in range(count)]
    for place, members in enumerate(trunks.values()):
        # In turn: each part has some of every activation.
        parts[place % count] |= {j: nets[j] for j in members}
    return parts
