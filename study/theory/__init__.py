"""What theory predicts of deep random networks. Nothing here runs a network.

A tour, from infinite width to finite. ``mean_field`` and its like are here; the rest by module.

===============  ===================================================================================
mean_field       q*, chi, depth scales, phase, critical sigma_w, of every activation of the table
maps             variance, correlation and gradient from one layer to the next, and layer by layer
spectra          singular values of the Jacobian: spread, largest, density
deep_linear      Lyapunov exponents of Gaussian products; learning time
normalised       what batch and layer normalisation do to a gradient
residual         growth under each schedule of branch scales
correlation      shattered gradients: two inputs, their gradients' likeness
finite_width     the exact law of a gradient's size: linear and ReLU, any widths
norm_law         that law: mean, skewness, distribution, quantiles, samples
fluctuations     drift and spread for every activation, to first order in 1/width
moments          second moments for weights of any symmetric law; drift and spread
decay            how much of the gradient reaches the input: exact law or mean field
weight_gradient  the norm of dC/dW that theory expects, layer by layer
reach            the depth at which a number format loses the gradient
dying            the probability of a dead ReLU layer
rounding         how often a pre-activation is exactly 0, by number format
===============  ===================================================================================

Underneath: ``quadrature`` (right for kinks), ``fixed_point``, ``layer_law`` and ``checks``.
chi and G are factors of the SQUARED norm, logarithms are natural, sigma_w and sigma_b standard
deviations: Var W = sigma_w^2 / fan_in.

>>> from study import theory
>>> sigmoid = theory.mean_field("sigmoid", sigma_w=1.0)
>>> round(sigmoid.chi, 6), sigmoid.phase            # the squared gradient, per layer
(0.055721, 'ordered')
>>> theory.mean_field("sigmoid", sigma_w=12.0).phase        # a sigmoid network can explode
'chaotic'
>>> round(theory.critical_sigma_w("sigmoid"), 6)
10.149264
>>> he = theory.finite_width.forward_law([100] * 1001)      # chi = 1, and yet the typical
>>> round(he.mean, 2)                                       # squared norm falls by e^-25
-25.42
>>> round(theory.normalised.batch_norm_factor("relu"), 4)       # batch normalisation explodes
1.4669
"""

from study.theory import (
    correlation,
    deep_linear,
    dying,
    finite_width,
    fluctuations,
    moments,
    norm_law,
    normalised,
    residual,
    spectra,
)
from study.theory.fixed_point import CRITICAL
from study.theory.maps import Trajectory, correlation_map, gradient_factor, trajectory, variance_map
from study.theory.mean_field import MeanField, critical_sigma_w, mean_field

__all__ = [
    "CRITICAL",
    "MeanField",
    "Trajectory",
    "correlation",
    "correlation_map",
    "critical_sigma_w",
    "deep_linear",
    "dying",
    "finite_width",
    "fluctuations",
    "gradient_factor",
    "mean_field",
    "moments",
    "norm_law",
    "normalised",
    "residual",
    "spectra",
    "trajectory",
    "variance_map",
]
