"""Along with a training loop: the norm of every parameter's gradient, step by step."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from study.arithmetic.scaled import log10, status
from study.checks import bad, integer
from study.torch.norms import normalised, quick_norms
from study.torch.profiler import check_module

WATCH_COLUMNS = {
    "step": "number of the step, 0 first [steps]",
    "name": "the parameter, as named_parameters() has it [-]",
    "grad_norm_mantissa": "‖.grad‖ = mantissa x 2^exponent; 0 or [1, 2); inf or nan as found; nan "
    "too where there is no gradient [1]",
    "grad_norm_exponent": "the exponent of two that goes with the mantissa [log2]",
    "log10_grad_norm": "Frobenius norm of .grad, over the loss scale; -inf: a zero [log10]",
    "log10_weight_norm": "of the parameter, before the step [log10]",
    "status": "as in the study's frames, but zero for a gradient of zeros (dead or underflowed: "
    "`profile` tells), overflow for inf, nan, frozen, or none (no .grad) [-]",
    "plain_grad_norm": "the norm as the gradient's own format shows it, loss scale included [1]",
}
"""The frame of `Watch`: in order: meaning, unit last in square brackets."""


class Record(NamedTuple):
    """The norms of one step, parameter by parameter."""

    step: int
    scale: float
    gradients: np.ndarray
    """NaN where there is none."""
    weights: np.ndarray
    missing: np.ndarray
    """Why there is no gradient; empty where there is one."""


def watch(
    module: nn.Module, optimizer: torch.optim.Optimizer | None = None, keep: int = 1000
) -> Watch:
    """Record the gradient norms of a module as it trains.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : torch.optim.Optimizer, optional
        Its every ``step()`` is recorded, just before it is taken. Without, call ``.step()`` of the
        watch yourself, between ``backward()`` and ``zero_grad()``.
    keep : int
        The last ``keep`` steps are kept, and of those before them at most ``keep`` more, spread
        evenly over the run: about 40 bytes x keep x parameters at most, however long it lasts.

    Returns
    -------
    Watch
        With ``.step()``, ``.frame()`` and ``.close()``; a context manager.

    Notes
    -----
    One norm a gradient and one a weight, and one transfer from the device a step. Norms are right
    to 1e-5; one whose squares may have left the range of float32 is taken again. It sees the
    gradients that are there: what has underflowed before is a zero to it. `study.torch.profile`
    tells the two apart.

    Examples
    --------
    >>> net = nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with watch(net, optimizer) as watched:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         net(torch.ones(2, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> watched.frame()[["step", "name", "status"]].tail(2).values.tolist()
    [[2, 'weight', 'ok'], [2, 'bias', 'ok']]
    """
    return Watch(module, optimizer, keep)


class Watch:
    """What `watch` returns."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer | None, keep: int):
        check_module(module)
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise bad("optimizer", optimizer, "a torch.optim.Optimizer, or None")
        keep = integer("keep", keep, 1)
        self.names, self.parameters = zip(*module.named_parameters(), strict=True)
        self.steps = 0
        self._recent: deque[Record] = deque(maxlen=keep)
        self._spread: list[Record] = []
        self._stride = 1
        self._hook = optimizer and optimizer.register_step_pre_hook(self._before_step)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the optimiser; what was recorded stays."""
        if self._hook:
            self._hook.remove()
            self._hook = None

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        # A GradScaler leaves it to a fused optimiser to take its scale out, and says so there.
        self.step(float(getattr(optimizer, "grad_scale", None) or 1.0))

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """Record the gradients as they are now.

        scale : what the loss was multiplied by, if the gradients still are
        """
        if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
            raise bad("scale", scale, "a finite number above 0")
        held = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        lengths = quick_norms([*(self.parameters[i].grad for i in held), *self.parameters])
        gradients = np.full(len(self.parameters), np.nan)
        gradients[held] = lengths[: len(held)]
        missing = [_missing(p) for p in self.parameters]
        weights = lengths[len(held) :]
        self._keep(Record(self.steps, float(scale), gradients, weights, np.array(missing, object)))
        self.steps += 1

    def _keep(self, record: Record) -> None:
        """Add the newest; what leaves the recent ones is thinned out to a stride that doubles."""
        last = self._recent.maxlen
        if len(self._recent) == last and self._recent[0].step % self._stride == 0:
            self._spread.append(self._recent[0])
            if len(self._spread) > last:
                self._stride *= 2
                self._spread = [old for old in self._spread if old.step % self._stride == 0]
        self._recent.append(record)

    def frame(self) -> pd.DataFrame:
        """One row a parameter and step that is kept; columns `WATCH_COLUMNS`."""
        records = [*self._spread, *self._recent]
        count = len(self.names)
        scales = np.repeat([record.scale for record in records], count)
        lengths = np.ravel([record.gradients for record in records])
        with np.errstate(all="ignore"):
            mantissa, exponent = normalised(lengths / scales, 0)
            columns = {
                "step": np.repeat([record.step for record in records], count).astype(int),
                "name": np.array(self.names * len(records), object),
                "grad_norm_mantissa": mantissa,
                "grad_norm_exponent": exponent,
                "log10_grad_norm": log10(mantissa, exponent),
                "log10_weight_norm": np.log10(np.ravel([record.weights for record in records])),
                "status": status(mantissa, exponent),
                "plain_grad_norm": self._plain(lengths),
            }
        missing = np.ravel([record.missing for record in records])
        words = columns["status"]
        words[mantissa == 0] = "zero"
        words[np.isinf(mantissa)] = "overflow"
        words[np.isnan(mantissa)] = "nan"
        words[missing != ""] = missing[missing != ""]
        return pd.DataFrame(columns)

    def _plain(self, lengths: np.ndarray) -> np.ndarray:
        """Norms as the formats of the parameters show them."""
        shown = torch.from_numpy(lengths).reshape(-1, len(self.names)).clone()
        for i, p in enumerate(self.parameters):
            shown[:, i] = shown[:, i].to(p.dtype.to_real())
        return shown.flatten().numpy()


def _missing(p: torch.Tensor) -> str:
    if p.grad is not None:
        return ""
    return "none" if p.requires_grad else "frozen"
