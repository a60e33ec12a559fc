"""Network: a frozen, validated specification. The words of the boundary are checked here.

Conventions: ``depth`` counts weight matrices; W^(k) has shape (n_in, n_out) and
Var W = sigma_w^2 / n_in, Var b = sigma_b^2, both standard deviations; arrays of examples are
(batch, units).
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from study.activations import activation as activation_row
from study.mending import nearest

WEIGHT_LAWS = ("gaussian", "uniform", "orthogonal")
DTYPES = ("float32", "float64")
MAX_SIGMA = 1e6
MIN_SIGMA = 1e-9
"""Scales below, but for 0 itself, would lose bits to underflow in float32."""
MAX_DEPTH = 1_000_000


def bad(field: str, value: object, allowed: str) -> ValueError:
    """The error of the boundary: names the field, the value and what is allowed."""
    return ValueError(f"{field} = {value!r}; allowed: {allowed}")


def integer(field: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int within [low, high]; booleans and fractions are refused."""
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        raise bad(field, value, allowed) from None
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number > high):
        raise bad(field, value, allowed)
    return number


def real(field: str, value: object, low: float, high: float) -> float:
    """``value`` as a finite float within [low, high]."""
    allowed = f"a finite number from {low:g} to {high:g}"
    if isinstance(value, (bool, np.bool_, str)):
        raise bad(field, value, allowed)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise bad(field, value, allowed) from None
    if not (math.isfinite(number) and low <= number <= high):
        raise bad(field, value, allowed)
    return number


def sigma(field: str, value: object) -> float:
    """``value`` as a standard deviation: 0, or within [MIN_SIGMA, MAX_SIGMA]."""
    number = real(field, value, 0, MAX_SIGMA)
    if 0 < number < MIN_SIGMA:
        raise bad(field, value, f"0, or a number from {MIN_SIGMA:g} to {MAX_SIGMA:g}")
    return number


def items(field: str, value: object, allowed: str) -> list:
    """``value`` as a list, if it can be gone through and is no text."""
    if isinstance(value, (str, bytes)):
        raise bad(field, value, allowed)
    try:
        return list(value)
    except TypeError:
        raise bad(field, value, allowed) from None


def one_of(field: str, value: object, choices: Iterable[str]) -> str:
    """``value`` if it is one of the names."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise bad(field, value, ", ".join(choices) + nearest(value, choices))
    return value


def array(field: str, value: object, ndim: int, dtype: np.dtype) -> np.ndarray:
    """``value`` as a finite, non-empty, C-contiguous real array of ``ndim`` axes."""
    try:
        x = np.asarray(value)
    except ValueError:
        raise bad(field, "a ragged sequence", f"a {ndim}-dimensional array") from None
    if x.ndim != ndim or x.size == 0:
        raise ValueError(
            f"{field} has shape {x.shape}; allowed: {ndim} axes, none of them of length 0"
        )
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{field} has dtype {x.dtype}; allowed: real numbers")
    # A finite sum of squares has finite terms, in one pass; otherwise look.
    with np.errstate(all="ignore"):
        x = np.ascontiguousarray(x, dtype)
        finite = np.isfinite(np.vecdot(x, x)).all()
    if not finite and not np.isfinite(x).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{field}{list(at)} = {x[at]}; allowed: finite numbers of {dtype}")
    return x


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or its container."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
    limits = [int(line) for line in _lines("/sys/fs/cgroup/memory.max") if line.isdigit()]
    return min([free, *limits])


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def check_memory(needed: int, **fields: object) -> None:
    """ValueError if so many bytes are not to be had, naming the fields that ask for them."""
    free = available_memory()
    if needed > free:
        asked = ", ".join(f"{field} = {value!r}" for field, value in fields.items())
        raise ValueError(
            f"{asked}: {needed / 2**30:.3g} GiB needed; allowed: {free / 2**30:.3g} GiB, the "
            "memory available"
        )


@dataclass(frozen=True)
class Network:
    """A network at initialisation: all its layers have ``width`` units and one activation.

    Parameters
    ----------
    activation : str
        relu, sigmoid, tanh, linear, leaky_relu (slope 0.01), selu, elu, gelu, silu, softplus,
        hard_tanh or erf (erf(sqrt(pi) z / 2)).
    depth : int
        Number of weight matrices.
    width : int
        Units in each layer.
    sigma_w, sigma_b : float
        Standard deviations: Var W = sigma_w^2 / fan_in, Var b = sigma_b^2. Each is 0, or from 1e-9
        to 1e6.
    weights : str
        The law of the weights: "gaussian", "uniform" (of the same variance), or "orthogonal"
        (Haar; sigma_w times an orthogonal matrix where it is square).
    dtype : str
        "float32" or "float64".
    kink : float
        phi' at a kink is (1 - kink) * left + kink * right slope: ReLU'(0) = kink.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.

    Examples
    --------
    >>> Network(activation="sigmoid", depth=100, width=64, sigma_w=1.0).kink
    1.0
    >>> Network(depth=0)
    Traceback (most recent call last):
    ValueError: depth = 0; allowed: an integer from 1 to 1000000
    """

    activation: str = "relu"
    depth: int = 1000
    width: int = 256
    sigma_w: float = 2**0.5
    sigma_b: float = 0.0
    weights: str = "gaussian"
    dtype: str = "float64"
    kink: float = 1.0

    def __post_init__(self) -> None:
        activation_row(self.activation)
        checked = {
            "depth": integer("depth", self.depth, 1, MAX_DEPTH),
            "width": integer("width", self.width, 1),
            "sigma_w": sigma("sigma_w", self.sigma_w),
            "sigma_b": sigma("sigma_b", self.sigma_b),
            "weights": one_of("weights", self.weights, WEIGHT_LAWS),
            "dtype": one_of("dtype", self.dtype, DTYPES),
            "kink": real("kink", self.kink, 0, 1),
        }
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    def fields(self) -> dict[str, object]:
        """The specification as a flat dict, in the order of the columns."""
        return asdict(self)
