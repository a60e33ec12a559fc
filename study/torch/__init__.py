"""The bridge to PyTorch: the study's tidy frame for any ``torch.nn.Module``, one row a parameter.

`profile` looks at one forward and backward pass and leaves everything as it was; `watch` goes along
with a training loop.

>>> net = torch.nn.Sequential(*[torch.nn.Linear(8, 8), torch.nn.Sigmoid()] * 100)
>>> df = profile(net, torch.ones(4, 8), loss=lambda output: output.square().mean())
>>> df[["name", "uses", "plain_status"]]        # one layer, used 100 times: one row a parameter
       name  uses plain_status
0  0.weight   100           ok
1    0.bias   100           ok
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

import pandas as pd

try:
    import torch
except ImportError as error:
    needed = (
        'study.torch needs PyTorch; it is installed by: pip install "study[torch]", '
        'in a checkout: pip install ".[torch]"'
    )
    raise ImportError(needed) from error
from torch import Tensor, nn

from study.checks import bad
from study.torch.autograd import Graph
from study.torch.observing import Call, copied, observed, untouched
from study.torch.parameters import COLUMNS, frame
from study.torch.watching import WATCH_COLUMNS, Watch, watch

__all__ = ["COLUMNS", "WATCH_COLUMNS", "Watch", "profile", "watch"]


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
    if not isinstance(module, nn.Module) or not any(True for _ in module.parameters()):
        raise bad("module", module, "a torch.nn.Module with at least one parameter")
    lazy = [n for n, p in module.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise bad("module", f"lazy, without a shape yet: {lazy[0]}", "a module that has been run")
    if not callable(loss):
        raise bad("loss", loss, "a callable, output -> scalar tensor")
    arguments, keywords = _arguments(inputs)
    with untouched(module), torch.inference_mode(False), torch.enable_grad():
        with observed(module) as calls:
            given = [copied(x) for x in arguments], {k: copied(x) for k, x in keywords.items()}
            cost = loss(module(*given[0], **given[1]))
        _check_cost(cost, calls)
        with contextlib.ExitStack() as stack:
            for device in {p.device.type for p in module.parameters()}:
                stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.no_grad())
            return frame(module, calls, Graph(cost))


def _arguments(inputs: object) -> tuple[tuple, dict]:
    keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
    arguments = () if keywords else (inputs,) if isinstance(inputs, Tensor) else inputs
    if not isinstance(arguments, (tuple, list)) or not (arguments or keywords):
        raise bad("inputs", inputs, "a tensor, or a tuple or dict of tensors")
    for key, value in [*enumerate(arguments), *keywords.items()]:
        if not isinstance(value, Tensor):
            raise bad(f"inputs[{key!r}]", value, "a tensor")
    return tuple(arguments), keywords


def _check_cost(cost: object, calls: dict[nn.Module, Call]) -> None:
    if not isinstance(cost, Tensor) or cost.numel() != 1 or not cost.is_floating_point():
        shown = f"a tensor of shape {tuple(cost.shape)}" if isinstance(cost, Tensor) else cost
        raise bad("loss(output)", shown, "a real scalar tensor")
    if cost.grad_fn is None:
        raise bad("loss(output)", cost, "a tensor that depends on the output, not detached from it")
    value = float(cost.detach())
    if not math.isfinite(value):
        late = [c for c in calls.values() if any(not math.isfinite(s) for s, _ in c.output_squares)]
        first = min(late, key=lambda call: call.finished, default=None)
        where = f"; the first output that is not finite is that of {first.name}" if first else ""
        raise bad("loss(output)", value, f"a finite number{where}")
