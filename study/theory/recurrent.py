"""Recurrent cells at infinite width: what one step does to a squared gradient on its way back.

Weights W of the state have variance sigma_w^2 / n. What inputs add to a pre-activation is normal of
variance sigma_v^2 and new at each step, there are no biases, and the cell has run for long. Gates
are then functions of normal variables of variance q = sigma_w^2 E h^2 + sigma_v^2, independent of
the state that they gate. That is so where W is drawn anew at each step, as mean-field theory has
it; tied weights keep a unit's gates alike from step to step. Derivations are in docs/theory.md.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebvander

from study.core.activations import activation
from study.theory.maps import deviation, gradient_factor, mean_of, positive, variance_map
from study.theory.quadrature import expectation, panels
from study.tools.elementary import Array, root

_SIGMOID = activation("sigmoid")
_TANH = activation("tanh")
_CUTS = np.array([-7.0, -2.0, 2.0, 7.0])  # of an LSTM's gates, in standard deviations
_PLACES = 50  # of its cell, on one side of 0
_REACH = 10.0  # the largest cell that is told from larger ones: tanh has no more to say


def minimal_factor(sigma_w: float, sigma_v: float = 1.0) -> float:
    """E u^2 + sigma_w^2 E s'^2 E (h - x)^2 of the minimal RNN h -> u h + (1 - u) x, E x^2 = 1.

    u = s(h W + v) is its gate, x the embedded input (Chen, Pennington and Schoenholz 2018).

    >>> round(minimal_factor(4.0), 4)
    0.8885
    """
    sw2, sv2 = _variances(sigma_w, sigma_v)

    def square(q: float) -> float:
        opened = float(variance_map(_SIGMOID, q, 1.0))
        return opened / (1 - opened)  # E (1 - u)^2 = E u^2

    q = _settled(square, sw2, sv2)
    return float(
        variance_map(_SIGMOID, q, 1.0) + gradient_factor(_SIGMOID, q, sigma_w) * (square(q) + 1)
    )


@functools.cache  # a law is held against untied weights and against tied ones
def gru_factor(sigma_w: float, sigma_v: float = 1.0) -> float:
    """Of the gated recurrent unit h -> u h + (1 - u) n, n = tanh(v + r y), y = h W, as in PyTorch.

    E u^2 + sigma_w^2 (E s'^2 E (h - n)^2 + E (1 - u)^2 E n'^2 (r^2 + s'(r)^2 y^2)), n' = 1 - n^2.

    >>> round(gru_factor(2.0), 4)
    0.5849
    """
    sw2, sv2 = _variances(sigma_w, sigma_v)

    def candidate(q: float) -> Array:
        """E n^2, and E n'^2 (r^2 + s'(r)^2 y^2)."""
        y2 = q - sv2

        def given_reset(z: Array) -> Array:
            r2 = _SIGMOID.phi(z) ** 2
            total = sv2 + r2 * y2
            n2, slope2, slope2_x2 = expectation(_tanh_squares, np.sqrt(total))
            # Given x = v + r y, y is normal of mean r y2 x / total and variance y2 sv2 / total.
            slope2_y2 = r2 * (y2 / total) ** 2 * slope2_x2 + y2 * sv2 / total * slope2
            return np.array([n2, r2 * slope2 + _SIGMOID.derivative(z) ** 2 * slope2_y2])

        return mean_of(_SIGMOID, given_reset, q)

    def square(q: float) -> float:
        opened = float(variance_map(_SIGMOID, q, 1.0))
        return opened / (1 - opened) * candidate(q)[0]

    q = _settled(square, sw2, sv2)
    n2, through = candidate(q)
    opened = variance_map(_SIGMOID, q, 1.0)
    by_gate = gradient_factor(_SIGMOID, q, 1.0) * (square(q) + n2)
    return float(opened + sw2 * (by_gate + opened * through))


@functools.cache
def lstm_factor(sigma_w: float, sigma_v: float = 1.0) -> float:
    """Of long short-term memory, c -> f c + i g, h -> o tanh(c), g = tanh: of (h, c) together.

    The squared gradient by c depends on c, as tanh' does. What it is at each c, and for h, is
    mapped linearly to that of the step before: the factor is the map's largest eigenvalue. After
    Gilboa et al. (2019). Accurate to 1e-6 for sigma_w up to 2, to 1e-4 up to 4.

    >>> round(lstm_factor(2.0), 4)
    0.4478
    """
    sw2, sv2 = _variances(sigma_w, sigma_v)
    q = _settled(lambda q: _Memory(q).hidden_square, sw2, sv2)
    return _Memory(q).factor(sw2)


class _Memory:
    """An LSTM's cell c, at gates of variance q: even functions of it, by their values at points."""

    # On the way to the next c comes first s = f c, then s + i g.

    def __init__(self, q: float):
        x, weights = panels(_CUTS)
        z = math.sqrt(q) * x
        weights = weights * np.exp(-(x**2) / 2)
        self.weights = weights / weights.sum()
        self.open = _SIGMOID.phi(z)
        self.open_slope2 = _SIGMOID.derivative(z) ** 2
        self.new = np.tanh(z)
        self.new_slope2 = _TANH.derivative(z) ** 2
        self.c = _REACH * np.sqrt((chebpts1(_PLACES) + 1) / 2)
        self.to_series = np.linalg.inv(_series(self.c))
        self.adding = self.added(1.0, 1.0)
        step = self.kept(1.0) @ self.adding
        # The law of c that has settled, law @ step = law, as weights of the points.
        start = np.full(_PLACES, 1 / _PLACES)
        self.law = np.linalg.solve((np.eye(_PLACES) - step + start).T, start)
        self.hidden_square = (self.weights @ self.open**2) * (self.law @ np.tanh(self.c) ** 2)

    def kept(self, weight: Array | float) -> Array:
        """The matrix that takes a function of s to E weight(f) of it, a function of c."""
        series = _series(np.multiply.outer(self.open, self.c))
        return np.tensordot(self.weights * weight, series, 1) @ self.to_series

    def added(self, of_input: Array | float, of_new: Array | float) -> Array:
        """The matrix that takes a function of s + i g to E weight(i) weight(g) of it, of s."""
        series = 0.0
        for share, opened in zip(self.weights * of_input, self.open, strict=True):
            places = self.c + opened * self.new[:, None]
            series = series + share * np.tensordot(self.weights * of_new, _series(places), 1)
        return series @ self.to_series

    def factor(self, sw2: float) -> float:
        """The largest eigenvalue of the way back of (squared gradient by c at each c, by h)."""
        after2 = np.tanh(self.c) ** 2
        from_h = (self.weights @ self.open**2) * (1 - after2) ** 2
        into_c = np.column_stack([np.eye(_PLACES), from_h])
        to_c = self.kept(self.open**2) @ self.adding
        by_forgetting = self.c[:, None] ** 2 * (self.kept(self.open_slope2) @ self.adding)
        by_input = self.added(self.open_slope2, self.new**2)
        by_new = self.added(self.open**2, self.new_slope2)
        to_h = sw2 * self.law @ (by_forgetting + self.kept(1.0) @ (by_input + by_new)) @ into_c
        to_h[-1] += sw2 * (self.weights @ self.open_slope2) * (self.law @ after2)
        back = np.vstack([to_c @ into_c, to_h])
        return float(np.abs(np.linalg.eigvals(back)).max())


def _series(c: Array) -> Array:
    """Chebyshev polynomials in c^2 at each place."""
    y = 2 * np.minimum(np.abs(c) / _REACH, 1) ** 2 - 1
    return chebvander(y, _PLACES - 1)


def _tanh_squares(x: Array) -> Array:
    slope2 = _TANH.derivative(x) ** 2
    return np.array([np.tanh(x) ** 2, slope2, slope2 * x**2])


def _variances(sigma_w: float, sigma_v: float) -> tuple[float, float]:
    return deviation("sigma_w", sigma_w) ** 2, positive("sigma_v", sigma_v) ** 2


def _settled(square: Callable[[float], float], sw2: float, sv2: float) -> float:
    """q = sw2 E h^2 + sv2 at which E h^2, from 0 to 1 in each cell, is square(q)."""
    return root(lambda q: sw2 * square(q) + sv2 - q, sv2, sw2 + sv2, 1e-13)
