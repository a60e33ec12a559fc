"""Learning rates chosen by trial: successive halving, and neighbours until the best is enclosed.

Many rates are tried for few steps and the best of them for more (Jamieson & Talwalkar 2016). A best
rate at the end of what was tried may be anywhere beyond it, so its neighbours are tried as well.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from study.tools import Array

HALF_DECADES = range(-8, 1)  # of the rates that are tried first: nine, from 1e-4 to 1
LIMITS = (-40, 40)  # half decades beyond which no rate is tried, 1e-20 and 1e20
FINALISTS = 3
# Shares of a rate that was found before, which are tried once more.
NEAR = 10 ** np.array([-0.5, -0.25, 0.0, 0.25, 0.5])


class Tuned(NamedTuple):
    """The rate with the lowest loss."""

    rate: float
    loss: float
    enclosed: bool  # whether a smaller and a larger rate did worse, at the same number of steps
    tried: dict[float, float]  # loss of every rate that was tried with the larger number of steps


def rate_of(half_decade: int) -> float:
    """The learning rate 10^(half_decade / 2), to nine digits."""
    return float(f"{10 ** (half_decade / 2):.9g}")


def tuned_rate(losses: Callable[[Array, int], Sequence[float]], few: int, many: int) -> Tuned:
    """Find the learning rate, a multiple of half a decade, with the lowest loss.

    Parameters
    ----------
    losses : ``losses(rates, steps)`` gives the loss reached at each rate in so many steps; inf
        where a run diverged
    few, many : steps with which all rates are tried, and then the best three and their neighbours

    Examples
    --------
    The loss of one step down a parabola, (1 - rate)^2, if further steps change nothing:

    >>> tuned = tuned_rate(lambda rates, steps: (1 - rates) ** 2, few=1, many=2)
    >>> tuned.rate, tuned.enclosed, list(tuned.tried)
    (1.0, True, [1.0, 0.316227766, 0.1, 3.16227766])
    """

    def tried(places: Sequence[int], steps: int) -> dict[int, float]:
        rates = np.array([rate_of(place) for place in places])
        return dict(zip(places, map(float, losses(rates, steps)), strict=True))

    first = tried(HALF_DECADES, few)
    enclosed(first, lambda place: tried([place], few)[place])
    finalists = sorted(first, key=partial(_rank, first))[:FINALISTS]
    last = tried(finalists, many)
    best = enclosed(last, lambda place: tried([place], many)[place])
    is_between = {best - 1, best + 1} <= set(last) and math.isfinite(last[best])
    rates = {rate_of(place): loss for place, loss in last.items()}
    return Tuned(rate_of(best), last[best], is_between, rates)


def enclosed(tried: dict[int, float], loss: Callable[[int], float]) -> int:
    """The half decade with the lowest loss once its neighbours have joined those ``tried``."""
    while (place := _beyond(tried)) is not None:
        tried[place] = loss(place)
    return min(tried, key=partial(_rank, tried))


def tuned_over_seeds(
    losses: Callable[[Sequence[int], Array, int], Array],
    seeds: Sequence[int],
    few: int,
    many: int,
    near: float | None = None,
) -> Tuned:
    """The rate at which the median seed's loss is lowest; see `tuned_rate`.

    ``losses(seeds, rates, steps)`` trains a network for each seed and rate, side by side, and gives
    the loss of each; nan or inf where it diverged. ``near`` is a rate that was found before: only
    it and others about it are tried, a quarter decade apart.

    >>> error = lambda seeds, rates, steps: np.subtract(seeds, rates) ** 2
    >>> tuned_over_seeds(error, [1, 1], few=1, many=2).rate
    1.0
    >>> round(tuned_over_seeds(error, [1, 1], few=1, many=2, near=0.5).rate, 3)
    0.889
    """

    def medians(rates: Array, steps: int) -> Array:
        of_runs = losses([*seeds] * len(rates), np.repeat(rates, len(seeds)), steps)
        of_runs = np.nan_to_num(of_runs, nan=np.inf, posinf=np.inf)
        return np.median(of_runs.reshape(len(rates), len(seeds)), axis=1)

    if near is None:
        return tuned_rate(medians, few, many)
    rates = near * NEAR
    last = dict(zip(rates.tolist(), medians(rates, many).tolist(), strict=True))
    best = min(last, key=last.__getitem__)
    is_between = rates[0] < best < rates[-1] and math.isfinite(last[best])
    return Tuned(best, last[best], is_between, last)


def _beyond(tried: dict[int, float]) -> int | None:
    """A neighbour of the best that has not been tried, if there is one within the limits."""
    best = min(tried, key=partial(_rank, tried))
    for place in (best - 1, best + 1):
        if place not in tried and LIMITS[0] <= place <= LIMITS[1]:
            return place
    return None


def _rank(tried: dict[int, float], place: int) -> tuple[float, int]:
    """By loss; where no rate changes it the largest comes first, where all diverge the least."""
    loss = tried[place]
    return loss, -place if math.isfinite(loss) else place
