"""Whether numbers that were computed again agree with those kept, here or from another machine.

Another machine sums in another order, so its numbers differ in their last bits. Most stay within
the tolerance of their column. A chaotic network doubles the difference layer by layer until nothing
but its distribution is left. Which networks those are is found by computing once more in a process
whose libraries use other instructions.
"""

import itertools
import multiprocessing
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

from study.records.columns import tolerance
from study.records.tables import Tables
from study.runs.parts import Part, compute, decode_part
from study.runs.workers import environment

# What makes a process round as an older processor would: its sums, its exp and tanh.
OTHER_KERNELS = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2",
}
RARE = 1e-6  # samples of one distribution differ as much by chance so rarely
# A network is chaotic if other instructions move a number of it by this share of its tolerance.
CHAOS = 0.01
# Where a smaller share of a cell's numbers differs at all, no other machine computed it.
ALTERED = 0.01


def tables_of(part: Part, elsewhere: bool = False) -> Tables:
    """Compute a cell, here or in a process that rounds as another machine would.

    ValueError or MemoryError where the cell fails; tables without rows are left out.
    """
    if elsewhere:
        # A library chooses its instructions when it is loaded, so it takes a new process.
        spawn = multiprocessing.get_context("spawn")
        with environment(**OTHER_KERNELS), ProcessPoolExecutor(1, spawn) as pool:
            data, wrong = pool.submit(compute, *part).result()
    else:
        data, wrong = compute(*part)
    if wrong:
        raise ValueError(wrong)
    tables = decode_part(data, part.configuration).tables
    return {name: table.frame() for name, table in tables.items() if table.rows}


def agree(part: Part, kept: Tables, meanings: Mapping) -> tuple[str, str]:
    """Compute a cell again: how its rows agree with those kept, and what is wrong with them.

    ValueError or MemoryError where the cell fails.
    """
    again = tables_of(part)
    if kept.keys() != again.keys():
        return "differs", f"it makes the tables {', '.join(again)}, not {', '.join(kept)}"
    if all(kept[name].equals(again[name]) for name in kept):
        return "equal", ""
    wrong = _first(compare(name, kept[name], again[name], meanings) for name in kept)
    # Where nothing else differs, chaos explains nothing: this machine computed the rest.
    if not wrong or altered(kept, again):
        return "within the tolerance", wrong
    other = tables_of(part, elsewhere=True)
    wrong = _first(
        compare_chaotic(name, kept[name], again[name], other[name], meanings) for name in kept
    )
    return "within the tolerance, chaotic networks in distribution", wrong


def _first(wrong: Iterable[str]) -> str:
    return next(filter(None, wrong), "")


def compare(name: str, kept: pd.DataFrame, again: pd.DataFrame, meanings: Mapping) -> str:
    """Say where rows differ by more than the tolerance of their columns: empty if nowhere."""
    if [*kept] != [*again] or len(kept) != len(again):
        return f"{name}: {kept.shape} rows and columns, computed again {again.shape}"
    for column in kept:
        apart = _apart(kept[column], again[column], tolerance(name, column, meanings))
        if apart.any():
            row = int(np.flatnonzero(apart)[0])
            values = f"the first {kept[column][row]!r}, computed again {again[column][row]!r}"
            return f"{name}.{column}: {apart.sum()} of {len(kept)} differ, {values}"
    return ""


def _apart(left: pd.Series, right: pd.Series, tolerance: float) -> np.ndarray:
    if left.dtype == np.float64 == right.dtype:
        return ~np.isclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    return (left != right).to_numpy()


def altered(kept: Tables, again: Tables) -> bool:
    """Whether so few numbers differ that this machine computed them, and somebody changed some."""
    count = differing = 0
    for name, frame in kept.items():
        if frame.shape != again[name].shape:
            return False
        left, right = (table.select_dtypes(np.float64) for table in (frame, again[name]))
        differs = left.ne(right) & ~(left.isna() & right.isna())
        count += differs.size
        differing += int(differs.to_numpy().sum())
    return differing <= ALTERED * count


def compare_chaotic(
    name: str, kept: pd.DataFrame, again: pd.DataFrame, other: pd.DataFrame, meanings: Mapping
) -> str:
    """The same, but chaotic networks, which `other` tells, are held to their distribution."""
    if [*kept] != [*again] or len(again) == len(other) != len(kept):
        return compare(name, kept, again, meanings)
    if len(again) != len(other):  # rounding may decide how many rows a cell has
        names = kept.columns.difference(kept.select_dtypes(np.float64).columns).to_list()
        rows = kept[names].merge(again[names]).merge(other[names])
        kept, again, other = (rows.merge(frame) for frame in (kept, again, other))
    settings = [c for c in kept if kept[c].equals(again[c]) and kept[c].equals(other[c])]
    outcomes = kept.columns.difference(settings)
    moved = pd.Series(False, kept.index)  # by other instructions, on this machine
    for column in outcomes:
        moved |= _apart(again[column], other[column], CHAOS * tolerance(name, column, meanings))
    # Chaos is a property of a network: where it shows in one layer, it may show in any.
    network = [kept[column] for column in settings if _names_network(kept[column])]
    chaotic = moved.groupby(network).transform("any") if network else moved  # all its rows
    # Held number by number.
    tame = [frame[~chaotic].reset_index(drop=True) for frame in (kept, again)]
    from scipy.stats import ks_2samp  # a second to import, and no other command asks for it

    wrong = compare(name, *tame, meanings)
    if wrong:
        return wrong
    # Networks that differ in seed alone are draws of one distribution. A column whose values
    # occur once, such as a norm that came out the same, would tell each draw from the others.
    alike = [c for c in settings if c != "seed" and kept[c].duplicated(keep=False).all()]
    groups = kept[chaotic].groupby(alike or chaotic[chaotic]).groups.values()
    # What follows from numbers, such as a status, is not held.
    numbers = [column for column in outcomes if kept[column].dtype.kind in "fi"]
    for column, group in itertools.product(numbers, groups):
        samples = [frame[column][group].dropna() for frame in (kept, again)]
        with np.errstate(all="ignore"):
            if min(map(len, samples)) and ks_2samp(*samples, method="asymp").pvalue < RARE:
                return f"{name}.{column}: another distribution over {len(group)} chaotic networks"
    return ""


def _names_network(values: pd.Series) -> bool:
    # Other numbers may be of a layer or a step.
    scales = ("seed", "sigma_w", "sigma_b", "rate")
    return values.name in scales or values.dtype not in (np.int64, np.float64)
