"""The frame of `study.torch.profile`: one row a parameter."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study.arithmetic.nonlinearity import ACTIVE_SHARE
from study.arithmetic.scaled import log10, norm, status, total
from study.core.activations import activation
from study.torch.autograd import Graph, Point, Square, entries, square
from study.torch.observing import Call

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
    paths: dict[Tensor, list[str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        paths.setdefault(p, []).append(name)
    held = {p: _holders(paths[p], modules, calls) for p in paths}

    seen = [tensor for call in calls.values() for tensor in (*call.inputs, *call.outputs)]
    points = {tensor.point for tensor in seen}
    points |= {(node, 0) for point in points for node in graph.consumers[point]}
    formats = {x.dtype for x in (*seen, *paths) if x.dtype.is_floating_point} or {torch.float32}
    narrowest = min(formats, key=lambda dtype: torch.finfo(dtype).max)
    trained = [p for p in paths if id(p) in graph.uses]
    found, at = graph.squares(trained, points, narrowest)
    squares = dict(zip(trained, found, strict=True))
    plain = graph.gradients()

    # A module that is not called itself, but used by the one around it, comes right after that.
    place = {path: i for i, path in enumerate(modules)}
    first = {
        p: (min(call.order for call in held[p]), place[_path(paths[p][0])])
        for p in paths
        if p in squares or not p.requires_grad
    }
    layers = {key: k for k, key in enumerate(sorted(set(first.values())))}
    rows = [
        {
            "name": names[0],
            "shared_names": " ".join(names[1:]) or None,
            "module": type(modules[_path(names[0])]).__name__,
            "layer": layers[first[p]] if p in first else -1,
            "shape": str(tuple(p.shape)),
            "entries": p.numel(),
            "dtype": str(p.dtype).removeprefix("torch."),
            "requires_grad": p.requires_grad,
            "uses": len(graph.uses[id(p)]) if p in squares else 0,
            **_around(held[p], at, graph),
            "log10_weight_norm": _log10([square(p)]),
            **_gradient(p, squares.get(p), plain.get(id(p))),
        }
        for p, names in paths.items()
    ]
    return pd.DataFrame(rows)[list(COLUMNS)]


def _path(name: str) -> str:
    return name.rpartition(".")[0]


def _holders(names: list[str], modules: dict, calls: dict[nn.Module, Call]) -> list[Call]:
    """The calls of the modules that hold a parameter, or of the nearest around them."""
    found = {}
    for path in map(_path, names):
        while path and modules[path] not in calls:
            path = _path(path)
        found[modules[path]] = calls[modules[path]]
    return list(found.values())


def _around(held: list[Call], at: dict[Point, Square], graph: Graph) -> dict[str, object]:
    """What went into and out of the modules that hold a parameter, and came back."""
    inputs = [x.point for call in held for x in call.inputs]
    outputs = [x for call in held for x in call.outputs]
    delta = _log10([at[x.point] for x in outputs if x.point in at])
    down = [at[point] for point in inputs if point in at and len(graph.consumers[point]) == 1]
    row: dict[str, object] = {
        "activation": None,
        "log10_delta_norm": delta,
        "log10_input_norm": _log10([s for call in held for s in call.input_squares]),
        "log10_output_norm": _log10([s for call in held for s in call.output_squares]),
        "log10_derivative_factor": math.nan,
        "log10_weight_factor": _log10(down) - delta if len(down) == len(inputs) else math.nan,
        "active_fraction": math.nan,
    }
    after = [node for x in outputs for node in graph.consumers[x.point]]
    phis = {_activation(node) for node in after}
    if len(after) == len(outputs) and len(phis) == 1 and (name := phis.pop()):
        # Called with ones, the node of phi's backward pass returns phi'(z).
        slopes = [
            node(torch.ones(x.shape, dtype=x.dtype, device=x.device)).reshape(-1)
            for node, x in zip(after, outputs, strict=True)
        ]
        live = torch.cat(slopes) > ACTIVE_SHARE * activation(name).max_slope
        row["activation"] = name
        row["log10_derivative_factor"] = delta - _log10([at[node, 0] for node in after])
        row["active_fraction"] = float(live.double().mean())
    return row


def _activation(node: object) -> str | None:
    name = ACTIVATIONS.get(type(node).__name__.removesuffix("Backward0"))
    return "selu" if name == "elu" and node._saved_scale != 1 else name


def _gradient(p: Tensor, s: Square | None, plain: Tensor | None) -> dict[str, object]:
    """The columns of a parameter's gradient; s is None where it has none."""
    none = None if s and math.isfinite(s[0]) else "frozen" if not p.requires_grad else "unused"
    none = "nan" if s and none else none
    m, e = (math.nan, 0) if none else (x.item() for x in norm(np.float64(s[0]), np.int64(s[1])))
    exact = float(log10(np.float64(m), np.int64(e)))
    shown, zeros = math.nan, math.nan
    if plain is not None:
        shown = float(torch.linalg.vector_norm(entries(plain)))
        zeros = 1 - int(entries(plain).count_nonzero()) / plain.numel()
    word = none or str(status(np.array([m]), np.array([e]))[0])
    plain_word = none or ("dead" if m == 0 else "ok")
    if plain is not None and not math.isfinite(shown):
        plain_word = "overflow"
    elif plain_word == "ok" and not _agree(shown, exact):
        plain_word = "underflow"
    return {
        "grad_norm_mantissa": m,
        "grad_norm_exponent": e,
        "log10_grad_norm": exact,
        "status": word,
        "plain_grad_norm": shown,
        "plain_status": plain_word,
        "zero_share": zeros,
    }


def _agree(shown: float, log10_norm: float) -> bool:
    return shown > 0 and abs(math.log10(shown) - log10_norm) < math.log10(1.02)


def _log10(squares: list[Square]) -> float:
    """log10 of the norm of several tensors together; NaN where there is none, or no number."""
    if not squares or not all(math.isfinite(s) for s, _ in squares):
        return math.nan
    s, e = total(np.array([s for s, _ in squares]), np.array([e for _, e in squares]))
    return float(log10(*norm(s, e)))
