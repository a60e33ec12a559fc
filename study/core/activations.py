"""The activations: one row each, from which everything else is derived.

A row gives phi, its derivative, the textbook's formula, the name that PyTorch has for it, and how
figures show it. The derivative is written so that it cannot be lost: as a product

    phi'(z) = prefactor(z, e, kink) * e,        e = exp(-decay(z)),  decay >= 0,

a saturated derivative is known by its exponent even where ``exp`` itself underflows. Sigmoid has
decay |z| and prefactor 1 / (1 + e)^2: the textbook's s (1 - s) is exactly 0 from z = 37 on, this is
right to a few units in the last place everywhere. A row without decay has phi' as its prefactor.

At a kink, phi' is ``(1 - kink) * left slope + kink * right slope``: ReLU'(0) = kink.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy

from study.tools import Array, elementary
from study.tools.checks import nearest
from study.tools.differentiation import checked, differentiated, quietly
from study.tools.elementary import EXACT, FAR, soft_exponential, steps

SELU_ALPHA = 1.6732632423543772848  # Klambauer et al. 2017, appendix 1
SELU_LAMBDA = 1.0507009873554804934
LEAKY_SLOPE = 0.01


class Look(NamedTuple):
    """How figures show an activation; the label is its name if it has no other."""

    colour: str = "#666666"
    marker: str = "o"
    label: str = ""


PLAIN = Look()


@dataclass(frozen=True, eq=False)
class Activation:
    """One row; its functions take and return arrays of one float dtype, elementwise.

    >>> activation("selu").slopes_at_infinity
    (0.0, 1.0507009873554805)
    """

    name: str
    phi: Callable[[Array], Array]
    prefactor: Callable[[Array, Any, float], Array]
    """(z, e, kink) -> phi'(z) / e, where e = exp(-decay(z)), or None when there is no decay."""
    formula: Callable
    """(z, functions) -> phi(z) as a textbook has it, for complex numbers or balls."""
    decay: Callable[[Array], tuple[Array, Array | float]] | None = None
    """z -> (t, dt) with phi' proportional to exp(-(t + dt)), dt the rounding error of t."""
    tail: Callable[[Array], Array] | None = None
    """z -> phi(z) / exp(-decay(z)) for z << 0, where phi falls to 0 there."""
    kinks: tuple[float, ...] = ()
    """Where phi' jumps."""
    torch: str | None = None
    """Its name in torch.nn.functional."""
    parameters: tuple[tuple[str, object], ...] = ()
    """The keywords that torch's function takes."""
    look: Look = PLAIN
    accuracy: float = 2.0**-50
    """Relative error of the derivative, about."""

    def derivative(self, z: Array, kink: float = 1.0) -> Array:
        """phi'(z)."""
        if self.decay is None:
            return self.prefactor(z, None, kink)
        t, dt = self.decay(z)
        e = np.exp(-t)
        if dt is not EXACT:
            e -= e * dt  # exp(-(t + dt)) to first order in dt
        return self.prefactor(z, e, kink) * e

    def textbook(self, z: Array) -> Array:
        """phi of complex arguments; at a kink the real part picks the side."""
        return self.formula(z, elementary.Complex)

    @property
    def label(self) -> str:
        """What a figure calls it."""
        return self.look.label or self.name.replace("_", " ")

    @functools.cached_property
    @quietly
    def slopes_at_zero(self) -> tuple[float, float]:
        """phi'(0-), phi'(0+)."""
        # phi'' is of order 1: no slope moves.
        left, right = self.derivative(np.array([-1e-300, 1e-300]))
        return float(left), float(right)

    @functools.cached_property
    @quietly
    def slopes_at_infinity(self) -> tuple[float, float]:
        """phi'(-inf), phi'(+inf)."""
        # So far out that every phi follows its asymptote.
        slopes = self.derivative(np.array([-FAR, FAR]))
        slopes = np.where(np.abs(slopes) > 2.0**-99, slopes, 0.0)  # softsign's, say
        return float(slopes[0]), float(slopes[1])

    @functools.cached_property
    @quietly
    def max_slope(self) -> float:
        """The supremum of |phi'|."""
        slopes = [*self.slopes_at_zero, *self.slopes_at_infinity]
        for at in self.kinks:
            slopes += [*self.derivative(np.full(1, at), 0.0), *self.derivative(np.full(1, at), 1.0)]
        low, high = -64.0, 64.0
        for _ in range(6):  # closes in on the steepest point
            z = np.linspace(low, high, 4097)
            size = np.abs(self.derivative(z))
            steepest = int(np.argmax(size))
            slopes.append(size[steepest])
            low = z[max(steepest - 1, 0)]
            high = z[min(steepest + 1, len(z) - 1)]
        return float(np.max(np.abs(slopes)))

    @functools.cached_property
    @quietly
    def scale_free(self) -> bool:
        """Whether phi(a z) = a phi(z) for every a > 0 (ReLU, leaky ReLU, linear)."""
        z = np.array([-7.3, -1.1, -0.3, 0.0, 0.3, 1.1, 7.3])
        return all(np.array_equal(self.phi(a * z), a * self.phi(z)) for a in (2.0**-9, 8.0))


def _clipped(z: Any, f: Any, low: float, high: float) -> Any:
    """z from ``low`` to ``high``, constant beyond, as a textbook formula."""
    rising = functools.partial(f.choose, at=high, below=lambda z: z, above=lambda z: 0 * z + high)
    return f.choose(z, low, lambda z: 0 * z + low, rising)


def _ramp(name: str, low: float, high: float, **about: Any) -> Activation:
    """z from ``low`` to ``high``, constant beyond."""

    def slope(z: Array, e: None, kink: float) -> Array:
        left = steps(z, 0, 1, kink, at=low)
        right = steps(z, 1, 0, kink, at=high)
        return np.where(z < (low + high) / 2, left, right)

    return Activation(
        name=name,
        phi=lambda z: np.clip(z, low, high),
        prefactor=slope,
        formula=lambda z, f: _clipped(z, f, low, high),
        kinks=(low, high),
        **about,
    )


def _named(name: str, parameter: float, default: float) -> str:
    return name if parameter == default else f"{name}({parameter:g})"


def leaky_relu(slope: float = LEAKY_SLOPE) -> Activation:
    """max(z, slope z), slope < 1 (Maas et al. 2013)."""
    return Activation(
        name=_named("leaky_relu", slope, LEAKY_SLOPE),
        phi=lambda z: np.maximum(z, z.dtype.type(slope) * z),
        prefactor=lambda z, e, kink: steps(z, slope, 1, kink),
        formula=lambda z, f: f.choose(z, 0, lambda z: slope * z, lambda z: z),
        kinks=(0.0,),
        torch="leaky_relu",
        parameters=(("negative_slope", slope),),
        look=Look("#E69F00", "v", "leaky ReLU"),
    )


def elu(alpha: float = 1.0) -> Activation:
    """z above 0, alpha (e^z - 1) below (Clevert et al. 2016)."""
    return Activation(
        name=_named("elu", alpha, 1.0),
        phi=lambda z: soft_exponential(z, 1.0, alpha),
        prefactor=lambda z, e, kink: steps(z, alpha, 1, kink),
        formula=lambda z, f: f.choose(z, 0, lambda z: alpha * f.expm1(z), lambda z: z),
        decay=elementary.below_zero,
        kinks=() if alpha == 1 else (0.0,),
        torch="elu",
        parameters=(("alpha", alpha),),
        look=Look("#882255", "X", "ELU"),
    )


def celu(alpha: float = 1.0) -> Activation:
    """z above 0, alpha (e^(z / alpha) - 1) below (Barron 2017)."""
    return Activation(
        name=_named("celu", alpha, 1.0),
        phi=lambda z: soft_exponential(z, 1.0, alpha, alpha),
        prefactor=lambda z, e, kink: np.ones_like(z),
        formula=lambda z, f: f.choose(z, 0, lambda z: alpha * f.expm1(z / alpha), lambda z: z),
        decay=lambda z: (np.maximum(-z, 0) / z.dtype.type(alpha), EXACT),
        torch="celu",
        parameters=(("alpha", alpha),),
        look=Look("#AA7733", "d", "CELU"),
    )


def softplus(beta: float = 1.0) -> Activation:
    """ln(1 + e^(beta z)) / beta (Dugas et al. 2001)."""

    def phi(z: Array) -> Array:
        x = z.dtype.type(beta) * z
        return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))) / z.dtype.type(beta)

    return Activation(
        name=_named("softplus", beta, 1.0),
        phi=phi,
        prefactor=lambda z, e, kink: 1 / (1 + np.exp(-np.abs(z.dtype.type(beta) * z))),
        formula=lambda z, f: f.log1p(f.exp(beta * z)) / beta,
        decay=lambda z: (np.maximum(-z, 0) * z.dtype.type(beta), EXACT),
        tail=lambda z: np.full_like(z, 1 / beta),
        torch="softplus",
        parameters=(("beta", beta),),
        look=Look("#AA4499", "<"),
    )


def gelu(approximate: str = "none") -> Activation:
    """z times the normal distribution's Phi(z), or its tanh form (Hendrycks & Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate = {approximate!r}; allowed: none, tanh")
    if approximate == "tanh":
        return Activation(
            name="gelu(tanh)",
            phi=lambda z: (
                z
                * elementary.sigmoid(
                    elementary.tanh_gelu(np.clip(z, -30, 30)).astype(z.dtype, copy=False)
                )
            ),
            prefactor=elementary.tanh_gelu_slope,
            formula=lambda z, f: z / (1 + f.exp(-math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))),
            torch="gelu",
            parameters=(("approximate", "tanh"),),
            look=Look("#77AADD", "p", "GELU (tanh)"),
            accuracy=2.0**-44,  # near its zero, and where sigmoid's exponent is large
        )
    return Activation(
        name="gelu",
        phi=elementary.gelu,
        prefactor=elementary.gelu_prefactor,
        formula=lambda z, f: z * (1 + f.erf(z / math.sqrt(2))) / 2,
        decay=elementary.gelu_decay,
        tail=elementary.gelu_tail,
        torch="gelu",
        look=Look("#56B4E9", "p", "GELU"),
    )


# Colours: Okabe & Ito (2008) for the four that are compared most, then tones that stay apart from
# them and from one another for colour-blind readers (Tol 2021).
TABLE: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation(
            name="relu",
            phi=lambda z: np.maximum(z, 0),
            prefactor=lambda z, e, kink: steps(z, 0, 1, kink),
            formula=lambda z, f: f.choose(z, 0, lambda z: 0 * z, lambda z: z),
            kinks=(0.0,),
            torch="relu",
            look=Look("#D55E00", "o", "ReLU"),
        ),
        Activation(
            name="sigmoid",
            phi=elementary.sigmoid,
            prefactor=lambda z, e, kink: 1 / (1 + e * (2 + e)),  # rounds less than (1 + e)^2
            formula=lambda z, f: 1 / (1 + f.exp(-z)),
            decay=elementary.absolute,
            tail=lambda z: np.ones_like(z),
            torch="sigmoid",
            look=Look("#0072B2", "s"),
        ),
        Activation(
            name="tanh",
            phi=np.tanh,
            prefactor=lambda z, e, kink: 4 / (1 + e * (2 + e)),
            formula=lambda z, f: f.tanh(z),
            decay=lambda z: (2 * np.abs(z), EXACT),
            torch="tanh",
            look=Look("#009E73", "D"),
        ),
        Activation(
            name="linear",
            phi=lambda z: z,
            prefactor=lambda z, e, kink: np.ones_like(z),
            formula=lambda z, f: z,
            look=Look("#444444", "^"),
        ),
        leaky_relu(),
        Activation(
            name="selu",
            phi=lambda z: soft_exponential(z, SELU_LAMBDA, SELU_ALPHA),
            prefactor=lambda z, e, kink: steps(z, SELU_LAMBDA * SELU_ALPHA, SELU_LAMBDA, kink),
            formula=lambda z, f: (
                SELU_LAMBDA * f.choose(z, 0, lambda z: SELU_ALPHA * f.expm1(z), lambda z: z)
            ),
            decay=elementary.below_zero,
            kinks=(0.0,),
            torch="selu",
            look=Look("#CC79A7", "P", "SELU"),
        ),
        elu(),
        gelu(),
        Activation(
            name="silu",
            phi=lambda z: z * elementary.sigmoid(z),
            prefactor=elementary.silu_prefactor,
            formula=lambda z, f: z / (1 + f.exp(-z)),
            decay=elementary.below_zero,
            tail=lambda z: z,
            torch="silu",
            look=Look("#332288", "h", "SiLU"),
        ),
        softplus(),
        _ramp("hard_tanh", -1.0, 1.0, torch="hardtanh", look=Look("#117733", ">")),
        # erf(sqrt(pi) z / 2), scaled so that its slope at 0 is 1 (Pennington et al. 2018).
        Activation(
            name="erf",
            phi=lambda z: scipy.special.erf(z.dtype.type(math.sqrt(math.pi) / 2) * z),
            prefactor=lambda z, e, kink: np.ones_like(z),
            formula=lambda z, f: f.erf(math.sqrt(math.pi) / 2 * z),
            decay=elementary.erf_decay,
            look=Look("#999933", "*"),
        ),
        Activation(
            name="mish",
            phi=elementary.mish,
            prefactor=elementary.mish_prefactor,
            formula=lambda z, f: z * f.tanh(f.log1p(f.exp(z))),
            decay=elementary.below_zero,
            tail=lambda z: z,
            torch="mish",
            look=Look("#661100", "H"),
        ),
        Activation(
            name="hardswish",
            phi=lambda z: z * (np.clip(z + 3, 0, 6) / 6),
            prefactor=elementary.hardswish_slope,
            formula=lambda z, f: z * (_clipped(z, f, -3, 3) + 3) / 6,
            kinks=(-3.0, 3.0),
            torch="hardswish",
            look=Look("#6699CC", "8"),
        ),
        _ramp("relu6", 0.0, 6.0, torch="relu6", look=Look("#EE8866", "$6$", "ReLU6")),
        celu(),
        Activation(
            name="softsign",
            phi=lambda z: z / (1 + np.abs(z)),
            prefactor=lambda z, e, kink: 1 / np.square(1 + np.minimum(np.abs(z), FAR)),
            formula=lambda z, f: f.choose(z, 0, lambda z: z / (1 - z), lambda z: z / (1 + z)),
            torch="softsign",
            look=Look("#44AA99", "$s$"),
        ),
    )
}

FAMILIES: dict[str, Callable[..., Activation]] = {
    family.__name__: family for family in (leaky_relu, elu, celu, softplus, gelu)
}
ALIASES = {
    "swish": "silu",
    "identity": "linear",
    "hardtanh": "hard_tanh",
    "hard_swish": "hardswish",
    "logistic": "sigmoid",
    "leakyrelu": "leaky_relu",
}
_HINTS = {"prelu": "; its slope is trained, for one slope write 'leaky_relu(0.25)'"}


def activation(kind: str | Activation | Callable, **about: Any) -> Activation:
    """The row of an activation.

    Parameters
    ----------
    kind : str, Activation or callable
        A name of the table ("relu"), one with its parameter ("leaky_relu(0.2)", "elu(2)",
        "softplus(5)", "gelu(tanh)"), a row, or any function of an array, elementwise.
    **about
        Of a function: ``name``, ``derivative`` (a function of z; found from phi if it is not
        given), ``kinks`` (where the derivative jumps), ``look`` (how figures show it, a `Look`).

    Raises
    ------
    ValueError
        For an unknown name, or a function that is no elementwise function of arrays.

    Examples
    --------
    >>> float(activation("sigmoid").derivative(np.array([40.0]))[0])     # s (1 - s) would print 0
    4.248354255291589e-18
    >>> activation("relu").derivative(np.array([-1.0, 0.0]), kink=0.5)
    array([0. , 0.5])
    >>> activation("leaky_relu(0.2)").derivative(np.array([-1.0, 2.0]))
    array([0.2, 1. ])
    >>> activation(lambda z: z**3, name="cube").derivative(np.array([2.0]))      # it is found
    array([12.])
    """
    if isinstance(kind, Activation) and not about:
        return kind
    if callable(kind):
        return _of_function(kind, **about)
    if isinstance(kind, str) and not about:
        name, _, parameter = kind.strip().rstrip(")").partition("(")
        name = ALIASES.get(name, name)
        if name in TABLE and not parameter:
            return TABLE[name]
        if name in FAMILIES and parameter:
            return _with_parameter(name, parameter)
    typed = str(kind).strip().lower().partition("(")[0]
    hint = _HINTS.get(typed) or nearest(kind, [*TABLE, *ALIASES])
    raise ValueError(f"activation = {kind!r}; allowed: {', '.join(TABLE)}{hint}")


def _of_function(
    function: Callable,
    name: str = "",
    derivative: Callable | None = None,
    kinks: Sequence[float] = (),
    look: Look = PLAIN,
) -> Activation:
    name = name or getattr(function, "__name__", "function")
    kinks = tuple(float(at) for at in kinks)
    accuracy = 2.0**-50
    checked(f"phi of activation {name!r}", function)
    if derivative is None:
        derivative, accuracy = differentiated(function, kinks)
    else:
        checked(f"derivative of activation {name!r}", derivative)

    @quietly
    def prefactor(z: Array, e: None, kink: float) -> Array:
        slopes = derivative(z)
        for at in kinks:
            # Its one-sided limits, about.
            left, right = derivative(np.array([at - 1e-6, at + 1e-6]))
            slopes = np.where(z == at, (1 - kink) * left + kink * right, slopes)
        return slopes.astype(z.dtype, copy=False)

    return Activation(
        name=name,
        phi=quietly(lambda z: np.asarray(function(z)).astype(z.dtype, copy=False)),
        prefactor=prefactor,
        formula=lambda z, functions: function(z),
        kinks=kinks,
        look=look,
        accuracy=accuracy,
    )


@functools.cache
def _with_parameter(name: str, parameter: str) -> Activation:
    if name == "gelu":
        return gelu(parameter)
    try:
        value = float(parameter)
    except ValueError:
        value = math.nan
    if not 1e-6 <= abs(value) <= 1e6 or (value < 0 and name != "leaky_relu"):
        raise ValueError(f"activation = '{name}({parameter})'; allowed: a number from 1e-6 to 1e6")
    return FAMILIES[name](value)
