"""Norms of tensors of any size and format: no square underflows or overflows on the way.

>>> round(log10_norm([norm(torch.tensor([3e-200, 4e-200], dtype=torch.float64))]), 6)
-199.30103
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from study.arithmetic.scaled import log10
from study.torch.shards import is_shared, local, of_wholes

Norm = tuple[float, int]
"""(length, exponent): length 2^exponent; the length is infinite or NaN where an entry is."""
ZERO: Norm = (0.0, 0)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex32, torch.complex64, torch.complex128)
LIMITS = {dtype: torch.finfo(dtype).max for dtype in FLOATS}
"""The largest numbers of the formats."""
PIECE = 2**18
"""So many entries at a time are summed in float32, which is four times faster than in float64."""
SMALL = 2**14
"""Tensors of so many entries cost less to copy than to call an operation on."""
ROWS = 64
ENTRIES = 2**20
"""So many sums, signs at random, of so many entries at most, stand for an output's direction."""


def entries(x: Tensor) -> Tensor:
    """The real entries that a tensor stores, in a row."""
    x = x.detach()
    if x.is_sparse:
        x = x.coalesce().values()
    if x.is_complex():
        x = torch.view_as_real(x)
    return x.reshape(-1)


def has_norm(x: Tensor) -> bool:
    """Whether the entries are numbers: quantised ones, of a byte, mean nothing without a scale."""
    return (x.dtype in FLOATS or x.dtype in COMPLEX) and not x.is_meta


def shifted(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent, in steps where 2^exponent itself is outside the format."""
    while abs(exponent) >= 100:
        step = max(-1000, min(exponent // 2, 1000))
        x = x * 2.0**step
        exponent -= step
    return x * 2.0**exponent


def log2_size(x: Tensor) -> int | None:
    """e with the largest magnitude in [2^(e-1), 2^e); None if it is 0 or not finite."""
    x = entries(x)
    size = float(torch.linalg.vector_norm(x, math.inf)) if x.numel() else 0.0
    return math.frexp(size)[1] if size and math.isfinite(size) else None


def norm(x: Tensor) -> Norm:
    """Frobenius norm, summed in float64."""
    x = entries(x)
    exponent = 0
    if x.dtype == torch.float64:  # squares of the shorter formats are in its range
        exponent = log2_size(x) or 0
        x = shifted(x, -exponent)
    length = float(torch.linalg.vector_norm(x, dtype=torch.float64))
    return length, exponent if length else 0


def norm_of_sum(parts: Sequence[tuple[Tensor, int]]) -> Norm:
    """The norm of a sum of tensors x 2^exponent, added in float64."""
    total, top = parts[0]
    if len(parts) > 1:
        tops = [size + exponent for x, exponent in parts if (size := log2_size(x)) is not None]
        top = max(tops, default=0)
        wide = torch.promote_types(total.dtype, torch.float64)
        total = sum(shifted(x.to_dense().to(wide), exponent - top) for x, exponent in parts)
    length, exponent = norm(total)
    return length, exponent + top if length else 0


def normalised(lengths: np.ndarray, exponents: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """lengths 2^exponents with lengths that are 0 or in [1, 2), or not finite."""
    mantissas, shifts = np.frexp(lengths)
    ordinary = np.isfinite(mantissas) & (mantissas != 0)
    return 2 * mantissas, np.where(ordinary, exponents + shifts.astype(np.int64) - 1, 0)


def log10_norm(norms: Sequence[Norm]) -> float:
    """log10 of the norm of several tensors together; NaN where there is none, or no number."""
    if not norms or not all(math.isfinite(length) for length, _ in norms):
        return math.nan
    top = max(exponent for _, exponent in norms)
    length = math.hypot(*(length * 2.0 ** max(exponent - top, -1000) for length, exponent in norms))
    return float(log10(*normalised(np.float64(length), np.int64(top))))


def quick_norms(tensors: Sequence[Tensor]) -> np.ndarray:
    """Frobenius norms, right to 1e-5; of shards, those of the whole, if all processes ask."""
    shared = "DTensor" in {kind.__name__ for kind in set(map(type, tensors))}
    own = [local(x) for x in tensors] if shared else tensors
    lengths = np.zeros(len(own))
    small = []
    large = []
    for i, x in enumerate(own):
        copied = x.dtype == torch.float32 and x.is_cpu and 0 < x.numel() <= SMALL
        (small if copied and x.layout == torch.strided else large).append(i)
    if small:
        lengths[small] = _small_norms([own[i] for i in small])
    if large:
        lengths[large] = _large_norms([own[i] for i in large])
    return of_wholes(tensors, lengths) if shared else lengths


def _small_norms(tensors: Sequence[Tensor]) -> np.ndarray:
    """Of float32 on the processor, copied into one row: faster than an operation for each."""
    row = _flatten_dense_tensors(tensors).detach().numpy()
    starts = [0, *itertools.accumulate(x.numel() for x in tensors)][:-1]
    with np.errstate(all="ignore"):
        return np.sqrt(np.add.reduceat(np.square(row, dtype=np.float64), starts))


def _large_norms(tensors: Sequence[Tensor]) -> np.ndarray:
    """Of any others, in one transfer from the device if all are of usual size."""
    tensors = [entries(x) if x.is_sparse or x.is_complex() else x for x in tensors]
    double = any(x.dtype == torch.float64 for x in tensors)
    pieces = [x.reshape(-1).split(PIECE) if x.numel() > PIECE else (x,) for x in tensors]
    lengths = torch._foreach_norm(
        [*itertools.chain(*pieces)], 2, dtype=torch.float64 if double else torch.float32
    )
    if len({x.device for x in lengths}) > 1:
        lengths = [x.cpu() for x in lengths]
    starts = [0, *itertools.accumulate(map(len, pieces))][:-1]
    lengths = np.hypot.reduceat(torch.stack(lengths).cpu().double().numpy(), starts)
    # Outside this range squares may have left the format: those are taken again.
    low, high = (1e-140, 1e140) if double else (1e-13, 1e13)
    for i in np.flatnonzero((lengths <= low) | (lengths >= high)):
        with np.errstate(over="ignore"):
            lengths[i] = np.ldexp(*norm(tensors[i]))
    return lengths


def quantiles_of(grads: Sequence[Tensor | None], quantiles: Sequence[float]) -> np.ndarray:
    """A row a quantile: the least magnitude that a share q of a gradient's entries do not exceed.

    >>> quantiles_of([torch.tensor([3.0, -1.0, 2.0, -4.0]), None], [0.5, 1]).tolist()
    [[2.0, nan], [4.0, nan]]
    """
    found = np.full((len(quantiles), len(grads)), np.nan)
    for i, grad in enumerate(grads if quantiles else ()):
        if grad is None or not grad.numel():
            continue
        sizes = entries(grad.full_tensor() if is_shared(grad) else grad).abs()
        zeros = grad.numel() - sizes.numel()  # those that a sparse one does not store
        for row, q in enumerate(quantiles):
            place = math.ceil(q * grad.numel()) - zeros
            found[row, i] = float(sizes.double().kthvalue(place).values) if place > 0 else 0.0
    return found


def direction(x: Tensor) -> np.ndarray:
    """A few random sums over what tells entries apart: as far apart as tensors of length 1."""
    for axis, size in enumerate(x.shape):
        x = x - x.mean(axis, keepdim=True) if size > 1 else x
    x = x.flatten()[:: math.ceil(x.numel() / ENTRIES) or 1].double().cpu()
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, x.shape, generator=generator, dtype=torch.int8) - 1
    sums = torch.nn.functional.pad(x * signs, (0, -len(x) % ROWS)).reshape(-1, ROWS).sum(0)
    return (sums / (x.norm() or 1.0)).numpy()
