"""What `watch` has seen: records of one time each, and the frames made of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study.arithmetic.scaled import log10, status
from study.torch.activity import ACTIVITY_COLUMNS, STATISTICS
from study.torch.norms import LIMITS, has_norm, normalised

WATCH_COLUMNS = {
    "step": "number of the step, 0 first [steps]",
    "call": "which call of the step's closure, 0 first or without one [calls]",
    "name": "the parameter, as named_parameters() has it [-]",
    "layer": "place of its module among those with parameters, in that order, from 0 [layers]",
    "grad_norm_mantissa": "‖.grad‖ = mantissa x 2^exponent; 0 or [1, 2); inf or nan as found; nan "
    "too where there is no gradient [1]",
    "grad_norm_exponent": "the exponent of two that goes with the mantissa [log2]",
    "log10_grad_norm": "Frobenius norm of .grad, over the loss scale; -inf: a zero [log10]",
    "log10_weight_norm": "of the parameter, before the step; nan where it is quantised [log10]",
    "status": "as in the study's frames, but zero for a gradient of zeros (dead or underflowed: "
    "`profile` tells), overflow for inf, nan, frozen, or none (no .grad) [-]",
    "plain_grad_norm": "the norm as the gradient's own format shows it, loss scale included [1]",
    "log10_total_norm": "of the gradients of all parameters together, over the loss scale: what "
    "clip_grad_norm_ counts, before it clips [log10]",
    "log10_update_ratio": "‖what the step added to the parameter‖ / ‖parameter before it‖; nan "
    "without updates=True [log10]",
}
"""The frame of `Watch`: in order: meaning, unit last in square brackets. Quantiles, where asked
for, follow as ``log10_quantile_0.5``: of the magnitudes of the gradient's entries [log10]."""


class Layout:
    """The parameters of a module, looked up again only when it has changed."""

    def __init__(self, module: nn.Module):
        self._module = module
        self._tables: list[dict] = []
        self._seen: list[object] = []
        self._places: list[int] = []
        self._formats: list[torch.dtype] = []
        self.names: tuple[str, ...] = ()
        self.parameters: tuple[Tensor, ...] = ()
        self.matrices = np.zeros(0, bool)

    def refresh(self) -> bool:
        """Whether anything had changed."""
        # Held, what was seen keeps its identity from being given to something new.
        if self._seen and self._ids() == self._places:
            return False
        parts = list(self._module.modules())
        self._seen = []
        self.names, self.parameters = zip(*self._module.named_parameters(), strict=True)
        self.matrices = np.array([p.ndim > 1 for p in self.parameters])
        self._tables = [part._parameters for part in parts] + [part._modules for part in parts]
        self._seen = [x for table in self._tables for x in table.values()]
        self._places = self._ids()
        return True

    def _ids(self) -> list[int]:
        return list(map(id, itertools.chain.from_iterable(x.values() for x in self._tables)))

    def formats(self) -> tuple[list[int], np.ndarray]:
        """Which parameters have norms, and the largest numbers of their formats.

        They are found again where ``module.half()`` or the like has changed the formats.
        """
        formats = [p.dtype for p in self.parameters]
        if formats != self._formats:
            self._formats = formats
            self._numbers = [i for i, p in enumerate(self.parameters) if has_norm(p)]
            self._limits = np.array([LIMITS.get(dtype, np.inf) for dtype in formats])
        return self._numbers, self._limits


class Record(NamedTuple):
    """The numbers of one time, parameter by parameter."""

    number: int
    step: int
    call: int
    scale: float
    name: tuple[str, ...]
    gradient: np.ndarray
    """NaN where there is none."""
    plain: np.ndarray
    """What the gradient's own format shows of it."""
    weight: np.ndarray
    missing: np.ndarray
    """Why there is no gradient; empty where there is one."""
    total: float
    """The norm of all gradients before they were clipped, over the scale."""
    update: np.ndarray
    """‖change of the parameter in the step‖, filled in after it."""
    quantiles: np.ndarray
    """Of the gradient's magnitudes: a row for each that was asked for."""
    activity: dict[str, np.ndarray]
    """By module: what went out of it, as `study.torch.activity` has it."""

    def values(self, quantiles: Sequence[float]) -> dict[str, float]:
        """What a logger takes: a number for each name, where there is one."""
        found = {"grad_norm/total": self.total}
        with np.errstate(all="ignore"):
            rows = {
                "grad_norm": self.gradient,
                "update_ratio": self.scale * self.update / self.weight,
            }
        rows |= {
            f"grad_quantile_{q:g}": row for q, row in zip(quantiles, self.quantiles, strict=True)
        }
        for kind, row in rows.items():
            given = self.missing == "" if kind == "grad_norm" else ~np.isnan(row)
            for i in np.flatnonzero(given):
                found[f"{kind}/{self.name[i]}"] = float(row[i] / self.scale)
        for name, statistics in self.activity.items():
            for kind, value in zip(STATISTICS, statistics, strict=True):
                found[f"{kind}/{name}"] = float(value)
        return found


def frame(records: Sequence[Record], quantiles: Sequence[float]) -> pd.DataFrame:
    """One row a record and parameter; columns `WATCH_COLUMNS`, and quantiles."""
    logs = [f"log10_quantile_{q:g}" for q in quantiles]
    if not records:
        return pd.DataFrame(columns=[*WATCH_COLUMNS, *logs])

    def joined(field: str) -> np.ndarray:
        parts = [np.broadcast_to(getattr(of, field), len(of.name)) for of in records]
        return np.concatenate(parts)

    names = joined("name").astype(object)
    modules = [name.rpartition(".")[0] for name in names]
    missing = joined("missing")
    scale = joined("scale")
    with np.errstate(all="ignore"):
        mantissa, exponent = normalised(joined("gradient") / scale, 0)
        words = status(mantissa, exponent)
        words[mantissa == 0] = "zero"
        words[np.isinf(mantissa)] = "overflow"
        words[np.isnan(mantissa)] = "nan"
        columns = {
            "step": joined("step"),
            "call": joined("call"),
            "name": names,
            "layer": pd.factorize(np.array(modules))[0],
            "grad_norm_mantissa": mantissa,
            "grad_norm_exponent": exponent,
            "log10_grad_norm": log10(mantissa, exponent),
            "log10_weight_norm": np.log10(joined("weight")),
            "status": np.where(missing == "", words, missing),
            "plain_grad_norm": joined("plain"),
            "log10_total_norm": np.log10(joined("total")),
            "log10_update_ratio": np.log10(joined("update") / joined("weight")),
        }
        rows = np.concatenate([of.quantiles for of in records], axis=1) / scale
        columns |= dict(zip(logs, np.log10(rows), strict=True))
    return pd.DataFrame(columns)


def activity_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record and module that was called; columns `ACTIVITY_COLUMNS`."""
    rows = [
        (record.step, record.call, name, *statistics)
        for record in records
        for name, statistics in record.activity.items()
    ]
    return pd.DataFrame(rows, columns=list(ACTIVITY_COLUMNS))
