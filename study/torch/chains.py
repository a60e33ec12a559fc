"""Plain chains: layers through which all of the gradient passes, and their critical scale."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from study.core.activations import Activation
from study.torch.autograd import Graph
from study.torch.hooks import Call
from study.torch.parameters import activation_of
from study.torch.profiler import arguments
from study.torch.state import copied, preserved

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Modules whose rows of weights make one output each."""
Activations = tuple[Activation, Activation | None]


def balance(module: nn.Module, inputs: object, layers: dict[nn.Module, Activations]) -> None:
    """Set the layers of plain chains, one after another, in one forward pass."""
    found: dict[nn.Module, tuple[Tensor | None, float]] = {}
    level: list[float] = []
    with contextlib.ExitStack() as hooks:  # removes them, whatever happens
        for layer, activations in layers.items():
            setter = partial(_set_layer, found, level, *activations)
            hooks.enter_context(layer.register_forward_hook(setter))
        with preserved(module), torch.no_grad():
            args, kwargs = arguments(copied(inputs))
            module(*args, **kwargs)
    with torch.no_grad():
        for layer, (bias, factor) in found.items():
            layer.weight.mul_(factor)
            if bias is not None:
                layer.bias.copy_(bias * factor)


def plain_chain(
    calls: dict[nn.Module, Call], graph: Graph
) -> Iterator[tuple[nn.Module, Activations]]:
    """Layers of plain chains, with the activation after them and, if there is one, before."""
    narrow = dict(zip(graph.nodes, graph.narrow, strict=True))
    for layer, call in calls.items():
        weight = layer._parameters.get("weight")
        ends = call.outputs.points
        if not isinstance(layer, LAYERS) or weight is None or not weight.requires_grad:
            continue
        if len(ends) != 1 or not narrow.get(ends[0][0]) or not float(weight.detach().norm()):
            continue
        after = [activation_of(node) for node in graph.consumers[ends[0]]]
        before = [activation_of(node) for node, _ in call.inputs.points]
        if len(after) == 1 and after[0] is not None:
            yield layer, (after[0], before[0] if before else None)


def _set_layer(
    found: dict[nn.Module, tuple[Tensor | None, float]],
    level: list[float],
    after: Activation,
    before: Activation | None,
    layer: nn.Module,
    args: tuple,
    output: Tensor,
) -> Tensor:
    """Find a layer's bias and factor, and go on with the output that it then has.

    level : mean squares of the network's input and of each output so far
    """
    bias = None
    if layer.bias is not None:
        origin = float(before.phi(np.zeros(1))[0]) if before else 0.0
        bias = -origin * layer.weight.flatten(1).sum(1)
        output = output + (bias - layer.bias).reshape(-1, *[1] * (layer.weight.dim() - 2))
    if not level:
        level.append(float(args[0].double().square().mean()))
    z = output.detach().double().flatten().cpu().numpy()
    signal = float(np.mean(z**2)) / (level[-1] or math.inf)
    gradient = float(layer.weight.double().square().sum()) / len(layer.weight)
    if not signal or not math.isfinite(signal):
        return output

    def product(log_factor: float) -> float:
        """Log of the gain forward times that backward: it rises with the factor."""
        slopes = after.derivative(math.exp(log_factor) * z)
        passed = max(float(np.mean(slopes**2)), 1e-300)
        return 4 * log_factor + math.log(signal * gradient * passed)

    middle = -math.log(signal * gradient) / 4
    reach = 1.0
    while product(middle - reach) > 0 or product(middle + reach) < 0:
        reach *= 2
    balanced = math.exp(brentq(product, middle - reach, middle + reach, xtol=1e-9))
    factor = min(balanced, math.sqrt(level[0] / (signal * level[-1])))
    level.append(signal * level[-1] * factor**2)
    found[layer] = bias, factor
    return output * factor
