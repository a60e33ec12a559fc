"""What theory predicts of deep random networks; nothing here runs one. Derivations: docs/theory.md.

An activation is a name, a row or a function. chi and G are factors of the SQUARED norm, logarithms
natural, sigma_w and sigma_b standard deviations: Var W = sigma_w^2 / fan_in.

>>> from study import theory
>>> theory.mean_field("sigmoid", sigma_w=12.0).phase        # a sigmoid network can explode
'chaotic'
"""

from study.theory import (
    blocks,
    finite_width,
    fluctuations,
    gradient_norms,
    recurrent,
    shaped,
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
    "recurrent",
    "shaped",
    "spectra",
    "trajectory",
    "variance_map",
]
