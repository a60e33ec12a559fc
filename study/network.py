"""Network: a frozen, validated specification. The words of the boundary are checked here.

Conventions: ``depth`` counts weight matrices; W^(k) has shape (n_in, n_out) and
Var W = sigma_w^2 / n_in, Var b = sigma_b^2, both standard deviations; arrays of examples are
(batch, units).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from study.activations import activation as activation_row

WEIGHT_LAWS = ("gaussian", "uniform", "orthogonal")
DTYPES = ("float32", "float64")
MAX_SIGMA = 1e6
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


def one_of(field: str, value: object, choices: Iterable[str]) -> str:
    """``value`` if it is one of the names."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise bad(field, value, ", ".join(choices))
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
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype)
    # A finite sum of squares has finite terms, in one pass; otherwise look.
    with np.errstate(all="ignore"):
        finite = np.isfinite(np.vecdot(x, x)).all()
    if not finite and not np.isfinite(x).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{field}{list(at)} = {x[at]}; allowed: finite numbers of {dtype}")
    return x


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
        Standard deviations: Var W = sigma_w^2 / fan_in, Var b = sigma_b^2.
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
            "sigma_w": real("sigma_w", self.sigma_w, 0, MAX_SIGMA),
            "sigma_b": real("sigma_b", self.sigma_b, 0, MAX_SIGMA),
            "weights": one_of("weights", self.weights, WEIGHT_LAWS),
            "dtype": one_of("dtype", self.dtype, DTYPES),
            "kink": real("kink", self.kink, 0, 1),
        }
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    def fields(self) -> dict[str, object]:
        """The specification as a flat dict, in the order of the columns."""
        return asdict(self)
