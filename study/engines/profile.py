"""profile: from specifications of networks to the tidy frame, by the engine that serves best."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.core.columns import PROFILE_COLUMNS
from study.core.network import Network
from study.engines.dense import dense, seeds_at_a_time
from study.engines.march import Data, MarchedWeights, Recorded
from study.engines.matrix_free import LAWS, matrix_free
from study.engines.weights import GROUP_ENTRIES, KEPT
from study.records.norms import recorded_layers
from study.tools.checks import array, bad, check_memory, integer, items, one_of

ENGINES = ("auto", "dense", "matrix_free")

# engine = "auto" takes the matrix-free engine for one example, and from AUTO_WIDTH on for a batch
# of up to width / AUTO_SHARE. Below, its factorisations cost more than drawing the matrices does.
AUTO_WIDTH, AUTO_SHARE = {"gaussian": 1024, "orthogonal": 256}, 32


def profile(
    nets: Network | Sequence[Network],
    seeds: Iterable[int] = (0,),
    batch: int = 1,
    engine: str = "auto",
    layers: str | int = "all",
    inputs: np.ndarray | None = None,
    targets: np.ndarray | None = None,
) -> pd.DataFrame:
    """Gradient norms, layer by layer, of networks at initialisation.

    Parameters
    ----------
    nets : Network or sequence of Network
        Networks of the same width, weight law and dtype share their draws, so that they are
        compared in pairs: resample over seeds, never over networks.
    seeds : iterable of int
        One realisation of weights, random inputs and cotangent each.
    batch : int
        Number of random inputs (standard normal entries), where ``inputs`` is None.
    engine : str
        "dense" draws the weights: networks of a seed walk through the same matrices.
        "matrix_free" draws only what the weights do to the batch, exact in law, for Gaussian and
        orthogonal weights; networks of a seed share those draws but no matrix, and
        ``log10_weight_norm`` is empty. "auto" takes matrix_free where it serves the law and is
        the faster: for batch 1, and for a batch of up to width / 32 from width 1,024 on (of
        orthogonal weights from 256 on); the column ``engine`` says which. Ask for "dense" where
        networks must share their matrices.
    layers : "all" or int
        Which layers become rows: all, or about so many, log-spaced from both ends, the end layers
        always among them. The numbers are the same.
    inputs : (batch, n_in) array, optional
        The first matrix then has n_in rows.
    targets : (batch, n_out) array, optional
        The cost is the batch mean of 1/2 |r - y|^2; the output layer then has n_out <= width units.
        Without, dC/dr at the output is a random direction of Frobenius norm 1, the same for every
        network of a seed.

    Returns
    -------
    pandas.DataFrame
        One row a layer, times seed, times network; `study.core.columns.PROFILE_COLUMNS`.
        Norms are Frobenius norms (not squared), over the batch; logarithms are base 10.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed, before anything is computed.

    Examples
    --------
    Sigmoid's gradient leaves the float32 range within a hundred layers; no float shows this one:

    >>> net = Network(activation="sigmoid", depth=1000, width=64, sigma_w=1.0)
    >>> df = profile(net, seeds=range(3))
    >>> bool((df.log10_grad_norm[df.layer == 0] < -550).all()), df.status[0]
    (True, 'float64_underflow')
    """
    nets = _networks(nets)
    seeds = _seeds(seeds)
    batch = integer("batch", batch, 1)
    one_of("engine", engine, ENGINES)
    if layers != "all":
        layers = integer("layers", layers, 2)
    marches = _marches(nets, batch, engine, inputs, targets)
    for march in marches:
        march.check_memory(len(seeds), layers)  # of all, before the first is walked

    chosen = functools.partial(recorded_layers, layers=layers)
    parts: list[list[Recorded]] = [[] for _ in nets]
    engines = [""] * len(nets)
    for march in marches:
        for part in march.columns(seeds, chosen):
            parts[part.net].append(part)
            engines[part.net] = march.engine
    return _frame(nets, seeds, parts, engines)


def _networks(nets: Network | Sequence[Network]) -> list[Network]:
    wanted = "a study.Network, or a non-empty sequence of them"
    networks = [nets] if isinstance(nets, Network) else items("nets", nets, wanted)
    if not networks or not all(isinstance(net, Network) for net in networks):
        raise bad("nets", nets, wanted)
    return networks


def _seeds(seeds: Iterable[int]) -> list[int]:
    numbers = items("seeds", seeds, "an iterable of integers >= 0")
    numbers = [integer("seeds", seed, 0, 2**63 - 1) for seed in numbers]
    if not numbers or len(set(numbers)) < len(numbers):
        raise bad("seeds", numbers, "at least one, each once")
    return numbers


class Together(NamedTuple):
    """Networks of one width, weight law and dtype: they share their draws."""

    nets: dict[int, Network]  # by their places among the networks that were asked for
    data: Data
    engine: str

    def columns(self, seeds: Sequence[int], chosen: Callable[[int], np.ndarray]) -> list[Recorded]:
        engine = matrix_free if self.engine == "matrix_free" else dense
        return engine(self.nets, seeds, self.data, chosen)

    def check_memory(self, seeds: int, layers: str | int) -> None:
        """Refuse what does not fit: marches at their peak, and the frame of every seed."""
        batch = self.data.batch
        depths = [net.depth for net in self.nets.values()]
        depth = max(depths)
        most = depth if isinstance(layers, str) else layers
        recorded = sum(min(most, d) for d in depths)
        frame = 8 * len(PROFILE_COLUMNS) * seeds * recorded
        marches = seeds_at_a_time(self.nets, batch) if self.engine == "dense" else 1
        needed = frame + min(seeds, marches) * self._march_bytes(depth)
        width = next(iter(self.nets.values())).width
        check_memory(needed, depth=depth, width=width, batch=batch, nets=len(self.nets))

    def _march_bytes(self, depth: int) -> int:
        """What a march takes at its peak."""
        first = next(iter(self.nets.values()))
        n_in = first.width if self.data.inputs is None else self.data.inputs.shape[1]
        width = max(first.width, n_in)
        size = np.dtype(first.dtype).itemsize
        rows = len(self.nets) * self.data.batch
        squares = 8 * depth * (8 * rows + (first.width if self.engine == "dense" else 0))
        # r and z of the layers that are kept, and the copies of a layer being walked
        layer = 2 * rows * width * size
        kept = min(layer * depth, MarchedWeights.signal_bytes + layer * round(2 * depth**0.5))
        group = max(first.width * width, GROUP_ENTRIES) * size
        matrices = KEPT * group if self.engine == "dense" else 0
        return squares + kept + 4 * layer + matrices


def _marches(
    nets: list[Network], batch: int, engine: str, inputs: Any, targets: Any
) -> list[Together]:
    """The networks in groups that share their draws, each with its data and its engine."""
    groups: dict[tuple, dict[int, Network]] = {}
    for j, net in enumerate(nets):
        groups.setdefault((net.width, net.weights, net.dtype), {})[j] = net
    marches = []
    for (width, law, dtype), together in groups.items():
        data = _data(batch, inputs, targets, width, np.dtype(dtype))
        name = _engine(engine, law, width, data.batch)
        marches.append(Together(together, data, name))
    return marches


def _engine(asked: str, law: str, width: int, batch: int) -> str:
    """The engine that serves networks of that law and width."""
    valid = law in LAWS
    if asked == "matrix_free" and not valid:
        raise bad("weights", law, f"{' or '.join(LAWS)} with engine = 'matrix_free'")
    if asked != "auto":
        return asked
    if not valid:
        return "dense"
    faster = batch == 1 or (width >= AUTO_WIDTH[law] and batch <= width // AUTO_SHARE)
    return "matrix_free" if faster else "dense"


def _data(batch: int, inputs: Any, targets: Any, width: int, dtype: np.dtype) -> Data:
    """Inputs and targets in ``dtype``, if they fit one another and networks of that width."""
    if inputs is None:
        if targets is not None:
            raise bad("targets", "given without inputs", "inputs and targets together")
        return Data(batch)
    x = array("inputs", inputs, 2, dtype)
    if targets is None:
        return Data(len(x), x)
    y = array("targets", targets, 2, dtype)
    if len(y) != len(x) or y.shape[1] > width:
        allowed = f"({len(x)}, n), n at most {width}, the width"
        raise ValueError(f"targets has shape {y.shape}; allowed: {allowed}")
    return Data(len(x), x, y)


def _frame(
    nets: list[Network], seeds: list[int], parts: list[list[Recorded]], engines: list[str]
) -> pd.DataFrame:
    """One frame from what was recorded of each network, in the order they were asked for."""
    place = {seed: i for i, seed in enumerate(seeds)}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in PROFILE_COLUMNS}
    for net, of_net, engine in zip(nets, parts, engines, strict=True):
        order = np.argsort([place[seed] for part in of_net for seed in part.seeds])
        count = of_net[0].columns["layer"].shape[1]
        fields = net.fields() | {"engine": engine}
        for name, blocks in columns.items():
            if name in fields:
                # NumPy's own strings are no pandas'.
                kind = object if isinstance(fields[name], str) else None
                blocks.append(np.full(len(seeds) * count, fields[name], kind))
            elif name == "seed":
                blocks.append(np.repeat(seeds, count))
            else:
                recorded = np.concatenate([part.columns[name] for part in of_net])
                blocks.append(recorded[order].ravel())
    # Joined one at a time, so that a frame of millions of rows stands in memory once.
    joined = {name: np.concatenate(columns.pop(name)) for name in PROFILE_COLUMNS}
    return pd.DataFrame(joined, copy=False)
