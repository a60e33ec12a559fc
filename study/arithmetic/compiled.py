"""Activations compiled: a row's phi and phi' as one scalar function for loops of numba.

The row's own array functions are called once with a `Symbol` in place of the array; what they do
to it, told by NumPy's protocols, is written down as the lines of a program. exp, expm1 and tanh
are polynomials, so that loops are vectorised and bits do not depend on a maths library; the rules
of `study.sampling.kernels` hold here, too.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from study.arithmetic.activations import LN2_HIGH, LN2_LOW
from study.core.activations import Activation
from study.tools.compiling import inlined


def _reduction(real: type, integer: type, terms: int, high_bits: int) -> Callable:
    """x -> p and two powers of two, e^x = (1 + p) power other, in a format."""
    taylor = tuple(real(1 / math.factorial(n)) for n in range(terms, 1, -1))
    limits = np.finfo(real)
    bits, bias = integer(limits.nmant), integer(limits.maxexp - 1)
    # y + shifter rounds y to an integer, which then stands in the lowest bits.
    shifter = real(1.5 * 2.0**limits.nmant)
    shifter_bits = shifter.view(integer)
    ln2_high = real(math.floor(LN2_HIGH * 2.0**high_bits) / 2.0**high_bits)  # k times it is exact
    ln2_low = real(LN2_HIGH - float(ln2_high) + LN2_LOW)
    per_ln2 = real(1 / math.log(2))
    least, most = real(1.1 * limits.minexp), real(1.1 * limits.maxexp)

    @inlined
    def reduced(x):
        x = min(max(x, least), most)
        shifted = x * per_ln2 + shifter
        k = shifted - shifter
        r = (x - k * ln2_high) - k * ln2_low
        p = taylor[0]
        for c in taylor[1:]:
            p = p * r + c
        n = integer(real(shifted).view(integer) - shifter_bits)
        # 2^k as a product of two, so that it passes through subnormals
        half = integer(n >> integer(1))
        power = integer((half + bias) << bits).view(real)
        return r + r * r * p, power, integer((n - half + bias) << bits).view(real)

    return reduced


def _exponentials(real: type, integer: type, terms: int, high_bits: int) -> dict[str, Callable]:
    """exp, expm1 and tanh in a format, to 1, 2 and 3 units in the last place."""
    reduced = _reduction(real, integer, terms, high_bits)
    one, two = real(1), real(2)

    @inlined
    def exp(x):
        p, power, other = reduced(x)
        return (one + p) * power * other

    @inlined
    def expm1(x):
        p, power, other = reduced(x)
        scale = power * other
        return p * scale + (scale - one)  # scale - 1 is exact near 0, where e^x - 1 would cancel

    @inlined
    def tanh(x):
        e = expm1(-two * abs(x))  # tanh |x| = -e / (e + 2), without cancellation at 0 or overflow
        t = e / (e + two)
        return t if x < 0 else -t

    return {"exp": exp, "expm1": expm1, "tanh": tanh}


EXPONENTIALS = {
    np.dtype(np.float32): _exponentials(np.float32, np.int32, terms=7, high_bits=12),
    np.dtype(np.float64): _exponentials(np.float64, np.int64, terms=14, high_bits=33),
}


class Language(NamedTuple):
    """How a program is written: NumPy's and SciPy's functions for one number, and numbers."""

    lines: Mapping[str, str]
    number: str


LINES = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "absolute": "abs({})",
    "square": "{0} * {0}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "equal": "{} == {}",
    "maximum": "{0} if {0} >= {1} else {1}",
    "minimum": "{0} if {0} <= {1} else {1}",
    "where": "{1} if {0} else {2}",
    "clip": "{1} if {0} < {1} else ({2} if {0} > {2} else {0})",
    "ones_like": "real(1) + real(0) * {}",
    "full_like": "{1} + real(0) * {0}",
    "cast": "real(1) if {0} else real(0)",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "tanh": "tanh({})",
    # In float64, as the format's own exp(x^2) would overflow.
    "log1p": "real(math.log1p({}))",
    "erf": "real(math.erf({}))",
}
PYTHON = Language(LINES, "real({!r})")
_CHOICES = {
    "absolute": "Math.abs({})",
    "maximum": "{0} >= {1} ? {0} : {1}",
    "minimum": "{0} <= {1} ? {0} : {1}",
    "where": "{0} ? {1} : {2}",
    "clip": "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    "ones_like": "1 + 0 * {}",
    "full_like": "{1} + 0 * {0}",
    "cast": "{} ? 1 : 0",
}
_CALLS = {name: f"Math.{name}({{}})" for name in ("exp", "expm1", "tanh", "log1p")}
_CALLS["erf"] = "erf({})"  # which the explorer's script has
JAVASCRIPT = Language({**LINES, **_CHOICES, **_CALLS}, "({!r})")


class Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """Stands for an array of a float dtype; what is done to it becomes lines of ``program``."""

    def __init__(
        self,
        name: str,
        program: dict[str, str],
        dtype: np.dtype,
        truth: bool = False,
        language: Language = PYTHON,
    ):
        self.name = name
        self.language = language
        # Expression -> the variable that holds it: what is found twice is computed once.
        self.program = program
        self.dtype = dtype
        self.truth = truth

    def __bool__(self) -> bool:
        raise TypeError("a symbol stands for many numbers: it is neither true nor false")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs, **options) -> Self:
        if method != "__call__" or not options.keys() <= {"out"}:
            raise TypeError(f"{ufunc.__name__}.{method} with {options} is not written for a number")
        # A product has the same bits everywhere, pow not.
        if ufunc is np.power and inputs[1] in (2, 3):
            square = self * self
            return square if inputs[1] == 2 else square * self
        return self._line(ufunc.__name__, inputs)

    def __array_function__(self, function: Callable, types, inputs: tuple, options) -> Self:
        return self._line(function.__name__, inputs)

    def astype(self, dtype: np.dtype, copy: bool = True) -> Self:
        return self._line("cast", [self]) if self.truth else self

    def _line(self, name: str, inputs) -> Self:
        lines, number = self.language
        texts = [x.name if isinstance(x, Symbol) else number.format(float(x)) for x in inputs]
        expression = lines[name].format(*texts)
        variable = self.program.setdefault(expression, f"v{len(self.program)}")
        truth = name.startswith(("less", "greater", "equal"))
        return Symbol(variable, self.program, self.dtype, truth, self.language)


def program(row: Activation, kink: float, dtype: np.dtype) -> str | None:
    """The source of z -> (phi(z), phi'(z)) for a number of the format, if it can be written.

    >>> from study.core.activations import activation
    >>> print(program(activation("relu"), 1.0, np.dtype("float32")))
    def both(z):
        v0 = z if z >= real(0.0) else real(0.0)
        v1 = z >= real(0.0)
        v2 = real(1) if v1 else real(0)
        return v0, v2
    """
    lines: dict[str, str] = {}
    z = Symbol("z", lines, dtype)
    try:
        phi, slope = row.phi(z), row.derivative(z, kink)
        body = [f"    {variable} = {expression}" for expression, variable in lines.items()]
        return "\n".join(["def both(z):", *body, f"    return {phi.name}, {slope.name}"])
    except Exception:  # whatever a user's function does to what is no array
        return None


def javascript(function: Callable[[Any], Any]) -> str:
    """The source of a function of one number, from one of arrays.

    >>> javascript(lambda z: np.maximum(z, 0) / 6)
    '(z) => { const v0 = z >= (0.0) ? z : (0.0); const v1 = v0 / (6.0); return v1; }'
    """
    lines: dict[str, str] = {}
    result = function(Symbol("z", lines, np.dtype(np.float64), language=JAVASCRIPT))
    body = [f"const {variable} = {expression};" for expression, variable in lines.items()]
    return " ".join(["(z) => {", *body, f"return {result.name}; }}"])


def compiled(source: str, dtype: np.dtype) -> tuple[Callable, str]:
    """The scalar function of a program, and a name that changes whenever its code does."""
    names = {
        "__name__": __name__,
        "math": math,
        "real": dtype.type,
    }
    names |= EXPONENTIALS[dtype]
    exec(source, names)  # of operations and numbers that were written here
    text = f"{source}{dtype}{Path(__file__).read_text(encoding='utf-8')}"
    return inlined(names["both"]), hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
