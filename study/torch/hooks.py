"""Hooks on a forward pass: what went into and out of every module that holds parameters."""

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from study.torch.autograd import Point
from study.torch.norms import Norm, norm


@dataclass
class Ends:
    """The tensors at one end of a module: their norms, and where they are in the graph."""

    norms: list[Norm] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    def add(self, value: object) -> None:
        """The first tensor of a value."""
        x = next(tensors(value), None)
        if x is not None:
            self.norms.append(norm(x))
            if x.grad_fn is not None:
                self.points.append((x.grad_fn, x.output_nr))


@dataclass
class Call:
    """What one module did in the forward pass, all its calls together."""

    order: int  # its place among the modules, by when they were first called
    inputs: Ends = field(default_factory=Ends)
    outputs: Ends = field(default_factory=Ends)


class Calls(dict[nn.Module, Call]):
    """A `Call` for every module with parameters that was called."""

    lost: str | None = None  # the module that was the first to return a number that is not finite

    def enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        call = self.setdefault(module, Call(len(self)))
        call.inputs.add((args, kwargs))

    def leave(self, name: str, module: nn.Module, _: tuple, output: object) -> None:
        outputs = self[module].outputs
        outputs.add(output)
        if not self.lost and not all(math.isfinite(length) for length, _ in outputs.norms):
            self.lost = f"{name or 'the module itself'} ({type(module).__name__})"


@contextlib.contextmanager
def recorded(module: nn.Module, only: Collection[nn.Module] | None = None) -> Iterator[Calls]:
    """Fill in what is called meanwhile, of all modules with parameters or of some."""
    calls = Calls()
    with contextlib.ExitStack() as hooks:  # removes them, whatever happens
        for name, part in module.named_modules():
            if part in only if only is not None else any(True for _ in part.parameters()):
                entry = part.register_forward_pre_hook(calls.enter, with_kwargs=True)
                hooks.enter_context(entry)
                hooks.enter_context(part.register_forward_hook(partial(calls.leave, name)))
        yield calls


def tensors(value: object) -> Iterator[Tensor]:
    """The tensors of real or complex numbers in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(part)
