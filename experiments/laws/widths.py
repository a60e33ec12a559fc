"""Laws of unequal widths: Hanin's sum of reciprocal widths, Glorot's compromise between the fans.

Weight matrices drawn one by one, as they are rectangular. The theory is exact: no tolerance.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from experiments.laws.chains import SQUARE
from experiments.laws.law import Finding, law, mean_of, seeds, variance_of
from study import theory
from study.engines.explicit import backpropagate
from study.sampling import gaussian

_HE = math.sqrt(2)
BOTTLENECKS = (100,) + ((100,) * 9 + (10,)) * 5
ALTERNATING = (25,) + (100, 25) * 25
TAPERING = (512, 256, 128, 64, 32, 16)


@lru_cache(maxsize=2)
def _log_growth(
    widths: tuple[int, ...], activation: str, sigma_w: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """ln of the growth of the squared gradient down, and of the squared signal up."""
    found = np.empty((2, count))
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "unequal widths")
        weights = [
            gaussian.normal(key, k, (n_in, n_out)) * (sigma_w / math.sqrt(n_in))
            for k, (n_in, n_out) in enumerate(itertools.pairwise(widths))
        ]
        inputs = gaussian.normal(key, len(widths), (1, widths[0]))
        cotangent = gaussian.normal(key, len(widths) + 1, (1, widths[-1]))
        cotangent /= np.linalg.norm(cotangent)
        df = backpropagate(weights, inputs, activation=activation, cotangent=cotangent)
        # Below a dead layer factors are 0/0: NumPy's sum keeps that in mind, as pandas' does not.
        step = (df["log10_derivative_factor"] + df["log10_weight_factor"]).to_numpy()
        length = SQUARE * df["log10_signal_norm"].iloc[-1] - math.log(np.vdot(inputs, inputs))
        found[:, i] = SQUARE * step.sum(), length
    return found[0], found[1]


def _beta(more: int, widths: tuple[int, ...]) -> np.ndarray:
    """ln G of the networks that are not born dead, of which the theory speaks."""
    found = _log_growth(widths, "relu", _HE, 400 * more)[0]
    return found[np.isfinite(found)]


def _same(widths: tuple[int, ...]) -> list[int]:
    """As many layers, all of the arithmetic mean width."""
    return [widths[0]] + [round(np.mean(widths[1:]))] * (len(widths) - 1)


@law(
    "Hanin 2018",
    "The sum of the reciprocal widths alone decides: the mean of ln G is that of the narrow layers",
    "ReLU, sigma_w^2 = 2, depth 50: nine layers of width 100, then one of 10",
    "50 layers of the mean width, 91",
)
def sum_of_reciprocal_widths(more: int) -> Finding:
    expected, wrong = (
        theory.finite_width.backward_law(widths).mean
        for widths in (BOTTLENECKS, _same(BOTTLENECKS))
    )
    return mean_of(_beta(more, BOTTLENECKS), expected, wrong)


@law(
    "Hanin 2018",
    "The variance of ln G is 5 sum 1/n to leading order: the narrow layers decide",
    "ReLU, sigma_w^2 = 2, depth 50: nine layers of width 100, then one of 10; variance of ln G",
    "50 layers of the mean width, 91",
    "wide layers make up for a narrow one",
)
def bottlenecks_spread(more: int) -> Finding:
    expected, wrong = (
        theory.finite_width.backward_law(widths).variance
        for widths in (BOTTLENECKS, _same(BOTTLENECKS))
    )
    return variance_of(_beta(more, BOTTLENECKS), expected, wrong)


@law(
    "Hanin 2018",
    "Equal sums of reciprocal widths, equal drift: widths of 25 and 100 in turn are as good as 40",
    "ReLU, sigma_w^2 = 2, depth 50, widths 100 and 25 in turn; mean of ln G",
    "50 layers of the mean width, 62",
)
def equal_beta_drift(more: int) -> Finding:
    expected, wrong = (
        theory.finite_width.backward_law(widths).mean
        for widths in (ALTERNATING, _same(ALTERNATING))
    )
    return mean_of(_beta(more, ALTERNATING), expected, wrong)


@law(
    "Hanin 2018",
    "Equal sums of reciprocal widths, equal spread of ln G",
    "ReLU, sigma_w^2 = 2, depth 50, widths 100 and 25 in turn; variance of ln G",
    "50 layers of the mean width, 62",
)
def equal_beta_spread(more: int) -> Finding:
    expected, wrong = (
        theory.finite_width.backward_law(widths).variance
        for widths in (ALTERNATING, _same(ALTERNATING))
    )
    return variance_of(_beta(more, ALTERNATING), expected, wrong)


# Var W = 2 / (n_in + n_out) is sigma_w^2 / n_in with this, as each layer halves the width.
_GLOROT = math.sqrt(2 * TAPERING[0] / (TAPERING[0] + TAPERING[1]))


@law(
    "Glorot & Bengio 2010",
    "Var W = 2/(n_in + n_out) is a compromise: signals change by 2 n_in/(n_in + n_out) per layer",
    "linear, widths 512, 256, ..., 16; mean of ln of the mean square of r, output over input",
    "0: signals keep their size",
    "Xavier initialisation keeps signals and gradients",
)
def compromise_forward(more: int) -> Finding:
    _, length = _log_growth(TAPERING, "linear", _GLOROT, 200 * more)
    per_unit = math.log(TAPERING[0] / TAPERING[-1])
    exact = theory.finite_width.forward_law(TAPERING, "linear", sigma_w=_GLOROT)
    wrong = exact.mean - exact.log_expectation
    return mean_of(length + per_unit, exact.mean + per_unit, wrong)


@law(
    "Glorot & Bengio 2010",
    "Xavier changes gradients by 2 n_out/(n_in + n_out) per layer: 1 if the layer is square",
    "linear, widths 512, 256, ..., 16; mean of ln of the mean square of dC/dr, input over output",
    "0: gradients keep their size",
    "Xavier initialisation keeps signals and gradients",
)
def compromise_backward(more: int) -> Finding:
    gain, _ = _log_growth(TAPERING, "linear", _GLOROT, 200 * more)
    per_unit = math.log(TAPERING[-1] / TAPERING[0])
    exact = theory.finite_width.backward_law(TAPERING, "linear", sigma_w=_GLOROT)
    wrong = exact.mean - exact.log_expectation
    return mean_of(gain + per_unit, exact.mean + per_unit, wrong)
