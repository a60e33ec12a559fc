"""A tuned rate is the best of its neighbours, wherever the optimum lies."""

import numpy as np
import pytest

from study.engines.tuning import FINALISTS, HALF_DECADES, LIMITS, rate_of, tuned_rate


def valley(best):
    """A loss with its minimum at a rate, infinite from a hundred times that on."""

    def losses(rates, steps):
        away = np.log10(rates / best)
        return np.where(away > 2, np.inf, away**2 + 1 / steps)

    return losses


@pytest.mark.parametrize("half_decade", [-12, -9, -8, -3, 0, 1, 8])
def test_the_optimum_is_found_and_enclosed_within_and_beyond_the_first_rates(half_decade):
    tuned = tuned_rate(valley(rate_of(half_decade)), few=1, many=5)
    assert tuned.rate == rate_of(half_decade)
    assert tuned.enclosed
    assert {rate_of(half_decade - 1), rate_of(half_decade + 1)} <= set(tuned.tried)


def test_beyond_the_limits_the_optimum_is_not_said_to_be_enclosed():
    tuned = tuned_rate(lambda rates, steps: -np.log10(rates), few=1, many=5)
    assert tuned.rate == rate_of(LIMITS[1])
    assert not tuned.enclosed


def test_where_all_runs_diverge_ever_smaller_rates_are_tried_and_none_is_enclosed():
    tuned = tuned_rate(lambda rates, steps: np.full(len(rates), np.inf), few=1, many=5)
    assert tuned.rate == rate_of(LIMITS[0])
    assert not tuned.enclosed


def test_where_rates_change_nothing_larger_ones_are_tried():
    tuned = tuned_rate(lambda rates, steps: np.where(rates < 1e9, 1.0, rates), few=1, many=5)
    assert 10**8 < tuned.rate < 10**9
    assert tuned.loss == 1.0


def test_most_rates_are_tried_with_few_steps_alone():
    asked = []

    def losses(rates, steps):
        asked.append((steps, len(rates)))
        return valley(1e-2)(rates, steps)

    tuned_rate(losses, few=10, many=40)
    assert asked[0] == (10, len(HALF_DECADES))
    assert sum(count for steps, count in asked if steps == 40) <= FINALISTS + 1
