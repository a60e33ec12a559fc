"""One forward and backward pass of a module, measured and everything left as it was found."""

import contextlib
import inspect
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from study.tools.checks import bad
from study.torch.autograd import Graph
from study.torch.hooks import Calls, recorded, tensors
from study.torch.norms import has_norm, norm
from study.torch.parameters import frame
from study.torch.shards import is_shared
from study.torch.state import copied, preserved


def profile(module: nn.Module, inputs: Any, loss: Callable[..., Tensor]) -> pd.DataFrame:
    """Gradient norms of any module of torch, parameter by parameter, at any depth.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode, the formats and on the devices it is in; an autocast around the call counts.
        Shared parameters have one row, all uses counted. Before ``torch.compile``.
    inputs : whatever ``module(...)`` takes
        One argument, a tuple or list of them, a dict of named ones, or (tuple, dict) of both; what
        is itself a tuple or a dict goes into a tuple. The module is given copies of tensors.
    loss : callable, output -> scalar tensor, or (output, inputs) -> scalar tensor
        The latter is given the copies, which take derivatives.

    Returns
    -------
    pandas.DataFrame
        One row a parameter, in the order of ``named_parameters()``; columns `COLUMNS`. Norms are
        Frobenius norms (not squared), summed in float64; logarithms are base 10.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.

    Notes
    -----
    The backward pass is run several times, scaled by powers of two (see `study.torch.autograd`),
    so that a gradient that the formats of the network lose on its way is still measured: to any
    depth where all of it passes from layer to layer or from block to block (chains, residual
    networks, transformers), elsewhere (U-nets, one embedding for all layers) as far as scaling the
    loss carries. While a plain pass loses nothing, the numbers are its numbers; they are, too, with
    a warning, where the backward pass is not linear (a hook that clips).

    What the *forward* pass has lost in its formats (a sigmoid so saturated that its derivative
    rounds to 0) is a true zero here. Hooks on a parameter act on the plain columns alone. A
    checkpoint has to have ``use_reentrant=False``.

    Parameters, buffers, ``.grad``, training mode, hooks, and the random states of torch (processor
    and CUDA), NumPy and Python are left as found, also after an exception. What a module keeps in
    other attributes is not known here.

    Examples
    --------
    In half precision the first layers of 30 get nothing, and the total norm does not show it:

    >>> _ = torch.manual_seed(0)
    >>> layers = [m for _ in range(30) for m in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
    >>> net = torch.nn.Sequential(*layers).half()
    >>> df = profile(net, torch.ones(4, 16).half(), lambda output: output.float().square().sum())
    >>> df[["plain_grad_norm", "plain_status", "log10_grad_norm"]].round(0).head(1)
       plain_grad_norm plain_status  log10_grad_norm
    0              0.0    underflow            -23.0
    >>> float(df.plain_grad_norm.max()) > 1
    True
    """
    check_profiled(module, loss)
    weights = {p: norm(p) for p in module.parameters() if has_norm(p)}
    with backward_graph(module, inputs, loss) as (calls, graph):
        return frame(module, weights, calls, graph)


@contextlib.contextmanager
def backward_graph(
    module: nn.Module, inputs: Any, loss: Callable, to_inputs: bool = True
) -> Iterator[tuple[Calls, Graph]]:
    """What the modules did in one forward pass, and the graph behind the loss.

    Everything is left as it was found; see `profile` and `forward`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved(module))
        # Whatever the caller has switched off, this pass needs its graph.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        calls, _, cost = forward(module, inputs, loss, to_inputs)
        # Norms are summed in formats of their own, not in those of an autocast around the call.
        for device in {p.device.type for p in module.parameters()}:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.no_grad())
        yield calls, Graph(cost)


def check_module(module: Any) -> None:
    """Raise ValueError unless it is a module whose parameters can be told apart."""
    if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
        raise bad("module", module, "a torch.nn.Module with at least one parameter")
    for name, part in module.named_modules():
        if type(part).__name__ == "FullyShardedDataParallel":
            raise bad("module", f"sharded by FSDP: {name!r}", "a module before it is sharded")


def forward(
    module: nn.Module,
    inputs: Any,
    loss: Callable,
    to_inputs: bool = True,
    only: Collection[nn.Module] | None = None,
) -> tuple[Calls, object, Tensor]:
    """The forward pass on copies of the inputs: what was called, the output, the cost.

    to_inputs : whether the graph goes on to the inputs, also where the loss does not take them
    only : the modules that are recorded; default: all with parameters
    """
    with recorded(module, only) as calls:
        takes_inputs = _takes_inputs(loss)
        inputs = copied(inputs, to_inputs or takes_inputs)
        args, kwargs = arguments(inputs)
        output = module(*args, **kwargs)
        try:
            cost = loss(output, inputs) if takes_inputs else loss(output)
        except RuntimeError as error:
            if not takes_inputs:  # it may have asked for derivatives by what it has never met
                error.add_note(
                    "Derivatives by the inputs need loss(output, inputs): it has copies."
                )
            raise
    _check_cost(cost, inputs, calls)
    return calls, output, cost


def check_profiled(module: Any, loss: object) -> None:
    """Raise ValueError unless a pass of the module can be measured."""
    check_module(module)
    if not callable(loss):
        raise bad("loss", loss, "a callable, output -> scalar tensor")
    for name, part in module.named_modules():
        if hasattr(part, "_orig_mod") or part._compiled_call_impl is not None:
            raise bad("module", f"compiled: {name!r}", "a module before torch.compile")
        if isinstance(part, torch.jit.ScriptModule):
            raise bad("module", f"a ScriptModule: {name!r}", "a module before torch.jit")
    for name, p in module.named_parameters():
        if is_shared(p):
            raise bad("module", f"sharded: {name} is a DTensor", "a module before it is sharded")
        if nn.parameter.is_lazy(p):
            raise bad("module", f"lazy, without a shape yet: {name}", "a module that has been run")
        if p.is_meta:
            raise bad(
                "module",
                f"on the meta device: {name}",
                "parameters with values, as .to_empty and drawing give them",
            )
    if not any(p.requires_grad for p in module.parameters()):
        raise bad("module", "all frozen", "a parameter with requires_grad_()")


def arguments(inputs: Any) -> tuple[tuple, dict]:
    """What the module is called with, by place and by name."""
    if isinstance(inputs, dict):
        return (), inputs
    if type(inputs) not in (tuple, list):
        return (inputs,), {}
    if len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], dict):
        return inputs
    return tuple(inputs), {}


def _takes_inputs(loss: Callable) -> bool:
    """Whether a loss wants a second argument."""
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none
        return False
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in places and p.default is p.empty for p in parameters) == 2


def _check_cost(cost: object, inputs: Any, calls: Calls) -> None:
    if not isinstance(cost, Tensor) or cost.numel() != 1 or not cost.is_floating_point():
        shown = f"a tensor of shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else cost
        raise bad("loss(output)", shown, "a real scalar tensor, such as its .mean()")
    if cost.grad_fn is None:
        raise bad("loss(output)", cost, "a tensor that depends on the output, not detached from it")
    value = float(cost.detach())
    if math.isfinite(value):
        return
    allowed = "a finite number"
    if not all(math.isfinite(norm(x)[0]) for x in tensors(inputs)):
        allowed += ", from inputs that are finite"
    elif calls.lost:
        allowed += f"; the first output that is not finite is that of {calls.lost}"
    raise bad("loss(output)", value, allowed)
