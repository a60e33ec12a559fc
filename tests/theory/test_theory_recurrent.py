"""Recurrent cells at infinite width, against populations of units that are followed one by one."""

import math

import numpy as np
import pytest

from study import theory
from study.theory.recurrent import gru_factor, lstm_factor, minimal_factor

UNITS = 60_000


def s(z):
    return 1 / (1 + np.exp(-z))


def slope(z):
    return s(z) * (1 - s(z))


def drawn(sigma_w, hidden, gates, rng):
    """Pre-activations of so many gates, given E h^2; inputs of variance 1."""
    std = math.sqrt(sigma_w**2 * np.mean(hidden**2) + 1)
    return std * rng.normal(size=(gates, UNITS))


def minimal(sigma_w, rng):
    h = np.zeros(UNITS)
    for _ in range(25):
        (z,) = drawn(sigma_w, h, 1, rng)
        x = rng.normal(size=len(h))
        before, h = h, s(z) * h + (1 - s(z)) * x
    return np.mean(s(z) ** 2) + sigma_w**2 * np.mean((slope(z) * (before - x)) ** 2)


def gru(sigma_w, rng):
    h = np.zeros(UNITS)
    for _ in range(25):
        u, r = drawn(sigma_w, h, 2, rng)
        y = sigma_w * math.sqrt(np.mean(h**2)) * rng.normal(size=len(h))
        n = np.tanh(rng.normal(size=len(h)) + s(r) * y)
        before, h = h, s(u) * h + (1 - s(u)) * n
    ways = (
        slope(u) * (before - n),
        (1 - s(u)) * (1 - n**2) * s(r),
        (1 - s(u)) * (1 - n**2) * slope(r) * y,
    )
    return np.mean(s(u) ** 2) + sigma_w**2 * sum(np.mean(way**2) for way in ways)


def lstm(sigma_w, rng):
    """The growth of the square, back through a path that each unit has walked."""
    h = c = np.zeros(UNITS)
    path = []
    for _ in range(30):
        z = drawn(sigma_w, h, 4, rng)
        i, f, o = s(z[:3])
        before, c = c, f * c + i * np.tanh(z[3])
        h = o * np.tanh(c)
        path.append((z, before, c))
    dc2 = np.ones(len(h))  # dC/dc squared, of each unit; dC/dh squared, their mean
    dh2 = 1.0
    totals = []
    for z, before, c in path[::-1][:16]:
        i, f, o = s(z[:3])
        g = np.tanh(z[3])
        d2 = dc2 + (o * (1 - np.tanh(c) ** 2)) ** 2 * dh2
        by_gates = (slope(z[0]) * g) ** 2 + (slope(z[1]) * before) ** 2 + (i * (1 - g**2)) ** 2
        by_output = (slope(z[2]) * np.tanh(c)) ** 2 * dh2
        dh2 = sigma_w**2 * np.mean(by_gates * d2 + by_output)
        dc2 = f**2 * d2
        totals.append(dh2 + np.mean(dc2))
    return (totals[-1] / totals[5]) ** (1 / 10)


CELLS = [(minimal_factor, minimal), (gru_factor, gru), (lstm_factor, lstm)]


@pytest.mark.parametrize(("factor", "population"), CELLS)
@pytest.mark.parametrize("sigma_w", [1.0, 2.5])
def test_factors_are_those_of_populations(factor, population, sigma_w):
    measured = population(sigma_w, np.random.default_rng(1))
    assert measured == pytest.approx(factor(sigma_w), rel=0.02)
    assert abs(measured / factor(1.25 * sigma_w) - 1) > 0.03  # the control


@pytest.mark.parametrize("factor", [minimal_factor, gru_factor, lstm_factor])
def test_without_weights_only_the_gate_is_left(factor):
    assert factor(0.0, 0.7) == pytest.approx(theory.variance_map("sigmoid", 0.49, 1.0), rel=1e-9)


@pytest.mark.parametrize("factor", [minimal_factor, gru_factor, lstm_factor])
def test_bad_scales_are_named(factor):
    with pytest.raises(ValueError, match=r"sigma_v = 0\.0; allowed: "):
        factor(1.0, 0.0)
    with pytest.raises(ValueError, match=r"sigma_w = -1\.0; allowed: "):
        factor(-1.0)
