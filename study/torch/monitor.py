"""Along with a training loop: the norm of every parameter's gradient, step by step."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from study.arithmetic.scaled import log10, status
from study.tools.checks import bad, integer
from study.torch.norms import LIMITS, has_norm, normalised, quick_norms
from study.torch.profiler import check_module

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
}
"""The frame of `Watch`: in order: meaning, unit last in square brackets."""


def watch(
    module: nn.Module,
    optimizer: Optimizer | None = None,
    keep: int = 1000,
    every: int = 1,
    scaler: torch.amp.GradScaler | None = None,
) -> Watch:
    """Record the gradient norms of a module as it trains; the training run is not touched.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters that come and go meanwhile are followed.
    optimizer : torch.optim.Optimizer, optional
        Its every ``step()`` is recorded, with the gradients that it uses: after clipping. Without,
        call ``.step()`` of the watch yourself, after ``backward()``: before clipping, if you like.
    keep : int
        The last ``keep`` records are kept, and of those before them at most ``keep`` more, spread
        evenly over the run: about 32 bytes x keep x parameters at most, however long it lasts.
    every : int
        Record each ``every``-th step.
    scaler : torch.amp.GradScaler, optional
        Then a step that it skips, which most optimisers never hear of, is a row, too.

    Returns
    -------
    Watch
        With ``.step()``, ``.frame()``, ``.faults`` and ``.close()``; a context manager.

    Notes
    -----
    One norm a gradient and one a weight, and one transfer from the device a record. Norms are right
    to 1e-5. What has underflowed before is a zero to it: `study.torch.profile` tells the two apart.
    A fault of its own is warned of once and kept in ``.faults``; it never ends the training run.

    Examples
    --------
    >>> net = nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    >>> with watch(net, optimizer) as watched:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         net(torch.ones(2, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> watched.frame()[["step", "name", "status"]].tail(2).values.tolist()
    [[2, 'weight', 'ok'], [2, 'bias', 'ok']]
    """
    check_module(module)
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer  # accelerate, Lightning and others wrap it
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise bad("optimizer", optimizer, "a torch.optim.Optimizer, or None")
    return Watch(module, optimizer, integer("keep", keep, 1), integer("every", every, 1), scaler)


class Record(NamedTuple):
    """The norms at one time, parameter by parameter."""

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


class Watch:
    """What `watch` returns."""

    def __init__(
        self, module: nn.Module, optimizer: Optimizer | None, keep: int, every: int, scaler: object
    ):
        self.steps = 0
        self.faults: deque[tuple[int, str]] = deque(maxlen=keep)
        self._every = every
        self._module = module
        self._scaler = scaler
        self._names: tuple[str, ...] = ()
        self._recent: deque[Record] = deque(maxlen=keep)
        self._spread: list[Record] = []
        self._stride = 1
        self._count = 0
        self._skipped: Record | None = None
        self._in_backward = False
        self._handles = []
        if optimizer:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
        for p in module.parameters() if optimizer and scaler else ():
            if p.requires_grad:
                self._handles.append(p.register_post_accumulate_grad_hook(self._after_gradient))

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the optimiser; what was recorded stays."""
        self._keep_skipped()
        while self._handles:
            self._handles.pop().remove()

    def step(self, scale: float = 1.0) -> None:
        """Record the gradients as they are now.

        scale : what the loss was multiplied by, if the gradients still are
        """
        self.steps += 1
        self._record(0, scale)

    def frame(self) -> pd.DataFrame:
        """One row a parameter and record that is kept; columns `WATCH_COLUMNS`."""
        self._keep_skipped()
        records = [*self._spread, *self._recent]
        if not records:
            return pd.DataFrame(columns=list(WATCH_COLUMNS))

        def joined(field: str) -> np.ndarray:
            parts = [np.broadcast_to(getattr(of, field), len(of.name)) for of in records]
            return np.concatenate(parts)

        names = joined("name").astype(object)
        modules = [name.rpartition(".")[0] for name in names]
        missing = joined("missing")
        with np.errstate(all="ignore"):
            mantissa, exponent = normalised(joined("gradient") / joined("scale"), 0)
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
            }
        return pd.DataFrame(columns)

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> tuple | None:
        self._skipped = None
        self._in_backward = False
        self.steps += 1
        # A GradScaler leaves it to a fused optimiser to take its scale out, and says so there.
        scale = getattr(optimizer, "grad_scale", None)
        scale = 1.0 if scale is None else scale
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._record(0, scale)
            return None
        calls = itertools.count()

        def recorded() -> object:
            loss = closure()
            self._record(next(calls), scale)  # only now are there the gradients of the step
            return loss

        if len(args) > 1:
            return (args[0], recorded, *args[2:]), kwargs
        return args, {**kwargs, "closure": recorded}

    def _record(self, call: int, scale: float | Tensor) -> None:
        if (self.steps - 1) % self._every == 0:
            with self._guarded():
                self._keep(self._taken(self.steps - 1, call, float(scale)))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """No fault in here ends or changes a training run."""
        try:
            with torch.no_grad():
                yield
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            self.faults.append((self.steps, fault))
            if len(self.faults) == 1:
                with contextlib.suppress(Warning):  # where warnings are errors
                    warnings.warn(f"study.torch.watch: {fault}", stacklevel=4)

    def _taken(self, step: int, call: int, scale: float) -> Record:
        """The norms as they are now."""
        if not 0 < scale < math.inf:
            raise bad("scale", scale, "a finite number above 0")
        names, parameters = zip(*self._module.named_parameters(), strict=True)
        if names != self._names:  # else the names are held once, not once a record
            self._names = names
        grads = {i: p.grad for i, p in enumerate(parameters) if p.grad is not None}
        weights = {i: p for i, p in enumerate(parameters) if has_norm(p)}
        lengths = quick_norms([*grads.values(), *weights.values()])
        gradient, weight = np.full((2, len(names)), np.nan)
        gradient[list(grads)] = lengths[: len(grads)]
        weight[list(weights)] = lengths[len(grads) :]
        limits = [LIMITS.get(p.dtype, math.inf) for p in parameters]
        plain = np.where(gradient > limits, math.inf, gradient)
        missing = np.array(["none" if p.requires_grad else "frozen" for p in parameters], object)
        missing[list(grads)] = ""
        return Record(self._count, step, call, scale, self._names, gradient, plain, weight, missing)

    def _keep(self, record: Record) -> None:
        """Add the newest; what leaves the recent ones is thinned out to a stride that doubles."""
        recent = self._recent
        if len(recent) == recent.maxlen and recent[0].number % self._stride == 0:
            self._spread.append(recent[0])
            if len(self._spread) > recent.maxlen:
                self._stride *= 2
                self._spread = [old for old in self._spread if old.number % self._stride == 0]
        recent.append(record)
        self._count += 1

    def _after_gradient(self, _: Tensor) -> None:
        if not self._in_backward:
            self._in_backward = True
            with self._guarded():
                torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)

    def _after_backward(self) -> None:
        """Hold gradients that overflowed, in case the scaler skips their step."""
        self._in_backward = False
        self._keep_skipped()
        with self._guarded():
            record = self._taken(self.steps, 0, self._scaler.get_scale())
            finite = np.isfinite(record.gradient) | (record.missing != "")
            self._skipped = None if finite.all() else record

    def _keep_skipped(self) -> None:
        """What overflowed, if no step was made of it and the scaler lowered its scale instead."""
        with self._guarded():
            if self._skipped and self._scaler.get_scale() < self._skipped.scale:
                self._keep(self._skipped)
                self._skipped = None
                self.steps += 1
