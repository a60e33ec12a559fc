"""The frame of `study.torch.profile`: one row a parameter."""

import math
import warnings

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from study.arithmetic.activations import ACTIVE_SHARE
from study.arithmetic.scaled import log10, status
from study.core.activations import Activation, activation, celu, elu, gelu, leaky_relu, softplus
from study.torch.autograd import Graph, Point
from study.torch.hooks import Call, Calls
from study.torch.norms import Norm, entries, log10_norm, normalised

# The frame of `profile`, in order: meaning, unit last in square brackets.
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


def frame(
    module: nn.Module, weights: dict[Tensor, Norm], calls: Calls, graph: Graph
) -> pd.DataFrame:
    """One row a parameter; ``weights`` are their norms, where they have one."""
    modules = dict(module.named_modules(remove_duplicate=False))
    names: dict[Tensor, list[str]] = {}  # modules may share a parameter: one row, all its names
    for name, p in module.named_parameters(remove_duplicate=False):
        names.setdefault(p, []).append(name)
    at = _gradient_norms([p for p in names if id(p) in graph.uses], calls, graph)
    plain = graph.gradients()
    positions = {path: i for i, path in enumerate(modules)}
    places = {}
    rows = []
    for p, (name, *others) in names.items():
        holders = _holders([name, *others], modules, calls)
        path = name.rpartition(".")[0]
        # A module that is used without being called comes right after the one around it.
        place = (min(call.order for call in holders), positions[path])
        if id(p) in at or not p.requires_grad:
            places[name] = place
        rows.append(
            {
                "name": name,
                "shared_names": " ".join(others) or None,
                "module": type(modules[path]).__name__,
                "shape": str(tuple(p.shape)),
                "entries": p.numel(),
                "dtype": str(p.dtype).removeprefix("torch."),
                "requires_grad": p.requires_grad,
                "uses": graph.uses[id(p)],
                "log10_weight_norm": log10_norm([weights[p]] if p in weights else []),
                **_signals(holders, at, graph),
                **_gradient(p, at.get(id(p)), plain.get(id(p))),
            }
        )
    order = sorted(set(places.values()))
    for row in rows:
        row["layer"] = order.index(places[row["name"]]) if row["name"] in places else -1
    return pd.DataFrame(rows)[list(COLUMNS)]


def _gradient_norms(
    parameters: list[Tensor], calls: Calls, graph: Graph
) -> dict[int | Point, Norm]:
    """Of parameters, and of what goes into and out of modules and their activations."""
    ends = [end for call in calls.values() for end in (call.inputs, call.outputs)]
    points = {point for end in ends for point in end.points}
    points |= {(node, 0) for point in points for node in graph.consumers[point]}
    # Also where an activation's gradient comes in: what its derivative did is a ratio of the two.
    at = graph.norms(parameters, points)
    if not graph.linear:
        warnings.warn(
            "the backward pass is not linear in the gradient that comes in (a hook that clips it?):"
            " the norms are those of a plain pass, losses of its formats included",
            stacklevel=4,
        )
    return at


def _holders(names: list[str], modules: dict[str, nn.Module], calls: Calls) -> list[Call]:
    """The calls of the modules that hold a parameter, or of the nearest around them."""
    holders = {}
    for path in names:
        path = path.rpartition(".")[0]
        while path and modules[path] not in calls:
            path = path.rpartition(".")[0]
        holders[modules[path]] = calls[modules[path]]
    return list(holders.values())


def _signals(holders: list[Call], at: dict[Point, Norm], graph: Graph) -> dict[str, object]:
    """What went into and out of the modules that hold a parameter, and came back."""
    sources = [point for call in holders for point in call.inputs.points]
    outputs = [point for call in holders for point in call.outputs.points]
    delta = log10_norm([at[point] for point in outputs if point in at])
    # Where r has other uses too, dC/dr is not what this module alone sent down.
    alone = all(point in at and len(graph.consumers[point]) == 1 for point in sources)
    down = log10_norm([at[point] for point in sources]) if alone else math.nan
    row = {
        "log10_delta_norm": delta,
        "log10_input_norm": log10_norm([x for call in holders for x in call.inputs.norms]),
        "log10_output_norm": log10_norm([x for call in holders for x in call.outputs.norms]),
        "log10_weight_factor": down - delta,
        "activation": None,
        "log10_derivative_factor": math.nan,
        "active_fraction": math.nan,
    }
    consumers = [node for point in outputs for node in graph.consumers[point]]
    activations = {activation_of(node) for node in consumers}
    if len(consumers) == len(outputs) and len(activations) == 1 and (phi := activations.pop()):
        slopes = torch.cat([_slopes(node) for node in consumers])
        row["activation"] = phi.name
        row["log10_derivative_factor"] = delta - log10_norm([at[node, 0] for node in consumers])
        row["active_fraction"] = float((slopes > ACTIVE_SHARE * phi.max_slope).double().mean())
    return row


def _slopes(node: Node) -> Tensor:
    """phi'(z), which the node of phi's backward pass returns when it is called with ones."""
    (z,) = node._input_metadata
    return node(torch.ones(z.shape, dtype=z.dtype, device=z.device)).reshape(-1)


def activation_of(node: Node) -> Activation | None:
    """The activation of which this is the node in autograd's graph, with its parameter."""
    operation = type(node).__name__.rpartition("Backward")[0].lower()
    match operation:
        case "relu" | "sigmoid" | "tanh" | "silu" | "mish" | "hardswish":
            return activation(operation)
        case "leakyrelu":
            return leaky_relu(node._saved_negative_slope)
        case "elu" if node._saved_scale != 1:
            return activation("selu")
        case "elu":
            return elu(node._saved_alpha)
        case "celu":
            return celu(node._saved_alpha)
        case "gelu":
            return gelu(node._saved_approximate)
        case "softplus":
            return softplus(node._saved_beta)
        case "hardtanh":
            ends = (node._saved_min_val, node._saved_max_val)
            names = {(-1, 1): "hard_tanh", (0, 6): "relu6"}
            return activation(names[ends]) if ends in names else None
    return None


def _gradient(p: Tensor, measured: Norm | None, plain: Tensor | None) -> dict[str, object]:
    """The columns of a parameter's gradient; nothing was measured where it has none."""
    missing = None
    if measured is None:
        missing = "unused" if p.requires_grad else "frozen"
    elif not math.isfinite(measured[0]):
        missing = "nan"
    length, exponent = (math.nan, 0) if missing else measured
    mantissa, exponent = normalised(np.array([length]), exponent)
    row = {
        "grad_norm_mantissa": mantissa[0],
        "grad_norm_exponent": exponent[0],
        "log10_grad_norm": log10(mantissa, exponent)[0],
        "status": missing or status(mantissa, exponent)[0],
        "plain_grad_norm": math.nan,
        "zero_share": math.nan,
    }
    if plain is not None:
        shown = entries(plain)
        row["plain_grad_norm"] = float(torch.linalg.vector_norm(shown))
        zeros = plain.numel() - int(shown.count_nonzero())  # also those not stored
        row["zero_share"] = zeros / plain.numel() if plain.numel() else math.nan
    row["plain_status"] = _plain_status(row["plain_grad_norm"], row["log10_grad_norm"], missing)
    return row


def _plain_status(shown: float, log10_norm: float, missing: str | None) -> str:
    """What a plain backward pass made of a gradient."""
    if missing in ("unused", "frozen"):
        return missing
    if not math.isfinite(shown):
        return "overflow"
    if missing or log10_norm == -math.inf:
        return missing or "dead"
    error = math.log10(shown) - log10_norm if shown else math.inf
    return "ok" if abs(error) < math.log10(1.02) else "underflow"
