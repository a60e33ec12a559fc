"""Ensembles of independent networks held against their exact law, and those that are born dead."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import special

from study.core.network import Network
from study.engines.explicit import backpropagate
from study.sampling import gaussian
from study.statistics.claims import Estimate, confidence
from study.statistics.estimators import resampled
from study.statistics.summaries import gains
from study.theory.finite_width import born_dead


def he_profile(widths: Sequence[int], seeds: Iterable[int]) -> pd.DataFrame:
    """Profile ReLU networks of any widths, without biases, Var W = 2 / fan_in, in float32.

    ``widths`` are the units of r^(0), ..., r^(L), the first as many as the last. Each seed has a
    matrix, an input and a random unit cotangent of its own.

    >>> len(he_profile([8, 2, 8], range(5)))
    10
    """
    profiles = []
    depth = len(widths) - 1
    network = Network("relu", depth, widths[0], sigma_w=2**0.5, dtype="float32").fields()
    for seed in seeds:
        key = gaussian.key(seed, "finite width")
        weights = [
            gaussian.normal(key, k, shape, np.float32) * np.float32((2 / shape[0]) ** 0.5)
            for k, shape in enumerate(itertools.pairwise(widths))
        ]
        x, dr = gaussian.normal(key, depth, (2, 1, widths[0]), np.float32)
        df = backpropagate(weights, x, "relu", cotangent=dr / np.linalg.norm(dr))
        profiles.append(df.assign(**network, seed=seed, engine="dense"))
    return pd.concat(profiles, ignore_index=True)


def gains_of_last(df: pd.DataFrame, layers: Sequence[int]) -> pd.DataFrame:
    """The gain of the gradient norm over the last layers, for every number in ``layers``.

    From a frame of networks of one depth: layers, depth, seed, log10_gain (-inf in every row of a
    network with a dead layer) and layers_alive (those below the first without an active unit, or
    depth).
    """
    depth = int(df.depth.iloc[0])
    # The first layer without a signal.
    silent = df.layer.where(df.log10_signal_norm == -np.inf, depth)
    alive = silent.groupby(df.seed, sort=False).min().to_numpy()
    tables = []
    for last in layers:
        rows = gains(df, depth - last)[["depth", "seed", "log10_gain"]]
        rows["log10_gain"] = rows.log10_gain.where(alive == depth, -np.inf)
        tables.append(rows.assign(layers_alive=alive, layers=last))
    return pd.concat(tables)


@np.errstate(under="ignore")
def log10_mean_square(decades: pd.Series) -> Estimate:
    """log10 of the mean over seeds of the square of 10^decades, in or outside the float range.

    Nothing more than 150 decades below the largest plays a part.

    >>> log10_mean_square(pd.Series([-500.0, -500.0])).value
    -1000.0
    """
    top = decades.max()
    shares = 100 ** (decades - top)  # beside the largest, within the float range
    return resampled(shares, lambda share: 2 * top + np.log10(share.mean()))


def deaths_at_half_life(gains: pd.DataFrame) -> Estimate:
    """ReLU networks dead over those expected, each of them ln 2 x 2^width layers deep.

    Of independent networks, at least so deep; its interval is by the variance of the count.
    """
    depths = (2.0**gains.width * np.log(2)).round().astype(int)  # where half of all have died
    chances = np.array([born_dead([n] * d) for n, d in zip(gains.width, depths, strict=True)])
    ratio = float((gains.layers_alive < depths).sum() / chances.sum())
    half = special.ndtri((1 + confidence()) / 2) * (chances * (1 - chances)).sum() ** 0.5
    half /= chances.sum()
    return Estimate(ratio, ratio - half, ratio + half, len(gains))


def deaths_by_depth(gains: pd.DataFrame) -> pd.DataFrame:
    """The share of ReLU networks of each width that are dead at eight depths up to 2^(width + 1).

    With the theory, and half, 1.96 standard deviations of a share about it.
    """
    rows = []
    for width, networks in gains.groupby("width"):
        for depth in np.unique(np.geomspace(1, 2 ** (width + 1), 8).astype(int)):
            share = (networks.layers_alive < depth).mean()
            theory = born_dead([width] * int(depth))
            half = 1.96 * (theory * (1 - theory) / len(networks)) ** 0.5
            rows.append((width, depth, share, half, theory))
    return pd.DataFrame(rows, columns=["width", "depth", "value", "half", "theory"])
