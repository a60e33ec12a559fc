"""What theory predicts of deep random networks. Nothing here runs a network.

===============  ===================================================================================
quadrature       Gaussian expectations, right for kinks
maps             variance, correlation and gradient from one layer to the next, and layer by layer
mean_field       q*, chi, depth scales, phase, critical sigma_w
layer_law        what one ReLU layer of finite width does to a squared norm
norm_law         the law of a norm after many layers: mean, distribution, quantiles
finite_width     that law for linear and ReLU networks, any widths
dying            the probability of a dead ReLU layer
moments          weights of any symmetric law; drift and spread where they are exact
fluctuations     drift and spread for every activation, to first order in 1/width
normalisation    what batch and layer normalisation do to a gradient
residual         growth under each schedule of branch scales
correlation      shattered gradients: two inputs, their gradients' likeness
spectra          singular values of the Jacobian: spread and largest
deep_linear      Lyapunov exponents of Gaussian products; learning time
decay            how much of the gradient reaches the input
weight_gradient  the norm of dC/dW that theory expects, layer by layer
reach            the depth at which a number format loses the gradient
rounding         how often a pre-activation is exactly 0, by number format
===============  ===================================================================================

An activation is a name, a row or a function. chi and G are factors of the SQUARED norm, logarithms
natural, sigma_w and sigma_b standard deviations: Var W = sigma_w^2 / fan_in.

>>> from study import theory
>>> theory.mean_field("sigmoid", sigma_w=12.0).phase        # a sigmoid network can explode
'chaotic'
>>> round(theory.finite_width.forward_law([100] * 1001).mean, 2)    # chi = 1, and yet the typical
-25.42
"""

from study.theory import (
    correlation,
    deep_linear,
    dying,
    finite_width,
    fluctuations,
    moments,
    norm_law,
    normalisation,
    residual,
    spectra,
)
from study.theory.maps import Trajectory, correlation_map, gradient_factor, trajectory, variance_map
from study.theory.mean_field import CRITICAL, MeanField, critical_sigma_w, mean_field

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
    "normalisation",
    "residual",
    "spectra",
    "trajectory",
    "variance_map",
]
