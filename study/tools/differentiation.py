"""The derivative of any elementwise function, found from the function itself.

Where it is analytic by complex steps, Im phi(z + ih) / h, right to rounding (Squire & Trapp
1998). Elsewhere by central differences of order h^4 at h = u^(1/5), whose error is about u^(4/5).
Which of the two, and how accurate it is, a few hundred arguments tell.
"""

from collections.abc import Callable, Sequence

import numpy as np

from study.tools import Array

quietly = np.errstate(all="ignore")

COMPLEX_STEP = 1e-100
STEP = np.finfo(np.float64).eps ** (1 / 5)
_PROBES = np.concatenate([np.linspace(-8.05, 8.15, 401), [-30.0, 30.0]])


@quietly
def checked(what: str, function: Callable) -> None:
    """Refuse what is no elementwise function of arrays."""
    wanted = "a function of an array that returns finite numbers of its shape, elementwise"
    try:
        values = np.asarray(function(_PROBES))
        lone = np.asarray(function(_PROBES[:1]))
    except Exception as error:
        reason = f"raises {type(error).__name__}: {error}"
        raise ValueError(f"{what} {reason}; allowed: {wanted}") from None
    if values.shape != _PROBES.shape or lone.shape != (1,):
        raise ValueError(
            f"{what} returns shape {values.shape} for {_PROBES.shape}; allowed: {wanted}"
        )
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        at = _PROBES[~np.isfinite(values)][:1] if values.dtype.kind == "f" else _PROBES[:1]
        raise ValueError(f"{what} returns no finite number at z = {at[0]:.6g}; allowed: {wanted}")


@quietly
def differentiated(function: Callable, kinks: Sequence[float] = ()) -> tuple[Callable, float]:
    """The derivative of a function, and its relative error, about.

    >>> derivative, error = differentiated(np.tanh)
    >>> derivative(np.zeros(1)), error < 1e-14
    (array([1.]), True)
    """

    def complex_step(z: Array) -> Array:
        return function(z.astype(np.complex128) + 1j * COMPLEX_STEP).imag / COMPLEX_STEP

    def by_steps(z: Array) -> Array:
        slopes = complex_step(z)
        lost = ~np.isfinite(slopes)  # complex functions overflow sooner
        if lost.any():
            slopes[lost] = differences(z[lost])
        return slopes

    def differences(z: Array, step: float = STEP) -> Array:
        z = z.astype(np.float64)
        h = step * np.maximum(np.abs(z), 1)  # relative, where z is large
        for at in kinks:  # on either side, from that side
            h = np.where(z == at, h, np.minimum(h, np.abs(z - at) / 3))
        near = function(z + h) - function(z - h)
        far = function(z + 2 * h) - function(z - 2 * h)
        return (8 * near - far) / (12 * h)  # Richardson: the h^2 terms cancel

    z = _PROBES[np.all([np.abs(_PROBES - at) > 0.01 for at in kinks], axis=0)] if kinks else _PROBES
    by_differences = differences(z)
    size = np.maximum(np.abs(by_differences), 1e-3 * np.abs(by_differences).max())
    try:
        analytic = bool(np.all(np.abs(complex_step(z) - by_differences) <= 1e-7 * size))
    except Exception:  # no complex numbers for it
        analytic = False
    if analytic:
        return quietly(by_steps), 2.0**-50
    off = np.abs(by_differences - differences(z, 2 * STEP)) / size  # what doubling the step moves
    return quietly(differences), float(max(off.max(), 2.0**-42))
