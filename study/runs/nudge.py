"""How far rounding moves a number: a cell measured again, several times, with last bits flipped.

Another machine sums in another order, so that its numbers differ in their last bits; a chaotic
network doubles that difference layer by layer until nothing is left of it, and a cell that measures
rounding itself is all difference. Nudges show which numbers those are, and by how much: of all
draws; of what goes into a sum whose result is rounded to a narrower format, where the nudge of a
draw is lost; and of every choice, which falls to each of those that rounding may make the least.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from pandas.api.typing import SeriesGroupBy

from study.arithmetic.formats import Format, NarrowFormat
from study.arithmetic.scaled import Array
from study.records import tables as records
from study.runs.identities import TOLERANCE
from study.runs.parts import Part, Table, compute, decode_part
from study.sampling import gaussian

NUDGES = range(1, 9)
"""The cell is measured again under each of these."""
REACH = 34.0
"""Another machine's number may be this many standard deviations from that of this machine. By
Student's t of eight degrees of freedom, one in 10^8 lies beyond 23.9; times sqrt 2, as both
numbers vary."""

STILL = 0.25
"""Where more than this share of a column's finite numbers never move, it counts something and moves
by leaps: what moved one of its numbers in a cell may move others (see `Reach`)."""

Choose = Callable[[SeriesGroupBy], pd.Series]


@contextlib.contextmanager
def nudged(number: int, choose: Choose = SeriesGroupBy.idxmin) -> Iterator[None]:
    """Flip the last two bits of normal and uniform draws and of terms of sums, here and there.

    Parameters
    ----------
    number : names the nudge: which bits are flipped hangs on it, and on each number alone
    choose : in the place of ``groupby(...)[...].idxmin()``, by which experiments choose

    Examples
    --------
    >>> key = gaussian.key(0)
    >>> plain = gaussian.normal(key, 0, 1000)
    >>> with nudged(1):
    ...     other = gaussian.normal(key, 0, 1000)
    >>> off = (other - plain) / np.spacing(np.abs(plain))
    >>> float(np.abs(off).max()), bool(abs(off.mean()) < 0.2), bool(np.mean(off == 0) < 0.3)
    (3.0, True, True)
    """
    fill, fills, times, least = (
        gaussian._fill, gaussian.fill_normals, Format.matmul, SeriesGroupBy.idxmin
    )  # fmt: skip

    def flipped(out: Array) -> Array:
        # By a hash of the number itself: a draw that is drawn again is nudged as it was.
        bits, size = out.view(f"u{out.itemsize}"), 8 * out.itemsize
        factor = (0x9E3779B97F4A7C15 * (2 * number + 1) >> (64 - size)) | 1
        with np.errstate(over="ignore"):
            bits ^= bits * bits.dtype.type(factor % 2**size) >> bits.dtype.type(size - 2)
        return out

    def matmul(self: Format, a: Array, b: Array) -> Array:
        if not isinstance(self, NarrowFormat):  # else its order is prescribed
            a = np.where(np.isfinite(a), flipped(a.copy()), a)
        return times(self, a, b)

    gaussian._fill = lambda *args: flipped(fill(*args))
    gaussian.fill_normals = lambda *args: flipped(fills(*args))
    Format.matmul, SeriesGroupBy.idxmin = matmul, lambda groups: choose(groups)
    try:
        yield
    finally:
        gaussian._fill, gaussian.fill_normals = fill, fills
        Format.matmul, SeriesGroupBy.idxmin = times, least


class Choices:
    """Choices of a cell that is measured again and again: what is undecided goes round."""

    def __init__(self) -> None:
        self._runs: list[list[pd.Series]] = []  # in each, what was chosen from, in order
        self._idxmin = SeriesGroupBy.idxmin

    def begin(self) -> None:
        """The cell is measured once more."""
        self._runs.append([])

    def choose(self, groups: SeriesGroupBy) -> pd.Series:
        """Where each group is least: in turn, wherever rounding may make it so.

        >>> values = pd.Series([1.0, 2.0, 3.0])
        >>> choices, found = Choices(), []
        >>> for moved in ([0.1, 0.0, 0], [0.0, 0.1, 0], [0.0, 0.0, 0], [0.1, 0.1, 0]):
        ...     choices.begin()
        ...     found += [int(choices.choose((values + moved).groupby([0, 0, 0]))[0])]
        >>> found
        [0, 1, 0, 1]
        """
        turn, place, chosen = len(self._runs) - 1, len(self._runs[-1]), self._idxmin(groups)
        values = groups.obj
        self._runs[-1].append(values)
        seen = [run[place] for run in self._runs if place < len(run)]
        seen = [one for one in seen if one.index.equals(values.index)]
        reach = pd.Series(_reach([one.to_numpy(float) for one in seen]), values.index)
        for key, where in groups.groups.items():
            own, most = values[where], reach[where]
            open_ = ((own - most) <= (own + most).min()) & (most > 0) | (where == chosen[key])
            chosen[key] = where[open_.to_numpy()][turn % open_.sum()]
        return chosen


class Reach:
    """How far the numbers of one table may differ on another machine.

    A row is chaotic where nudges make another event of it, or may move one of its numbers x by
    1 + |x|, so that nothing of it is left. An event is what a row tells in words (`status`), and
    which of its numbers are infinite or missing: a network that diverges. Another machine's event
    is excused where both hold, and nowhere else: the row is chaotic, and some row of some run tells
    that event. Its numbers then may be any that the column spans, as far again if they are no
    whole numbers; but one that no nudge moves anywhere in its column is held.

    A number that moves by more than 10^-9 may differ at least as far as a nudge moved any of its
    column in a row that is chaotic or tame like its own: in float32 one unit that passes its kink
    now and then moves it more than nine runs show. What counts (see `STILL`) may differ at least
    as far as a nudge moved any number of its column.

    Limits: a chaotic network's accuracy, whose standard deviation is a few hundredths, may be
    nearly anything, and divergence claimed of one is believed. A network that diverges on another
    machine alone, in a cell without divergence, is flagged; so are tables of the chosen alone,
    where such an event changes what is chosen. Where nudges add or drop rows, none is compared.

    Parameters
    ----------
    frames : the table, measured again and again, itself first; None where it had other rows
    """

    def __init__(self, frames: list[pd.DataFrame | None]) -> None:
        self.open = any(frame is None for frame in frames)
        """Whether nudges change how many rows there are, so that nothing can be compared."""
        if self.open:
            return
        self._frames, first = frames, frames[0]
        self._events = [_events(frame) for frame in frames]
        turned = [self._events[0].ne(events) for events in self._events]
        self.chaotic = np.any(turned, axis=0)
        numbers = {name for name, kept in first.items() if kept.dtype.kind in "if"}
        self.far = first.notna() * 0.0
        """How far each may differ; what is no number has infinity where a nudge changed it."""
        for name, kept in first.items():
            if name in numbers:
                own = _reach([frame[name].to_numpy(float) for frame in frames])
                with np.errstate(invalid="ignore"):
                    self.chaotic |= own >= 1 + kept.abs().to_numpy(float)
                self.far[name] = own
            else:
                self.far[name] = np.max([moved(kept, frame[name]) for frame in frames], axis=0)
        for name in numbers:
            own = self.far[name].to_numpy()
            finite = np.isfinite(first[name].to_numpy(float))
            if own.any() and np.mean(own[finite] == 0) > STILL:
                self.far[name] = np.maximum(own, self._leap(name, np.full_like(finite, True)))
                continue
            moving = own > TOLERANCE * (1 + np.abs(first[name].to_numpy(float)))
            for alike in (self.chaotic, ~self.chaotic):
                floor = np.where(moving & alike, self._leap(name, alike), 0.0)
                self.far[name] = np.maximum(self.far[name], floor)

    def _column(self, name: str) -> Array:
        """The finite numbers of a column, of all runs."""
        every = np.concatenate([frame[name].to_numpy(float) for frame in self._frames])
        return every[np.isfinite(every)]

    def _leap(self, name: str, rows: Array) -> float:
        """How far a nudge moved a number of a column at most, in these rows."""
        leaps = [moved(self._frames[0][name], frame[name])[rows] for frame in self._frames]
        leaps = np.concatenate(leaps)
        return leaps.max(where=np.isfinite(leaps), initial=0.0)

    def allows(self, kept: pd.DataFrame) -> pd.DataFrame:
        """Which values of a table of as many rows may be another machine's."""
        events, allowed = _events(kept), kept.notna()
        turned = events.ne(self._events[0]).to_numpy()
        excused = turned & self.chaotic & events.isin(pd.concat(self._events)).to_numpy()
        for name, own in self._frames[0].items():
            far, kind = self.far[name].to_numpy(), own.dtype.kind
            if kind == "b":  # chosen: among others, where one of them diverges
                near = np.isinf(far) | (self.chaotic & excused.any())
            elif kind in "if":
                near, column = moved(own, kept[name]) <= far, self._column(name)
                low, high = column.min(initial=np.inf), column.max(initial=-np.inf)
                more = high - low if kind == "f" and column.size else 0.0
                value = kept[name].to_numpy(float)
                spanned = ~np.isfinite(value) | ((value >= low - more) & (value <= high + more))
                free = excused & (kind == "i" or far.any())
                near = np.where(np.isinf(far) | free, spanned, near)
            else:
                near = excused
            allowed[name] = near & (excused | ~turned)  # what is not excused excuses nothing
        return allowed


def _events(frame: pd.DataFrame) -> pd.Series:
    """What each row tells in words, and which of its numbers are infinite or missing: a hash."""
    told = [
        column.where(~np.isfinite(column), 0.0) if column.dtype.kind == "f" else column
        for _, column in frame.items()
        if column.dtype.kind not in "ib"
    ]
    told = pd.concat([pd.Series("", frame.index), *told], axis=1)
    return pd.util.hash_pandas_object(told, index=False)


def reach(part: Part, made: Mapping[str, Table]) -> dict[str, Reach]:
    """Return how far each number of a cell may differ on another machine, table by table.

    Parameters
    ----------
    part : the cell
    made : the tables that it gives

    Raises
    ------
    ValueError
        When a nudge makes the cell fail.
    """
    plain = {name: records.decode(table.csv, table.types) for name, table in made.items()}
    seen, choices = {name: [frame] for name, frame in plain.items()}, Choices()
    for number in NUDGES:
        choices.begin()
        with nudged(number, choices.choose):
            data, wrong = compute(*part)
        if wrong:
            raise ValueError(f"with its last bits flipped, the cell fails: {wrong}")
        tables, _ = decode_part(data, part.configuration)
        for name, frame in plain.items():
            same = name in tables and tables[name].rows == len(frame)
            other = records.decode(tables[name].csv, tables[name].types) if same else None
            seen[name].append(other)
    return {name: Reach(frames) for name, frames in seen.items()}


def _reach(numbers: list[Array]) -> Array:
    """`REACH` standard deviations; infinite where some are infinite or missing and others not."""
    stack = np.array(numbers)
    same = ((stack == stack[0]) | (np.isnan(stack) & np.isnan(stack[0]))).all(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        off = REACH * stack.std(axis=0, ddof=1 if len(stack) > 1 else 0)
    return np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf))


def moved(one: pd.Series, other: pd.Series) -> np.ndarray:
    """By how much two columns differ: infinitely, where that is no number."""
    same = (one.eq(other) | (one.isna() & other.isna())).to_numpy(bool)
    if one.dtype.kind not in "if":
        return np.where(same, 0.0, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one.to_numpy(float) - other.to_numpy(float))
    return np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf))
