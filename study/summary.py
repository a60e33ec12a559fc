"""What a profile says, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd


def in_words(frame: pd.DataFrame) -> str:
    """Say in words and a dozen rows what the gradients of one network, `study.profile`d, do."""
    depth, seeds = int(frame["layer"].max()) + 1, frame["seed"].nunique()
    norms = frame.groupby("layer")["log10_grad_norm"].agg(["median", "min", "max"])
    first, last = norms["median"].iloc[0], norms["median"].iloc[-1]
    change = first - last if np.isfinite(first) else first
    if abs(change) <= 1:
        words = "The gradient stays: its norm changes at most tenfold"
    else:
        words = f"The gradient {'vanishes' if change < 0 else 'explodes'}: its norm changes"
    lines = [
        f"{words} from the last layer to the first,",
        f"by a factor of 10^{change:.4g} (median of {seeds} seeds), {depth} layers.",
        "",
        "   layer   log10 of the gradient's norm",
        "             median      lowest     highest",
    ]
    for layer in np.unique(np.linspace(0, depth - 1, 12).round().astype(int)):
        row = norms.loc[layer]
        lines.append(f"{layer:8d} {row['median']:11.4g} {row['min']:11.4g} {row['max']:11.4g}")
    lines.append("")
    # What leaves the range of float64 leaves that of float32 as well.
    for name, seen_in in (("float32", ("float32", "float64")), ("float64", ("float64",))):
        shares = []
        for what, text in (("_underflow", "zero or subnormal"), ("_overflow", "infinite")):
            share = frame["status"].isin([f"{wide}{what}" for wide in seen_in]).mean()
            if share:
                shares.append(f"{text} in {share:.1%} of the layers")
        lines.append(
            f"in plain {name} it would be {' and '.join(shares) or 'in range in every layer'}"
        )
    dead = (frame["status"] == "dead").mean()
    if dead:
        lines.append(f"truly zero (dead) in {dead:.1%} of the layers")
    return "\n".join(lines)
