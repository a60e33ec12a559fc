"""What the columns of any table must obey, whoever computed them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.core.columns import PROFILE_COLUMNS
from study.records.norms import TOLERANCE

NETWORK = [*PROFILE_COLUMNS][:9]
"""What names a network."""


def check(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each identity that the columns of a table allow, and what is wrong: empty if nothing.

    A norm's mantissa and exponent agree with its logarithm. From one layer to the next the factors
    telescope, and ‖dC/dW^(k)‖ is at most ‖dC/dz^(k+1)‖ ‖r^(k)‖. In networks of single units without
    bias ‖W‖ ‖dC/dW‖ is the same in all layers where phi is homogeneous, as Euler says. Of networks
    that differ in learning rate alone, the chosen one has the lowest training loss.

    Examples
    --------
    >>> import study
    >>> frame = study.profile(study.Network("relu", depth=4, width=8), [0])
    >>> [*check(frame)]
    [('mantissa and exponent', ''), ('telescoping, 3 pairs', ''), ('gradient, 3 pairs', '')]
    """
    names = set(frame)
    if {"chosen", "train_loss", "rate"} <= names:
        yield "choice", _choice(frame)
    if {"grad_norm_mantissa", "grad_norm_exponent", "log10_grad_norm"} <= names:
        with np.errstate(divide="ignore"):
            log = np.log10(frame["grad_norm_mantissa"])
        log += frame["grad_norm_exponent"] * np.log10(2)
        yield "mantissa and exponent", _differ(log, frame["log10_grad_norm"])
    if {"layer", "log10_delta_norm", "log10_derivative_factor", "log10_weight_factor"} <= names:
        yield from _between_layers(frame)


def _between_layers(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Compare each row with the next one, where that is the next layer of the same network."""
    # Texts and whole numbers of an experiment's own name its networks, too.
    keys = [
        n for n in frame if n in NETWORK or (n not in PROFILE_COLUMNS and frame[n].dtype != float)
    ]
    upper = frame.shift(-1)
    same = (frame[keys] == upper[keys]).all(axis=1) & (upper["layer"] == frame["layer"] + 1)

    delta = frame["log10_delta_norm"]
    walked = upper["log10_delta_norm"] + upper["log10_weight_factor"]
    walked += frame["log10_derivative_factor"]
    known = same & np.isfinite(walked)
    size = upper["log10_delta_norm"].abs() + delta.abs()
    yield f"telescoping, {known.sum()} pairs", _differ(walked[known], delta[known], size[known])

    if {"log10_grad_norm", "log10_signal_norm"} <= set(frame):
        gradient = upper["log10_grad_norm"]
        most = upper["log10_delta_norm"] + frame["log10_signal_norm"]
        known = same & np.isfinite(gradient) & np.isfinite(most)
        # Equal for one example; a batch may only lose by cancelling.
        largest = gradient.where(gradient > most, most)
        size = upper["log10_delta_norm"].abs() + frame["log10_signal_norm"].abs()
        yield f"gradient, {known.sum()} pairs", _differ(largest[known], most[known], size[known])

    if {"log10_grad_norm", "log10_weight_norm", *NETWORK} <= set(frame):
        # Norms alone determine <W, dC/dW> only where a layer has one unit.
        homogeneous = frame["activation"].isin(["relu", "leaky_relu", "linear"])
        euler = frame["log10_grad_norm"] + frame["log10_weight_norm"]
        next_ = euler.shift(-1)
        known = same & homogeneous & frame["width"].eq(1) & frame["sigma_b"].eq(0)
        known &= np.isfinite(euler) & np.isfinite(next_)
        if known.any():
            yield "Euler", _differ(euler[known], next_[known])


def _differ(left: pd.Series, right: pd.Series, size: pd.Series | float = 0.0) -> str:
    """How many differ by more than rounding makes of terms of that size."""
    allowed = TOLERANCE * (1 + np.abs(right) + size)
    same = left.eq(right) | (left.isna() & right.isna())
    with np.errstate(invalid="ignore"):  # inf - inf
        apart = ~(same | ((left - right).abs() <= allowed))
    return f"{apart.sum()} of {len(apart)} differ" if apart.any() else ""


def _choice(frame: pd.DataFrame) -> str:
    before = [*frame][: [*frame].index("chosen")]
    networks = frame.groupby([name for name in before if name != "rate"], sort=False)
    least = frame["train_loss"] == networks["train_loss"].transform("min")
    single = networks["chosen"].transform("sum") == 1
    wrong = int((~single | (frame["chosen"] & ~least)).sum())
    return f"{wrong} of {len(frame)} rows: not the one of lowest train_loss" if wrong else ""
