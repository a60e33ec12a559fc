"""Shaped activations: transformed so that a plain network of a given depth keeps its gradients.

phi^(x) = gamma (phi(alpha x + beta) + delta) goes with sigma_w = 1 and no bias: the variance map V
has its fixed point at 1. C is the correlation map there, D that of all layers together, C composed
with itself ``depth`` times:

    DKS   V(1) = V'(1) = 1,   C(0) = 0,    D'(1) = zeta           (Martens et al. 2021)
    TAT   V(1) = V'(1) = 1,   C'(1) = 1,   D''(1) = tau           (Zhang, Botev & Martens 2022)
    TAT of leaky ReLU: D(0) = eta, by its negative slope alone    (the same)

C'(1) is chi, so that a squared gradient takes zeta through all layers of DKS, and 1 through those
of TAT. What is returned is a row like any other, for networks, figures and the rest of the theory:

>>> from study import theory
>>> row = dks("tanh", depth=100)
>>> round(theory.mean_field(row, sigma_w=1.0).chi ** 100, 9)
1.5
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from study.core.activations import Activation, Look, leaky_relu
from study.theory.blocks import arc_cosine
from study.theory.maps import ActivationLike, row_of
from study.theory.quadrature import break_points, expectation
from study.tools.checks import bad, integer, real
from study.tools.differentiation import differentiated
from study.tools.elementary import Array, root

_LOG_ALPHA = (-14.0, 3.0)  # where alpha and beta are searched
_FARTHEST = 6.0
_CENTRES = sorted(np.linspace(-3, 3, 25), key=abs)  # where the search for beta starts
_ERROR = 1e-6  # of what the conditions ask for beyond a linear activation


def dks(activation: ActivationLike, depth: int, zeta: float = 1.5) -> Activation:
    """Deep kernel shaping of a smooth activation (Martens et al. 2021, section 8).

    Parameters
    ----------
    activation : name, row or function; ValueError if it cannot be shaped, as with a kink
    depth : number of layers that have the activation, 1 to 1,000,000
    zeta : factor of the squared gradient through all of them, above 1

    >>> x = np.random.default_rng(0).normal(size=10**6)
    >>> round(float(np.mean(dks("softplus", depth=50).phi(x) ** 2)), 2)
    1.0
    """
    depth = integer("depth", depth, 1, 1_000_000)
    excess = math.expm1(math.log(real("zeta", zeta, 1.0001, 1000.0)) / depth)
    return _shaped(
        row_of(activation),
        f"dks {depth}",
        excess,
        lambda at: (at.along / at.variance - 1, at.slope / at.variance - 1 - excess),
        lambda at: (at.variance**-0.5, -at.mean),
    )


def tat(activation: ActivationLike, depth: int, tau: float = 0.3) -> Activation:
    """Tailored activation transformation of a smooth activation (Zhang et al. 2022, section 4).

    ``activation`` and ``depth`` as in `dks`; ``tau`` is the curvature at 1 of the correlation map
    of all layers, D''(1).

    >>> from study import theory
    >>> round(theory.mean_field(tat("tanh", depth=100), sigma_w=1.0).chi, 9)
    1.0
    """
    depth = integer("depth", depth, 1, 1_000_000)
    bend = real("tau", tau, 1e-4, 1000.0) / depth
    return _shaped(
        row_of(activation),
        f"tat {depth}",
        bend,
        lambda at: ((at.along + at.lift * at.tilt) / at.slope - 1, at.bend / at.slope - bend),
        lambda at: (at.slope**-0.5, at.lift - at.mean),
    )


def tat_leaky_relu(depth: int, eta: float = 0.9) -> Activation:
    """Leaky ReLU whose negative slope lets orthogonal inputs come to a correlation of ``eta``.

    Zhang et al. 2022, section 3. Where even ReLU, the slope 0, stays below eta, it is ReLU.

    >>> [round(tat_leaky_relu(depth).slopes_at_zero[0], 3) for depth in (10, 100, 1000)]
    [0.0, 0.701, 0.912]
    """
    depth = integer("depth", depth, 1, 1_000_000)
    eta = real("eta", eta, 0.01, 0.9999)

    def excess(slope: float) -> float:
        gap = 1.0
        for _ in range(depth):
            gap -= (1 - slope) ** 2 / (1 + slope**2) * arc_cosine(gap)[1]
        return (1 - eta) - gap

    slope = root(excess, 0.0, 1.0, 1e-15) if excess(0.0) > 0 else 0.0
    gain = math.sqrt(2 / (1 + slope**2))
    return _transformed(leaky_relu(slope), f"tat {depth}", gain, 1.0, 0.0, 0.0)


class _Moments(NamedTuple):
    """Of f(x) = phi(alpha x + beta) - phi(beta), x standard normal; what takes phi' is by x."""

    mean: float  # of phi(alpha x + beta)
    variance: float
    slope: float  # E f'^2
    along: float  # E (f - E f) f' x
    tilt: float  # E f' x, which is E f''
    bend: float  # E f''^2

    @property
    def lift(self) -> float:
        """The mean that V(1) = C'(1) needs; of the sign of tilt, as V'(1) = 1 then has a root."""
        return math.copysign(math.sqrt(max(self.slope - self.variance, 0.0)), self.tilt)


def _shaped(
    row: Activation,
    name: str,
    size: float,
    conditions: Callable[[_Moments], tuple[float, float]],
    scale: Callable[[_Moments], tuple[float, float]],
) -> Activation:
    """Conditions, each 0 at the solution, decide on alpha and beta."""
    if row.kinks:
        raise bad("activation", row.name, "one whose derivative has no kink")
    # Derivatives are written for real numbers: complex steps are refused, differences serve.
    curvature, _ = differentiated(
        lambda z: row.derivative(z.astype(float, casting="same_kind", copy=False))
    )
    breaks = break_points(row).breaks

    def moments(alpha: float, beta: float) -> _Moments:
        centre = float(row.phi(np.array([beta]))[0])

        def integrands(x: Array) -> Array:
            z = alpha * x + beta
            f = row.phi(z) - centre
            slope = alpha * row.derivative(z)
            bend = alpha**2 * curvature(z)
            return np.array([f, f**2, slope**2, f * slope * x, slope * x, bend**2])

        mean, square, slope, along, tilt, bend = expectation(
            integrands, 1.0, (breaks - beta) / alpha
        ).tolist()
        return _Moments(centre + mean, square - mean**2, slope, along - mean * tilt, tilt, bend)

    def misses(place: Array) -> Array:
        return np.array(conditions(moments(math.exp(place[0]), place[1]))) / size

    start = np.clip(math.log(size) / 2, *_LOG_ALPHA)
    bounds = ((_LOG_ALPHA[0], -_FARTHEST), (_LOG_ALPHA[1], _FARTHEST))
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    for beta in _CENTRES:
        solution = scipy.optimize.least_squares(misses, (start, beta), bounds=bounds, **tight)
        if np.abs(solution.fun).max() < _ERROR:
            alpha = math.exp(solution.x[0])
            gain, shift = scale(moments(alpha, solution.x[1]))
            return _transformed(row, name, gain, alpha, float(solution.x[1]), shift)
    raise bad("activation", row.name, "a smooth one that can meet the conditions")


def _transformed(
    row: Activation, name: str, gain: float, alpha: float, beta: float, shift: float
) -> Activation:
    """gain (phi(alpha z + beta) + shift)."""

    def inner(z: Array) -> Array:
        return z * z.dtype.type(alpha) + z.dtype.type(beta)

    return Activation(
        name=f"{row.name}({name})",
        phi=lambda z: z.dtype.type(gain) * (row.phi(inner(z)) + z.dtype.type(shift)),
        prefactor=lambda z, e, kink: z.dtype.type(gain * alpha) * row.derivative(inner(z), kink),
        formula=lambda z, f: gain * (row.formula(alpha * z + beta, f) + shift),
        # ELU's second derivative jumps at 0: quadrature is to know where that has gone.
        kinks=tuple((at - beta) / alpha for at in {0.0, *row.kinks}),
        look=Look(row.look.colour, row.look.marker, f"{row.label} ({name.upper()})"),
        accuracy=row.accuracy,
    )
