"""One forward pass of a module of torch, observed, and everything left as it was found."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from study.torch.autograd import Point, Square, square


class Seen(NamedTuple):
    """A tensor that went in or out: where it is in the graph, and its form."""

    point: Point
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


@dataclass
class Call:
    """What one module did in the forward pass, all its calls together."""

    name: str
    order: int
    """Its place among the modules, by when they were first called."""
    inputs: list[Seen] = field(default_factory=list)
    outputs: list[Seen] = field(default_factory=list)
    input_squares: list[Square] = field(default_factory=list)
    output_squares: list[Square] = field(default_factory=list)
    finished: int = -1
    """Likewise, by when they first returned."""


@contextlib.contextmanager
def observed(module: nn.Module) -> Iterator[dict[nn.Module, Call]]:
    """Fill in a `Call` for every module that has parameters and is called meanwhile."""
    calls: dict[nn.Module, Call] = {}
    handles = []

    def before(own: nn.Module, name: str, args: tuple, kwargs: dict) -> None:
        call = calls.setdefault(own, Call(name, len(calls)))
        _note(first_tensor((args, kwargs)), call.inputs, call.input_squares)

    def after(own: nn.Module, output: object) -> None:
        call = calls[own]
        if call.finished < 0:
            call.finished = sum(other.finished >= 0 for other in calls.values())
        _note(first_tensor(output), call.outputs, call.output_squares)

    try:
        for name, own in module.named_modules():
            if any(True for _ in own.parameters()):
                label = f"{name or 'the module itself'} ({type(own).__name__})"
                handles += [
                    own.register_forward_pre_hook(
                        lambda m, args, kwargs, label=label: before(m, label, args, kwargs),
                        with_kwargs=True,
                    ),
                    own.register_forward_hook(lambda m, _, output: after(m, output)),
                ]
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _note(x: Tensor | None, seen: list[Seen], squares: list[Square]) -> None:
    if x is not None:
        squares.append(square(x))
        if x.grad_fn is not None:
            seen.append(Seen((x.grad_fn, x.output_nr), x.shape, x.dtype, x.device))


def first_tensor(value: object) -> Tensor | None:
    """The first tensor of real or complex numbers in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() or value.is_complex() else None
    parts = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, (Mapping, tuple, list)):
        return None
    return next((x for part in parts if (x := first_tensor(part)) is not None), None)


def copied(x: Tensor) -> Tensor:
    """A copy that takes a gradient, if it can, and may be changed in place."""
    x = x.detach()
    return x.requires_grad_(x.is_floating_point() or x.is_complex()).clone()


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Leave mode, buffers and the random states of torch, NumPy and Python as they were."""
    modes = [(own, own.training) for own in module.modules()]
    held = [(own, dict(own._buffers)) for own in module.modules()]
    copies = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - others draw from it
    cuda = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(range(cuda)):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            for own, mode in modes:
                own.training = mode
            for own, buffers in held:
                own._buffers.clear()
                own._buffers.update(buffers)
            with torch.no_grad():
                for buffer, copy in copies:
                    if not torch.equal(buffer, copy):
                        buffer.copy_(copy)
