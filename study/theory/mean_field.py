"""Mean-field theory: where the maps from layer to layer lead to, at infinite width.

At the fixed point q = V(q) of the variance map (``maps``), a gradient's squared norm takes

    chi = sigma_w^2 E phi'(sqrt(q) z)^2 = C'(1)                    (Schoenholz et al. 2017)

per layer: ln chi < 0 is a vanishing gradient, ln chi > 0 an exploding one. Natural logarithms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import scipy

from study.core.activations import Activation
from study.theory.maps import (
    LARGEST,
    ActivationLike,
    deviation,
    gradient_factor,
    half_square_step,
    mean_of,
    overlap,
    row_of,
    variance_map,
)
from study.tools.elementary import Array, root

CRITICAL = 1e-9  # a network is critical where ``|ln chi|`` is at most this: 1e-5 over 10,000 layers

NOISE = 2e-14  # ln(V / q) is known to this; anything smaller is no crossing


@dataclass(frozen=True)
class MeanField:
    """What the theory says of one (activation, sigma_w, sigma_b); see :func:`mean_field`.

    Attributes
    ----------
    q_star : limit of the pre-activations' variance; 0 where the signal dies, inf where it diverges
    chi : factor of the SQUARED gradient norm per layer, at ``q_star`` (at 0 and inf, the limit)
    xi_grad : -1 / ln chi, in layers; negative when exploding, inf at criticality
    xi_q : -1 / ln V'(q_star), in layers; negative where q diverges, inf where it is marginal
    phase : "ordered" (chi < 1), "critical" (``|ln chi| <= CRITICAL``) or "chaotic" (chi > 1)
    c_star, xi_c : the correlation of two inputs after many layers; -1 / ln C'(c_star), in layers

    Examples
    --------
    >>> found = mean_field("relu", sigma_w=1.0)
    >>> round(found.chi, 12), found.phase, round(found.xi_grad, 3)
    (0.5, 'ordered', 1.443)
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q_star: float
    chi: float
    xi_grad: float
    xi_q: float
    phase: str
    row: Activation = field(repr=False, compare=False)

    @cached_property
    def _linear_slopes(self) -> tuple[float, float] | None:
        """Slopes left and right of 0 of the piecewise linear function that the net tends to."""
        if self.q_star == math.inf:
            return self.row.slopes_at_infinity
        if self.q_star == 0 or (self.row.scale_free and self.sigma_b == 0):
            return self.row.slopes_at_zero
        return None

    @cached_property
    def c_star(self) -> float:
        """The stable fixed point of the correlation map, reached from every c in [0, 1).

        **nan** where the network tends to a linear one, which keeps the input's own correlation
        (tanh without bias up to sigma_w = 1).
        """
        if self._linear_slopes is not None:
            left, right = self._linear_slopes
            # Marginal linear growth q_l = l sigma_b^2: the shared bias wins, as 1 / l.
            bias_wins = self.phase == "critical" and self.sigma_b > 0
            return 1.0 if left != right or bias_wins else math.nan
        return 1.0 - self._gap if self.phase == "chaotic" else 1.0

    @cached_property
    def _gap(self) -> float:
        """1 - c_star in the chaotic phase, where E (phi(u1) - phi(u2))^2 replaces itself."""

        def excess(gap: float) -> float:  # (1 - C) / (1 - c) - 1, from chi - 1 down to -C(0)
            step = half_square_step(self.row, self.q_star, gap)
            return self.sigma_w**2 * step / (self.q_star * gap) - 1

        if excess(1.0) >= -NOISE:  # C(0) = 0: an odd function without bias
            return 1.0
        low = 0.5
        while excess(low) < 0:
            low /= 8
        return root(excess, low, min(8 * low, 1.0), 1e-14 * low)

    @cached_property
    def xi_c(self) -> float:
        """-1 / ln C'(c_star), in layers; inf wherever c moves by no exponential law."""
        if self._linear_slopes is not None or self.phase == "critical":
            return math.inf
        if self.phase == "ordered":
            return self.xi_grad
        return _depth(self.sigma_w**2 * overlap(self.row, self.q_star, self._gap))


def mean_field(activation: ActivationLike, sigma_w: float, sigma_b: float = 0.0) -> MeanField:
    """The mean-field theory of a network fed inputs of unit mean square.

    Parameters
    ----------
    activation : a name of the table, a row, or a function of arrays
    sigma_w, sigma_b : standard deviations, Var W = sigma_w^2 / fan_in, Var b = sigma_b^2

    ``q_star`` is the fixed point of V that q_1 = sigma_w^2 + sigma_b^2 travels to. Where all q
    are fixed (critical ReLU without bias), it is q_1.

    >>> he = mean_field("relu", 2**0.5)
    >>> round(he.chi, 12), round(he.q_star, 12), he.xi_grad, he.phase, he.c_star
    (1.0, 2.0, inf, 'critical', 1.0)
    >>> gain = mean_field("tanh", 5 / 3)            # PyTorch's recommended gain explodes
    >>> round(gain.q_star, 5), round(gain.chi, 5), gain.phase
    (1.17848, 1.20983, 'chaotic')
    """
    row = row_of(activation)
    sigma_w = deviation("sigma_w", sigma_w)
    sigma_b = deviation("sigma_b", sigma_b)
    q = fixed_point(row, sigma_w, sigma_b)
    chi = float(gradient_factor(row, q, sigma_w))
    xi_grad = _depth(chi)
    phase = "ordered" if chi < 1 else "chaotic"
    if xi_grad == math.inf:
        phase = "critical"
    slope = chi  # of V: the same at q = 0 and inf, and for scale-free functions
    if 0 < q < math.inf and not row.scale_free:
        # E phi phi' x / q = E (phi'^2 + phi phi''), by parts: no second derivative needed.
        moment = mean_of(row, lambda x: row.phi(x) * row.derivative(x) * x, q)
        slope = sigma_w**2 * float(moment) / q
    return MeanField(row.name, sigma_w, sigma_b, q, chi, xi_grad, _depth(slope), phase, row)


def fixed_point(row: Activation, sigma_w: float, sigma_b: float) -> float:
    """The fixed point of V nearest to q_1 = sigma_w^2 + sigma_b^2 in the direction of travel."""
    q_1 = sigma_w**2 + sigma_b**2
    if q_1 < LARGEST**-2:
        return 0.0

    def growth(log_q: float | Array) -> float | Array:
        return np.log(variance_map(row, np.exp(log_q), sigma_w, sigma_b)) - log_q

    start = math.log(q_1)
    speed = float(growth(start))
    conserved = row.scale_free and sigma_b == 0 and abs(speed) <= CRITICAL
    if conserved or abs(speed) <= NOISE:
        return q_1
    direction = math.copysign(1.0, speed)

    def headway(log_q: float | Array) -> float | Array:  # above 0 as long as q travels on
        return direction * growth(log_q)

    limit = math.inf if speed > 0 else 0.0
    # V increases, so V(0) and V(inf) bound q; without a bound 75 e-folds leave only noise.
    bound = float(variance_map(row, limit, sigma_w, sigma_b))
    end = start + 75 * direction
    if 0 < bound < math.inf:
        end = math.log(bound) + direction
    grid = np.linspace(start, end, 3 + math.ceil(2 * abs(end - start)))
    bracket = _crossing(headway, grid)
    if bracket is None:
        return limit
    return math.exp(root(headway, *bracket, 1e-15))


def _crossing(headway: Callable, grid: Array) -> tuple[float, float] | None:
    """The first interval at whose end q no longer travels on."""
    travel = headway(grid)
    arrived = np.flatnonzero(travel < -NOISE)
    last = arrived[0] if arrived.size else grid.size
    # Two fixed points may hide in a dip between grid points, if it curves enough to reach 0.
    for k in range(1, last - 1):
        before, middle, after = travel[k - 1 : k + 2].tolist()  # inf where a function overflows
        if middle <= min(before, after) and middle < before - 2 * middle + after:
            bounds = sorted((grid[k - 1], grid[k + 1]))
            dip = scipy.optimize.minimize_scalar(headway, bounds=bounds, method="bounded")
            if dip.fun < -NOISE:
                return grid[:k][travel[:k] > 0][-1], dip.x
    if not arrived.size:
        return None
    return grid[np.flatnonzero(travel[:last] > 0)[-1]], grid[last]


def critical_sigma_w(activation: ActivationLike, sigma_b: float = 0.0) -> float:
    """The sigma_w at which chi crosses 1: gradients vanish below it, explode above it.

    chi(sigma_w) does so once (checked at 660 sigma_w, 11 sigma_b); of where it only touches 1, or
    jumps across it (GELU and SiLU without bias), see docs/theory.md.

    >>> round(critical_sigma_w("sigmoid"), 8), round(critical_sigma_w("relu") ** 2, 10)
    (10.14926371, 2.0)
    """
    return _critical(row_of(activation), deviation("sigma_b", sigma_b))


@lru_cache(maxsize=256)
def _critical(row: Activation, sigma_b: float) -> float:
    def log_chi(sigma_w: float) -> float:
        q = fixed_point(row, sigma_w, sigma_b)
        return math.log(gradient_factor(row, q, sigma_w))

    # Without bias q_star may be born at 0 as chi crosses 1, tangentially (SELU): then solve for
    # the limit instead, sigma_w^2 E phi'(0 z)^2 = 1.
    birth = 1 / math.sqrt(np.mean(np.square(row.slopes_at_zero)))
    from_zero = sigma_b == 0 and row.phi(np.zeros(1))[0] == 0
    if from_zero and log_chi(birth * 0.9999) < 0 < log_chi(birth * 1.0001):
        return birth
    low = 1 / row.max_slope  # chi < 1 below it for certain
    high = 1.1 * low
    while log_chi(high) <= 0:
        low = high
        high = 1.1 * low
    crossing = root(log_chi, low, high, 1e-13)
    while log_chi(crossing * (1 - 1e-9)) > 0:  # chi only touches 1 here, from above
        crossing = root(log_chi, low, crossing * (1 - 1e-9), 1e-13)
    return crossing


def _depth(factor: float) -> float:
    """Layers in which what is multiplied by ``factor`` falls e-fold; inf at 1."""
    if factor <= 0:
        return 0.0
    rate = math.log(factor)
    return math.inf if abs(rate) <= CRITICAL else -1 / rate
