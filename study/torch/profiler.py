"""One forward and backward pass of a module, measured and everything left as it was found."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from study.checks import bad
from study.torch.autograd import Graph
from study.torch.hooks import Calls, recorded
from study.torch.parameters import frame
from study.torch.state import copied, preserved


def profile(
    module: nn.Module,
    inputs: Tensor | tuple[Tensor, ...] | dict[str, Tensor],
    loss: Callable[[object], Tensor],
) -> pd.DataFrame:
    """Gradient norms of any module of torch, parameter by parameter, at any depth.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode, the formats and on the devices it is in; an autocast around the call counts.
        Shared parameters have one row, all uses counted. Before ``torch.compile``.
    inputs : tensor, or tuple or dict of tensors
        What ``module(...)`` is called with; it is given copies.
    loss : callable, output -> scalar tensor

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
    loss carries. While a plain pass loses nothing, the numbers are its numbers.

    What it cannot see: what the *forward* pass has lost in its formats (an activation that is
    exactly 0, a sigmoid so saturated that its derivative rounds to 0) is a true zero for it. Hooks
    on a parameter act on the plain columns alone. Backward passes that are not linear in the
    gradient that comes in (hooks on tensors that clip it) have no scaled version, and a checkpoint
    has to have ``use_reentrant=False``.

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
    check_module(module)
    if not callable(loss):
        raise bad("loss", loss, "a callable, output -> scalar tensor")
    args, kwargs = _arguments(inputs)
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved(module))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        with recorded(module) as calls:
            args = [copied(x) for x in args]
            kwargs = {name: copied(x) for name, x in kwargs.items()}
            cost = loss(module(*args, **kwargs))
        _check_cost(cost, calls)
        for device in {p.device.type for p in module.parameters()}:
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.no_grad())
        return frame(module, calls, Graph(cost))


def check_module(module: object) -> None:
    """Raise ValueError unless it is a module whose parameters have shapes."""
    if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
        raise bad("module", module, "a torch.nn.Module with at least one parameter")
    for name, p in module.named_parameters():
        if nn.parameter.is_lazy(p):
            raise bad("module", f"lazy, without a shape yet: {name}", "a module that has been run")


def _arguments(inputs: object) -> tuple[tuple, dict]:
    """What `module` is called with, by place and by name."""
    args, kwargs = (), {}
    if isinstance(inputs, Tensor):
        args = (inputs,)
    elif isinstance(inputs, Mapping):
        kwargs = dict(inputs)
    else:
        args = inputs
    if not isinstance(args, (tuple, list)) or not (args or kwargs):
        raise bad("inputs", inputs, "a tensor, or a tuple or dict of tensors")
    for key, value in [*enumerate(args), *kwargs.items()]:
        if not isinstance(value, Tensor):
            raise bad(f"inputs[{key!r}]", value, "a tensor")
    return tuple(args), kwargs


def _check_cost(cost: object, calls: Calls) -> None:
    if not isinstance(cost, Tensor) or cost.numel() != 1 or not cost.is_floating_point():
        shown = f"a tensor of shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else cost
        raise bad("loss(output)", shown, "a real scalar tensor")
    if cost.grad_fn is None:
        raise bad("loss(output)", cost, "a tensor that depends on the output, not detached from it")
    value = float(cost.detach())
    if math.isfinite(value):
        return
    allowed = "a finite number"
    if calls.lost:
        allowed += f"; the first output that is not finite is that of {calls.lost}"
    raise bad("loss(output)", value, allowed)
