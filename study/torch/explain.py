"""Why a module's gradient vanishes or explodes, and what would mend it, tried on a copy."""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from study.torch.initialise import GAIN, initialise, random_cotangent
from study.torch.profiler import profile
from study.torch.state import mapped

# The frame of `explain`, a row a remedy, in order: meaning, unit last in square brackets.
EXPLAIN_COLUMNS = {
    "cause": "activation, weights, width, depth, normalisation, format or zero [-]",
    "where": "the matrix at fault, or 'every layer' [-]",
    "evidence": "what was measured [-]",
    "remedy": "what would mend it [-]",
    "before": "how far the gradient is off: spread of log10 ‖dC/dW‖ over the matrices or, where "
    "only the level is at fault, its distance from 0; inf: no gradient [log10]; for a format: how "
    "many matrices lose theirs [matrices]",
    "after": "the same with the remedy [log10, or matrices]",
    "basis": "measured (tried on a copy) or theory [-]",
}
# Decades between matrices that need an explanation: differing shapes alone make one or two.
SPREAD = 3.0
TILT = 2.0  # decades from the first layer to the last, along the line that fits best
# Between these, log10 ‖dC/dW‖ of the middle matrix can be met by a learning rate.
LEVELS = (-6.0, 4.0)
STEEP = 0.05  # decades a layer: less is the work of depth
LOSING = -0.3  # an activation whose derivative halves the gradient, and more; ReLU's is -0.15
JUMP = 1.0  # decades by which one layer differs from the middle one to be at fault alone
NARROW = 0.5  # depth over width from which the scatter of random matrices alone makes decades
# Decades that branches scaled by 1/sqrt(L) can make at any depth: (1 + 1/L)^(L/2) < sqrt(e).
RESIDUAL = math.log10(math.e) / 2
Remedy = tuple[str, float, str]  # columns remedy, after and basis


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: ``text`` in words, ``frame`` with a row a remedy.

    Examples
    --------
    >>> print(Explanation("Nothing to mend.", pd.DataFrame(columns=list(EXPLAIN_COLUMNS))))
    Nothing to mend.
    """

    text: str
    frame: pd.DataFrame

    def __str__(self) -> str:
        return self.text


class _Fault(NamedTuple):
    cause: str
    where: str
    evidence: str


class _Case:
    """What is explained, with the profile of the matrices in use, in the order of the pass."""

    def __init__(self, module: nn.Module, inputs: object, loss: Callable):
        self.module = module
        self.inputs = inputs
        self.loss = loss
        df = profile(module, inputs, loss)
        names = {name for name, p in module.named_parameters() if p.dim() > 1}
        used = df.name.isin(names) & ~df.status.isin(["frozen", "unused"])
        self.matrices = df[used].sort_values("layer", kind="stable")
        self.norms = self.matrices.log10_grad_norm.to_numpy()
        self.is_finite = bool(np.isfinite(self.norms).all())

    @property
    def off(self) -> float:
        """The column ``before``: of the profile if that is at fault, else of the level."""
        if not len(self.norms) or not self.is_finite:
            return math.inf
        if self.profile_at_fault or not self.level_at_fault:
            return float(np.ptp(self.norms))
        return abs(float(np.median(self.norms)))

    @property
    def profile_at_fault(self) -> bool:
        if len(self.norms) < 3 or not self.is_finite:
            return False
        slope = stats.theilslopes(
            self.norms
        ).slope  # single matrices of another shape do not tilt it
        return np.ptp(self.norms) >= SPREAD or abs(slope) * (len(self.norms) - 1) >= TILT

    @property
    def level_at_fault(self) -> bool:
        return not LEVELS[0] <= np.median(self.norms) <= LEVELS[1]


def explain(module: nn.Module, inputs: object, loss: Callable | None = None) -> Explanation:
    """Say where the gradient of a module goes, what did it, and what would mend it by how much.

    Parameters
    ----------
    module, inputs, loss : as for `study.torch.profile`
        Without a loss the gradient at the output is random.

    Returns
    -------
    Explanation
        ``print`` it; its ``frame`` has the columns `EXPLAIN_COLUMNS`, no row where nothing is to be
        mended.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed.

    Notes
    -----
    The derivative's and the weights' share of each layer tell activation from weights: at fault is
    the activation where its derivative loses more than half a layer and more than the weights do.
    What is left to depth and to width is what no single layer shows. Remedies are tried on a deep
    copy; the module and the random states are left as found.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> layers = [m for _ in range(12) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    >>> found = explain(nn.Sequential(*layers), torch.randn(8, 16), lambda r: r.square().sum())
    >>> list(found.frame.cause.unique())
    ['activation']
    >>> print(str(found).splitlines()[0])  # doctest: +ELLIPSIS
    Gradient: ‖dC/dW‖ is 10^-... at 0.weight (first) and 10^... at 22.weight (last of 12 ...
    """
    case = _Case(module, inputs, loss or random_cotangent)
    fault = _format_fault(case) or _zero_fault(case) or _decay_fault(case)
    rows = [] if fault is None else _remedies(case, fault)
    frame = pd.DataFrame(rows, columns=list(EXPLAIN_COLUMNS))
    return Explanation(_text(case, fault, frame), frame)


def _format_fault(case: _Case) -> _Fault | None:
    """Gradients that float32 would hold and a shorter format does not."""
    lost = case.matrices[_is_lost(case)]
    # Beyond 10^30 no other format would help: depth or weights are at fault.
    lost = lost[(lost.dtype == "float16") & (lost.log10_grad_norm.abs() < 30)]
    if lost.empty:
        return None
    row = lost.loc[lost.log10_grad_norm.idxmin()]
    words = f"a plain pass loses {len(lost)} of {len(case.matrices)} gradients in float16: "
    words += f"that of {row['name']} is 10^{row.log10_grad_norm:.1f}, its plain norm "
    return _Fault("format", row["name"], words + f"{row.plain_grad_norm:.2g}")


def _zero_fault(case: _Case) -> _Fault | None:
    """A true zero: the first layer that lets nothing through; those after it may have no input."""
    rows = case.matrices
    count = int((rows.status == "dead").sum())
    if not count:
        return None
    silent = rows[(rows.active_fraction == 0) | (rows.log10_weight_norm == -math.inf)]
    words = f"{count} of {len(rows)} matrices get a gradient of exactly 0: "
    if silent.empty:
        return _Fault("zero", "the loss", words + "none arrives at the module's last layer")
    row = silent.iloc[0]
    if row.log10_weight_norm == -math.inf:
        return _Fault("weights", row["name"], words + f"{row['name']} is all zeros")
    words += f"no unit of {row['name']} has a slope above 1 % of {row.activation}'s largest"
    return _Fault("activation", row["name"], words)


def _decay_fault(case: _Case) -> _Fault | None:
    """What makes the profile fall or rise, or the level leave its bounds, layer by layer."""
    if not len(case.norms) or not (case.profile_at_fault or case.level_at_fault):
        return None
    rows = case.matrices
    factors = rows[["log10_derivative_factor", "log10_weight_factor"]]
    chain = factors[np.isfinite(factors).all(axis=1)]
    if 2 * len(chain) < len(rows):  # most matrices have other ways around them
        return _branched_fault(case)
    per_layer = chain.sum(axis=1)
    jump = per_layer - per_layer.median()
    far = jump[jump.abs() >= JUMP]
    # A few layers far off among ordinary ones are at fault alone; many are the rule.
    if 0 < len(far) <= max(1, len(chain) // 10) and abs(per_layer.median()) < STEEP * 6:
        worst = far.abs().idxmax()
        by = chain.loc[worst] - chain.median()
        cause = "weights" if by.abs().idxmax() == "log10_weight_factor" else "activation"
        words = f"{rows.name[worst]} alone changes the gradient by {per_layer[worst]:+.1f} decades"
        return _Fault(
            cause, rows.name[worst], f"{words}, the middle layer {per_layer.median():+.2f}"
        )
    derivative, weight = chain.mean()
    change = derivative + weight
    names = ", ".join(rows.activation[chain.index].dropna().unique())
    words = f"a layer changes the gradient by {change:+.3f} decades: the derivative of {names} by "
    words += f"{derivative:+.3f}, the weights by {weight:+.3f}"
    outputs = [len(case.module.get_parameter(name)) for name in rows.name[chain.index]]
    # What the weights would do to a gradient in no special direction, at infinite width.
    nominal = (rows.log10_weight_norm[chain.index] - np.log10(outputs) / 2).mean()
    ratio = len(rows) / float(np.median(outputs))
    if abs(weight - nominal) > abs(change) / 2 and ratio > NARROW:
        words += f" (at infinite width {nominal:+.3f}); depth / width is {ratio:.2g}"
        return _Fault("width", "every layer", words)
    if abs(change) < STEEP:
        return _Fault("depth", "every layer", words)
    # The activation is to blame where it loses much, and more than the weights do.
    losing = change < 0 and derivative < min(LOSING, weight)
    return _Fault("activation" if losing else "weights", "every layer", words)


def _branched_fault(case: _Case) -> _Fault:
    """Of a module that is no plain chain: normalised without a way around, or single scales."""
    rows = case.matrices
    order = rows.log10_grad_norm.to_numpy()
    low = rows.name.iloc[int(order.argmin())]
    high = rows.name.iloc[int(order.argmax())]
    words = f"‖dC/dW‖ is 10^{order.min():.1f} at {low} and 10^{order.max():.1f} at {high}"
    normed = [m for m in case.module.modules() if "BatchNorm" in type(m).__name__]
    slope = stats.theilslopes(rows.log10_delta_norm.fillna(0.0)).slope if len(rows) > 2 else 0.0
    if 2 * len(normed) > len(rows) and slope <= -STEEP / 2:
        words += f"; dC/dz grows by {-slope:.3f} decades a layer towards the input, behind "
        return _Fault("normalisation", "every layer", words + "every normalisation anew")
    return _Fault("weights", low, words)


def _remedies(case: _Case, fault: _Fault) -> list[dict[str, object]]:
    """The rows of the frame: every remedy for the fault, with what it brings."""
    before = case.off
    if fault.cause == "format":
        before = float(_is_lost(case).sum())
        remedies = _formats(case)
    elif math.isinf(before):
        remedies = [] if fault.where == "the loss" else [_revived(case, fault)]
    else:
        remedies = [remedy for remedy in _mended(case, fault) if remedy[1] < GAIN * before]
    return [
        {**fault._asdict(), "remedy": remedy, "before": before, "after": after, "basis": basis}
        for remedy, after, basis in remedies
    ]


def _mended(case: _Case, fault: _Fault) -> Iterator[Remedy]:
    """Remedies for a profile or a level."""
    trial = copy.deepcopy(case.module)
    initialise(trial, case.inputs, case.loss)
    after = _Case(trial, case.inputs, case.loss).off
    yield "scale per layer: study.torch.initialise", after, "measured"
    activated = case.matrices.activation.notna()
    if fault.cause != "normalisation" and activated.mean() >= 0.5:
        trial = copy.deepcopy(case.module)
        for name in case.matrices.name[activated]:
            # By a hook: whatever the forward pass is, the layer's output is normalised.
            trial.get_submodule(name.rpartition(".")[0]).register_forward_hook(_layer_norm)
        after = _Case(trial, case.inputs, case.loss).off
        yield "normalisation: a LayerNorm between each layer and its activation", after, "measured"
    if fault.where == "every layer":
        after = min(case.off, RESIDUAL)
        yield "residual branches scaled by 1 / sqrt(depth) around the layers", after, "theory"


def _layer_norm(layer: nn.Module, _: tuple, output: Tensor) -> Tensor:
    features = output.shape[1:] if layer.weight.dim() > 2 else output.shape[-1:]
    return nn.functional.layer_norm(output, features)


def _revived(case: _Case, fault: _Fault) -> Remedy:
    """Without the bias that holds units down, or with a matrix drawn where there was none."""
    trial = copy.deepcopy(case.module)
    weight = trial.get_parameter(fault.where)
    layer = trial.get_submodule(fault.where.rpartition(".")[0])
    with torch.no_grad():
        if fault.cause == "weights":
            words = "weights that are not 0: orthogonal ones drawn"
            nn.init.orthogonal_(weight, generator=torch.Generator().manual_seed(0))
        elif getattr(layer, "bias", None) is not None:
            words = "its bias set to 0"
            layer.bias.zero_()
        else:
            words = "half of its units turned to the other sign"
            weight[::2].neg_()
    return words, _Case(trial, case.inputs, case.loss).off, "measured"


def _formats(case: _Case) -> list[Remedy]:
    """A wider format, and a loss scale: how many matrices lose their gradient."""
    inputs = mapped(lambda x: x.float() if x.dtype == torch.float16 else x, case.inputs)
    wide = _Case(copy.deepcopy(case.module).float(), inputs, case.loss)
    remedies = [("a wider format: float32 or bfloat16", float(_is_lost(wide).sum()), "measured")]
    room = math.log2(torch.finfo(torch.float16).max) - case.norms.max() / math.log10(2)
    for power in range(math.floor(room) - 1, 0, -2):  # as GradScaler does, down to no overflow
        scaled = _Case(case.module, case.inputs, _times(case.loss, 2.0**power))
        if not scaled.matrices.plain_status.isin(["overflow", "nan"]).any():
            words = f"a loss scale of 2^{power} (torch.amp.GradScaler)"
            return [*remedies, (words, float(_is_lost(scaled).sum()), "measured")]
    return remedies


def _is_lost(case: _Case) -> pd.Series:
    """Whether a plain pass loses the gradient of a matrix."""
    return case.matrices.plain_status.isin(["underflow", "overflow"])


def _times(loss: Callable, factor: float) -> Callable:
    """A loss times a factor, in float32, as a gradient scaler has it."""

    @functools.wraps(loss)  # what arguments it takes is read from its signature
    def scaled(*given: object) -> Tensor:
        return loss(*given).float() * factor

    return scaled


def _text(case: _Case, fault: _Fault | None, frame: pd.DataFrame) -> str:
    """Where the gradient goes, what did it, what mends it: a line each."""
    rows = case.matrices
    if rows.empty:
        return "Gradient: no matrix gets one."
    ends = []
    for name, exponent in zip(rows.name, case.norms, strict=True):
        power = "0" if exponent == -math.inf else f"10^{exponent:.1f}"
        ends.append(f"{power} at {name}")
    said = f"Gradient: ‖dC/dW‖ is {ends[0]} (first) and {ends[-1]} (last of {len(rows)} matrices)"
    if case.is_finite:
        said += f", and spreads over {np.ptp(case.norms):.1f} decades"
    lines = [said + "."]
    if fault is None:
        lines.append("Nothing to mend: neither its profile nor its level is at fault.")
        return "\n".join(lines)
    at_fault = ""
    unit = "decades"
    if fault.cause == "format":
        at_fault = ", neither profile nor level is at fault but what holds them"
        unit = "matrices without a gradient"
    elif math.isfinite(case.off):
        level_alone = case.level_at_fault and not case.profile_at_fault
        at_fault = f", the {'level' if level_alone else 'profile'} is at fault"
    lines.append(f"Cause: {fault.cause}, {fault.where}{at_fault}. {fault.evidence}.")
    for row in frame.itertuples():
        before = "no gradient" if math.isinf(row.before) else f"{row.before:.1f}"
        lines.append(f"Mend: {row.remedy}. {before} -> {row.after:.1f} {unit} ({row.basis}).")
    return "\n".join(lines)
