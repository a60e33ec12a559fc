"""backpropagate: gradient norms, layer by layer, of a network whose weights are given.

Each example carries a power-of-two exponent, so no norm leaves the range at any depth, while in
range every r, z, delta and dC/dr is, bit for bit, what plain backpropagation gives.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.arithmetic import scaled
from study.arithmetic.activations import EVERY, Activations, Block
from study.arithmetic.kernels import square
from study.arithmetic.scaled import Exponent, Scaled
from study.core.activations import Activation
from study.core.activations import activation as activation_row
from study.core.backprop import backward, forward
from study.core.network import DTYPES
from study.engines.march import cost_gradient, unit_cotangent
from study.engines.recorder import RecordedLayer, Recorder
from study.sampling import gaussian
from study.tools import Array
from study.tools.checks import array, bad, items, one_of, real


class GivenWeights:
    """Matrices W^(k) = matrix 2^exponent, (n_k, n_{k+1}), and biases; see `RecordedLayer`."""

    trunk = EVERY

    def __init__(self, matrices: list[Array], biases: list[Array | None]):
        self.matrices = matrices
        self.biases = biases
        self.exponents = np.zeros(len(matrices), int)
        self.squares = np.zeros(len(matrices))  # of the matrices, once they have been met

    def up(self, k: int, r: Scaled) -> Scaled:
        W = self.matrices[k]
        # Checked, measured and scaled just before its first use finds it in the cache.
        self.matrices[k], self.exponents[k], self.squares[k] = scaled.settle_matrix(W)
        if not math.isfinite(self.squares[k]):
            array(f"weights[{k}]", W, 2, W.dtype)  # names the entry
        z = self._scaled(k, r.mantissa @ self.matrices[k], r.exponent)
        bias = self.biases[k]
        return z if bias is None else scaled.add(z, bias)

    def down(self, k: int, delta: Scaled, r: Scaled) -> Scaled:
        W = self.matrices[k]
        square(W)  # brings W into the cache in order: BLAS would wait for each line of W'
        dr = self._scaled(k, delta.mantissa @ W.T, delta.exponent)  # (2)
        return scaled.settle(dr.mantissa, dr.exponent)

    def _scaled(self, k: int, product: Array, exponent: Exponent) -> Scaled:
        if self.exponents[k]:
            exponent = scaled.spread(exponent, product.shape[:-1]) + self.exponents[k]
        return Scaled(product, exponent)


def backpropagate(
    weights: Sequence[Array],
    inputs: Array,
    activation: str | Activation | Callable | Sequence = "relu",
    biases: Sequence[Array] | None = None,
    targets: Array | None = None,
    cotangent: Array | None = None,
    kink: float = 1.0,
    dtype: str | None = None,
) -> pd.DataFrame:
    """Gradient norms, layer by layer, of a network whose weights are given.

    Parameters
    ----------
    weights : sequence of (n_k, n_{k+1}) arrays
        W^(0), W^(1), ...; rectangular layers must chain. PyTorch stores (out, in): give W.T.
    inputs : (batch, n_0) array
    activation : str, Activation or callable, or one a layer
    biases : sequence of (n_{k+1},) arrays, optional
    targets : (batch, n_depth) array, optional
        The cost is the batch mean of 1/2 |r - y|^2.
    cotangent : (batch, n_depth) array, optional
        dC/dr at the output, as given. Without targets and cotangent it is a random direction of
        Frobenius norm 1, the same at every call.
    kink : float
        phi' at a kink is (1 - kink) * left + kink * right slope.
    dtype : "float32" or "float64", optional
        Default: float32 if all weights are, else float64.

    Returns
    -------
    pandas.DataFrame
        One row a layer; the columns of `study.core.columns.LAYER`. Norms
        are Frobenius norms (not squared), over the batch; logarithms are base 10.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.

    Notes
    -----
    Given the stored forward pass, each norm is right to 4 x depth x unit roundoff (of one layer
    alone, to 6) unless it is ill-conditioned, so that rounding a weight or a z to the format moves
    it further: sums that cancel in a narrow network, examples whose gradients cancel one another, z
    next to a zero of gelu' or silu'. What lies 2^-126 (float32) or 2^-1022 below the largest of its
    row or matrix is taken for 0. phi' below exp(-2^52) is given as that, a bound.

    Examples
    --------
    One neuron in closed form: dC/dW = (ReLU(Wx) - y) Step(Wx) x, at x = 3, W = 2, y = 1:

    >>> df = backpropagate([[[2.0]]], [[3.0]], targets=[[1.0]])
    >>> float(df.grad_norm_mantissa[0] * 2.0 ** df.grad_norm_exponent[0])     # (6 - 1) 1 3
    15.0
    >>> [float(round(10 ** backpropagate([[[0.0]]], [[3.0]], targets=[[1.0]],
    ...                                  kink=k).log10_grad_norm[0], 12)) for k in (0, 0.5, 1)]
    [0.0, 1.5, 3.0]
    """
    weights = _matrices(weights)
    kind = _dtype(dtype, weights)
    kink = real("kink", kink, 0, 1)
    rows = activation_rows(activation, len(weights))
    x = array("inputs", inputs, 2, kind)
    matrices = _chained(weights, x.shape[1], kind)
    given = GivenWeights(matrices, _biases(biases, matrices, kind))
    output = (len(x), matrices[-1].shape[1])
    if targets is not None and cotangent is not None:
        raise bad("cotangent", "given together with targets", "one of the two")
    target = _at_output("targets", targets, output, kind)
    direction = _at_output("cotangent", cotangent, output, kind)
    if target is None and direction is None:
        direction = unit_cotangent(gaussian.key("backpropagate"), output, kind)
    record = Recorder(len(rows), networks=1, batch=len(x), trunks=1)
    # Few kinds, many layers.
    known = {row: Activations([Block(slice(0, 1), row, kink)]) for row in set(rows)}
    layers = [RecordedLayer(k, given, known[row], record) for k, row in enumerate(rows)]
    _pass(layers, record, x, direction, target)
    one = np.zeros(1, int)
    norms = scaled.log10(*scaled.norm(given.squares, given.exponents))
    columns = record.columns(np.arange(len(rows)), one, one, norms[:, None])
    return pd.DataFrame({name: values[:, 0] for name, values in columns.items()})


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _pass(
    layers: list[RecordedLayer],
    record: Recorder,
    x: Array,
    direction: Array | None,
    target: Array | None,
) -> None:
    """Up and down, for the record."""
    trace, r = forward(layers, scaled.settle(x[None], 0))
    record.signal.put(len(layers), r)
    if direction is not None:
        dr = scaled.settle(direction[None], 0)
    elif target is not None:
        dr = cost_gradient(r, target)
        dr = scaled.settle(dr.mantissa, dr.exponent)  # it may be of any size
    record.upstream.put(len(layers), dr)
    for k, step in zip(reversed(range(len(layers))), backward(trace, dr), strict=True):
        record.put(k, step, EVERY)


def _matrices(weights: Any) -> list:
    if isinstance(weights, Mapping) or hasattr(weights, "parameters"):
        allowed = "a sequence of matrices; study.torch.profile takes modules"
        raise bad("weights", type(weights).__name__, allowed)
    weights = items("weights", weights, "a sequence of matrices")
    if not weights:
        raise ValueError("weights has length 0; allowed: at least one matrix")
    return weights


def _dtype(dtype: str | None, weights: list) -> np.dtype:
    if dtype is None:
        single = all(getattr(W, "dtype", None) == np.float32 for W in weights)
        dtype = "float32" if single else "float64"
    return np.dtype(one_of("dtype", dtype, DTYPES))


def activation_rows(kinds: str | Activation | Callable | Sequence, depth: int) -> list[Activation]:
    """The activation of each layer, of one for all or a sequence of them; ValueError names it."""
    if isinstance(kinds, (str, Activation)) or callable(kinds):
        return [activation_row(kinds)] * depth  # one for all
    wanted = f"one activation, or one a layer ({depth})"
    kinds = items("activation", kinds, wanted)
    if len(kinds) != depth:
        raise bad("activation", f"{len(kinds)} names", wanted)
    return [activation_row(kind) for kind in kinds]


def _chained(weights: Sequence, n_in: int, dtype: np.dtype) -> list[Array]:
    """The matrices in ``dtype``, if they chain; `GivenWeights` checks their entries."""
    chained = []
    for k, W in enumerate(weights):
        if type(W).__name__ == "Parameter" and W.is_contiguous() and W.shape[0] == W.shape[-1]:
            warnings.warn(f"weights[{k}]: PyTorch stores (out, in); give W.T", stacklevel=3)
        if not (type(W) is np.ndarray and W.dtype == dtype and W.ndim == 2 and W.size):
            W = array(f"weights[{k}]", W, 2, dtype)
        if W.shape[0] != n_in:
            hint = "; PyTorch stores (out, in): give W.T" if W.shape[1] == n_in else ""
            raise ValueError(
                f"weights[{k}] has shape {W.shape}; allowed: ({n_in}, n), to chain{hint}"
            )
        chained.append(np.ascontiguousarray(W))  # BLAS copies anything else at every product
        n_in = W.shape[1]
    return chained


def _biases(biases: Sequence | None, weights: list[Array], dtype: np.dtype) -> list:
    depth = len(weights)
    if biases is None:
        return [None] * depth
    biases = items("biases", biases, f"one vector a layer ({depth})")
    if len(biases) != depth:
        raise bad("biases", f"{len(biases)} vectors", f"one a layer ({depth})")
    vectors = [array(f"biases[{k}]", b, 1, dtype) for k, b in enumerate(biases)]
    for k, (b, W) in enumerate(zip(vectors, weights, strict=True)):
        if len(b) != W.shape[1]:
            raise bad(f"biases[{k}]", f"{len(b)} units", f"{W.shape[1]}, as W^({k}) has")
    return vectors


def _at_output(
    field: str, value: Array | None, shape: tuple[int, int], dtype: np.dtype
) -> Array | None:
    if value is None:
        return None
    x = array(field, value, 2, dtype)
    if x.shape != shape:
        raise ValueError(f"{field} has shape {x.shape}; allowed: {shape}, the output's")
    return x
