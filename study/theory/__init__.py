"""What theory predicts of deep random networks. Nothing here runs a network.

==============  ====================================================================================
quadrature      Gaussian expectations, right for kinks
maps            variance, correlation and gradient from one layer to the next, and layer by layer
mean_field      q*, chi, depth scales, phase, critical sigma_w
norm_law        what a layer of finite width does to a norm, and the law of a norm after many layers
finite_width    that law for linear and ReLU networks, any widths; the probability of a dead one
moments         weights of any symmetric law; drift and spread where they are exact
fluctuations    drift and spread for every activation, to first order in 1/width
blocks          normalisation, residual branches, and two inputs: their gradients' likeness
spectra         singular values of the Jacobian: spread, largest, Lyapunov exponents
gradient_norms  the norms that theory expects, layer by layer; the depth at which a format loses one
rounding        how often a pre-activation is exactly 0, by number format
==============  ====================================================================================

An activation is a name, a row or a function. chi and G are factors of the SQUARED norm, logarithms
natural, sigma_w and sigma_b standard deviations: Var W = sigma_w^2 / fan_in.
Derivations are in docs/theory.md.

>>> from study import theory
>>> theory.mean_field("sigmoid", sigma_w=12.0).phase        # a sigmoid network can explode
'chaotic'
"""

from study.theory import (
    blocks,
    finite_width,
    fluctuations,
    gradient_norms,
    moments,
    spectra,
)
from study.theory.maps import correlation_map, gradient_factor, trajectory, variance_map
from study.theory.mean_field import CRITICAL, MeanField, critical_sigma_w, mean_field

__all__ = [
    "CRITICAL",
    "MeanField",
    "blocks",
    "correlation_map",
    "critical_sigma_w",
    "finite_width",
    "fluctuations",
    "gradient_factor",
    "gradient_norms",
    "mean_field",
    "moments",
    "spectra",
    "trajectory",
    "variance_map",
]
