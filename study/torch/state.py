"""The state of a module and of the random generators, left as it was found."""

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def preserved(module: nn.Module) -> Iterator[None]:
    """Leave a module's mode and tensors, and the random states of torch, NumPy and Python."""
    modes = [(part, part.training) for part in module.modules()]
    tables = [
        (table, dict(table))
        for part in module.modules()
        for table in (part._parameters, part._buffers)
    ]
    # Parameters too: embeddings with max_norm, and some models, write them as they run.
    held = [x for _, entries in tables for x in entries.values() if x is not None]
    copies = [(x, x.detach().clone()) for x in held]
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
                for x, copy in copies:
                    if not torch.equal(x, copy):
                        x.copy_(copy)


def copied(value: object, differentiable: bool = True) -> object:
    """Copies of the tensors in nested tuples, lists and dicts, which may be changed in place.

    differentiable : whether they take a gradient, if they can; copies of leaves that take one
        themselves hand it on to them, as a loss may differentiate by its own inputs
    """

    def copy(x: Tensor) -> Tensor:
        if differentiable and x.requires_grad and x.is_leaf:
            return x.clone()
        numbers = x.is_floating_point() or x.is_complex()
        return x.detach().requires_grad_(numbers and differentiable).clone()

    return mapped(copy, value)


def mapped(change: Callable[[Tensor], Tensor], value: object) -> object:
    """The same nesting of tuples, lists and dicts, each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)((key, mapped(change, part)) for key, part in value.items())
    if type(value) in (tuple, list):
        return type(value)(mapped(change, part) for part in value)
    if isinstance(value, tuple):  # a named one, such as a packed sequence
        return type(value)(*(mapped(change, part) for part in value))
    return value
