"""Plain backpropagation in a number format, as people run it: nothing is ever rescaled.

The equations of backpropagation, every result rounded to the format. Derivatives of sigmoid and
tanh are taken from their outputs, as frameworks do: s (1 - s) is 0 as soon as s has rounded to 1.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from study.arithmetic.formats import Format, quietly
from study.core.activations import Array
from study.core.activations import activation as activation_row


class PlainRun:
    """A batch on its way up through a network, all in one format; then down, as often as asked.

    Parameters
    ----------
    weights : (n_k, n_{k+1}) arrays; like inputs and cotangents, they are rounded to the format
    inputs : (batch, n_0) array
    activation : a name in `study.core.activations.TABLE`, or one a layer
    number : the format

    Attributes
    ----------
    r, z : lists of r^(0), ..., r^(depth) and of z^(1), ..., z^(depth)

    Examples
    --------
    The norm that a run prints is 0 long before the gradient is:

    >>> from study.arithmetic.formats import FORMATS
    >>> run = PlainRun([np.full((2, 2), 1e-9)] * 2, np.ones((1, 2)), "linear", FORMATS["float32"])
    >>> dW = run.gradient(0, run.backward(np.full((1, 2), 1e-16))[0])
    >>> printed_norm(dW, run.number), is_lost(dW), f"{dW.max():.0e}"
    (0.0, False, '2e-25')
    """

    @quietly
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

    @quietly
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

    @quietly
    def gradient(self, k: int, delta: Array) -> Array:
        """Equation (3): dC/dW^(k), given dC/dz^(k+1)."""
        return self.number.matmul(self.r[k].T, delta)

    @quietly
    def stepped(self, deltas: list[Array], rate: float) -> list[Array]:
        """The weights after a step of gradient descent, given what `backward` returns."""
        moves = [self.number.rounded(rate * self.gradient(k, d)) for k, d in enumerate(deltas)]
        return [self.number.rounded(W - move) for W, move in zip(self.weights, moves, strict=True)]


@quietly
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


def depths_lost(run: PlainRun, dr: Array) -> list[float]:
    """The smallest depths, of the first so many layers, at which dC/dW^(0) is lost.

    Parameters
    ----------
    run : of layers of equal width
    dr : dC/dr at the output, whatever the depth; ReLU'(0) is 0

    Returns
    -------
    Two depths, inf where no depth of the run loses it: that at which the gradient is lost
    (`is_lost`) or the output is not finite, and that at which its `printed_norm` is 0 or not
    finite, too. Once lost, it is taken to stay lost.

    Examples
    --------
    A gradient of 10^-2 (depth - 1) against the smallest number, 2^-149, and its root:

    >>> from study.arithmetic.formats import FORMATS
    >>> W, x = [np.array([[0.01]])] * 40, np.ones((1, 1))
    >>> depths_lost(PlainRun(W, x, "linear", FORMATS["float32"]), x)
    [24.0, 13.0]
    """

    @functools.cache
    def first_gradient(depth: int) -> Array:
        return run.gradient(0, run.backward(dr, 0.0, depth)[0])

    def lost(depth: int) -> bool:
        return not np.isfinite(run.r[depth]).all() or is_lost(first_gradient(depth))

    def norm_lost(depth: int) -> bool:
        return lost(depth) or not 0 < printed_norm(first_gradient(depth), run.number) < np.inf

    deepest = len(run.z)
    return [
        1.0 + bisect_left(range(1, deepest), True, key=gone) if gone(deepest) else np.inf
        for gone in (lost, norm_lost)
    ]
