"""The norm of dC/dW^(k) that theory expects in each layer, for one input and square layers.

Three independent factors: the signal that comes up to r^(k), what the derivative leaves of a
gradient in layer k, and what has become of that gradient on its way down from the output:

    ||dC/dW^(k)|| = ||r^(k)|| ||dC/dz^(k+1)||,    ||dC/dr^(k)||^2 ~ sigma_w^2 ||dC/dz^(k+1)||^2

``trajectory`` has all three at infinite width, ``fluctuations`` what width n adds to the mean of
each logarithm, to order 1/n. Norms, not squared; logarithms are base 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from study.core.activations import Array
from study.theory import checks
from study.theory.fluctuations import fluctuations
from study.theory.maps import trajectory, variance_map
from study.theory.moments import KURTOSIS

_LEAST = 2.0**-960
"""Below it a float loses digits of q, or of V(q); phi is its own tangent long before."""


def log10_norms(
    activation: str,
    sigma_w: float,
    sigma_b: float,
    depth: int,
    width: int,
    layers: Sequence[int],
    weights: str | None = None,
) -> Array:
    """The mean of log10 ||dC/dW^(k)|| for each k of `layers`.

    Parameters
    ----------
    activation : name in the table `study.core.activations`
    sigma_w, sigma_b : Var W = sigma_w^2 / width, sigma_w above 0; Var b = sigma_b^2, which at
        finite width must leave the weights a share of each pre-activation above 10^-12
    depth, width : number of weight matrices; units in every layer
    layers : from 0, next to the input, to depth - 1
    weights : law of the weights, a key of `study.theory.moments.KURTOSIS`: to first order in
        1 / width; None: what an infinite width makes of the other factors

    Notes
    -----
    The input has standard normal entries, dC/dr at the output is a random unit vector.

    Examples
    --------
    Networks of ReLU vanish uniformly, and at the critical scale by finite width alone:

    >>> log10_norms("relu", 1.0, 0.0, 1000, 100, [0, 999]).round(1)
    array([-149.5, -149.5])
    >>> log10_norms("relu", 2**0.5, 0.0, 1000, 100, [0, 999]).round(1)
    array([0.8, 0.8])
    >>> log10_norms("relu", 2**0.5, 0.0, 1000, 100, [0, 999], "gaussian").round(1)
    array([-4.6, -4.6])
    """
    sw2 = checks.positive("sigma_w", sigma_w) ** 2
    at = np.asarray(layers)
    q, chi = trajectory(activation, sigma_w, sigma_b, depth)
    signal = np.array([_log_square(activation, sw2, q, chi, k) for k in at])  # of an entry of r
    total = math.log(width) + signal - math.log(sw2)
    if weights is None:
        return (total + np.cumsum(np.log(chi[::-1]))[::-1][at]) / math.log(100)
    law = fluctuations(activation, sigma_w, sigma_b, depth=depth, kurtosis=KURTOSIS[weights])
    # ln |r|^2 from ln q, of which the bias is a part that does not fluctuate.
    share = 1.0  # of q, the weights'
    if sigma_b > 0:
        share = np.exp(np.minimum(signal + math.log(sw2) - np.log(law.q[at]), 0))
    shift = law.length_shift[at] / share
    shift -= (1 - share) * law.length_variance[at] / share**2 / 2
    return (total + shift / width + [law.gain(width, int(k)).mean for k in at]) / math.log(100)


def _log_square(activation: str, sw2: float, q: Array, chi: Array, k: int) -> float:
    """ln of the mean square of r^(k), also where floats hold q no more: there V(q) = chi q."""
    if k == 0:
        return 0.0
    inside = np.flatnonzero((q[:k] > _LEAST) & (q[:k] < 1 / _LEAST))
    last = int(inside[-1])
    if last == k - 1:
        return math.log(variance_map(activation, q[last], 1.0))
    return math.log(q[last]) + float(np.log(chi[last:k]).sum()) - math.log(sw2)
