"""Norms of tensors of any size and format: no square underflows or overflows on the way.

>>> s, exponent = square(torch.tensor([3e-30, 4e-30]))      # their squares underflow in float32
>>> round(log10_norm([(s, exponent)]), 6)
-29.30103
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from study.arithmetic.scaled import log10, norm

Square = tuple[float, int]
"""(s, exponent): a sum of squares s 4^exponent; s is infinite or NaN where an entry is."""

CHUNK = 2**22
"""So many entries at a time are taken to float64."""
PIECE = 2**18
"""So many entries at a time are summed in float32, which is four times faster than in float64."""


def entries(x: Tensor) -> Tensor:
    """The real entries that a tensor stores, in a row."""
    x = x.detach()
    if x.is_sparse:
        x = x.coalesce().values()
    if x.is_complex():
        x = torch.view_as_real(x)
    return x.reshape(-1)


def largest(x: Tensor) -> float:
    """The largest magnitude among the entries; NaN if one is."""
    if x.numel() == 0:
        return 0.0
    return float(torch.linalg.vector_norm(x, math.inf))


def shifted(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent."""
    if abs(exponent) < 100:
        return x * 2.0**exponent
    # 2^exponent itself may be outside the format: two steps.
    first = max(-1000, min(exponent // 2, 1000))
    second = max(-1000, min(exponent - first, 1000))
    return x * 2.0**first * 2.0**second


def square(x: Tensor) -> Square:
    """The sum of squares of a tensor's entries, in float64."""
    x = entries(x)
    top = largest(x)
    if top == 0 or not math.isfinite(top):
        return top, 0
    exponent = math.frexp(top)[1]
    sums = []
    for chunk in x.split(CHUNK):
        chunk = shifted(chunk.double(), -exponent)
        sums.append(float((chunk * chunk).sum()))
    return math.fsum(sums), exponent


def square_of_sum(parts: Sequence[tuple[Tensor, int]]) -> Square:
    """The square of a sum of tensors x 2^exponent, added in float64."""
    if len(parts) == 1:
        ((total, top),) = parts
    else:
        sizes = [(largest(entries(x)), exponent) for x, exponent in parts]
        if not all(math.isfinite(size) for size, _ in sizes):
            return math.nan, 0
        top = max((math.frexp(size)[1] + e for size, e in sizes if size), default=0)
        wide = torch.promote_types(parts[0][0].dtype, torch.float64)
        total = sum(shifted(x.to_dense().to(wide), exponent - top) for x, exponent in parts)
    s, exponent = square(total)
    return s, exponent + top if s else 0


def log10_norm(squares: Sequence[Square]) -> float:
    """log10 of the norm of several tensors together; NaN where there is none, or no number."""
    if not squares or not all(math.isfinite(s) for s, _ in squares):
        return math.nan
    top = max(exponent for _, exponent in squares)
    s = math.fsum(math.ldexp(s, max(2 * (exponent - top), -2000)) for s, exponent in squares)
    return float(log10(*norm(np.float64(s), np.int64(top))))


def norms(tensors: Sequence[Tensor]) -> np.ndarray:
    """Frobenius norms, float64, right to 1e-5, in one transfer from the device.

    One whose squares may have left the range of the sum's format is taken again.
    """
    tensors = [entries(x) if x.is_sparse or x.is_complex() else x for x in tensors]
    double = any(x.dtype == torch.float64 for x in tensors)
    pieces = []
    starts = []
    for x in tensors:
        starts.append(len(pieces))
        pieces += x.reshape(-1).split(PIECE) if x.numel() > PIECE else [x]
    wide = torch.float64 if double else torch.float32
    lengths = torch._foreach_norm(pieces, 2, dtype=wide)
    lengths = torch.stack([x.to(lengths[0].device) for x in lengths]).cpu().double().numpy()
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.add.reduceat(lengths * lengths, starts))
        low, high = (1e-140, 1e140) if double else (1e-13, 1e13)
        for i in np.flatnonzero(~((low < lengths) & (lengths < high))):
            s, exponent = square(tensors[i])
            lengths[i] = np.ldexp(np.sqrt(s), exponent)
    return lengths
