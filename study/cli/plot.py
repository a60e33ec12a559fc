"""``plot``: a picture of any table of gradient norms."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Draw a table of gradient norms: a CSV of the study, or of your own."
KINDS = ("profile", "depth", "phase", "factors")
MOST_PANELS = 4
ENDINGS = (".png", ".svg", ".pdf")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the table, the kind of picture, and what its columns are mapped to."""
    parser.add_argument(
        "table", type=Path, metavar="FILE", help="a CSV or Parquet, a row a layer or network"
    )
    parser.add_argument(
        "--kind", choices=KINDS, default="profile", help="of the picture; default: %(default)s"
    )
    parser.add_argument("--y", metavar="COLUMN", help="what is drawn; default: that of the kind")
    for role in ("hue", "style", "col", "row"):
        parser.add_argument(f"--{role}", metavar="COLUMN", help="tells networks apart")
    parser.add_argument(
        "--where", metavar="CONDITION", help="the rows drawn, for example 'depth == 100'"
    )
    parser.add_argument("--theory", action="store_true", help="draw what theory expects")
    parser.add_argument(
        "--save", type=Path, required=True, metavar="FILE", help=f"ends in {', '.join(ENDINGS)}"
    )


def run(args: argparse.Namespace) -> int:
    """Draw and save."""
    if args.save.suffix not in ENDINGS:
        raise ValueError(f"--save '{args.save}' is not allowed; allowed: {', '.join(ENDINGS)}")
    if not args.table.is_file():
        raise ValueError(f"FILE '{args.table}' is missing; allowed: a CSV")

    import matplotlib
    import pandas as pd

    from study.records.tables import check_format

    matplotlib.use("agg")
    import study.plot

    check_format(args.table.suffix.lstrip("."), f"FILE '{args.table}'")
    read = pd.read_parquet if args.table.suffix == ".parquet" else pd.read_csv
    df = read(args.table)
    if args.where is not None:
        df = _rows(df, args.where)
    roles = ("hue", "style") if args.kind in ("profile", "depth") else ("hue",)
    roles = (*roles, "col", "row") if args.kind != "phase" else ("col", "row")
    look = {role: getattr(args, role) for role in ("hue", "style", "col", "row")}
    for role, column in look.items():
        if column is not None and role not in roles:
            raise ValueError(
                f"--{role} is not allowed with --kind {args.kind}; allowed: {', '.join(roles)}"
            )
    look = {role: column for role, column in look.items() if column is not None}
    df = _unmixed(df, args.kind, look)
    if args.y is not None:
        look["value" if args.kind == "phase" else "y"] = args.y
    drawn = getattr(study.plot, args.kind)(df, theory=args.theory or None, **look)
    drawn.figure.savefig(args.save, dpi=200)
    print(f"figure    {args.save}")
    return 0


def _unmixed(df, kind: str, look: dict[str, str]):
    """Of what no curve may mix, panels if they are few; else the commonest value, and say so."""
    from study.plot.frames import mixed

    axes = {"profile": ["layer"], "factors": ["layer"], "depth": ["depth", "layer"]}
    axes = axes.get(kind, ["sigma_w", "depth", "layer"])
    while names := mixed(df, list(look.values()), axes):
        name = names[0]
        if "col" not in look and df[name].nunique() <= MOST_PANELS:
            look["col"] = name
            continue
        commonest = df[name].value_counts().idxmax()
        print(f"drawn     {name} = {commonest} alone; other values by --where or --row {name}")
        df = df[df[name] == commonest]
    return df


def _rows(df, condition: str):
    """The rows for which a condition holds."""
    try:
        return df.query(condition)
    except Exception as error:  # whatever pandas makes of what was typed
        raise ValueError(f"--where {condition!r} is no condition on the columns: {error}") from None
