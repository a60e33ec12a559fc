"""A law: what theory expects, how it is measured at several sizes, and what is said of it.

Some laws hold at every size: they are tested at each of three, by chi^2 together, and are "exact".
The others hold in a limit, of infinite width or depth: what is measured is extrapolated to it
(``study.statistics.extrapolation``). The limit is compared with theory; so is the coefficient c of
the offset c / n that networks of finite size have, where theory knows it. No tolerance anywhere.

Each has a negative control: the same measurement held against a number that is 5 % off, which it
must exclude. Networks are added until its score is `POWER`, if the law holds, which flags it with a
probability of 99.9 %, and until a c that theory knows is as far from 0; or until there are as many
as the preset allows. When they are enough depends on errors alone, not on what is measured. Some
laws say that networks differ from a number that theory gives for others: their control is 5 % of
the way towards what was measured, and what was measured must be beyond it.

All tests of all laws together raise a false alarm with probability `FALSE_ALARM` at most
(Bonferroni). Independent are networks alone, and those of different sizes share no draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from study.statistics.extrapolation import Mean, extrapolated, joint, mean_of

FALSE_ALARM = 1e-3  # probability that any law that holds is said to disagree

OFF = 0.05  # how far off the number of a control is, over the number

POWER = 8.0  # the score that a control is to have if the law holds

# The first seed of the table: rows were designed on seeds below, and are judged on fresh ones.
FIRST_SEED = 1_000_000

_SPAN = 10**7  # seeds of one size
_FEWEST = 4  # networks that have a spread, even if only a run in small is asked for

# Other sizes than the usual ones: where the law is exact or draws are dear, and where 1/n is steep.
NARROW = (32, 64, 128)
WIDE = (128, 256, 512)

# Of a size and seeds: one value a network, or independent ones; their mean is the statistic.
Measure = Callable[[int, range], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law of the limit, or, with ``exact``, of every size.

    Attributes
    ----------
    measure, sizes, networks : networks that are added at a time at each size
    limit, offset : what theory expects at infinite size, and of c, if it knows
    exact : what theory expects at each size instead
    powers : of 1 / size in the fit
    off : how far off the control's number is, if not 5 %; of numbers that are 0
    differs : whether the law says that the limit is another
    """

    measure: Measure
    sizes: Sequence[int] = (64, 128, 256)
    networks: int
    limit: float | None = None
    offset: float | None = None
    exact: Callable[[int], float] | None = None
    powers: Sequence[float] = (1,)
    off: float | None = None
    differs: bool = False

    @property
    def tests(self) -> int:
        """How many verdicts may be false alarms."""
        if self.exact:
            return 1
        return 1 + (self.offset is not None) + (len(self.sizes) > len(self.powers) + 1)

    def estimates(self, more: float) -> pd.DataFrame:
        """What networks of each size have, and what theory expects there, if it knows.

        ``more`` is how often networks are added at most, or of one time the share.
        """
        count = max(min(self.networks, _FEWEST), round(self.networks * min(more, 1)))
        values: list[list[np.ndarray]] = [[] for _ in self.sizes]
        expected = [float(self.exact(size)) if self.exact else np.nan for size in self.sizes]
        told = pd.DataFrame({"size": self.sizes, "expected": expected})
        for added in range(max(1, round(more))):
            for k, size in enumerate(self.sizes):
                first = FIRST_SEED + k * _SPAN + added * count
                values[k].append(self.measure(size, range(first, first + count)))
            means = pd.DataFrame([mean_of(np.concatenate(parts)) for parts in values])
            frame = pd.concat([told, means], axis=1)
            if self._power(frame) > POWER:
                break
        return frame

    def _power(self, estimates: pd.DataFrame) -> float:
        """The control's score, or that of c = 0, if the limit were measured with these errors."""
        if not self.differs:  # else as it is measured: it is to be beyond the control
            value = estimates["expected"] if self.exact else self.limit
            estimates = estimates.assign(value=value)
        row, _ = self._row(estimates, POWER)
        return min(abs(row[name]) for name in ("control_z", "offset_z") if name in row)

    def judged(self, estimates: pd.DataFrame, critical: float) -> dict[str, object]:
        """What the table says of the estimates; a score beyond ``critical`` is no chance."""
        row, mean = self._row(estimates, critical)
        low, high = mean.interval(critical)
        beyond = row.pop("control_z")
        flagged = abs(beyond) > critical
        names = {"z", "offset_z", "misfit"} & set(row)
        holds = True
        if self.differs:
            row["verdict"] = "differs"
            names.remove("z")
            holds = flagged and beyond * row["z"] > 0  # on the far side of the control
        if not holds or not all(abs(row[name]) <= critical for name in names):  # nor if NaN
            row["verdict"] = "disagrees"
        return row | {
            "measured": mean.value,
            "low": low,
            "high": high,
            "control": "flagged" if flagged else "missed",
        }

    def _row(self, estimates: pd.DataFrame, critical: float) -> tuple[dict[str, object], Mean]:
        means = [Mean(*row) for row in estimates[list(Mean._fields)].itertuples(index=False)]
        if self.exact:
            return self._exactly(means, estimates["expected"].to_numpy()), means[-1]
        limit = extrapolated(self.sizes, means, self.powers).limit
        return self._in_the_limit(means, critical), limit

    def _exactly(self, means: list[Mean], expected: np.ndarray) -> dict[str, object]:
        off = OFF * expected if self.off is None else np.full(len(expected), self.off)
        pairs = list(zip(means, expected, expected + off, strict=True))
        return {
            "expected": expected[-1],
            "z": joint([mean.score(right) for mean, right, _ in pairs]),
            "verdict": "exact",
            "wrong": pairs[-1][2],
            "control_z": joint([mean.score(wrong) for mean, _, wrong in pairs]),
        }

    def _in_the_limit(self, means: list[Mean], critical: float) -> dict[str, object]:
        fit = extrapolated(self.sizes, means, self.powers)
        wrong = self.limit + (OFF * self.limit if self.off is None else self.off)
        if self.differs:
            wrong = self.limit + math.copysign(OFF * self.limit, fit.limit.value - self.limit)
        low, high = fit.offset.interval(critical)
        resolved = not low <= 0 <= high
        row = {
            "expected": self.limit,
            "z": fit.limit.score(self.limit),
            "offset": fit.offset.value,
            "offset_low": low,
            "offset_high": high,
            "misfit": fit.misfit,
            "verdict": "offset resolved" if resolved else "agrees in the limit",
            "wrong": wrong,
            "control_z": fit.limit.score(wrong),
        }
        if self.offset is not None:
            row |= {"offset_expected": self.offset, "offset_z": fit.offset.score(self.offset)}
        return row


def critical_score(tests: int) -> float:
    """The score that one of so many tests passes by chance with probability `FALSE_ALARM`."""
    return float(-special.ndtri(FALSE_ALARM / tests / 2))


# The tables' columns and their meaning.
COLUMNS = {
    "law": "short name of the law [-]",
    "source": "the paper that it is from; study: this study's own [-]",
    "statement": "the law in a sentence [-]",
    "regime": "the networks it is measured on, and what is measured [-]",
    "popular_reading": "the reading that the law refutes, if there is one [-]",
    "sizes": "at which it is measured, and what they are of [-]",
    "networks": "independent networks at all sizes together [-]",
    "expected": "what study.theory computes, in the limit; of an exact law at the largest size "
    "[as the regime says]",
    "measured": "extrapolated to the limit; of an exact law at the largest size [that of expected]",
    "low": "lower end of its interval, at the family's level [that of expected]",
    "high": "upper end [that of expected]",
    "z": "measured less expected, as a normal score; of an exact law at all sizes together [-]",
    "offset_expected": "the coefficient c of the first power of 1 / size, if theory knows it "
    "[that of expected, times size]",
    "offset": "c, measured; empty: the law is exact [that of expected, times size]",
    "offset_low": "lower end of its interval [that of offset]",
    "offset_high": "upper end [that of offset]",
    "offset_z": "measured less expected, as a normal score [-]",
    "misfit": "what the extrapolation leaves of the estimates, as a normal score [-]",
    "verdict": "exact; agrees in the limit; offset resolved: it does and c is not 0; differs: from "
    "the number of other networks, as the law says, by more than the control; disagrees [-]",
    "wrong": "the number of the negative control, 5 % off or as the regime says [that of expected]",
    "control": "flagged, or missed: the measurement does or does not exclude it [-]",
    "size": "of the networks [-]",
    "value": "mean over networks of this size [that of expected]",
    "error": "its standard error [that of expected]",
    "freedom": "degrees of freedom of the error: networks less one [-]",
}

TABLE = list(COLUMNS)[: list(COLUMNS).index("control") + 1]
ESTIMATES = ["law", "size", "expected", *Mean._fields]
