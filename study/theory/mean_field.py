"""Mean-field theory: how a signal's and a gradient's size change per layer, at infinite width.

Pre-activations of layer l are normal with variance q_l, and (Poole et al. 2016)

    q_(l+1) = V(q_l),   V(q) = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2,       z ~ N(0, 1)
    c_(l+1) = C(c_l),   C(c) = (sigma_w^2 E phi(u1) phi(u2) + sigma_b^2) / V(q)

with u1, u2 normal of variance q and correlation c. A gradient's squared norm takes, per layer,

    chi = sigma_w^2 E phi'(sqrt(q) z)^2 = C'(1)     (at q = V(q); Schoenholz et al. 2017)

so that ln chi < 0 is a vanishing gradient, ln chi > 0 an exploding one. Natural logarithms.
The maps themselves are in ``maps``; this module says where they lead to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from study.core.activations import Array
from study.core.activations import activation as _row
from study.theory.fixed_point import CRITICAL, NOISE, fixed_point
from study.theory.maps import checked, gradient_factor_at, half_square_step
from study.theory.quadrature import break_points, expectation, pair_expectation


@dataclass(frozen=True)
class MeanField:
    """What the theory says of one (activation, sigma_w, sigma_b); see :func:`mean_field`.

    Attributes
    ----------
    q_star : float
        Limit of the pre-activations' variance; 0 where the signal dies, inf where it diverges.
    chi : float
        Factor of the SQUARED gradient norm per layer, at ``q_star`` (at 0 and inf, the limit).
    xi_grad : float
        -1 / ln chi, in layers, of the squared norm; negative when exploding, inf at criticality.
    xi_q : float
        -1 / ln V'(q_star), in layers; negative where q diverges, inf where it is marginal.
    phase : str
        "ordered" (chi < 1), "critical" (``|ln chi| <= CRITICAL``) or "chaotic" (chi > 1).
    c_star : float
        The correlation of two inputs after many layers. See the property.
    xi_c : float
        -1 / ln C'(c_star), in layers. See the property.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q_star: float
    chi: float
    xi_grad: float
    xi_q: float
    phase: str

    @cached_property
    def _scale_free_slopes(self) -> tuple[float, float] | None:
        """Slopes left and right of 0 of the piecewise linear function that the net tends to."""
        row = _row(self.activation)
        if self.q_star == math.inf:
            return row.slopes_at_infinity
        if self.q_star == 0 or (row.scale_free and self.sigma_b == 0):
            return row.slopes_at_zero
        return None

    @cached_property
    def c_star(self) -> float:
        """The stable fixed point of the correlation map, reached from every c in [0, 1).

        C is a power series in c with non-negative coefficients, hence convex: c_star is 1 where
        chi <= 1, and below 1 where chi > 1. Where q_star is 0 or inf, or phi is scale-free
        without bias, phi acts as ``a x`` below 0 and ``b x`` above, and C knows nothing of
        sigma_w: c_star is 1 if a != b (1 - c falls as 1 / l^2, also where chi > 1), and **nan**
        if a == b, since a linear network keeps the input's own correlation: every c is fixed.
        So it is nan for tanh without bias up to sigma_w = 1, whose signal dies linearly.
        """
        slopes = self._scale_free_slopes
        if slopes is not None:
            # Marginal linear growth q_l = l sigma_b^2: the shared bias wins, as 1 / l.
            bias_wins = self.phase == "critical" and self.sigma_b > 0
            return 1.0 if slopes[0] != slopes[1] or bias_wins else math.nan
        return 1.0 - self._gap if self.phase == "chaotic" else 1.0

    @cached_property
    def _gap(self) -> float:
        """1 - c_star in the chaotic phase, where E (phi(u1) - phi(u2))^2 replaces itself."""
        row = _row(self.activation)

        def excess(gap: float) -> float:  # (1 - C) / (1 - c) - 1, from chi - 1 down to -C(0)
            step = half_square_step(row, self.q_star, gap)
            return self.sigma_w**2 * step / (self.q_star * gap) - 1

        if excess(1.0) >= -NOISE:  # C(0) = 0: an odd function without bias
            return 1.0
        low = 0.5
        while excess(low) < 0:
            low /= 8
        return optimize.brentq(excess, low, min(8 * low, 1.0), xtol=1e-14 * low)

    @cached_property
    def xi_c(self) -> float:
        """-1 / ln C'(c_star); C' = sigma_w^2 E phi'(u1) phi'(u2) (Schoenholz et al. 2017).

        Equal to xi_grad in the ordered phase; inf wherever c moves by no exponential law: at
        criticality, and where phi acts as a scale-free function (see :attr:`c_star`).
        """
        if self._scale_free_slopes is not None or self.phase == "critical":
            return math.inf
        if self.phase == "ordered":
            return self.xi_grad
        row = _row(self.activation)
        overlap = pair_expectation(
            lambda u1, u2: row.derivative(u1) * row.derivative(u2),
            math.sqrt(self.q_star),
            self._gap,
            *break_points(row),
        )
        return _depth(self.sigma_w**2 * overlap)


def mean_field(activation: str, sigma_w: float, sigma_b: float = 0.0) -> MeanField:
    """The mean-field theory of a network fed inputs of unit mean square.

    Parameters
    ----------
    activation : str
        A name in the table ``study.core.activations``.
    sigma_w, sigma_b : float
        Standard deviations: Var W = sigma_w^2 / fan_in, Var b = sigma_b^2; from 0 to 1e50.

    Returns
    -------
    MeanField
        ``c_star`` and ``xi_c`` are computed when first asked for.

    Notes
    -----
    ``q_star`` is the fixed point of V that q_1 = sigma_w^2 + sigma_b^2 travels to. V increases,
    so that is the nearest one in the direction of travel; it is bracketed and solved for in
    ln q, never iterated. Where all q are fixed (critical ReLU without bias), it is q_1.

    Examples
    --------
    >>> he = mean_field("relu", 2**0.5)
    >>> round(he.chi, 12), round(he.q_star, 12), he.xi_grad, he.phase, he.c_star
    (1.0, 2.0, inf, 'critical', 1.0)
    >>> gain = mean_field("tanh", 5 / 3)            # PyTorch's recommended gain explodes
    >>> round(gain.q_star, 5), round(gain.chi, 5), gain.phase
    (1.17848, 1.20983, 'chaotic')
    """
    row, sw2, sb2 = checked(activation, sigma_w, sigma_b)
    q = fixed_point(row, sw2, sb2)
    chi = float(gradient_factor_at(row, np.asarray(q), sw2))
    xi_grad = _depth(chi)
    phase = "critical" if xi_grad == math.inf else "ordered" if chi < 1 else "chaotic"
    slope = chi  # of V: the same at q = 0 and inf, and for scale-free functions
    if 0 < q < math.inf and not row.scale_free:
        # E phi phi' x / q = E (phi'^2 + phi phi''), by parts: no second derivative needed.
        def product(x: Array) -> Array:
            return row.phi(x) * row.derivative(x) * x

        slope = sw2 * float(expectation(product, math.sqrt(q), break_points(row)[0])) / q
    return MeanField(
        activation, float(sigma_w), float(sigma_b), q, chi, xi_grad, _depth(slope), phase
    )


def critical_sigma_w(activation: str, sigma_b: float = 0.0) -> float:
    """The sigma_w at which chi crosses 1: gradients vanish below it, explode above it.

    The limit q -> 0 in closed form where that is the crossing; else bracketed by the sign of
    ln chi, upwards from 1 / max|phi'| (below which chi < 1 for certain), and solved to 1e-13.

    Notes
    -----
    - chi(sigma_w) goes from below to above 1 once for every row of the table (checked at 660
      sigma_w from 0.05 to 60, 11 sigma_b from 0 to 10). It increases, but for SELU, ELU and, with
      a bias, GELU and SiLU: they come down to touch 1 at sigma_w^2 phi'(inf)^2 = 2, where
      q_star becomes infinite, and stay above it on both sides.
    - GELU and SiLU without bias are bistable: q_star jumps from 0 (chi = sigma_w^2 / 4) to inf
      (chi = sigma_w^2 / 2), and chi with it, across 1. Returned is the place of the jump for
      an input of unit mean square (1.4680 and 1.5588); for a larger input it is lower. Their
      half-stable point, V(q) = q and V'(q) = chi = 1, needs a bias: for GELU sigma_w^2 =
      1.98305826, sigma_b^2 = 0.17292239, q = (3 + sqrt 17) / 2 (Roberts, Yaida and Hanin 2022).
    - Where q_star grows out of 0 (tanh, ELU, SELU), ln chi is of second order in the excess.
    - chi = 1 is about the fixed point. Where q goes on moving, the product of the layers' chi
      still does: tanh falls as 1 / l, softplus as exp(-l^(2/3)): see :func:`trajectory`.

    Examples
    --------
    >>> round(critical_sigma_w("sigmoid"), 8), round(critical_sigma_w("relu") ** 2, 10)
    (10.14926371, 2.0)
    >>> round(critical_sigma_w("tanh", 0.05**0.5) ** 2, 10)
    1.7609546396
    """
    row, _, sb2 = checked(activation, 1.0, sigma_b)

    def log_chi(sigma_w: float) -> float:
        q = fixed_point(row, sigma_w**2, sb2)
        return math.log(gradient_factor_at(row, np.asarray(q), sigma_w**2))

    # Without bias q_star may be born at 0 as chi crosses 1, tangentially (SELU): then solve for
    # the limit instead, sigma_w^2 E phi'(0 z)^2 = 1.
    birth = 1 / math.sqrt(float(np.mean(np.square(row.slopes_at_zero))))
    from_zero = sb2 == 0 and row.phi(np.zeros(1))[0] == 0
    if from_zero and log_chi(birth * 0.9999) < 0 < log_chi(birth * 1.0001):
        return birth
    low = high = 1 / row.max_slope
    while log_chi(high) <= 0:
        low, high = high, 1.1 * high
    crossing = optimize.brentq(log_chi, low, high, xtol=1e-13)
    while log_chi(crossing * (1 - 1e-9)) > 0:  # chi only touches 1 here, from above
        crossing = optimize.brentq(log_chi, low, crossing * (1 - 1e-9), xtol=1e-13)
    return crossing


def _depth(factor: float) -> float:
    """Layers in which what is multiplied by ``factor`` falls e-fold; inf at 1."""
    if factor <= 0:
        return 0.0
    rate = math.log(factor)
    return math.inf if abs(rate) <= CRITICAL else -1 / rate
