"""What goes out of every module while it trains: mean, spread, size, share near zero."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from study.torch.hooks import tensors

# The frame of `Watch.activations`, in order: meaning, unit last in square brackets.
ACTIVITY_COLUMNS = {
    "step": "number of the step, 0 first [steps]",
    "call": "which call of the step's closure, 0 first or without one [calls]",
    "name": "the module, as named_modules() has it; empty: the whole [-]",
    "activation_mean": "mean of the entries of its output (its first tensor), all calls since the "
    "last record together [1]",
    "activation_std": "their standard deviation [1]",
    "activation_size": "mean of their magnitudes, what a coordinate check compares [1]",
    "near_zero_share": "share of those below a hundredth of their root mean square [1]",
}
STATISTICS = tuple(ACTIVITY_COLUMNS)[3:]
NEAR = 0.01  # of the root mean square: what counts as near zero


class Activity:
    """Statistics of the outputs of all modules, taken while ``is_due()`` and gradients are on."""

    def __init__(
        self,
        module: nn.Module,
        is_due: Callable[[], bool],
        guarded: Callable[[], AbstractContextManager],
    ):
        self._is_due = is_due
        self._guarded = guarded
        self._seen: defaultdict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        self.handles = [
            part.register_forward_hook(partial(self._look, name))
            for name, part in module.named_modules()
        ]

    def __getstate__(self) -> dict[str, object]:
        """A copy of the module, in memory or on disk, is not watched."""
        return {"_is_due": _never}

    def _look(self, name: str, module: nn.Module, args: tuple, output: object) -> None:
        if not self._is_due() or not torch.is_grad_enabled():  # an evaluation does not count
            return
        with self._guarded():
            x = next(tensors(output), None)
            if x is not None and x.numel():
                statistics = _statistics(x)  # first: should it fail, nothing was seen
                self._seen[name].append((x.numel(), statistics))

    def taken(self) -> dict[str, np.ndarray]:
        """By module, in the order of their outputs: `STATISTICS`. What comes next is new."""
        # Forgotten first: what fails is not to fail again at the next record.
        seen, self._seen = self._seen, defaultdict(list)
        return {name: _pooled(calls) for name, calls in seen.items()}


def _never() -> bool:
    return False


def _statistics(x: Tensor) -> Tensor:
    """Mean, variance, mean magnitude, share near zero."""
    # In float32: squares and sums of half precision would leave its range.
    x = (torch.view_as_real(x) if x.is_complex() else x).detach().float()
    variance, mean = torch.var_mean(x, correction=0)
    size = x.abs()
    near = size <= NEAR * (variance + mean**2).sqrt()
    return torch.stack([mean, variance, size.mean(), near.float().mean()])


def _pooled(calls: list[tuple[int, Tensor]]) -> np.ndarray:
    """The statistics of several outputs together."""
    weights = np.array([count for count, _ in calls], float)
    weights /= weights.sum()
    mean, variance, size, near = torch.stack([row for _, row in calls]).double().cpu().numpy().T
    middle = weights @ mean
    spread = weights @ (variance + (mean - middle) ** 2)
    return np.array([middle, spread**0.5, weights @ size, weights @ near])
