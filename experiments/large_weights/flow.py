"""What gradient flow says of the weights' norms, and how near descent comes to it.

If phi(a z) = a phi(z), a > 0, all layers' squared norms grow by one amount along the flow: what
‖W^(k+1)‖^2 - ‖W^(k)‖^2 was before training it stays (Du, Hu & Lee 2018, theorem 2.1). Descent with
the rate eta leaves that by O(eta), so that the limit of small rates tells the law from another.
Once all data are told right the norms go on growing, as a power of the logarithm of time (Lyu & Li
2020, corollary 4.7). Full batches of few digits, cross-entropy, float64.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.engines.training import gaussian_weights, train
from study.sampling import digits, gaussian
from study.tools import Array

IMAGES = 100
WIDTHS = [49, 32, 32, 10]

# Columns of `along`.
COLUMNS = {
    "time": "learning rate times steps [1]",
    "grown": "‖W^(k)‖^2 less what it was before training, mean over layers [1]",
    "unbalanced": "the same, largest less smallest of all layers, over the mean of its absolute "
    "values [1]",
}


def along(activation: str, rate: float, times: Sequence[int], seeds: Sequence[int]) -> pd.DataFrame:
    """Growth of the squared norms at some times of plain descent: a row a time and seed."""
    kinds = [activation] * (len(WIDTHS) - 2) + ["linear"]
    images, classes = digits.coarse(IMAGES)
    targets = np.eye(10)[classes]
    keys = [gaussian.key(seed, "large weights") for seed in seeds]
    weights = gaussian_weights(keys, WIDTHS, [1.0] * len(seeds))
    start = squares(weights)
    frames = []
    steps = np.round(np.array(times) / rate).astype(int)
    for time, stretch in zip(times, np.diff(steps, prepend=0), strict=True):
        # Plain descent remembers nothing, so that it may be taken a stretch at a time.
        course = train(
            weights, [rate] * len(seeds), lambda _: (images, targets), int(stretch), kinds
        )
        weights = course.weights
        grown = squares(weights) - start
        columns = {"activation": activation, "rate": rate, "seed": seeds, "time": time}
        columns["loss"] = course.losses[-1]
        columns["status"] = course.networks.status
        columns["grown"] = grown.mean(axis=0)
        columns["unbalanced"] = np.ptp(grown, axis=0) / np.abs(grown).mean(axis=0)
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def squares(weights: Sequence[Array]) -> Array:
    """‖W^(k)‖^2, (layers, networks)."""
    return np.stack([np.square(W).sum(axis=(1, 2)) for W in weights])


def at_rate_zero(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column in the limit of small rates, by seed: the intercept of a line in the rate."""
    wide = rows.pivot(index="seed", columns="rate", values=column)
    intercepts = np.polyfit(wide.columns, wide.T, 1)[1]
    return pd.Series(intercepts, wide.index)
