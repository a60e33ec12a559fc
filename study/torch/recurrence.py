"""The gradient over time in recurrent modules: dC/dh_t, step by step.

Torch's fused LSTM, GRU and RNN do not show what comes back to each hidden state. For one forward
pass each is called once a time step, layer and direction: the same numbers, each state a node.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from study.arithmetic.scaled import log10, status
from study.tools.checks import bad
from study.torch.autograd import Point
from study.torch.hooks import tensors
from study.torch.norms import ZERO, Norm, log10_norm, norm, normalised
from study.torch.profiler import backward_graph, check_profiled

# The frame of `over_time`, in order: meaning, unit last in square brackets.
TIME_COLUMNS = {
    "name": "the recurrent module, as named_modules() has it; empty: the whole [-]",
    "level": "which of its layers, 0 next to the input [layers]",
    "direction": "forward or backward in time [-]",
    "time": "t of h_t, 0 the first of the sequence; of a cell: which of its calls [steps]",
    "grad_norm_mantissa": "‖dC/dh_t‖ = mantissa x 2^exponent; 0 or [1, 2) [1]",
    "grad_norm_exponent": "the exponent of two that goes with the mantissa [log2]",
    "log10_grad_norm": "Frobenius norm over the batch of dC/dh_t, all that comes back to h_t, from "
    "the output at t and from later steps; -inf: a true zero [log10]",
    "log10_signal_norm": "of h_t [log10]",
    "status": "as in the study's frames [-]",
}
# By module, layer, direction and time: where h_t is in the graph, and its norm.
States = dict[tuple[str, int, str, int], tuple[Point | None, Norm]]


def over_time(
    module: nn.Module, inputs: object, loss: Callable[[object], Tensor] | Callable
) -> pd.DataFrame:
    """How much of the gradient reaches each time step of the recurrent parts of a module.

    Parameters
    ----------
    module, inputs, loss
        As for `study.torch.profile`; with an ``nn.RNN``, ``nn.LSTM``, ``nn.GRU`` or one of their
        cells somewhere in it. Packed sequences, layers, both directions and projections count.

    Returns
    -------
    pandas.DataFrame
        One row a module, layer, direction and time step; columns `TIME_COLUMNS`. Norms are not
        squared; logarithms are base 10.

    Notes
    -----
    Measured to any depth where all of the gradient passes through each state (an RNN or GRU that is
    given the inputs, with a loss of h_n alone), elsewhere as far as scaling the loss carries: about
    115 decades below 1 in float32, 900 in float64. In training mode dropout between layers draws
    masks of its own. All is left as it was found.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> rnn = nn.RNN(4, 8)
    >>> df = over_time(rnn, torch.randn(50, 2, 4), lambda output: output[0][-1].sum())
    >>> df.log10_grad_norm.iloc[[0, 24, 49]].round(0).tolist()
    [-15.0, -8.0, 1.0]
    """
    check_profiled(module, loss)
    states: States = {}
    with (
        _unrolled(module, states),
        backward_graph(module, inputs, loss, to_inputs=False) as (_, graph),
    ):
        points = {point for point, _ in states.values() if point is not None}
        at = graph.norms([], points)
    if not states:
        raise bad(
            "module", type(module).__name__, "one that calls an RNN, LSTM, GRU or their cells"
        )
    lengths, exponents = np.array([at.get(point, ZERO) for point, _ in states.values()]).T
    mantissa, exponent = normalised(lengths, exponents.astype(np.int64))
    df = pd.DataFrame(list(states), columns=list(TIME_COLUMNS)[:4])
    return df.assign(
        grad_norm_mantissa=mantissa,
        grad_norm_exponent=exponent,
        log10_grad_norm=log10(mantissa, exponent),
        log10_signal_norm=[log10_norm([size]) for _, size in states.values()],
        status=status(mantissa, exponent),
    )


@contextlib.contextmanager
def _unrolled(module: nn.Module, states: States) -> Iterator[None]:
    """Let recurrent modules be called step by step, and note every state."""
    with contextlib.ExitStack() as hooks:
        for name, part in module.named_modules():
            if isinstance(part, nn.RNNBase):
                hook = partial(_step_by_step, name, states)
                hooks.enter_context(part.register_forward_hook(hook, with_kwargs=True))
            elif isinstance(part, nn.RNNCellBase):
                hook = partial(_one_call, name, states)
                hooks.enter_context(part.register_forward_hook(hook))
        yield


def _note(states: States, key: tuple[str, int, str, int], h: Tensor) -> None:
    point = None if h.grad_fn is None else (h.grad_fn, h.output_nr)
    states[key] = (point, norm(h))


def _one_call(name: str, states: States, cell: nn.Module, args: tuple, output: object) -> None:
    call = sum(key[0] == name for key in states)
    _note(states, (name, 0, "forward", call), next(tensors(output)))


def _step_by_step(
    name: str, states: States, rnn: nn.RNNBase, args: tuple, kwargs: dict, fused: object
) -> object:
    """What the module returns, made step by step."""
    given = dict(zip(("input", "hx"), args, strict=False)) | kwargs
    x = given["input"]
    packed = x if isinstance(x, PackedSequence) else None
    single = packed is None and x.dim() == 2
    if packed:
        steps = list(packed.data.split(packed.batch_sizes.tolist()))  # fewer and fewer rows
    elif single:
        steps = list(x.unsqueeze(1))
    else:
        steps = list(x.transpose(0, 1) if rnn.batch_first else x)
    first = _first_states(rnn, given.get("hx"), steps[0], packed)
    last = []  # by layer, and in each by direction, as torch stacks them
    for level in range(rnn.num_layers):
        ways = []
        for way in range(2 if rnn.bidirectional else 1):
            state = [kind[len(last)] for kind in first]
            outputs, state = _one_way(rnn, level, way, steps, state)
            for time, h in enumerate(outputs):
                _note(states, (name, level, ("forward", "backward")[way], time), h)
            ways.append(outputs)
            last.append(state)
        steps = [torch.cat(both, -1) for both in zip(*ways, strict=True)]
        if level < rnn.num_layers - 1:
            steps = [functional.dropout(r, rnn.dropout, rnn.training) for r in steps]
    ends = [torch.stack(kind) for kind in zip(*last, strict=True)]
    if packed:
        output = PackedSequence(torch.cat(steps), *packed[1:])
        ends = [_in_order(end, packed.unsorted_indices) for end in ends]
    else:
        output = torch.stack(steps, 1 if rnn.batch_first and not single else 0)
    if single:
        output = output.squeeze(1)
        ends = [end.squeeze(1) for end in ends]
    return output, tuple(ends) if rnn.mode == "LSTM" else ends[0]


def _first_states(
    rnn: nn.RNNBase, given: object, first: Tensor, packed: PackedSequence | None
) -> list[Tensor]:
    """h, and of an LSTM c, of all layers and directions before the first step."""
    sizes = [rnn.proj_size or rnn.hidden_size, rnn.hidden_size][: 1 + (rnn.mode == "LSTM")]
    if given is None:
        rows = rnn.num_layers * (1 + rnn.bidirectional)
        return [first.new_zeros(rows, len(first), size) for size in sizes]
    kinds = given if rnn.mode == "LSTM" else [given]
    if packed:
        return [_in_order(kind, packed.sorted_indices) for kind in kinds]
    return [kind.unsqueeze(1) if kind.dim() == 2 else kind for kind in kinds]


def _in_order(states: Tensor, indices: Tensor | None) -> Tensor:
    return states if indices is None else states.index_select(1, indices)


def _one_way(
    rnn: nn.RNNBase, level: int, way: int, steps: list[Tensor], state: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """h at every step of one layer in one direction, and the state after the last."""
    suffix = f"_l{level}" + "_reverse" * way
    kinds = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    weights = [getattr(rnn, kind + suffix) for kind in kinds if hasattr(rnn, kind + suffix)]
    # Not the cells, which know no projection: what the module itself calls, of one layer and step.
    whole = getattr(torch, rnn.mode.lower())
    outputs: list[Tensor] = [steps[0]] * len(steps)
    for time in reversed(range(len(steps))) if way else range(len(steps)):
        rows = len(steps[time])  # fewer where a packed sequence has ended, or not begun
        before = [kind[:rows] for kind in state] if rows < len(state[0]) else state
        before = [kind.unsqueeze(0) for kind in before]
        given = (before if rnn.mode == "LSTM" else before[0], weights, rnn.bias, 1, 0.0)
        _, *after = whole(steps[time].unsqueeze(0), *given, False, False, False)
        after = [kind[0] for kind in after]
        outputs[time] = after[0]
        if rows < len(state[0]):
            after = [torch.cat([a, s[rows:]]) for a, s in zip(after, state, strict=True)]
        state = after
    return outputs, state
