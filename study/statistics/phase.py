"""Growth of the gradient against the weight scale, measured and by theory: where it turns.

Growth is the factor of the gradient norm, not squared, per layer, as log10.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from study import theory


def critical_scale(growth: pd.DataFrame) -> float:
    """The sigma_w at which the mean of log10_growth over seeds crosses 0, linear in log sigma_w.

    Returns 0 or inf where it crosses beyond the scales measured.

    Examples
    --------
    >>> growth = pd.DataFrame({"sigma_w": [1.0, 4.0, 16.0], "log10_growth": [-1.0, 1.0, 2.0]})
    >>> critical_scale(growth), critical_scale(growth[1:])
    (2.0, 0.0)
    """
    curve = growth.groupby("sigma_w").log10_growth.mean()
    if (curve > 0).all() or (curve <= 0).all():
        return 0.0 if curve.iloc[0] > 0 else np.inf
    up = int(np.argmax(curve.to_numpy() > 0))
    below_zero, above_zero = curve.iloc[up - 1 : up + 1]
    low, high = curve.index[up - 1 : up + 1]
    return float(low * (high / low) ** (below_zero / (below_zero - above_zero)))


def mean_growth(growth: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds at each scale, with 95 % by the normal law.

    Parameters
    ----------
    growth : columns activation, sigma_w, seed, log10_growth

    Returns
    -------
    DataFrame with activation, sigma_w, value, low and high.
    """
    grouped = growth.groupby(["activation", "sigma_w"], sort=False).log10_growth
    points = grouped.agg(value="mean", sd="std").reset_index()
    half = 1.96 * points.pop("sd") / np.sqrt(growth.seed.nunique())
    return points.assign(low=points.value - half, high=points.value + half)


def lasting_growth(
    activations: Iterable[str], low: float, high: float, count: int = 160
) -> pd.DataFrame:
    """1/2 log10 chi, at infinite width and depth: activation, sigma_w (low to high) and value.

    >>> lasting_growth(["relu"], 1.0, 2.0, count=2).value.round(4).tolist()
    [-0.1505, 0.1505]
    """
    rows = [
        (name, sigma, 0.5 * np.log10(theory.mean_field(name, sigma).chi))
        for name in activations
        for sigma in np.geomspace(low, high, count)
    ]
    return pd.DataFrame(rows, columns=["activation", "sigma_w", "value"])


def beside_critical(points: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The points with theory's ``critical`` sigma_w, and how many lie on the side that it says.

    Parameters
    ----------
    points : columns activation, sigma_w, sigma_b and log10_decay, above 0 where gradients explode
    """
    at = points[["activation", "sigma_b"]].drop_duplicates()
    at["critical"] = [theory.critical_sigma_w(*row) for row in at.itertuples(index=False)]
    points = points.merge(at)
    right = (points.log10_decay > 0) == (points.sigma_w > points.critical)
    return points, int(right.sum())
