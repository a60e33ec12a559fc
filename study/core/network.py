"""Network: a frozen, validated specification.

Conventions: ``depth`` counts weight matrices; W^(k) has shape (n_in, n_out) and
Var W = sigma_w^2 / n_in, Var b = sigma_b^2, both standard deviations; arrays of examples are
(batch, units).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from study.core.activations import TABLE, Activation, activation
from study.tools.checks import integer, one_of, real, sigma

WEIGHT_LAWS = ("gaussian", "uniform", "orthogonal")
DTYPES = ("float32", "float64")
MAX_DEPTH = 1_000_000


@dataclass(frozen=True)
class Network:
    """A network at initialisation: all its layers have ``width`` units and one activation.

    Parameters
    ----------
    activation : str, Activation or callable
        A name such as "relu", "leaky_relu(0.2)", a row, or any function of an array: what
        `study.core.activations.activation` takes.
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

    activation: str | Activation | Callable = "relu"
    depth: int = 1000
    width: int = 256
    sigma_w: float = 2**0.5
    sigma_b: float = 0.0
    weights: str = "gaussian"
    dtype: str = "float64"
    kink: float = 1.0

    def __post_init__(self) -> None:
        row = activation(self.activation)
        checked = {
            "activation": row.name if TABLE.get(row.name) is row else row,
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

    @property
    def row(self) -> Activation:
        """The activation's row."""
        return activation(self.activation)

    def fields(self) -> dict[str, object]:
        """The specification as a flat dict, in the order of the columns."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"activation": self.row.name}
