"""What theory predicts of deep random networks. Nothing here runs a network.

Mean-field theory, at infinite width, for every activation of the table:

>>> from study import theory
>>> sigmoid = theory.mean_field("sigmoid", sigma_w=1.0)
>>> round(sigmoid.chi, 6), sigmoid.phase            # the squared gradient, per layer
(0.055721, 'ordered')
>>> theory.mean_field("sigmoid", sigma_w=12.0).phase        # a sigmoid network can explode
'chaotic'
>>> round(theory.critical_sigma_w("sigmoid"), 6)
10.149264
"""

from study.theory.fixed_point import CRITICAL
from study.theory.maps import (
    Trajectory,
    correlation_map,
    gradient_factor,
    trajectory,
    variance_map,
)
from study.theory.mean_field import MeanField, critical_sigma_w, mean_field

__all__ = [
    "CRITICAL",
    "MeanField",
    "Trajectory",
    "correlation_map",
    "critical_sigma_w",
    "gradient_factor",
    "mean_field",
    "trajectory",
    "variance_map",
]
