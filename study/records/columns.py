"""What the columns of a table mean, and the conventions that their numbers follow."""

import re
from collections.abc import Mapping

import pandas as pd

from study.core.columns import PROFILE_COLUMNS, TOLERANCE, Column
from study.records.norms import COLUMNS as ROUNDED

# Each convention of the study, stated once and stored with every table.
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


def _explained(table: str, name: str, meanings: Mapping[str, str | Column]) -> Column | None:
    """What a column holds: as an experiment says, of any type, or as all frames have it."""
    common = PROFILE_COLUMNS | (ROUNDED if table == "gradient_norms" else {})
    column = meanings.get(name) or common.get(name)
    if isinstance(column, str):
        found = re.fullmatch(r"(?s)(.*?)(?:\s*\[([^\[\]]*)\])?", column)
        words, unit = found.groups() if found else (column, "")  # "what it is [unit]"
        return Column("", unit or "", words)
    return column


def tolerance(table: str, name: str, meanings: Mapping[str, str | Column]) -> float:
    """Return how far a number in the column `name` may be from that of another machine."""
    column = _explained(table, name, meanings)
    return column.tolerance if column else TOLERANCE


def data_dictionary(
    tables: Mapping[str, Mapping[str, str]], meanings: Mapping[str, str | Column]
) -> pd.DataFrame:
    """Say what every column of every table, given by its schema, means.

    ValueError names the first column that nobody explained, in `meanings` or for all tables, or
    that bears a common name but another type.

    >>> data_dictionary({"t": {"rate": "float64"}}, {"rate": "growth [log10 a layer]"})
      table column     type           unit meaning
    0     t   rate  float64  log10 a layer  growth
    """
    rows = []
    for table, types in tables.items():
        for name, kind in types.items():
            column = _explained(table, name, meanings)
            if not column or column.type not in ("", kind):
                raise ValueError(
                    f"column {name!r} ({kind}) of table {table!r} has no meaning; allowed: "
                    "the common columns with their type, and those in the experiment's columns"
                )
            rows.append((table, name, kind, column.unit, column.meaning))
    return pd.DataFrame(rows, columns=["table", "column", "type", "unit", "meaning"])
