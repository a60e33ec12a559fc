"""``plot``: a picture of any table of gradient norms."""

from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("agg")

import study.plot
from study.plot.frames import mixed
from study.records.tables import check_format

MOST_PANELS = 4
ENDINGS = (".png", ".svg", ".pdf")
# What a column may be mapped to, by the kind of picture.
ROLES = {
    "profile": ("hue", "style", "col", "row"),
    "depth": ("hue", "style", "col", "row"),
    "factors": ("hue", "col", "row"),
    "phase": ("col", "row"),
}
AXES = {
    "profile": ["layer"],
    "depth": ["depth", "layer"],
    "factors": ["layer"],
    "phase": ["sigma_w", "depth", "layer"],
}


def plot(
    table: Path, kind: str, y: str | None, where: str | None, theory: bool, save: Path, **roles: str
) -> None:
    """Draw and save."""
    if save.suffix not in ENDINGS:
        raise ValueError(f"--save '{save}' is not allowed; allowed: {', '.join(ENDINGS)}")
    if not table.is_file():
        raise ValueError(f"FILE '{table}' is missing; allowed: a CSV")
    check_format(table.suffix.lstrip("."), f"FILE '{table}'")
    df = pd.read_parquet(table) if table.suffix == ".parquet" else pd.read_csv(table)
    if where is not None:
        df = _rows(df, where)
    look = {role: column for role, column in roles.items() if column is not None}
    for role in look:
        if role not in ROLES[kind]:
            allowed = ", ".join(ROLES[kind])
            raise ValueError(f"--{role} is not allowed with --kind {kind}; allowed: {allowed}")
    df = _unmixed(df, kind, look)
    if y is not None:
        look["value" if kind == "phase" else "y"] = y
    getattr(study.plot, kind)(df, theory=theory or None, **look).figure.savefig(save, dpi=200)
    print(f"figure    {save}")


def _rows(df: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows for which a condition holds."""
    try:
        return df.query(condition)
    except Exception as error:  # whatever pandas makes of what was typed
        raise ValueError(f"--where {condition!r} is no condition on the columns: {error}") from None


def _unmixed(df: pd.DataFrame, kind: str, look: dict[str, str]) -> pd.DataFrame:
    """Of what no curve may mix, panels if they are few; else the commonest value, and say so."""
    while names := mixed(df, list(look.values()), AXES[kind]):
        name = names[0]
        if "col" not in look and df[name].nunique() <= MOST_PANELS:
            look["col"] = name
            continue
        commonest = df[name].value_counts().idxmax()
        print(f"drawn     {name} = {commonest} alone; other values by --where or --row {name}")
        df = df[df[name] == commonest]
    return df
