"""Hooks on a forward pass: what went into and out of every module that holds parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from study.torch.autograd import Point
from study.torch.norms import Square, square


@dataclass(frozen=True)
class Signal:
    """A tensor that went in or out: its norm, its form, and where it is in the graph, if it is."""

    square: Square
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    point: Point | None


@dataclass
class Call:
    """What one module did in the forward pass, all its calls together."""

    name: str
    order: int
    """Its place among the modules, by when they were first called."""
    inputs: list[Signal] = field(default_factory=list)
    outputs: list[Signal] = field(default_factory=list)
    finished: int = -1
    """Likewise, by when they first returned."""


@contextlib.contextmanager
def recorded(module: nn.Module) -> Iterator[dict[nn.Module, Call]]:
    """Fill in a `Call` for every module that has parameters and is called meanwhile."""
    calls: dict[nn.Module, Call] = {}
    handles = []
    try:
        for name, part in module.named_modules():
            if any(True for _ in part.parameters()):
                label = f"{name or 'the module itself'} ({type(part).__name__})"
                before = partial(_enter, calls, label)
                handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(part.register_forward_hook(partial(_leave, calls)))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _enter(calls: dict, label: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
    call = calls.setdefault(module, Call(label, len(calls)))
    call.inputs += _signals((args, kwargs))


def _leave(calls: dict, module: nn.Module, _: tuple, output: object) -> None:
    call = calls[module]
    if call.finished < 0:
        call.finished = sum(other.finished >= 0 for other in calls.values())
    call.outputs += _signals(output)


def _signals(value: object) -> list[Signal]:
    """The first tensor of real or complex numbers in nested tuples, lists and mappings."""
    x = next(tensors(value), None)
    if x is None:
        return []
    point = None if x.grad_fn is None else (x.grad_fn, x.output_nr)
    return [Signal(square(x), x.shape, x.dtype, x.device, point)]


def tensors(value: object) -> Iterator[Tensor]:
    """The tensors of real or complex numbers in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(part)
