"""How far rounding moves a number: a cell measured again with the last bits of all draws flipped.

Another machine sums in another order, so that its numbers differ in their last bits; a chaotic
network doubles that difference layer by layer until nothing is left of it, and a cell that measures
rounding itself is all difference. Nudges show which numbers those are, and by how much. They
miss what is rounded to a narrower format before it is used, and a choice that hangs on a chaotic
number, as of the best learning rate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from study import gaussian, records
from study.parts import Part, Table, compute, decode_part

NUDGES = (1, 2, 3, 5)
"""Which bits are flipped, each time anew: by at most 5 units in the last place."""
REACH = 100
"""Another machine's number may differ by this many times what the nudges do. Where rounding is
amplified, one in a million lies beyond: all four nudges would have to miss it by that factor."""

STILL = 0.25
"""Where more than this share of a column never moves, it counts something, and moves by leaps: what
moved one of its numbers in a cell may move any."""


@contextlib.contextmanager
def nudged(bits: int) -> Iterator[None]:
    """Flip these last bits of every normal and uniform draw: as often up as down.

    Examples
    --------
    >>> key = gaussian.key(0)
    >>> plain = gaussian.normal(key, 0, 1000)
    >>> with nudged(1):
    ...     other = gaussian.normal(key, 0, 1000)
    >>> off = (other - plain) / np.spacing(np.abs(plain))
    >>> set(np.abs(off)), bool(abs(off.mean()) < 0.1)
    ({np.float64(1.0)}, True)
    """
    fill, fills = gaussian._fill, gaussian.fill_normals

    def flipped(out: np.ndarray) -> np.ndarray:
        out.view(f"u{out.itemsize}")[...] ^= bits
        return out

    gaussian._fill = lambda *args: flipped(fill(*args))
    gaussian.fill_normals = lambda *args: flipped(fills(*args))
    try:
        yield
    finally:
        gaussian._fill, gaussian.fill_normals = fill, fills


def reach(part: Part, made: Mapping[str, Table]) -> dict[str, pd.DataFrame]:
    """Return how far each number of a cell may differ on another machine, table by table.

    Parameters
    ----------
    part : the cell
    made : the tables that it gives

    Returns
    -------
    For every table a frame like it; what is no number has infinity where a nudge changed it.
    """
    plain = {name: records.decode(table.csv, table.types) for name, table in made.items()}
    found = {name: frame.notna() * 0.0 for name, frame in plain.items()}
    for bits in NUDGES:
        with nudged(bits):
            data, _, _ = compute(*part)
        tables = decode_part(data, part.configuration)[0] if data else {}
        for name, frame in plain.items():
            if name not in tables or tables[name].rows != len(frame):
                found[name][:] = np.inf
                continue
            other = records.decode(tables[name].csv, tables[name].types)
            for column in frame:
                off = moved(frame[column], other[column])
                found[name][column] = np.maximum(found[name][column], REACH * off)
    for frame in found.values():
        for column in frame:
            if frame[column].eq(0).mean() > STILL:
                frame[column] = frame[column].max()
    return found


def moved(one: pd.Series, other: pd.Series) -> np.ndarray:
    """By how much two columns differ: infinitely, where that is no number."""
    same = (one.eq(other) | (one.isna() & other.isna())).to_numpy(bool)
    if one.dtype.kind not in "if":
        return np.where(same, 0.0, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one.to_numpy(float) - other.to_numpy(float))
    return np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf))
