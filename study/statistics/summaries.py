"""What becomes of a gradient on its way down, summed up from the frame of `study.profile`.

A layer passes the gradient on in two steps: the activation's derivative, equation (1), and the
weights, equation (2). All numbers are base-10 logarithms of norms, not squared.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.statistics.claims import Estimate, median_interval

NETWORK = ("activation", "sigma_w", "sigma_b", "weights", "dtype", "kink", "width", "depth")
VARIED = (*NETWORK, "inputs", "remedy", "format", "method", "scale", "rate", "step", "parameter")
"""Columns that tell networks, or moments of their training, apart: none may be averaged over."""

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
"""Columns that `running_factors` and `mean_factors` add."""


def factors(frame: pd.DataFrame) -> pd.DataFrame:
    """The two factors of every layer; 0, so that sums go on, beneath a true zero.

    There both are 0 / 0, NaN in the frame, and what made the gradient 0 is itself a factor, -inf.
    """
    return frame[["log10_derivative_factor", "log10_weight_factor"]].fillna(0.0)


def gains(frame: pd.DataFrame, first: int = 0, last: int | None = None) -> pd.DataFrame:
    """What the gradient gains from r^(last) down to r^(first), network by network.

    Parameters
    ----------
    frame : the layers first and last - 1 are enough; all of them, without log10_upstream_norm
    first, last : default: all the way from the output to the input

    Returns
    -------
    DataFrame: the frame's row of layer ``first`` of every network, with the column log10_gain,
    ‖dC/dr^(first)‖ / ‖dC/dr^(last)‖; -inf where a true zero is left.

    Examples
    --------
    >>> import study
    >>> net = study.Network("relu", depth=100, width=64, sigma_w=1.0)
    >>> gains(study.profile(net, seeds=range(3))).log10_gain.round().tolist()
    [-15.0, -16.0, -16.0]
    """
    keys = [name for name in (*VARIED, "seed") if name in frame]
    if "log10_upstream_norm" not in frame:
        frame = frame.sort_values([*keys, "layer"])
        if len(frame) != frame.depth[frame.layer == 0].sum():
            raise ValueError(
                "column 'layer' leaves out layers, so that factors have no sum; allowed: all "
                "layers, or a frame with log10_upstream_norm"
            )
        passed = running_factors(frame)[["derivative", "weights"]].sum(axis=1)
        came_in = (passed - factors(frame).sum(axis=1)).fillna(-np.inf)
        frame = frame.assign(log10_upstream_norm=came_in)
    top = frame.depth if last is None else last
    lower = frame[frame.layer == first]
    upper = frame.loc[frame.layer == top - 1, [*keys, "log10_upstream_norm"]]
    if not np.array_equal(lower[keys], upper[keys]):  # rows in another order
        upper = lower[keys].merge(upper, on=keys)
    left = (lower.log10_upstream_norm + factors(lower).sum(axis=1)).to_numpy()
    with np.errstate(invalid="ignore"):
        gain = left - upper.log10_upstream_norm.to_numpy()
    # Where nothing came in either, 0 / 0 is as much a loss as any.
    return lower.assign(log10_gain=np.where(left == -np.inf, -np.inf, gain))


def running_factors(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the sums of both factors from the output down to each layer, its own included.

    ``frame`` has every layer, in ascending order, network by network.
    """
    network = (frame.layer == 0).cumsum()
    sums = factors(frame)[::-1].groupby(network, sort=False).cumsum()  # from the output down
    sums = sums.fillna(-np.inf)  # what pandas' compensated sums make of -inf
    return frame.assign(
        layers_passed=frame.depth - frame.layer,
        derivative=sums.log10_derivative_factor,
        weights=sums.log10_weight_factor,
    )


def mean_factors(frame: pd.DataFrame, keys: list[str], first: int, last: int) -> pd.DataFrame:
    """Both factors of every network, told by its keys, averaged over layers first to last - 1."""
    window = frame[(frame.layer >= first) & (frame.layer < last)]
    window = window.assign(
        log10_derivative=window.log10_derivative_factor,
        log10_weight=window.log10_weight_factor,
        square_passed=10 ** (2 * window.log10_derivative_factor),
        log10_over_count=window.log10_derivative_factor - 0.5 * np.log10(window.active_fraction),
    )
    columns = ["log10_derivative", "log10_weight", "square_passed", "log10_over_count"]
    means = window.groupby(keys, sort=False)[columns].mean()
    largest = frame.groupby(keys, sort=False).log10_derivative_factor.max()  # of the ends as well
    means.insert(2, "log10_derivative_largest", largest)
    return means.reset_index()


PROFILE = {
    "log10_profile": "change of log10 ‖dC/dW^(k)‖ towards the input, least squares over the layers "
    "[log10 a layer]",
    "log10_level": "mean of log10 ‖dC/dW^(k)‖ over the layers [log10]",
    "log10_spread": "largest over smallest ‖dC/dW^(k)‖ of the layers [log10]",
    "log10_derivative": "log10_derivative_factor, mean over the layers [log10 a layer]",
    "log10_weight": "log10_weight_factor, mean over the layers [log10 a layer]",
}
"""Columns that `profile_and_level` adds."""


def profile_and_level(frame: pd.DataFrame) -> pd.DataFrame:
    """How ‖dC/dW^(k)‖ runs over the layers, and how large it is: a row a network and seed.

    A factor of the cost, or of the output, moves the level alone. Where a gradient is a true zero
    the level is -inf and the profile NaN.

    Examples
    --------
    >>> import study
    >>> nets = [study.Network(name, 50, 64, sigma_w=1.0) for name in ("relu", "sigmoid")]
    >>> rows = profile_and_level(study.profile(nets, seeds=[0]))
    >>> rows[["activation", "log10_profile", "log10_level"]].round(2).values.tolist()
    [['relu', 0.02, -6.75], ['sigmoid', -0.63, -15.35]]
    """
    from_top = frame.depth - 1 - frame.layer
    offset = from_top - (frame.depth - 1) / 2
    # Least squares, sum of offset^2 = (L^3 - L) / 12.
    weight = np.where(frame.depth > 1, 12 * offset / (frame.depth**3 - frame.depth), 0.0)
    keys = [*(name for name in VARIED if name in frame), "seed"]
    with np.errstate(invalid="ignore"):
        layers = frame.assign(log10_profile=weight * frame.log10_grad_norm)
    networks = layers.groupby(keys, sort=False)
    rows = networks.agg(
        log10_profile=("log10_profile", lambda terms: terms.sum(skipna=False)),
        log10_level=("log10_grad_norm", "mean"),
        log10_spread=("log10_grad_norm", np.ptp),
        log10_derivative=("log10_derivative_factor", "mean"),
        log10_weight=("log10_weight_factor", "mean"),
    )
    return rows.reset_index()


def lost_at(depths: Sequence[float], decades: Sequence[float], limit: float) -> tuple[float, bool]:
    """The depth at which decades first exceed a limit, and False; or the last depth, and True.

    Linear between depths, which ascend; decades are absolute values, may be inf, and are 0 at 0.

    >>> lost_at([1, 2, 4, 8], [1, 2, 4, 8], 3.0), lost_at([1, 2, 4, 8], [0, 0, 1, 1], 3.0)
    ((3.0, False), (8.0, True))
    """
    x = np.append(0.0, depths)
    y = np.append(0.0, decades)  # a network without layers loses nothing
    lost = y > limit
    if not lost.any():
        return float(x[-1]), True
    k = int(np.argmax(lost))
    share = (limit - y[k - 1]) / (y[k] - y[k - 1])  # 0 where all is lost at once
    return float(x[k - 1] + share * (x[k] - x[k - 1])), False


def median_lost_at(decays: pd.DataFrame, limit: float) -> Estimate:
    """The depth at which the median over seeds of |log10_decay| first exceeds a limit.

    Its interval ends where the upper and the lower end of the median's do, whatever the law of the
    decay. Where the median never does, the value is the deepest network's depth and means "at
    least"; where its lower end does not, the interval has no upper end. ``decays`` has the columns
    depth, seed, log10_decay; a row that is missing counts as lost.
    """
    wide = decays.pivot(index="depth", columns="seed", values="log10_decay").abs().fillna(np.inf)
    medians = [median_interval(row) for row in wide.to_numpy()]
    value, _ = lost_at(wide.index, [at.value for at in medians], limit)
    low, _ = lost_at(wide.index, [at.high for at in medians], limit)
    high, censored = lost_at(wide.index, [at.low for at in medians], limit)
    return Estimate(value, low, np.inf if censored else high, wide.shape[1])


def critical_scale(scales: np.ndarray, growth: np.ndarray) -> float:
    """The sigma_w at which a log10 growth, one a scale, crosses 0; linear in log sigma_w.

    0 or inf where it crosses beyond the scales measured, which ascend.

    >>> critical_scale(np.array([1.0, 4.0, 16.0]), np.array([-1.0, 1.0, 2.0]))
    2.0
    """
    is_up = growth > 0
    if is_up.all():
        return 0.0
    if not is_up.any():
        return np.inf
    up = int(np.argmax(is_up))
    below_zero, above_zero = growth[up - 1 : up + 1]
    low, high = scales[up - 1 : up + 1]
    return float(low * (high / low) ** (below_zero / (below_zero - above_zero)))
