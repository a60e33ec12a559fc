"""Drift and spread of a gradient at finite width, for any activation, to first order in 1/n.

The summary law of deep random networks is ln G = sum ln chi + N(-a L/n, c L/n). For scale-free
activations a and c are exact sums of independent layers (``moments``). Elsewhere the lengths of
the signals fluctuate as well, and chi follows them:

1. ln q is a Markov chain, x' = F(x) + eta with F = ln V(e^x), linearised about the mean-field
   trajectory: with lambda = F', the variance s^2 and the shift m of ln q, in units of 1/n, are
       s^2' = lambda^2 s^2 + N,   m' = lambda m + F'' s^2 / 2 - N / 2,   N = Var phi^2 (sw^2/V)^2
2. A gradient of uniform direction meets n slopes phi'^2 and the fresh part of W', a chi^2: ln G
   gets a noise of variance e = 3 mu_2/mu_1^2 - 1, of covariance C = sw^2 Cov(phi'^2, phi^2) /
   (mu_1 V) with eta; ln chi gets kappa m + kappa_2 s^2 / 2 (its derivatives by ln q).
3. The direction is not quite uniform. The part of dr along r, u^2 = <dr, r>^2 / |dr|^2 |r|^2, is
   carried down by the known part of W': U = n E u^2 obeys U <- alpha U + beta, and E G = chi
   (1 - omega/n + omega U'/n + (U - U')/n), U' of the layer above, omega = E phi^2 phi'^2 /
   (E phi^2 mu_1).

The variance of ln G is the sum of e + 2 K C + K^2 N, where K = kappa' + lambda' K' is what a
change of ln q does to all layers above, and the mean loses half of e. Weights of another fourth
moment add Edgeworth's corrections. After Roberts, Yaida and Hanin (2022), for every activation and
off criticality. SQUARED norms, natural logarithms; depths well below width.

>>> a, c = drift_and_spread("tanh", 1.5)       # measured: 1.76 and 4.8; a is not c / 2
>>> round(a, 3), round(c, 3)
(1.839, 4.618)
>>> law = fluctuations("sigmoid", 4.0, depth=60).gain(width=256)
>>> round(law.log_chi, 3), round(law.mean, 3), round(law.variance, 3)
(-55.642, -56.284, 1.143)
"""

from typing import NamedTuple

import numpy as np

from study.core.activations import Activation, Array
from study.theory.maps import ActivationLike, deviation, positive, row_of, trajectory, within_range
from study.theory.mean_field import fixed_point
from study.theory.moments import Spread, excess_kurtosis
from study.theory.quadrature import break_points, gaussian_nodes
from study.tools.checks import integer

_BLOCK = 64  # layers at once: a few MB of nodes


class Gain(NamedTuple):
    """ln of the squared gradient norm at one layer over that at the output."""

    log_chi: float  # at infinite width
    mean: float  # to order 1/n, as the variance
    variance: float
    layers: int  # between

    @property
    def mean_error(self) -> float:
        """The size of the next order in the mean, L (c/n)^2 3/4, as of ln of a mean of n terms."""
        return 0.75 * self.variance**2 / self.layers

    @property
    def variance_error(self) -> float:
        """The size of the next order in the variance, L (c/n)^2 5/2: of 5 v^2 / 2 - mu_3."""
        return 2.5 * self.variance**2 / self.layers


class Layers(NamedTuple):
    """Averages over a layer's pre-activations, one entry a layer; the letters are the module's."""

    log_chi: Array
    slope: Array  # lambda
    curvature: Array  # F''
    kappa: Array
    kappa_2: Array
    noise: Array  # N
    covariance: Array  # C
    baseline: Array  # e
    alpha: Array
    beta: Array
    omega: Array
    concentration: Array  # n sum r^4 / (sum r^2)^2 of the layer's signals
    share: Array  # of the weights in q; the rest is the bias's
    bend: Array  # q^2 V'' / V
    gain_bend: Array  # the same of mu_1

    def length_shift(self, variance: Array, fourth: Array) -> Array:
        """What a layer adds to the next one's m, if ln q has this variance."""
        return self.curvature * variance / 2 - self.noise / 2 + fourth * self.bend

    def gain_shift(self, shift: Array, variance: Array, along: Array) -> Array:
        """n times the shift of ln chi, with U of the layer above; but for the change of U."""
        lengths = self.kappa * shift + self.kappa_2 * variance / 2
        return lengths + self.omega * (along - 1) - self.baseline / 2

    def gain_variance(self, above: Array) -> Array:
        """n times the variance of ln chi with what it does to K layers above."""
        return self.baseline + 2 * above * self.covariance + above**2 * self.noise

    def fourth(self, excess: float, entering: Array) -> Array:
        """Edgeworth: the excess kurtosis of z, that of the weights times the concentration."""
        return excess * entering * self.share**2 / 6

    def excess_gain(self, excess: float, fourth: Array, tied: Array) -> Array:
        """n times the shift of ln chi by the weights' excess kurtosis.

        W_ij^2, given z_i, has one more He_2(h_i) r_j^2 / |r|^2 term than normal weights: it counts
        at once, and in the layer above (``tied``), as the gradient prefers units of large r_j.
        """
        again = tied * (self.omega - 1)
        return fourth * self.gain_bend + excess * (self.share * self.kappa + again)


class Fluctuations(NamedTuple):
    """Entry k belongs to the pre-activations made by W^(k)."""

    q: Array  # their variance at infinite width
    length_shift: Array  # n times the shift of the mean of ln q_k
    length_variance: Array  # n times the variance of ln q_k
    layers: Layers
    excess_shift: Array  # n times the shift of ln chi by the weights' excess kurtosis

    def gain(self, width: int, first: int = 0) -> Gain:
        """The law of ln(||dC/dr^(first)||^2 / ||dC/dr^(depth)||^2), to order 1/width."""
        width = integer("width", width, 1)
        at = self.layers
        depth = len(self.q)
        first = integer("first", first, 0, depth - 1)
        above = _recursion(0.0, at.slope[:0:-1], at.kappa[:0:-1])[::-1]  # K
        along = _recursion(1.0, at.alpha[::-1], at.beta[::-1])[::-1]  # U
        shift = at.gain_shift(self.length_shift, self.length_variance, along[1:])
        shift += along[:-1] - along[1:] + self.excess_shift
        before = at.kappa[first] + at.slope[first] * above[first]
        variance = at.gain_variance(above)[first:].sum()
        variance += before**2 * self.length_variance[first]
        log_chi = float(at.log_chi[first:].sum())
        mean = log_chi + float(shift[first:].sum()) / width
        return Gain(log_chi, mean, float(variance) / width, depth - first)


def fluctuations(
    activation: ActivationLike,
    sigma_w: float,
    sigma_b: float = 0.0,
    *,
    depth: int,
    kurtosis: float = 3.0,
) -> Fluctuations:
    """First-order fluctuations of a network with square layers and independent weights.

    Parameters
    ----------
    sigma_w, sigma_b : standard deviations, Var W = sigma_w^2 / n, Var b = sigma_b^2
    depth : number of weight matrices
    kurtosis : of the weights, which are symmetric (`study.theory.moments.KURTOSIS`)

    The input has standard normal entries, dC/dr at the output is a uniform direction. Where q
    goes to 0 or inf only its logarithm matters, and its variance grows with depth.

    >>> law = fluctuations("relu", 2**0.5, depth=100).gain(width=1000)      # a and c: 5/2 and 5
    >>> round(law.mean, 9), round(law.variance, 9)
    (-0.25, 0.5)
    """
    row = row_of(activation)
    sw2 = positive("sigma_w", sigma_w) ** 2
    sb2 = deviation("sigma_b", sigma_b) ** 2
    depth = integer("depth", depth, 1)
    excess = excess_kurtosis(kurtosis)
    q = within_range(trajectory(row, sigma_w, sigma_b, depth).q)
    at = _averages(row, q, sw2, sb2)
    fourth = at.fourth(excess, np.append(3.0, at.concentration[:-1]))
    tied = np.append((at.share * at.kappa)[1:], 0.0)  # there is no layer above the output
    first = 2 * (sw2 / (sw2 + sb2)) ** 2  # of a chi^2 with n degrees of freedom, over n
    variance = _recursion(first, at.slope**2, at.noise)[:-1]
    shift = _recursion(-first / 2, at.slope, at.length_shift(variance, fourth))[:-1]
    return Fluctuations(q, shift, variance, at, at.excess_gain(excess, fourth, tied))


def _recursion(start: float, factors: Array, added: Array) -> Array:
    """x_0, x_1, ... of x_(k+1) = factor_k x_k + added_k."""
    x = [start]
    for factor, term in zip(factors, added, strict=True):
        x.append(factor * x[-1] + term)
    return np.array(x)


def drift_and_spread(
    activation: ActivationLike, sigma_w: float, sigma_b: float = 0.0, kurtosis: float = 3.0
) -> Spread:
    """The constants a and c of ln G = L ln chi + N(-a L/n, c L/n), at the fixed point of q.

    ValueError where q has none that its fluctuations decay to; for scale-free activations see
    `study.theory.moments.drift_and_spread`.
    """
    row = row_of(activation)
    excess = excess_kurtosis(kurtosis)
    q, at = _at_rest(row, sigma_w, sigma_b)
    if not 0 < q < np.inf or (row.scale_free and sigma_b == 0):
        raise ValueError(
            f"activation = {row.name!r}, sigma_w = {sigma_w}, sigma_b = {sigma_b}: q_star = {q}; "
            "allowed: a fixed point between 0 and inf, at which q comes to rest"
        )
    # The recursions of `fluctuations`, each at its own fixed point.
    fourth = at.fourth(excess, at.concentration)
    variance = at.noise / (1 - at.slope**2)
    shift = at.length_shift(variance, fourth) / (1 - at.slope)
    along = at.beta / (1 - at.alpha)
    above = at.kappa / (1 - at.slope)
    gain = at.gain_shift(shift, variance, along)
    gain += at.excess_gain(excess, fourth, at.share * at.kappa)
    return Spread(-float(gain[0]), float(at.gain_variance(above)[0]))


def independent_layers(activation: ActivationLike, sigma_w: float, sigma_b: float = 0.0) -> Spread:
    """a and c of layers that know nothing of one another: e / 2 and e, at the fixed point of q.

    >>> [round(one, 3) for one in independent_layers("tanh", 1.5)]
    [1.708, 3.416]
    """
    _, at = _at_rest(row_of(activation), sigma_w, sigma_b)
    spread = float(at.baseline[0])
    return Spread(spread / 2, spread)


def _at_rest(row: Activation, sigma_w: float, sigma_b: float) -> tuple[float, Layers]:
    """The fixed point of q, and the averages there."""
    sw2 = positive("sigma_w", sigma_w) ** 2
    sb2 = deviation("sigma_b", sigma_b) ** 2
    q = fixed_point(row, sigma_w, sigma_b)
    return q, _averages(row, within_range(np.array([q])), sw2, sb2)


def _averages(row: Activation, q: Array, sw2: float, sb2: float) -> Layers:
    """One layer each of variance q, from moments of phi and phi'."""
    blocks = np.array_split(q, -(-len(q) // _BLOCK))
    moments = np.concatenate([_moments(row, block) for block in blocks], axis=1)
    size, size_1, size_2, mu_1, mu_11, mu_12, *others = moments
    fourth, mu_2, both, along, across = others
    V = sw2 * size + sb2
    weights = q - sb2  # the part of q that the weights make
    share = weights / q
    slope = sw2 * size_1 / V
    bend = sw2 * size_2 / V
    kappa = mu_11 / mu_1
    gain_bend = mu_12 / mu_1
    # Of y = W r, given z = y + b: mean share z, and a variance share sb2 that b has taken.
    square = share**2 * across + share * sb2 * mu_1 - (share * along) ** 2 / size
    return Layers(
        log_chi=np.log(sw2 * mu_1),
        slope=slope,
        curvature=slope + bend - slope**2,
        kappa=kappa,
        kappa_2=kappa + gain_bend - kappa**2,
        noise=(sw2 / V) ** 2 * (fourth - size**2),
        covariance=sw2 * (both - mu_1 * size) / (mu_1 * V),
        baseline=3 * mu_2 / mu_1**2 - 1,
        alpha=(share * along) ** 2 / (size * weights * mu_1),
        beta=square / (weights * mu_1),
        omega=both / (size * mu_1),
        concentration=fourth / size**2,
        share=share,
        bend=bend,
        gain_bend=gain_bend,
    )


def _moments(row: Activation, q: Array) -> Array:
    """E phi^2, q times its derivative and q^2 times the second; the same of phi'^2; and others.

    Derivatives by q are moments with Hermite polynomials of h = z / sqrt q: q d/dq E f =
    E f He_2(h) / 2 and q^2 d^2/dq^2 E f = E f He_4(h) / 4.
    """
    std = np.sqrt(q)
    with np.errstate(under="ignore"):  # tails that are 0 beside the bulk
        x, p = gaussian_nodes(np.zeros_like(q), std, break_points(row).breaks)
        h2 = (x / std[:, None]) ** 2
        once = (h2 - 1) / 2
        twice = (h2 * (h2 - 6) + 3) / 4
        phi = row.phi(x)
        slope = row.derivative(x)
        phi2 = phi**2
        slope2 = slope**2
        integrands = [f * derivative for f in (phi2, slope2) for derivative in (1, once, twice)]
        integrands += [phi2**2, slope2**2, phi2 * slope2, x * phi * slope, x**2 * slope2]
        return np.array([np.sum(p * values, axis=-1) for values in integrands])
