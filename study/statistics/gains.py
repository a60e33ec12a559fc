"""What a gradient gains on its way down the last layers, network by network; any widths.

A layer's gain is the product of two factors: what the activation's derivative does, equation (1),
and what the weights do, equation (2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from study.engines.explicit import backpropagate
from study.sampling import gaussian
from study.statistics.claims import Estimate
from study.statistics.estimators import happened
from study.theory.dying import born_dead

FACTORS = {
    "layers_passed": "on the way down from the output, depth - k [layers]",
    "derivative": "log10_derivative_factor, summed over the layers passed [log10]",
    "weights": "log10_weight_factor, summed over the layers passed [log10]",
    "log10_derivative": "log10_derivative_factor, mean over the window [log10 a layer]",
    "log10_weight": "log10_weight_factor, mean over the window [log10 a layer]",
    "log10_derivative_largest": "log10_derivative_factor, the largest of all layers [log10]",
    "square_passed": "share of the gradient's square that the derivative lets through: its factor "
    "squared, mean over the window [1]",
    "log10_over_count": "log10_derivative_factor less log10 of the square root of the share of "
    "active units, mean over the window [log10 a layer]",
}
"""What `running_factors` and `mean_factors` return beside their keys."""


def running_factors(profile: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Both factors of networks of one depth, each told by its keys, summed from the output down.

    Examples
    --------
    >>> df = he_profile([8, 2, 8], [0]).assign(seed=0)
    >>> list(running_factors(df, ["seed"]).layers_passed)
    [2, 1]
    """
    down = profile[::-1].groupby(keys, sort=False)
    return profile[keys].assign(
        layers_passed=profile.layer.max() + 1 - profile.layer,
        derivative=down.log10_derivative_factor.cumsum(),
        weights=down.log10_weight_factor.cumsum(),
    )


def mean_factors(profile: pd.DataFrame, keys: list[str], first: int, last: int) -> pd.DataFrame:
    """Both factors of every network, averaged over the layers first, ..., last - 1: the window."""

    def summary(layers: pd.DataFrame) -> pd.Series:
        window = layers[(layers.layer >= first) & (layers.layer < last)]
        derivative = window.log10_derivative_factor
        found = {
            "log10_derivative": derivative.mean(),
            "log10_weight": window.log10_weight_factor.mean(),
            "log10_derivative_largest": layers.log10_derivative_factor.max(),
            "square_passed": (10 ** (2 * derivative)).mean(),
            "log10_over_count": (derivative - 0.5 * np.log10(window.active_fraction)).mean(),
        }
        return pd.Series(found)

    return profile.groupby(keys, sort=False).apply(summary, include_groups=False).reset_index()


def he_profile(widths: Sequence[int], seeds: Iterable[int]) -> pd.DataFrame:
    """Profile ReLU networks of any widths, without biases, Var W = 2 / fan_in, matrix by matrix.

    Each seed has a matrix, an input and a random unit cotangent of its own.

    Parameters
    ----------
    widths : units of r^(0), ..., r^(L), the first as many as the last

    Examples
    --------
    >>> len(he_profile([8, 2, 8], range(5)))
    10
    """
    return pd.concat([_profile(widths, seed) for seed in seeds])


def _profile(n: Sequence[int], seed: int) -> pd.DataFrame:
    key, depth = gaussian.key(seed, "finite width"), len(n) - 1
    W = [gaussian.normal(key, k, (n[k], n[k + 1])) * (2 / n[k]) ** 0.5 for k in range(depth)]
    x, dr = gaussian.normal(key, depth, (2, 1, n[0]))
    return backpropagate(W, x, "relu", cotangent=dr / np.linalg.norm(dr))


def gains(
    profile: pd.DataFrame,
    seeds: Sequence[int],
    layers: Sequence[int],
    about: Mapping[str, object],
) -> pd.DataFrame:
    """The gain of the gradient norm over the last layers, for every number in ``layers``.

    Parameters
    ----------
    profile : rows of networks of one depth, layer by layer, seed by seed
    layers : numbers of layers, counted from the output down
    about : columns that say what the networks are

    Returns
    -------
    DataFrame with these columns, layers, depth, seed, log10_gain (of ‖dC/dr^(depth - layers)‖ /
    ‖dC/dr^(depth)‖, not squared; -inf in every row of a network with a dead layer) and
    layers_alive (those below the first without an active unit, or depth).

    Examples
    --------
    >>> found = gains(he_profile([64] * 3, range(4)), range(4), [1, 2], {"width": 64})
    >>> found.shape, set(found.layers_alive)
    ((8, 6), {2})
    """
    depth = len(profile) // len(seeds)
    steps = profile.log10_derivative_factor + profile.log10_weight_factor
    steps = steps.to_numpy().reshape(-1, depth)
    silent = np.isneginf(profile.log10_signal_norm.to_numpy().reshape(-1, depth))
    alive = np.where(silent.any(axis=1), silent.argmax(axis=1), depth)
    tables = []
    for last in layers:
        gain = np.where(alive == depth, steps[:, -last:].sum(axis=1), -np.inf)
        row = {"layers": last, "depth": depth, "seed": seeds, "log10_gain": gain}
        tables.append(pd.DataFrame({**about, **row, "layers_alive": alive}))
    return pd.concat(tables)


def deaths_at_half_life(table: pd.DataFrame) -> Estimate:
    """ReLU networks dead over those expected, each of them ln 2 x 2^width layers deep.

    Parameters
    ----------
    table : gains of independent networks, at least so deep, with their width
    """
    depths = (2.0**table.width * np.log(2)).round().astype(int)
    chances = [born_dead([n] * d) for n, d in zip(table.width, depths, strict=True)]
    return happened(table.layers_alive < depths, chances)


def deaths_by_depth(table: pd.DataFrame, shown: int = 8) -> pd.DataFrame:
    """The share of ReLU networks of each width that are dead at some depths up to 2^(width + 1).

    Returns
    -------
    DataFrame with width, depth, value (the share), theory and half (1.96 standard deviations of a
    share about the theory).
    """
    rows = []
    for n, own in table.groupby("width"):
        for depth in np.unique(np.geomspace(1, 2 ** (n + 1), shown).astype(int)):
            share, theory = (own.layers_alive < depth).mean(), born_dead([n] * int(depth))
            half = 1.96 * (theory * (1 - theory) / len(own)) ** 0.5
            rows.append((n, depth, share, half, theory))
    return pd.DataFrame(rows, columns=["width", "depth", "value", "half", "theory"])
