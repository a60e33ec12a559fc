"""The columns that tables of the study share, and the conventions that their numbers follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""What a number may differ by, relative or absolute, where it is computed again elsewhere."""


class Column(NamedTuple):
    """What one column holds.

    Parameters
    ----------
    type : float64, int64, bool or string
    unit, meaning : in words
    tolerance : how far, relatively or absolutely, a number may be from that of another machine
    """

    type: str
    unit: str
    meaning: str
    tolerance: float = TOLERANCE


_LOG = "log10"
PROFILE_COLUMNS: dict[str, Column] = {
    "activation": Column("string", "-", "phi, the name of the activation"),
    "depth": Column("int64", "layers", "number of weight matrices"),
    "width": Column("int64", "units", "units in a layer"),
    "sigma_w": Column("float64", "1", "standard deviation: Var W = sigma_w^2 / fan_in"),
    "sigma_b": Column("float64", "1", "standard deviation: Var b = sigma_b^2"),
    "weights": Column("string", "-", "law of the weights: gaussian, uniform or orthogonal"),
    "dtype": Column("string", "-", "number format the network was computed in"),
    "kink": Column("float64", "1", "value of phi' where phi has a kink, ReLU'(0)"),
    "seed": Column("int64", "-", "names the draw; networks with the same seed share weights"),
    "layer": Column("int64", "layers", "k of W^(k), 0 next to the input"),
    "grad_norm_mantissa": Column(
        "float64", "1", "‖dC/dW^(k)‖ = mantissa x 2^exponent; 0 or [1, 2)"
    ),
    "grad_norm_exponent": Column(
        "int64", "log2", "the exponent of two that goes with the mantissa"
    ),
    "log10_grad_norm": Column("float64", _LOG, "Frobenius norm of dC/dW^(k); -inf: a true zero"),
    "log10_delta_norm": Column("float64", _LOG, "Frobenius norm of dC/dz^(k+1)"),
    "log10_upstream_norm": Column("float64", _LOG, "Frobenius norm of dC/dr^(k+1)"),
    "log10_signal_norm": Column("float64", _LOG, "Frobenius norm of r^(k+1)"),
    "log10_weight_norm": Column(
        "float64", _LOG, "Frobenius norm of W^(k); empty where no matrix was formed"
    ),
    "log10_derivative_factor": Column(
        "float64", _LOG, "‖dC/dz^(k+1)‖ / ‖dC/dr^(k+1)‖: what the activation's derivative did"
    ),
    "log10_weight_factor": Column(
        "float64", _LOG, "‖dC/dr^(k)‖ / ‖dC/dz^(k+1)‖: what the weights did"
    ),
    "active_fraction": Column("float64", "1", "share of units with phi'(z) > 0.01 of its maximum"),
    "status": Column(
        "string",
        "-",
        "what a plain run would have seen: ok, dead (a true zero), float32_underflow, "
        "float32_overflow, float64_underflow or float64_overflow",
    ),
    "engine": Column("string", "-", "which engine computed the row: dense or matrix_free"),
}
"""The frame of `study.profile`, in order: the network's own fields, the seed, then each layer's."""

CONVENTIONS: dict[str, str] = {
    "arrays": "inputs (batch, n_in), weights (n_in, n_out), z = r W + b, r = phi(z)",
    "cost": "C = 1/2 sum_j (r_j - y_j)^2, the mean over the batch",
    "sigma_w": "a standard deviation: Var W = sigma_w^2 / fan_in",
    "sigma_b": "a standard deviation: Var b = sigma_b^2; 0 unless stated",
    "depth": "number of weight matrices",
    "layer": "k = 0 .. depth-1 names W^(k), 0 next to the input",
    "gradient at the output": "the cost's (targets) or a random unit cotangent, the same for "
    "every network compared",
    "chi": "a factor of the squared norm per layer",
    "logarithms": "base 10; the column's name says so",
    "numbers outside the float range": "mantissa x 2^exponent; a true zero stays zero and is "
    "never confused with underflow",
}
"""Each convention of the study, stated once and stored with every table."""

OLD_TYPES = {"optional float64": "float64"}
"""Words for a type in tables of earlier versions."""


def described(meaning: str) -> tuple[str, str]:
    """Return the meaning and the unit of a column, which stands last in square brackets.

    Examples
    --------
    >>> described("growth [log10 a layer]")
    ('growth', 'log10 a layer')
    """
    words, unit = re.fullmatch(r"(?s)(.*?)(?:\s*\[([^\[\]]*)\])?", meaning).groups()
    return words, unit or ""


def tolerance(name: str, own: Mapping[str, str | Column]) -> float:
    """Return how far a number in the column `name` may be from that of another machine."""
    column = own.get(name) or PROFILE_COLUMNS.get(name)
    return column.tolerance if isinstance(column, Column) else TOLERANCE


def data_dictionary(
    tables: Mapping[str, Mapping[str, str]], own: Mapping[str, str | Column]
) -> pd.DataFrame:
    """Say what every column of every table means.

    Parameters
    ----------
    tables : table name -> its schema
    own : meaning of the columns that are the experiment's own, its unit last in square brackets;
        or a `Column`, which may have a tolerance

    Returns
    -------
    DataFrame with columns table, column, type, unit, meaning

    Raises
    ------
    ValueError
        Naming the first column that nobody explained, or that bears a common name but another type.

    Examples
    --------
    >>> data_dictionary({"t": {"rate": "float64"}}, {"rate": "growth [log10 a layer]"})
      table column     type           unit meaning
    0     t   rate  float64  log10 a layer  growth
    """
    import pandas as pd  # what only lists the experiments does without

    rows = []
    for table, types in tables.items():
        for name, kind in types.items():
            column = own.get(name) or PROFILE_COLUMNS.get(name)
            if isinstance(column, str):
                meaning, unit = described(column)
            elif column and column.type == OLD_TYPES.get(kind, kind):
                meaning = column.meaning
                unit = column.unit
            else:
                raise ValueError(
                    f"column {name!r} ({kind}) of table {table!r} has no meaning; allowed: "
                    "the common columns with their type, and those in the experiment's columns"
                )
            rows.append((table, name, kind, unit, meaning))
    return pd.DataFrame(rows, columns=["table", "column", "type", "unit", "meaning"])
