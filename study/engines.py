"""profile: from specifications of networks to the tidy frame, by the engine that serves best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from study.march import march
from study.network import Network, array, bad, integer, one_of
from study.records import PROFILE_COLUMNS

ENGINES = ("auto", "dense")


def profile(
    nets: Network | Sequence[Network],
    seeds: Iterable[int] = (0,),
    batch: int = 1,
    engine: str = "auto",
    inputs: np.ndarray | None = None,
    targets: np.ndarray | None = None,
) -> pd.DataFrame:
    """Gradient norms, layer by layer, of networks at initialisation.

    Parameters
    ----------
    nets : Network or sequence of Network
        Networks of the same width, weight law and dtype walk through the same weights, so that
        they are compared in pairs: resample over seeds, never over networks.
    seeds : iterable of int
        One realisation of weights, random inputs and cotangent each.
    batch : int
        Number of random inputs (standard normal entries), where ``inputs`` is None.
    engine : str
        "dense" (weights are drawn), or "auto".
    inputs : (batch, n_in) array, optional
        The first matrix then has n_in rows.
    targets : (batch, n_out) array, optional
        The cost is the batch mean of 1/2 |r - y|^2; the output layer then has n_out <= width units.
        Without, dC/dr at the output is a random direction of Frobenius norm 1, the same for every
        network of a seed.

    Returns
    -------
    pandas.DataFrame
        One row a layer, times seed, times network; columns `study.records.PROFILE_COLUMNS`. Norms
        are Frobenius norms (not squared), over the batch; logarithms are base 10.

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
    nets = [nets] if isinstance(nets, Network) else list(nets)
    if not nets or not all(isinstance(net, Network) for net in nets):
        raise bad("nets", nets, "a study.Network, or a non-empty sequence of them")
    try:
        seeds = [integer("seeds", seed, 0, 2**63 - 1) for seed in seeds]
    except TypeError:
        raise bad("seeds", seeds, "an iterable of integers >= 0") from None
    if not seeds or len(set(seeds)) < len(seeds):
        raise bad("seeds", seeds, "at least one, each once")
    batch = integer("batch", batch, 1)
    one_of("engine", engine, ENGINES)

    groups: dict[tuple, list[int]] = {}
    for j, net in enumerate(nets):
        groups.setdefault((net.width, net.weights, net.dtype), []).append(j)
    data = {dtype: _data(inputs, targets, nets, dtype) for _, _, dtype in groups}
    parts: dict[tuple[int, int], dict] = {}
    for (_, _, dtype), members in groups.items():
        x, y = data[dtype]
        for seed in seeds:
            columns = march([nets[j] for j in members], seed, batch, x, y)
            parts.update({(j, seed): c for j, c in zip(members, columns, strict=True)})
    return _frame(nets, seeds, parts)


def _data(inputs, targets, nets: list[Network], dtype: str) -> tuple:
    """Inputs and targets in ``dtype``, if they fit one another and every network."""
    if inputs is None:
        if targets is not None:
            raise bad("targets", "given without inputs", "inputs and targets together")
        return None, None
    x = array("inputs", inputs, 2, np.dtype(dtype))
    if targets is None:
        return x, None
    y = array("targets", targets, 2, np.dtype(dtype))
    narrowest = min(net.width for net in nets)
    if len(y) != len(x) or y.shape[1] > narrowest:
        raise ValueError(
            f"targets has shape {y.shape}; allowed: ({len(x)}, n), n at most {narrowest}, the width"
        )
    return x, y


def _frame(nets: list[Network], seeds: list[int], parts: dict) -> pd.DataFrame:
    """One frame from the columns of every (network, seed), in the order they were asked for."""
    cells = [(j, seed) for j in range(len(nets)) for seed in seeds]
    rows = [nets[j].depth for j, _ in cells]
    fields = [{**nets[j].fields(), "seed": seed, "engine": "dense"} for j, seed in cells]
    columns = {}
    for name, _column in PROFILE_COLUMNS.items():
        if name in fields[0]:
            values = [field[name] for field in fields]
            kind = object if isinstance(values[0], str) else None
            columns[name] = np.repeat(np.array(values, kind), rows)
        else:
            columns[name] = np.concatenate([parts[cell][name] for cell in cells])
    return pd.DataFrame(columns)
