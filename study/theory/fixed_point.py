"""The fixed point of the variance map that a given start travels to.

V increases, so the sequence q, V(q), V(V(q)), ... goes one way and ends at the nearest fixed
point in that direction. It is bracketed and solved for in ln q: iterating would take for ever
next to criticality, and would mistake slow travel for arrival.

>>> from study.core.activations import activation
>>> round(fixed_point(activation("erf"), 1.6873614079, 0.05), 8)
0.58797837
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize

from study.core.activations import Activation, Array
from study.theory.maps import LARGEST, variance_at

CRITICAL = 1e-9
"""A network is critical where ``|ln chi|`` is at most this: 1e-5 over 10,000 layers."""

NOISE = 2e-14  # ln(V / q) is known to this; anything smaller is no crossing


def fixed_point(row: Activation, sw2: float, sb2: float) -> float:
    """The fixed point of V nearest to q_1 = sw2 + sb2 in the direction of travel."""
    q_1 = sw2 + sb2

    def growth(log_q: Array) -> Array:
        return np.log(variance_at(row, np.exp(log_q), sw2, sb2)) - log_q

    if q_1 < LARGEST**-2:
        return 0.0
    start = math.log(q_1)
    speed = float(growth(np.asarray(start)))
    conserved = row.scale_free and sb2 == 0 and abs(speed) <= CRITICAL
    if conserved or abs(speed) <= NOISE:
        return q_1
    direction = math.copysign(1.0, speed)
    end_point = math.inf if speed > 0 else 0.0
    bound = float(variance_at(row, np.asarray(end_point), sw2, sb2))
    # V increases, so V(0) and V(inf) bound q; without a bound 75 e-folds leave only noise.
    bounded = 0 < bound < math.inf
    end = math.log(bound) + direction if bounded else start + 75 * direction
    grid = np.linspace(start, end, 3 + math.ceil(2 * abs(end - start)))

    def headway(log_q: Array) -> Array:  # > 0 as long as q goes on travelling
        return direction * growth(log_q)

    travel = headway(grid)
    arrived = np.flatnonzero(travel < -NOISE)
    last = arrived[0] if arrived.size else grid.size
    # Two fixed points may hide in a dip between grid points, if it curves enough to reach 0.
    before, middle, after = (travel[:last][part] for part in (np.s_[:-2], np.s_[1:-1], np.s_[2:]))
    dips = (middle <= np.minimum(before, after)) & (middle < before - 2 * middle + after)
    for k in np.flatnonzero(dips) + 1:
        bounds = sorted((grid[k - 1], grid[k + 1]))
        dip = optimize.minimize_scalar(headway, bounds=bounds, method="bounded")
        if dip.fun < -NOISE:
            return _root(headway, grid[k - 1], dip.x)
    if not arrived.size:
        return end_point
    return _root(headway, grid[np.flatnonzero(travel[:last] > 0)[-1]], grid[last])


def _root(headway: Callable[[float], float], start: float, end: float) -> float:
    return math.exp(optimize.brentq(headway, start, end, xtol=1e-15, rtol=1e-15))
