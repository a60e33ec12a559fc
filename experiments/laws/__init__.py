"""The laws of the field, side by side: what papers state, held against networks.

One module a group of laws; ``law`` says how a law is judged, ``table`` measures them all.

>>> from experiments.laws import LAWS
>>> len({law.name for law in LAWS}) == len(LAWS)
True
"""

from experiments.laws import (
    bounds,
    finite_width,
    homogeneous,
    mean_field,
    normalised,
    precision,
    products,
    ranges,
    residual,
    scale_coefficients,
    shattered,
    signals,
    spectra,
    summary,
    training,
    widths,
)
from experiments.laws.law import Law

_MODULES = (
    finite_width,
    widths,
    summary,
    homogeneous,
    mean_field,
    signals,
    scale_coefficients,
    ranges,
    spectra,
    products,
    bounds,
    normalised,
    residual,
    shattered,
    precision,
    training,
)

LAWS: tuple[Law, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Law)
)
"""In the order of the table."""
