"""The norm of dC/dW^(k) that theory expects in each layer, for one input and square layers.

Three independent factors: the signal that comes up to r^(k), what the derivative leaves of a
gradient in layer k, and what has become of that gradient on its way down from the output:

    ||dC/dW^(k)|| = ||r^(k)|| ||dC/dz^(k+1)||,    ||dC/dr^(k)||^2 ~ sigma_w^2 ||dC/dz^(k+1)||^2
"""

import math
from collections.abc import Sequence

import numpy as np

from study.core.activations import Activation, Array
from study.theory.fluctuations import fluctuations
from study.theory.maps import ActivationLike, Trajectory, positive, row_of, trajectory, variance_map
from study.theory.moments import KURTOSIS

_LEAST = 2.0**-960
"""Below it a float loses digits of q, or of V(q); phi is its own tangent long before."""


def log10_norms(
    activation: ActivationLike,
    sigma_w: float,
    sigma_b: float,
    depth: int,
    width: int,
    layers: Sequence[int],
    weights: str | None = None,
) -> Array:
    """The mean of log10 ||dC/dW^(k)|| for each k of `layers`; norms not squared.

    Parameters
    ----------
    sigma_w, sigma_b : Var W = sigma_w^2 / width, sigma_w above 0; Var b = sigma_b^2, which at
        finite width must leave the weights a share of each pre-activation above 10^-12
    depth, width : number of weight matrices; units in every layer
    layers : from 0, next to the input, to depth - 1
    weights : law of the weights, a key of `study.theory.moments.KURTOSIS`: to first order in
        1 / width; None: infinite width

    The input has standard normal entries, dC/dr at the output is a random unit vector. Networks of
    ReLU vanish uniformly, and at the critical scale by finite width alone:

    >>> log10_norms("relu", 1.0, 0.0, 1000, 100, [0, 999]).round(1)
    array([-149.5, -149.5])
    >>> log10_norms("relu", 2**0.5, 0.0, 1000, 100, [0, 999], "gaussian").round(1)
    array([-4.6, -4.6])
    """
    row = row_of(activation)
    log_sw2 = 2 * math.log(positive("sigma_w", sigma_w))
    layers = np.asarray(layers)
    path = trajectory(row, sigma_w, sigma_b, depth)
    log_signal = np.array([_log_square(row, log_sw2, path, k) for k in layers])
    log_square = math.log(width) + log_signal - log_sw2
    if weights is None:
        log_gain = np.cumsum(np.log(path.chi[::-1]))[::-1]
        return (log_square + log_gain[layers]) / math.log(100)
    law = fluctuations(row, sigma_w, sigma_b, depth=depth, kurtosis=KURTOSIS[weights])
    # ln |r|^2 from ln q, of which the bias is a part that does not fluctuate.
    share = 1.0  # of q, the weights'
    if sigma_b > 0:
        share = np.exp(np.minimum(log_signal + log_sw2 - np.log(law.q[layers]), 0))
    shift = law.length_shift[layers] / share
    shift -= (1 - share) * law.length_variance[layers] / share**2 / 2
    log_gain = [law.gain(width, int(k)).mean for k in layers]
    return (log_square + shift / width + log_gain) / math.log(100)


def _log_square(row: Activation, log_sw2: float, path: Trajectory, k: int) -> float:
    """ln of the mean square of r^(k), also where floats hold q no more: there V(q) = chi q."""
    if k == 0:
        return 0.0
    q = path.q[:k]
    last = int(np.flatnonzero((q > _LEAST) & (q < 1 / _LEAST))[-1])
    if last == k - 1:
        return math.log(variance_map(row, q[last], 1.0))
    return math.log(q[last]) + float(np.log(path.chi[last:k]).sum()) - log_sw2
