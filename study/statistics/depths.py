"""The depth at which a gradient is lost: of one network, of many, and beside theory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.statistics.claims import Estimate, bootstrap_over_seeds, median_interval


def lost_at(depths: Sequence[float], decades: Sequence[float], limit: float) -> tuple[float, bool]:
    """The depth at which |decades| first exceeds a limit, and whether it never does.

    Parameters
    ----------
    depths : layers, ascending
    decades : absolute values, one a depth, may be inf; 0 at depth 0

    Returns
    -------
    layers, linear between depths, and False; or the last depth, and True.

    Examples
    --------
    >>> lost_at([1, 2, 4, 8], [1, 2, 4, 8], 3.0), lost_at([1, 2, 4, 8], [0, 0, 1, 1], 3.0)
    ((3.0, False), (8.0, True))
    """
    d, y = np.append(0.0, depths), np.append(0.0, decades)
    if not (y > limit).any():
        return float(d[-1]), True
    k = int(np.argmax(y > limit))
    share = (limit - y[k - 1]) / (y[k] - y[k - 1])  # 0 where all is lost at once
    return float(d[k - 1] + share * (d[k] - d[k - 1])), False


def median_lost_at(decays: pd.DataFrame, limit: float) -> Estimate:
    """The depth at which the median over seeds of |log10_decay| first exceeds a limit.

    Its interval ends where the upper and the lower end of the median's do, so that it holds
    whatever the law of the decay. Where the median never does, the value is the deepest network's
    depth, and means "at least"; where its lower end does not, the interval has no upper end.

    Parameters
    ----------
    decays : columns depth, seed, log10_decay; a row that is missing counts as lost
    """
    wide = decays.pivot(index="depth", columns="seed", values="log10_decay").abs()
    at = [median_interval(row) for row in wide.fillna(np.inf).to_numpy()]
    value, low, high = (
        lost_at(wide.index, [getattr(e, end) for e in at], limit)
        for end in ("value", "high", "low")
    )
    return Estimate(value[0], low[0], np.inf if high[1] else high[0], wide.shape[1])


def distance_from(expected: pd.Series, depths: pd.DataFrame) -> Estimate:
    """The median over curves of |median depth over seeds / expected - 1|.

    Parameters
    ----------
    expected : a depth a curve
    depths : a row a seed, a column a curve
    """
    curves, theory = expected.index, expected.to_numpy()

    def distance(frame: pd.DataFrame) -> float:
        return float(np.median(np.abs(frame[curves].median().to_numpy() / theory - 1)))

    return bootstrap_over_seeds(depths[curves].reset_index(), distance, resamples=500)
