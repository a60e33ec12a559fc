"""What the columns of a table must obey, whoever computed them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from study.records import tables as records

TOLERANCE = 1e-9
"""What a number may differ by, relative or absolute; see `Walks`."""
_NETWORK = [*records.PROFILE_COLUMNS][:9]  # what names a network


def check(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each identity that the columns of a table allow, and what is wrong: empty if nothing.

    Per row: the two ways a norm is written agree. Of neighbouring layers: the factors telescope,
    and ‖dC/dW^(k)‖ is at most ‖dC/dz^(k+1)‖ ‖r^(k)‖ (equal for one example). Norms alone determine
    <W, dC/dW>, which Euler's identity makes equal in all layers, only where a layer has one unit;
    `watched` holds the layers themselves to it. Of networks that differ in learning rate alone, the
    one that is chosen has the lowest training loss.

    Examples
    --------
    >>> import study
    >>> frame = study.profile(study.Network("relu", depth=4, width=8), [0])
    >>> [*check(frame)]
    [('mantissa and exponent', ''), ('telescoping, 3 pairs', ''), ('gradient, 3 pairs', '')]
    """
    names = set(frame)
    if {"chosen", "train_loss", "rate"} <= names:
        yield ("choice", _choice(frame))
    if {"grad_norm_mantissa", "grad_norm_exponent", "log10_grad_norm"} <= names:
        with np.errstate(divide="ignore"):
            log = np.log10(frame["grad_norm_mantissa"].abs())
        two = log + frame["grad_norm_exponent"] * np.log10(2)
        yield ("mantissa and exponent", differ(two, frame["log10_grad_norm"]))
    factors = ["log10_derivative_factor", "log10_weight_factor", "log10_delta_norm"]
    if not {"layer", *factors} <= names:
        return
    # Rows k and k + 1 of one network: dC/dz^(k+1) is dC/dz^(k+2) through the weights and phi'.
    keys = frame[[n for n in frame if n in _NETWORK or n not in records.PROFILE_COLUMNS]]
    keys = keys.loc[:, [t != "float64" or n in _NETWORK for n, t in records.schema(keys).items()]]
    same = (keys.iloc[1:].to_numpy() == keys.iloc[:-1].to_numpy()).all(axis=1)
    next_ = same & (np.diff(frame["layer"]) == 1)
    phi, weight, delta = (frame[name].to_numpy() for name in factors)
    known = next_ & np.isfinite(phi[:-1] + weight[1:] + delta[1:])
    walked = (delta[1:] + weight[1:] + phi[:-1])[known]
    yield (f"telescoping, {known.sum()} pairs", differ(walked, delta[:-1][known]))
    if {"log10_grad_norm", "log10_signal_norm"} <= names:
        grad = frame["log10_grad_norm"].to_numpy()[1:]
        most = delta[1:] + frame["log10_signal_norm"].to_numpy()[:-1]
        known = next_ & np.isfinite(grad) & np.isfinite(most)
        grad, most = grad[known], most[known]
        yield (f"gradient, {known.sum()} pairs", differ(np.maximum(grad, most), most))
    if {"log10_grad_norm", "log10_weight_norm", "activation", "width", "sigma_b"} <= names:
        plain = frame["activation"].isin(["relu", "leaky_relu", "linear"]) & frame["sigma_b"].eq(0)
        one = (plain & frame["width"].eq(1)).to_numpy()
        both = (frame["log10_grad_norm"] + frame["log10_weight_norm"]).to_numpy()
        pair = same & one[1:] & np.isfinite(both[1:]) & np.isfinite(both[:-1])
        if pair.any():
            yield ("Euler", differ(both[1:][pair], both[:-1][pair]))


def differ(one: Any, two: Any, tolerance: float = TOLERANCE) -> str:
    """Where two columns differ by more than the tolerance, in words."""
    one, two = np.asarray(one, float), np.asarray(two, float)
    bad = ~np.isclose(one, two, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not bad.any():
        return ""
    i = int(np.flatnonzero(bad)[0])
    return f"{bad.sum()} of {len(one)} differ, the first {float(one[i])!r}, not {float(two[i])!r}"


def _choice(frame: pd.DataFrame) -> str:
    keys = [name for name in [*frame][: [*frame].index("chosen")] if name != "rate"]
    nets = frame.groupby(keys, sort=False)
    least = frame["train_loss"] == nets["train_loss"].transform("min")
    one = nets["chosen"].transform("sum") == 1
    wrong = int((~one | (frame["chosen"] & ~least)).sum())
    return f"{wrong} of {len(frame)} rows: not the one of lowest train_loss" if wrong else ""
