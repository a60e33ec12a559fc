"""Plain backpropagation in a number format, as people run it: nothing is ever rescaled.

The equations of `study.backprop`, every result rounded to the format (to nearest, ties to even,
with subnormals; what exceeds the range is infinite). The 16-bit formats are carried in float32:

- ``float64``, ``float32``: NumPy's arithmetic;
- ``bfloat16``, ``float16``: products and sums in float32, then rounded, as accelerators do;
- ``float16_narrow``: float16 in which a sum is rounded after each of its terms, too.

Derivatives of sigmoid and tanh are taken from their outputs, as frameworks do: s (1 - s) is 0 as
soon as s has rounded to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.activations import Array
from study.activations import activation as activation_row
from study.network import one_of

_as_people_run_it = np.errstate(over="ignore", under="ignore", invalid="ignore")


@_as_people_run_it
def to_float16(x: Array) -> Array:
    """Round to the nearest float16, carried in float32."""
    return np.asarray(x).astype(np.float16).astype(np.float32)


@_as_people_run_it
def to_bfloat16(x: Array) -> Array:
    """Round to the nearest bfloat16, carried in float32: its upper 16 bits.

    >>> to_bfloat16(np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38]))
    array([1.      , 1.015625,      inf], dtype=float32)
    """
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    # Half a unit, less one where the last bit kept is 0; the carry runs on into the exponent.
    kept = (bits + np.uint32(0x7FFF) + (bits >> 16 & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, kept.view(np.float32))


@dataclass(frozen=True)
class Format:
    """A number format: its smallest positive (subnormal) and largest numbers, and its rounding."""

    name: str
    smallest: float
    largest: float
    rounded: Callable[[Array], Array]
    narrow: bool = False
    """Whether a sum is rounded after each term."""

    @_as_people_run_it
    def matmul(self, a: Array, b: Array) -> Array:
        """A b for matrices in the format, the result in the format."""
        if not self.narrow:
            return self.rounded(a @ b)
        total = np.zeros((len(a), b.shape[1]), b.dtype)
        for term in range(len(b)):
            total = self.rounded(total + self.rounded(a[:, term, None] * b[term]))
        return total


def _ieee(name: str, dtype: type, rounded: Callable, narrow: bool = False) -> Format:
    limits = np.finfo(dtype)
    return Format(name, float(limits.smallest_subnormal), float(limits.max), rounded, narrow)


_STEP = 2.0**-7  # of bfloat16, between 1 and 2; its exponents are those of float32
_SINGLE = np.finfo(np.float32)
_BFLOAT16 = _STEP * float(_SINGLE.smallest_normal), (2 - _STEP) * 2.0 ** (_SINGLE.maxexp - 1)
FORMATS = {
    number.name: number
    for number in (
        _ieee("float16", np.float16, to_float16),
        Format("bfloat16", *_BFLOAT16, to_bfloat16),
        _ieee("float32", np.float32, np.float32),
        _ieee("float64", np.float64, np.float64),
        _ieee("float16_narrow", np.float16, to_float16, narrow=True),
    )
}


class PlainRun:
    """A batch on its way up through a network, all in one format; then down, as often as asked.

    Parameters
    ----------
    weights : (n_k, n_{k+1}) arrays; like inputs and cotangents, they are rounded to the format
    inputs : (batch, n_0) array
    activation : a name in `study.activations.TABLE`, or one a layer
    number : the format

    Attributes
    ----------
    r, z : lists of r^(0), ..., r^(depth) and of z^(1), ..., z^(depth)
    """

    @_as_people_run_it
    def __init__(
        self,
        weights: Sequence[Array],
        inputs: Array,
        activation: str | Sequence[str],
        number: Format,
    ):
        names = [activation] * len(weights) if isinstance(activation, str) else activation
        self.weights = [number.rounded(W) for W in weights]
        self.rows, self.number = [activation_row(name) for name in names], number
        self.r, self.z = [number.rounded(inputs)], []
        for W, row in zip(self.weights, self.rows, strict=True):
            self.z.append(number.matmul(self.r[-1], W))
            self.r.append(number.rounded(row.phi(self.z[-1])))

    @_as_people_run_it
    def backward(self, dr: Array, kink: float = 0.0, depth: int | None = None) -> list[Array]:
        """Equations (1) and (2): dC/dz^(1), ..., dC/dz^(depth), given dC/dr^(depth).

        kink : phi' at a kink, as in `study.backpropagate`; frameworks take 0
        depth : of the network, the first so many layers; default: all
        """
        deltas, dr = [], self.number.rounded(dr)
        for k in reversed(range(len(self.z) if depth is None else depth)):
            deltas.append(self.number.rounded(dr * self._slope(k, kink)))
            dr = self.number.matmul(deltas[-1], self.weights[k].T) if k > 0 else None
        return deltas[::-1]

    def _slope(self, k: int, kink: float) -> Array:
        r, name = self.r[k + 1], self.rows[k].name
        if name == "sigmoid":
            return r * (1 - r)
        return 1 - r * r if name == "tanh" else self.rows[k].derivative(self.z[k], kink)

    def gradient(self, k: int, delta: Array) -> Array:
        """Equation (3): dC/dW^(k), given dC/dz^(k+1)."""
        return self.number.matmul(self.r[k].T, delta)


@_as_people_run_it
def printed_norm(gradient: Array, number: Format) -> float:
    """The Frobenius norm as a run prints it: the root of the sum of squares, then rounded.

    The sum is in float32 for the 16-bit formats, else in the format, as torch has it; squares
    leave the range of float32 and float64 at half the decades.
    """
    flat = gradient.reshape(1, -1)
    return float(number.rounded(np.sqrt(flat @ flat.T))[0, 0])


def is_lost(gradient: Array) -> bool:
    """Whether nothing can be learnt from it: all entries are 0, or one is infinite or NaN."""
    return not (np.isfinite(gradient).all() and gradient.any())


def backpropagate(
    weights: Sequence[Array],
    inputs: Array,
    cotangent: Array,
    activation: str | Sequence[str] = "relu",
    number: str = "float32",
    kink: float = 0.0,
) -> pd.DataFrame:
    """Gradients as a plain run in the format of that name has them, layer by layer.

    For the parameters see `PlainRun`; ``cotangent``, (batch, n_depth), is dC/dr at the output.

    Returns
    -------
    DataFrame, a row a layer: ``layer``, ``grad_norm`` (`printed_norm` of dC/dW^(k); not squared),
    ``largest_entry`` (its largest magnitude) and ``lost`` (`is_lost`).

    Examples
    --------
    The printed norm is 0 long before the gradient is:

    >>> W, x, c = [np.full((2, 2), 1e-9)] * 2, np.ones((1, 2)), np.full((1, 2), 1e-16)
    >>> backpropagate(W, x, c, "linear")
       layer  grad_norm  largest_entry   lost
    0      0        0.0   2.000000e-25  False
    1      1        0.0   2.000000e-25  False
    """
    own = FORMATS[one_of("number", number, FORMATS)]
    run = PlainRun(weights, inputs, activation, own)
    gradients = [run.gradient(k, delta) for k, delta in enumerate(run.backward(cotangent, kink))]
    return pd.DataFrame(
        {
            "layer": range(len(gradients)),
            "grad_norm": [printed_norm(dW, own) for dW in gradients],
            "largest_entry": [float(np.abs(dW).max()) for dW in gradients],
            "lost": [is_lost(dW) for dW in gradients],
        }
    )
