"""The state of a module and of the random generators, left as it was found."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Leave mode, buffers and the random states of torch, NumPy and Python as they were."""
    modes = [(part, part.training) for part in module.modules()]
    tables = [(part._buffers, dict(part._buffers)) for part in module.modules()]
    copies = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - others draw from it
    devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(range(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
            for part, mode in modes:
                part.training = mode
            for table, entries in tables:
                table.clear()
                table.update(entries)
            with torch.no_grad():
                for buffer, copy in copies:
                    if not torch.equal(buffer, copy):
                        buffer.copy_(copy)


def copied(x: Tensor) -> Tensor:
    """A copy that takes a gradient, if it can, and may be changed in place."""
    x = x.detach()
    differentiable = x.is_floating_point() or x.is_complex()
    return x.requires_grad_(differentiable).clone()
