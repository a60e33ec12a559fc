"""The frame of `study.torch.profile`: one row a parameter."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from study.arithmetic.nonlinearity import ACTIVE_SHARE
from study.arithmetic.scaled import log10, norm, status
from study.core.activations import activation
from study.torch.autograd import Graph, Point
from study.torch.hooks import Call
from study.torch.norms import Square, entries, log10_norm, square

COLUMNS = {
    "name": "the parameter, as named_parameters() has it [-]",
    "shared_names": "its other names, where modules share it; else missing [-]",
    "module": "class of the module that holds it [-]",
    "layer": "place of that module in the order of the forward pass, from 0; -1: not used [layers]",
    "shape": "its shape [-]",
    "entries": "how many numbers it holds [-]",
    "dtype": "number format of the parameter [-]",
    "requires_grad": "False: frozen [-]",
    "uses": "operations of the forward pass that take it and pass a gradient to it [-]",
    "activation": "the activation that its module's output goes straight into; else missing [-]",
    "grad_norm_mantissa": "‖dC/dp‖ = mantissa x 2^exponent, all uses together; 0 or [1, 2); "
    "nan where there is no gradient [1]",
    "grad_norm_exponent": "the exponent of two that goes with the mantissa [log2]",
    "log10_grad_norm": "Frobenius norm of dC/dp; -inf: a true zero; nan: no gradient [log10]",
    "log10_delta_norm": "of dC/dz, z the output of the module (its first tensor); nan: no path "
    "from it to the cost [log10]",
    "log10_input_norm": "of r, the input of the module (its first tensor) [log10]",
    "log10_output_norm": "of z [log10]",
    "log10_weight_norm": "of the parameter [log10]",
    "log10_derivative_factor": "‖dC/dz‖ / ‖dC/dphi(z)‖: what the activation's derivative did "
    "[log10]",
    "log10_weight_factor": "‖dC/dr‖ / ‖dC/dz‖: what the module did; nan where r has other uses "
    "[log10]",
    "active_fraction": "share of the entries of z with phi'(z) > 0.01 of its maximum [1]",
    "status": "as in the study's frames, or frozen, unused (no operation takes it), nan [-]",
    "plain_grad_norm": "what the plain norm, in the gradient's own format, shows; nan: none [1]",
    "plain_status": "ok, dead (a true zero), underflow (the plain norm is more than 2 % off), "
    "overflow (it is inf or nan), frozen, unused or nan [-]",
    "zero_share": "share of the entries of the plain gradient that are 0 [1]",
}
"""The frame of `profile`, in order: meaning, unit last in square brackets."""

ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Softplus": "softplus",
    "Hardtanh": "hard_tanh",
}
"""Operations of torch -> rows of the table of activations; selu is an elu with a scale."""


def frame(module: nn.Module, calls: dict[nn.Module, Call], graph: Graph) -> pd.DataFrame:
    """One row a parameter."""
    modules = dict(module.named_modules(remove_duplicate=False))
    names: dict[Tensor, list[str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        names.setdefault(p, []).append(name)
    holders = {p: _holders(names[p], modules, calls) for p in names}
    trained = [p for p in names if id(p) in graph.uses]
    measured, at = _measured(graph, trained, calls)
    plain = graph.gradients()
    order = {path: i for i, path in enumerate(modules)}
    layers = _layers(
        {
            # A module that is used without being called comes right after the one around it.
            p: (min(call.order for call in holders[p]), order[_path(names[p][0])])
            for p in names
            if p in measured or not p.requires_grad
        }
    )
    rows = []
    for p, (name, *others) in names.items():
        row = {
            "name": name,
            "shared_names": " ".join(others) or None,
            "module": type(modules[_path(name)]).__name__,
            "layer": layers.get(p, -1),
            "shape": str(tuple(p.shape)),
            "entries": p.numel(),
            "dtype": str(p.dtype).removeprefix("torch."),
            "requires_grad": p.requires_grad,
            "uses": len(graph.uses[id(p)]) if p in measured else 0,
            "log10_weight_norm": log10_norm([square(p)]),
        }
        row |= _signals(holders[p], at, graph)
        row |= _activation(holders[p], at, graph)
        row |= _gradient(p, measured.get(p), plain.get(id(p)))
        rows.append(row)
    return pd.DataFrame(rows)[list(COLUMNS)]


def _path(name: str) -> str:
    """Of the module that holds the parameter of that name."""
    return name.rpartition(".")[0]


def _holders(names: list[str], modules: dict, calls: dict[nn.Module, Call]) -> list[Call]:
    """The calls of the modules that hold a parameter, or of the nearest around them."""
    holders = {}
    for path in map(_path, names):
        while path and modules[path] not in calls:
            path = _path(path)
        holders[modules[path]] = calls[modules[path]]
    return list(holders.values())


def _measured(
    graph: Graph, parameters: list[Tensor], calls: dict[nn.Module, Call]
) -> tuple[dict[Tensor, Square], dict[Point, Square]]:
    """Squares of the gradients of parameters, and of those at the ends of modules."""
    signals = [x for call in calls.values() for x in (*call.inputs, *call.outputs)]
    points = {x.point for x in signals if x.point}
    points |= {(node, 0) for point in points for node in graph.consumers[point]}
    formats = {x.dtype for x in (*signals, *parameters) if x.dtype.is_floating_point}
    narrowest = min(formats, key=lambda dtype: torch.finfo(dtype).max, default=None)
    squares, at = graph.squares(parameters, points, narrowest)
    return dict(zip(parameters, squares, strict=True)), at


def _layers(places: dict[Tensor, tuple[int, int]]) -> dict[Tensor, int]:
    """Places in the order of the forward pass, numbered from 0."""
    numbers = {place: k for k, place in enumerate(sorted(set(places.values())))}
    return {p: numbers[place] for p, place in places.items()}


def _signals(holders: list[Call], at: dict[Point, Square], graph: Graph) -> dict[str, float]:
    """What went into and out of the modules that hold a parameter, and came back."""
    inputs = [x for call in holders for x in call.inputs]
    outputs = [x for call in holders for x in call.outputs]
    delta = log10_norm([at[x.point] for x in outputs if x.point in at])
    sources = [x.point for x in inputs if x.point]
    # Where r has other uses too, dC/dr is not what this module alone sent down.
    alone = all(point in at and len(graph.consumers[point]) == 1 for point in sources)
    down = log10_norm([at[point] for point in sources]) if alone else math.nan
    return {
        "log10_delta_norm": delta,
        "log10_input_norm": log10_norm([x.square for x in inputs]),
        "log10_output_norm": log10_norm([x.square for x in outputs]),
        "log10_weight_factor": down - delta,
    }


def _activation(holders: list[Call], at: dict[Point, Square], graph: Graph) -> dict[str, object]:
    """The activation that the modules' outputs go straight into, and what it does."""
    outputs = [x for call in holders for x in call.outputs if x.point]
    consumers = [node for x in outputs for node in graph.consumers[x.point]]
    names = {_name(node) for node in consumers}
    row = {"activation": None, "log10_derivative_factor": math.nan, "active_fraction": math.nan}
    if len(consumers) != len(outputs) or len(names) != 1 or names == {None}:
        return row
    (name,) = names
    slopes = []
    for node, x in zip(consumers, outputs, strict=True):
        # Called with ones, the node of phi's backward pass returns phi'(z).
        ones = torch.ones(x.shape, dtype=x.dtype, device=x.device)
        slopes.append(node(ones).reshape(-1))
    active = torch.cat(slopes) > ACTIVE_SHARE * activation(name).max_slope
    delta = log10_norm([at[x.point] for x in outputs if x.point in at])
    upstream = log10_norm([at[node, 0] for node in consumers])
    return {
        "activation": name,
        "log10_derivative_factor": delta - upstream,
        "active_fraction": float(active.double().mean()),
    }


def _name(node: Node) -> str | None:
    name = ACTIVATIONS.get(type(node).__name__.removesuffix("Backward0"))
    if name == "elu" and node._saved_scale != 1:
        return "selu"
    return name


def _gradient(p: Tensor, gradient: Square | None, plain: Tensor | None) -> dict[str, object]:
    """The columns of a parameter's gradient, which is None where it has none."""
    missing = None
    if gradient is None:
        missing = "unused" if p.requires_grad else "frozen"
    elif not math.isfinite(gradient[0]):
        missing = "nan"
    mantissa, exponent = np.array([math.nan]), np.array([0])
    if not missing:
        mantissa, exponent = norm(np.array([gradient[0]]), np.array([gradient[1]]))
    row = {
        "grad_norm_mantissa": float(mantissa[0]),
        "grad_norm_exponent": int(exponent[0]),
        "log10_grad_norm": float(log10(mantissa, exponent)[0]),
        "status": missing or str(status(mantissa, exponent)[0]),
        "plain_grad_norm": math.nan,
        "zero_share": math.nan,
    }
    if plain is not None:
        shown = entries(plain)
        row["plain_grad_norm"] = float(torch.linalg.vector_norm(shown))
        row["zero_share"] = 1 - int(shown.count_nonzero()) / plain.numel()
    row["plain_status"] = missing or _plain_status(row)
    if plain is not None and not math.isfinite(row["plain_grad_norm"]):
        row["plain_status"] = "overflow"
    return row


def _plain_status(row: dict[str, object]) -> str:
    """What a plain backward pass made of a gradient."""
    if row["status"] == "dead":
        return "dead"
    if row["plain_grad_norm"] == 0:
        return "underflow"
    error = math.log10(row["plain_grad_norm"]) - row["log10_grad_norm"]
    return "ok" if abs(error) < math.log10(1.02) else "underflow"
