"""What the norms of one network must obey, layer by layer, whoever computed them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from study import backprop, march, records
from study.backprop import Linear, Stretch
from study.scaled import Array, ldexp, spread, sum_of_squares

TOLERANCE = 1e-9
"""What a number may differ by, relative or absolute; see `Walks`."""
_NETWORK = [*records.PROFILE_COLUMNS][:9]  # what names a network


def check(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each identity that the columns of a table allow, and what is wrong: empty if nothing.

    Per row: the two ways a norm is written agree. Of neighbouring layers: the factors telescope,
    and ‖dC/dW^(k)‖ is at most ‖dC/dz^(k+1)‖ ‖r^(k)‖ (equal for one example). Norms alone determine
    <W, dC/dW>, which Euler's identity makes equal in all layers, only where a layer has one unit;
    `watched` holds the layers themselves to it.

    Examples
    --------
    >>> import study
    >>> frame = study.profile(study.Network("relu", depth=4, width=8), [0])
    >>> [*check(frame)]
    [('mantissa and exponent', ''), ('telescoping, 3 pairs', ''), ('gradient, 3 pairs', '')]
    """
    names = set(frame)
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


class Walks:
    """What `watched` saw of the backward passes."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float, float]] = []  # appended to by the engines' threads

    def add(self, gaps: list[Array], promise: float) -> None:
        """Take in some layers: each network's gap, as a share of what is allowed."""
        found = np.concatenate([*gaps, []], axis=None)
        self._seen.append((found.size, found.max(initial=0.0), promise))

    @property
    def layers(self) -> int:
        """How many layers were walked back, of all networks together."""
        return sum(count for count, _, _ in self._seen)

    @property
    def wrong(self) -> str:
        """How far Euler's identity is off in the worst layer, if that is more than allowed."""
        worst = np.max([gap for _, gap, _ in self._seen], initial=0.0)
        return "" if worst <= 1 else f"off by {worst:.3g} times what is allowed"

    @property
    def tolerance(self) -> float:
        """What numbers that follow from these layers may differ by on another machine.

        A norm is right to 4 x depth x unit roundoff on a given forward pass (see
        `study.backpropagate`). What another machine's rounding makes of the forward pass comes on
        top, by the conditioning of the network, for which there is no bound beforehand: so it is
        never less than `TOLERANCE`, 200 times that promise in float64 at depth 10,000. In float32
        the promise itself is the larger, and is what is allowed.
        """
        return max([TOLERANCE, *(promise for _, _, promise in self._seen)])


@contextlib.contextmanager
def watched() -> Iterator[Walks]:
    """Look on while networks are walked back, and hold every layer of each to Euler's identity.

    In each layer sum_ij W_ij dC/dW_ij = sum_j (z_j - b_j) dC/dz_j = sum_i r_i dC/dr_i, example by
    example: what went up through the weights must match what comes down, whichever engine it is,
    with a matrix or without. They may differ by half the digits of the format, of which rounding
    takes a few in wide layers and more where a matrix-free draw lies near 0. Networks that
    `study.backprop` does not walk are not seen.

    Examples
    --------
    >>> import study
    >>> with watched() as seen:
    ...     _ = study.profile(study.Network("tanh", depth=9, width=8, sigma_w=2.0), [0, 1])
    >>> seen.layers, seen.wrong
    (18, '')
    """
    seen, walk = Walks(), backprop.backward

    def backward(linear, stretch, dr, blocks, measures, trunk=slice(None)):
        beside = _Beside(linear, stretch, trunk)
        below = walk(beside, stretch, dr, blocks, measures, trunk)
        depth, u = stretch.first + len(stretch.z.mantissa), np.finfo(dr.mantissa.dtype).eps / 2
        seen.add([*beside.gaps.values()], 4 * depth * float(u))
        return below

    backprop.backward = march.backward = backward
    try:
        yield seen
    finally:
        backprop.backward = march.backward = walk


class _Beside:
    """A `Linear` that compares what went up through W^(k) with what comes down."""

    def __init__(self, linear: Linear, stretch: Stretch, trunk: Array | slice):
        self.linear, self.stretch, self.trunk = linear, stretch, trunk
        self.gaps: dict[int, Array] = {}  # of a layer that is walked again, the last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.linear, name)

    def backward(self, k: int, delta: Array, out: Array) -> None:
        self.linear.backward(k, delta, out)
        j = k - self.stretch.first
        r, z = self.stretch.r[j][self.trunk], self.stretch.z[j]
        b = self.linear.bias(k)
        b = np.broadcast_to(0.0 if b is None else b, z.mantissa.shape)[self.trunk]
        z = z[self.trunk]
        e_z = spread(z.exponent, z.mantissa.shape[:-1])
        up = z.mantissa - ldexp(b.astype(np.float64), -e_z[..., None])
        shift = e_z - r.exponent - self.linear.exponent(k)
        below, above = np.vecdot(r.mantissa, out, dtype=np.float64), np.vecdot(up, delta)
        size = np.sqrt(np.vecdot(z.mantissa, z.mantissa, dtype=np.float64) * sum_of_squares(delta))
        size = ldexp(size, shift) + np.sqrt(sum_of_squares(r.mantissa) * sum_of_squares(out))
        allowed = np.sqrt(np.finfo(out.dtype).eps / 2) * size
        gap = np.abs(ldexp(above, shift) - below) / np.where(allowed > 0, allowed, 1)
        self.gaps[k] = gap.max(axis=-1)
