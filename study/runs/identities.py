"""What the columns of any table must obey, whoever computed them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.core.columns import NETWORK, PROFILE_COLUMNS
from study.records.norms import TOLERANCE


def check(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each identity that the columns of a table allow, and what is wrong: empty if nothing.

    A norm's mantissa and exponent agree with its logarithm. From one layer to the next the factors
    telescope, and ‖dC/dW^(k)‖ is at most ‖dC/dz^(k+1)‖ ‖r^(k)‖. In networks of single units without
    bias ‖W‖ ‖dC/dW‖ is the same in all layers where phi is homogeneous, as Euler says. Of networks
    that differ in learning rate alone, the chosen one has the lowest training loss.

    >>> import study
    >>> [*check(study.profile(study.Network("relu", depth=4, width=8), [0]))]
    [('mantissa and exponent', ''), ('telescoping, 3 pairs', ''), ('gradient, 3 pairs', '')]
    """
    names = set(frame)
    if {"chosen", "train_loss", "rate"} <= names:
        yield "choice", _choice(frame)
    if {"grad_norm_mantissa", "grad_norm_exponent", "log10_grad_norm"} <= names:
        with np.errstate(divide="ignore"):
            log = np.log10(frame.grad_norm_mantissa)
        log += np.log10(2) * frame.grad_norm_exponent
        yield "mantissa and exponent", _differ(log, frame.log10_grad_norm)
    if {"layer", "log10_delta_norm", "log10_derivative_factor", "log10_weight_factor"} <= names:
        yield from _between_layers(frame)


def _between_layers(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Compare each row with the next one, where that is the next layer of the same network."""
    # Texts and whole numbers of an experiment's own name its networks, too.
    others = frame[frame.columns.difference(PROFILE_COLUMNS)].select_dtypes(exclude="float64")
    keys = [*others, *frame.columns.intersection(NETWORK)]
    upper = frame.shift(-1)  # layers ascend within a network
    same = frame[keys].eq(upper[keys]).all(axis=1)
    same &= upper.layer == frame.layer + 1
    lower = frame[same]
    upper = upper[same]

    delta = upper.log10_delta_norm
    walked = delta + upper.log10_weight_factor + lower.log10_derivative_factor
    yield _pairs("telescoping", walked, lower.log10_delta_norm, delta)
    if {"log10_grad_norm", "log10_signal_norm"} <= set(frame):
        most = delta + lower.log10_signal_norm
        # Equal for one example; a batch may only lose by cancelling.
        gradient = np.maximum(upper.log10_grad_norm, most)
        yield _pairs("gradient", gradient, most, delta)
    if {"log10_grad_norm", "log10_weight_norm", *NETWORK} <= set(frame):
        # Norms alone determine <W, dC/dW> only where a layer has one unit.
        homogeneous = lower.activation.isin(["relu", "leaky_relu", "linear"])
        known = homogeneous & lower.width.eq(1) & lower.sigma_b.eq(0)
        euler = lower.log10_grad_norm + lower.log10_weight_norm
        above = upper.log10_grad_norm + upper.log10_weight_norm
        known &= np.isfinite(euler) & np.isfinite(above)
        if known.any():
            yield "Euler", _differ(euler[known], above[known])


def _pairs(what: str, left: pd.Series, right: pd.Series, term: pd.Series) -> tuple[str, str]:
    """Compare sums, `term` being one of their terms, where the first is a number."""
    known = np.isfinite(left)
    size = term.abs() + (right - term).abs()
    return f"{what}, {known.sum()} pairs", _differ(left[known], right[known], size[known])


def _differ(left: pd.Series, right: pd.Series, size: pd.Series | float = 0.0) -> str:
    """How many differ by more than rounding makes of terms of that size."""
    allowed = TOLERANCE * (1 + right.abs() + size)
    allowed = allowed.where(np.isfinite(allowed), 0.0)  # an infinity equals itself alone
    same = np.isclose(left, right, rtol=0, atol=allowed, equal_nan=True)
    return "" if same.all() else f"{(~same).sum()} of {len(same)} differ"


def _choice(frame: pd.DataFrame) -> str:
    names = [*frame][: [*frame].index("chosen")]  # what stands before it names the network
    networks = frame.groupby([name for name in names if name != "rate"], sort=False)
    least = frame.train_loss == networks.train_loss.transform("min")
    single = networks.chosen.transform("sum") == 1
    wrong = int((~single | (frame.chosen & ~least)).sum())
    return f"{wrong} of {len(frame)} rows: not the one of lowest train_loss" if wrong else ""
