r"""Drift and spread of a gradient at finite width, for any activation, to first order in 1/n.

The summary law of deep random networks is ln G = sum ln chi + N(-a L/n, c L/n). For scale-free
activations a and c are exact sums of independent layers (``moments``). Elsewhere the lengths of
the signals fluctuate as well, their fluctuations last for xi_q layers, and chi follows them:

1. Given r, the pre-activations of a layer are n independent normals of variance q, so ln q is a
   Markov chain, x' = F(x) + eta with F = ln V(e^x), to be linearised about the mean-field
   trajectory: with lambda = F', the variance s^2 and the shift m of ln q, in units of 1/n, are
       s^2' = lambda^2 s^2 + N,   m' = lambda m + F'' s^2 / 2 - N / 2,   N = Var phi^2 (sw^2/V)^2
2. Given z, a gradient of uniform direction meets n slopes phi'^2 and the fresh part of W', a
   chi^2: ln G gets a noise of variance e = 3 mu_2/mu_1^2 - 1 (the baseline of independent
   layers), which has the covariance C = sw^2 Cov(phi'^2, phi^2) / (mu_1 V) with eta; chi gets
   kappa m + kappa_2 s^2 / 2, where kappa and kappa_2 are the derivatives of ln chi by ln q.
3. The direction is not quite uniform. The part of dr along r, u^2 = <dr, r>^2 / |dr|^2 |r|^2, is
   carried down by the known part of W', z r'/|r|^2, and U = n E u^2 obeys U <- alpha U + beta:
   the mean of G is E G = chi (1 - omega/n + omega U'/n + (U - U')/n), U' that of the layer above
   and omega = E phi^2 phi'^2 / (E phi^2 mu_1).

So the variance of ln G is the sum of e + 2 K C + K^2 N, where K = kappa' + lambda' K' is what a
change of ln q does to all layers above, and the mean loses half of e. Where the weights have
another fourth moment, V, mu_1 and W'^2 given z get corrections of the same order, from the
Edgeworth series. The method is that of Roberts, Yaida and Hanin (2022, from chapter 4 on), for
every activation and off criticality. SQUARED norms, natural logarithms; depths well below width.

>>> a, c = drift_and_spread("tanh", 1.5)       # measured: 1.76 and 4.8; a is not c / 2
>>> round(a, 3), round(c, 3)
(1.839, 4.618)
>>> law = fluctuations("sigmoid", 4.0, depth=60).gain(width=256)
>>> round(law.log_chi, 3), round(law.mean, 3), round(law.variance, 3)
(-55.642, -56.284, 1.143)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from study.core.activations import Activation, Array
from study.theory import checks
from study.theory.fixed_point import fixed_point
from study.theory.maps import LARGEST, checked, trajectory
from study.theory.moments import Spread
from study.theory.quadrature import break_points, expectation


class Gain(NamedTuple):
    """ln of the squared gradient norm at one layer over that at the output."""

    log_chi: float
    """At infinite width."""
    mean: float
    """With what finite width adds, to order 1/n."""
    variance: float
    """To order 1/n."""
    layers: int
    """How many lie between."""

    @property
    def mean_error(self) -> float:
        """The size of the next order in the mean, L (c/n)^2 3/4: that of ln of a mean of n terms.

        Of its terms, -3 v^2 / 4 and mu_3 / 3 at variance v and third moment mu_3, the first.
        """
        return 0.75 * self.variance**2 / self.layers

    @property
    def variance_error(self) -> float:
        """The size of the next order in the variance, L (c/n)^2 5/2: of 5 v^2 / 2 - mu_3."""
        return 2.5 * self.variance**2 / self.layers


class _Layer(NamedTuple):
    """Averages over one layer's pre-activations, a layer each; see the module."""

    log_chi: Array
    slope: Array
    """lambda"""
    curvature: Array
    """F''"""
    kappa: Array
    kappa_2: Array
    noise: Array
    """N"""
    covariance: Array
    """C"""
    baseline: Array
    """e"""
    alpha: Array
    beta: Array
    omega: Array
    concentration: Array
    """n sum r^4 / (sum r^2)^2 of the layer's signals."""
    share: Array
    """Of the weights in q; the rest is the bias's."""
    bend: Array
    """q^2 V'' / V"""
    gain_bend: Array
    """The same of mu_1."""


class Fluctuations(NamedTuple):
    """Entry k belongs to the pre-activations made by W^(k); multiples of 1/n."""

    q: Array
    """Variance of the pre-activations at infinite width."""
    length_shift: Array
    """n times the shift of the mean of ln q_k."""
    length_variance: Array
    """n times the variance of ln q_k."""
    layers: _Layer
    excess_shift: Array
    """n times the shift of ln chi by the weights' excess kurtosis."""

    def gain(self, width: int, first: int = 0) -> Gain:
        """The law of ln(||dC/dr^(first)||^2 / ||dC/dr^(depth)||^2), to order 1/width.

        The next order is about ``mean_error`` and ``variance_error``, where depth << width.
        """
        width, at = checks.count("width", width), self.layers
        first = checks.count("first", first, low=0)
        depth = len(self.q)
        if first >= depth:
            raise ValueError(f"first = {first}; allowed: from 0 to {depth - 1}")
        above, along = np.zeros(depth), np.ones(depth + 1)  # K and U
        for k in range(depth - 1, -1, -1):
            along[k] = at.alpha[k] * along[k + 1] + at.beta[k]
            if k:
                above[k - 1] = at.kappa[k] + at.slope[k] * above[k]
        shift = at.kappa * self.length_shift + at.kappa_2 * self.length_variance / 2
        shift += at.omega * (along[1:] - 1) + along[:-1] - along[1:]
        shift += self.excess_shift - at.baseline / 2
        spread = at.baseline + 2 * above * at.covariance + above**2 * at.noise
        before = at.kappa[first] + at.slope[first] * above[first]
        log_chi = float(at.log_chi[first:].sum())
        variance = spread[first:].sum() + before**2 * self.length_variance[first]
        mean = log_chi + float(shift[first:].sum()) / width
        return Gain(log_chi, mean, float(variance) / width, depth - first)


def fluctuations(
    activation: str, sigma_w: float, sigma_b: float = 0.0, *, depth: int, kurtosis: float = 3.0
) -> Fluctuations:
    """First-order fluctuations of a network with square layers and independent weights.

    Parameters
    ----------
    activation : str
        A row of the table.
    sigma_w, sigma_b : float
        Standard deviations: Var W = sigma_w^2 / n, Var b = sigma_b^2; sigma_w positive.
    depth : int
        Number of weight matrices.
    kurtosis : float
        Of the weights, which are symmetric; see `study.theory.moments.KURTOSIS`. Biases are normal.

    Notes
    -----
    The input has standard normal entries and as many as the layers; dC/dr at the output is a
    uniform direction. Where q goes to 0 or inf only its logarithm matters, and it walks at random
    with a variance that grows with depth: the order 1/n then means depth / n.

    Examples
    --------
    He-ReLU, where a and c are 5/2 and 5:

    >>> law = fluctuations("relu", 2**0.5, depth=100).gain(width=1000)
    >>> round(law.mean, 9), round(law.variance, 9)
    (-0.25, 0.5)
    """
    row, sw2, sb2 = checked(activation, checks.positive("sigma_w", sigma_w), sigma_b)
    depth = checks.count("depth", depth)
    excess = checks.number("kurtosis", kurtosis, low=1.0) - 3
    q = np.clip(trajectory(activation, sigma_w, sigma_b, depth).q, LARGEST**-2, LARGEST**2)
    blocks = [_averages(row, part, sw2, sb2) for part in np.array_split(q, -(-depth // 64))]
    at = _Layer(*map(np.concatenate, zip(*blocks, strict=True)))
    entering = np.concatenate([[3.0], at.concentration[:-1]])
    tied = np.append((at.share * at.kappa)[1:], 0.0)  # of the layer above; none at the output
    length, gain = _excess(at, excess, entering, tied)
    shift, variance = np.empty(depth), np.empty(depth)
    variance[0] = 2 * (sw2 / (sw2 + sb2)) ** 2  # of a chi^2 with n degrees of freedom, over n
    shift[0] = -variance[0] / 2
    for k in range(depth - 1):
        shift[k + 1] = at.slope[k] * shift[k] + length[k]
        shift[k + 1] += (at.curvature[k] * variance[k] - at.noise[k]) / 2
        variance[k + 1] = at.slope[k] ** 2 * variance[k] + at.noise[k]
    return Fluctuations(q, shift, variance, at, gain)


def drift_and_spread(
    activation: str, sigma_w: float, sigma_b: float = 0.0, kurtosis: float = 3.0
) -> Spread:
    """The constants a and c of ln G = L ln chi + N(-a L/n, c L/n), at the fixed point of q.

    Parameters
    ----------
    activation, sigma_w, sigma_b, kurtosis
        As in `fluctuations`.

    Raises
    ------
    ValueError
        Where q has no fixed point that its fluctuations decay to. At 0 and inf, and for
        scale-free activations, see `study.theory.moments.drift_and_spread`.

    Examples
    --------
    >>> [round(one, 2) for one in drift_and_spread("selu", 1.0)]
    [1.47, 4.42]
    """
    row, sw2, sb2 = checked(activation, checks.positive("sigma_w", sigma_w), sigma_b)
    excess = checks.number("kurtosis", kurtosis, low=1.0) - 3
    q = fixed_point(row, sw2, sb2)
    if not 0 < q < np.inf or (row.scale_free and sb2 == 0):
        raise ValueError(
            f"activation = {activation!r}, sigma_w = {sigma_w}, sigma_b = {sigma_b}: q_star = {q}; "
            "allowed: a fixed point between 0 and inf, at which q comes to rest"
        )
    at = _averages(row, np.array([q]), sw2, sb2)
    length_excess, gain_excess = _excess(at, excess, at.concentration, at.share * at.kappa)
    above = at.kappa / (1 - at.slope)
    variance = at.noise / (1 - at.slope**2)
    shift = (at.curvature * variance / 2 - at.noise / 2 + length_excess) / (1 - at.slope)
    along = at.beta / (1 - at.alpha)
    gain = at.kappa * shift + at.kappa_2 * variance / 2 + at.omega * (along - 1) + gain_excess
    spread = at.baseline + 2 * above * at.covariance + above**2 * at.noise
    return Spread(float((at.baseline / 2 - gain)[0]), float(spread[0]))


def independent_layers(activation: str, sigma_w: float, sigma_b: float = 0.0) -> Spread:
    """a and c of layers that know nothing of one another: e / 2 and e, at the fixed point of q.

    What is usually written down, and exact for scale-free activations alone.

    >>> [round(one, 3) for one in independent_layers("tanh", 1.5)]
    [1.708, 3.416]
    """
    row, sw2, sb2 = checked(activation, checks.positive("sigma_w", sigma_w), sigma_b)
    q = np.clip(fixed_point(row, sw2, sb2), LARGEST**-2, LARGEST**2)
    spread = float(_averages(row, np.array([q]), sw2, sb2).baseline[0])
    return Spread(spread / 2, spread)


def _excess(at: _Layer, excess: float, entering: Array, tied: Array) -> tuple[Array, Array]:
    """What an excess kurtosis adds to ln V and ln chi, times n.

    Edgeworth: z has itself an excess kurtosis, that of the weights times the concentration of the
    signals that enter. And W_ij^2, given z_i, has one more He_2(h_i) r_j^2 / |r|^2 term than
    normal weights: it counts at once, and again (``tied``, of the layer above) as the gradient
    prefers units of large r_j, which then meet their own slopes.
    """
    fourth = excess * entering * at.share**2 / 6
    again = tied * (at.omega - 1)
    return fourth * at.bend, fourth * at.gain_bend + excess * (at.share * at.kappa + again)


def _averages(row: Activation, q: Array, sw2: float, sb2: float) -> _Layer:
    """One layer each of variance q, from moments of phi, phi' and h = z / sqrt q.

    Derivatives by q cost no derivative of phi: those of the normal density are Hermite
    polynomials, q d/dq E f = E f He_2(h) / 2 and q^2 d^2/dq^2 E f = E f He_4(h) / 4.
    """
    std, breaks = np.sqrt(q), break_points(row)[0]

    def mean(f) -> Array:
        return expectation(lambda x: f(x, row.phi(x), row.derivative(x)), std, breaks)

    def by_q(square) -> tuple[Array, Array, Array]:
        """E f^2, q times its derivative, and q^2 times the second one."""
        scale = std[..., None]

        def twice(x: Array, phi: Array, slope: Array) -> Array:
            return square(phi, slope) * ((x / scale) ** 2 - 1) / 2

        def fourth(x: Array, phi: Array, slope: Array) -> Array:
            h2 = (x / scale) ** 2
            return square(phi, slope) * (h2 * (h2 - 6) + 3) / 4

        return mean(lambda x, phi, slope: square(phi, slope)), mean(twice), mean(fourth)

    size, size_1, size_2 = by_q(lambda phi, slope: phi**2)
    mu_1, mu_11, mu_12 = by_q(lambda phi, slope: slope**2)
    fourth = mean(lambda x, phi, slope: phi**4)
    mu_2 = mean(lambda x, phi, slope: slope**4)
    both = mean(lambda x, phi, slope: (phi * slope) ** 2)
    along = mean(lambda x, phi, slope: x * phi * slope)
    across = mean(lambda x, phi, slope: (x * slope) ** 2)

    V, weights = sw2 * size + sb2, q - sb2  # the part of q that the weights make
    share = weights / q
    slope = sw2 * size_1 / V
    kappa = mu_11 / mu_1
    # Of y = W r, given z = y + b: mean share z, and a variance share sb2 that b has taken.
    square = share**2 * across + share * sb2 * mu_1 - (share * along) ** 2 / size
    return _Layer(
        log_chi=np.log(sw2 * mu_1),
        slope=slope,
        curvature=slope + sw2 * size_2 / V - slope**2,
        kappa=kappa,
        kappa_2=kappa + mu_12 / mu_1 - kappa**2,
        noise=(sw2 / V) ** 2 * (fourth - size**2),
        covariance=sw2 * (both - mu_1 * size) / (mu_1 * V),
        baseline=3 * mu_2 / mu_1**2 - 1,
        alpha=(share * along) ** 2 / (size * weights * mu_1),
        beta=square / (weights * mu_1),
        omega=both / (size * mu_1),
        concentration=fourth / size**2,
        share=share,
        bend=sw2 * size_2 / V,
        gain_bend=mu_12 / mu_1,
    )
