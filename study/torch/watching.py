"""Along with a training loop: the norm of every parameter's gradient, step by step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study.arithmetic.scaled import log10, status
from study.checks import bad, integer
from study.torch.autograd import entries, square

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

PIECE = 2**18
"""So many entries at a time are summed in float32, which is four times faster than in float64."""


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
        if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
            raise bad("module", module, "a torch.nn.Module with at least one parameter")
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise bad("optimizer", optimizer, "a torch.optim.Optimizer, or None")
        self.names, self.parameters = zip(*module.named_parameters(), strict=True)
        self.steps = 0
        self._recent: deque = deque(maxlen=integer("keep", keep, 1))
        self._spread: list = []
        self._stride = 1
        self._hook = optimizer and optimizer.register_step_pre_hook(self._before_step)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        # A GradScaler leaves it to a fused optimiser to take its scale out, and says so there.
        self.step(float(getattr(optimizer, "grad_scale", None) or 1.0))

    def close(self) -> None:
        """Let go of the optimiser; what was recorded stays."""
        if self._hook:
            self._hook.remove()
            self._hook = None

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """Record the gradients as they are now.

        scale : what the loss was multiplied by, if the gradients still are
        """
        if not (isinstance(scale, (int, float)) and 0 < scale < math.inf):
            raise bad("scale", scale, "a finite number above 0")
        held = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        values = _norms([*(self.parameters[i].grad for i in held), *self.parameters])
        norms = np.full((2, len(self.names)), np.nan)
        norms[0, held], norms[1] = values[: len(held)], values[len(held) :]
        none = np.array([2 - p.requires_grad for p in self.parameters], np.int8)
        none[held] = 0
        self._keep((self.steps, norms, none, float(scale)))
        self.steps += 1

    def _keep(self, row: tuple) -> None:
        last = self._recent.maxlen
        if len(self._recent) == last and self._recent[0][0] % self._stride == 0:
            self._spread.append(self._recent[0])
            if len(self._spread) > last:
                self._stride *= 2
                self._spread = [old for old in self._spread if old[0] % self._stride == 0]
        self._recent.append(row)

    def frame(self) -> pd.DataFrame:
        """One row a parameter and step that is kept; columns `WATCH_COLUMNS`."""
        rows = [*self._spread, *self._recent]
        count = len(self.names)
        norms = np.array([row[1] for row in rows]).reshape(-1, 2, count)
        none = np.array([row[2] for row in rows], np.int8).reshape(-1, count)
        scale = np.array([row[3] for row in rows]).reshape(-1, 1)
        plain = torch.from_numpy(norms[:, 0].copy())
        for i, p in enumerate(self.parameters):
            plain[:, i] = plain[:, i].to(p.dtype.to_real())
        with np.errstate(all="ignore"):
            m, e = np.frexp(norms[:, 0] / scale)
            e = np.where(np.isfinite(m) & (m != 0), e.astype(np.int64) - 1, 0)
            m *= 2
            columns = {
                "step": np.repeat(np.array([row[0] for row in rows], np.int64), count),
                "name": np.array(list(self.names) * len(rows), object),
                "grad_norm_mantissa": m,
                "grad_norm_exponent": e,
                "log10_grad_norm": log10(m, e),
                "log10_weight_norm": np.log10(norms[:, 1]),
                "status": self._words(m, e, none),
                "plain_grad_norm": plain.numpy(),
            }
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})

    @staticmethod
    def _words(m: np.ndarray, e: np.ndarray, none: np.ndarray) -> np.ndarray:
        words = status(m, e)
        for where, word in (
            (m == 0, "zero"),
            (np.isinf(m), "overflow"),
            (np.isnan(m), "nan"),
            (none == 1, "none"),
            (none == 2, "frozen"),
        ):
            words[where] = word
        return words


def _norms(tensors: Sequence[Tensor]) -> np.ndarray:
    """Frobenius norms, float64; one transfer, unless squares may have left the range of float32."""
    tensors = [entries(x) if x.is_sparse or x.is_complex() else x for x in tensors]
    parts = [x.reshape(-1).split(PIECE) if x.numel() > PIECE else (x,) for x in tensors]
    double = any(x.dtype == torch.float64 for x in tensors)
    low, high = (1e-140, 1e140) if double else (1e-13, 1e13)
    norms = torch._foreach_norm(
        [part for own in parts for part in own], 2, dtype=torch.float64 if double else torch.float32
    )
    found = torch.stack([x.to(norms[0].device) for x in norms]).cpu().numpy().astype(np.float64)
    if len(found) > len(tensors):
        with np.errstate(all="ignore"):
            ends = np.cumsum([len(own) for own in parts])
            found = np.sqrt(np.add.reduceat(found * found, ends - [len(own) for own in parts]))
    for i in np.flatnonzero(~((found > low) & (found < high))):
        s, e = square(tensors[i])
        with np.errstate(all="ignore"):
            found[i] = np.ldexp(np.sqrt(s), e)
    return found
