"""Weights brought to the scale at which no layer's gradient vanishes or explodes: by measurement.

Every weight matrix has one freedom, its scale; nothing is drawn anew. Two steps use it.

*Balance.* In a plain chain (all of the gradient passes through the layer, and its output goes
straight into an activation) the layers are set one after another, in one forward pass: what the
signal gains in a layer, times what the gradient gains on its way back, is 1, and the signal does
not rise above the input's. This is the critical scale of mean-field theory, found for these
weights and inputs. Biases there take phi(0) of the activation before out of the sum, b = -phi(0)
sum W: a sigmoid's 1/2 is as large for every input and would drown the signal.

*Equalisation.* The norms ‖dC/dW‖ of all matrices are a function of all scales. Its Jacobian is
measured by differences, and least squares with a trust region brings the norms together; the output
keeps its scale, and in chains a decade off for the gradient weighs as ten for the signals.

*Trial.* Gradients that are as large everywhere are no end in themselves. Outside plain chains the
network that comes of it is tried, for a few steps of Adam on the batch; unless it learns faster by
far than the one that was found, the norms are brought together only as far as the output, apart
from its scale, stays what it was.

>>> _ = torch.manual_seed(0)
>>> layers = [m for _ in range(30) for m in (nn.Linear(16, 16), nn.Sigmoid())]
>>> df = initialise(nn.Sequential(*layers), torch.randn(8, 16))
>>> before, after = df.log10_grad_norm_before, df.log10_grad_norm
>>> bool(before.max() - before.min() > 20), bool(after.max() - after.min() < 2)
(True, True)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn

from study.tools.checks import bad
from study.torch.autograd import Graph
from study.torch.chains import balance, plain_chain
from study.torch.hooks import tensors
from study.torch.norms import ZERO, has_norm, log10_norm, norm, quick_norms
from study.torch.profiler import check_profiled, forward, profile
from study.torch.state import preserved

INITIALISE_COLUMNS = {
    "name": "the weight matrix (two dimensions or more), as named_parameters() has it [-]",
    "shape": "its shape [-]",
    "log10_scale": "what it was multiplied with [log10]",
    "log10_grad_norm_before": "‖dC/dW‖ as it was found; -inf: a true zero [log10]",
    "log10_grad_norm": "‖dC/dW‖ afterwards [log10]",
    "log10_output_norm_before": "of its module's output, as it was found [log10]",
    "log10_output_norm": "of its module's output, afterwards [log10]",
    "reason": "why its gradient is not that of the others, or what scale cannot mend here; else "
    "missing [-]",
}
"""The frame of `initialise`, in order: meaning, unit last in square brackets."""
FLAT = 0.3
"""So many decades between the largest and the smallest gradient need no cure: a factor of 2."""
GAIN = 0.75
"""A change is kept if it brings the spread to this share: else it is the weights' own noise."""
SIGNAL_WEIGHT = 0.1
"""A decade of the signal in a chain against one of a gradient."""
OUTPUT_WEIGHT = 5.0
"""A decade of the output, and of what tells the inputs apart in it."""
FUNCTION_WEIGHT = 2.0
"""A turn of the output's direction by one radian, against a decade of every gradient."""
RATES = (1e-3, 3e-3, 1e-2)
STEPS = 20
"""Of Adam, in a trial: how fast a network learns the batch, at the best of these rates."""
FASTER = 0.1
"""So much lower has the mean loss of a trial to be, or else what is computed is kept."""
ROWS = 64
"""So many sums, signs at random, stand for the direction of an output of any size."""
ENTRIES = 2**20
"""Of so many of its entries at most."""
DIFFERENCE = 0.01
"""Step of the differences [log10]: far above rounding, far below where slopes turn."""
ROUNDS = 20
"""At most so many steps with one Jacobian."""


def initialise(
    module: nn.Module,
    inputs: object,
    loss: Callable | None = None,
    redraw: torch.Generator | None = None,
) -> pd.DataFrame:
    """Rescale the weights of a module, in place, so that gradients are as large in every layer.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode and the formats it is in. Changed are parameters of two dimensions or more that
        require a gradient (matrices, kernels, embeddings), each by one positive factor, and the
        biases of layers in plain chains; nothing else, gains and biases of norms neither.
    inputs, loss : as for `study.torch.profile`
        Without a loss the gradient at the output is random, of equal size for every entry.
    redraw : torch.Generator, optional
        Draw orthogonal weights from it first; else none is drawn anew.

    Returns
    -------
    pandas.DataFrame
        One row a weight matrix; columns `INITIALISE_COLUMNS`.

    Raises
    ------
    ValueError
        Naming the field, the value and what is allowed; the module is then as it was.

    Notes
    -----
    Where the gradients are within a factor of 2 already, or nothing brings them closer by a
    quarter, nothing is changed: a second call leaves the weights of the first, bit for bit. It
    takes about as many passes forward and backward as there are matrices, times ten, and with a
    loss a hundred a trial. ``.grad``, buffers, mode, hooks and random states are left as found.

    It is a cure for networks whose gradients vanish or explode. Equal gradients are no promise of
    fast training, and a trial on one batch is no proof: ``docs/initialise.md`` has networks that
    learn faster after it, and such as learn more slowly.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> len(initialise(net, torch.randn(32, 16)))                           # its two matrices
    2
    """
    check_profiled(module, loss or random_cotangent)
    loss = loss or random_cotangent
    kept = {p: p.detach().clone() for p in module.parameters()}
    before = profile(module, inputs, loss)
    weights = {
        name: p
        for name, p in module.named_parameters()
        if p.dim() > 1 and p.requires_grad and has_norm(p)
    }
    scales = _Scales(module, inputs, loss, list(weights.values()))
    try:
        if redraw is not None:
            with torch.no_grad():
                for p in weights.values():
                    nn.init.orthogonal_(p, generator=redraw)
        while _improved(scales):
            pass
        after = profile(module, inputs, loss)
    except BaseException:
        _restore(kept)
        raise
    return _report(weights, kept, before, after, scales)


class _Scales:
    """The weights as a function of their scales: what is measured at some, and set."""

    def __init__(self, module: nn.Module, inputs: object, loss: Callable, weights: list[Tensor]):
        self.module = module
        self.inputs = inputs
        self.loss = loss
        self.weights = weights
        with preserved(module), torch.inference_mode(False), torch.enable_grad():
            calls, _, cost = forward(module, inputs, loss)
            self.layers = dict(plain_chain(calls, Graph(cost)))
        self.chain = list(self.layers)
        self.function_weight = 0.0
        self.responses = np.zeros((0, len(weights)))
        """The last Jacobian: of every gradient, every signal of the chain, and the output."""
        self.look()

    def look(self) -> None:
        """Measure: gradients, signals of the chain, the output; all of them log10."""
        outputs: dict[nn.Module, Tensor] = {}
        with contextlib.ExitStack() as hooks:  # removes them, whatever happens
            for layer in self.chain:
                hooks.enter_context(layer.register_forward_hook(partial(_see, outputs)))
            with preserved(self.module), torch.inference_mode(False), torch.enable_grad():
                _, output, cost = forward(self.module, self.inputs, self.loss, only=())
                with torch.no_grad():
                    self.gradients = _gradients(cost, self.weights)
        self.alive = np.isfinite(self.gradients)
        signals = [outputs[layer] for layer in self.chain]
        with np.errstate(divide="ignore"):
            sizes = quick_norms(signals) / np.sqrt([x.numel() for x in signals])
            self.signals = np.log10(sizes)
        first = next(tensors(output), torch.ones(1)).detach()
        apart = first - first.mean(0)
        apart = apart if apart.any() else first
        sizes = [log10_norm([norm(x)]) for x in (apart, first)]
        direction = _direction(apart) if self.function_weight else ()
        self.output = np.array([*direction, *sizes])

    @property
    def off(self) -> float:
        """Decades between gradients that are not 0, or between a chain's signals, weighted."""
        found = self.gradients[self.alive]
        signals = SIGNAL_WEIGHT * np.ptp(self.signals) if self.chain else 0.0
        return float(max(np.ptp(found), signals)) if len(found) else 0.0

    def misfits(self, output: np.ndarray) -> np.ndarray:
        """What is to become 0: each gradient and signal against the mean, the output's change.

        output : the `output` that is to be kept
        """
        gradients = np.where(self.alive, self.gradients, 0.0)
        gradients[self.alive] -= self.gradients[self.alive].mean()
        signals = self.signals - (self.signals.mean() if len(self.signals) else 0.0)
        change = self.output - output
        turn = self.function_weight * math.sqrt(len(gradients)) * change[:-2]
        # The reasons are read off the first rows and the last.
        rows = gradients, SIGNAL_WEIGHT * signals, turn, OUTPUT_WEIGHT * change[-2:]
        return np.concatenate(rows)

    def learning(self) -> float:
        """The mean loss over a few steps on the batch, at the best rate; infinite: it diverges."""
        return min(map(self._trial, RATES)) if self.loss is not random_cotangent else 0.0

    def _trial(self, rate: float) -> float:
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        twins = [p.detach() for p in parameters]  # the same numbers, with a .grad of their own
        optimizer = torch.optim.Adam(twins, rate)
        losses = []
        with preserved(self.module), torch.inference_mode(False), torch.enable_grad():
            for _ in range(STEPS):
                try:
                    _, _, cost = forward(self.module, self.inputs, self.loss, only=())
                except ValueError:  # not finite any more
                    return math.inf
                losses.append(float(cost.detach()))
                gradients = torch.autograd.grad(cost, parameters, allow_unused=True)
                for twin, gradient in zip(twins, gradients, strict=True):
                    twin.grad = gradient
                optimizer.step()
        return float(np.mean(losses))

    def originals(self) -> list[list[tuple[Tensor, Tensor]]]:
        """What each scale moves, with copies: a weight and, in a chain, the bias beside it."""
        biases = {layer.weight: layer.bias for layer in self.chain if layer.bias is not None}
        moved = [[p, biases[p]] if p in biases else [p] for p in self.weights]
        return [[(x, x.detach().clone()) for x in together] for together in moved]

    def set(self, originals: list[list[tuple[Tensor, Tensor]]], exponents: np.ndarray) -> None:
        with torch.no_grad():
            for together, exponent in zip(originals, exponents, strict=True):
                for x, original in together:
                    x.copy_(original * 10.0**exponent)


def _direction(x: Tensor) -> np.ndarray:
    """A few random sums over a tensor of length 1: as far apart as the tensors, on average.

    What every word, or every class, has in common is taken out: it tells nothing.
    """
    for axis, size in enumerate(x.shape):
        x = x - x.mean(axis, keepdim=True) if size > 1 else x
    x = x.flatten()[:: math.ceil(x.numel() / ENTRIES) or 1].double().cpu()
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, x.shape, generator=generator, dtype=torch.int8) - 1
    sums = nn.functional.pad(x * signs, (0, -len(x) % ROWS)).reshape(-1, ROWS).sum(0)
    return (sums / (x.norm() or 1.0)).numpy()


def _see(outputs: dict[nn.Module, Tensor], layer: nn.Module, _: tuple, output: Tensor) -> None:
    outputs[layer] = output.detach()


def _improved(scales: _Scales) -> bool:
    """Bring gradients and signals together; keep it, and say so, if that succeeds.

    Plain chains at any price: brought to their critical scale, they compute something else anyway.
    What other networks compute is kept, unless they learn faster by far if it is not.
    """
    before = scales.off
    if before <= FLAT:
        return False
    kept = {p: p.detach().clone() for p in scales.module.parameters()}
    plain = len(scales.chain) > 1
    learning = 0.0 if plain else scales.learning()
    slowest = learning - FASTER * abs(learning)
    scales.function_weight = 0.0
    balance(scales.module, scales.inputs, scales.layers)
    scales.look()
    _equalise(scales)
    improved = scales.off < GAIN * before and (plain or scales.learning() <= slowest)
    if not improved and not plain:
        _restore(kept)
        scales.function_weight = FUNCTION_WEIGHT
        scales.look()
        _equalise(scales)
        improved = scales.off < GAIN * before
    if not improved:
        _restore(kept)
        scales.look()
    return improved and scales.off > FLAT


def _equalise(scales: _Scales) -> None:
    """Least squares by a trust region: Jacobians by differences, between them Broyden's updates."""
    originals = scales.originals()
    output = scales.output
    here = np.zeros(len(originals))
    now = scales.misfits(output)
    if not np.isfinite(now).all():
        return
    jacobian = _jacobian(scales, originals, here, output)

    def misfits(exponents: np.ndarray) -> np.ndarray:
        scales.set(originals, exponents)
        scales.look()
        return scales.misfits(output)

    def updated(exponents: np.ndarray) -> np.ndarray:
        """It is asked for after steps that are kept, whose misfits are there still."""
        nonlocal here, now, jacobian
        step = exponents - here
        if step.any():
            there = scales.misfits(output)
            surprise = there - now - jacobian @ step
            jacobian = jacobian + np.outer(surprise, step) / (step @ step)
            here, now = exponents, there
        return jacobian

    cost = math.inf
    while True:
        best = least_squares(misfits, here, updated, ftol=0.01, xtol=1e-3, max_nfev=ROUNDS)
        misfits(best.x)
        if scales.off <= FLAT or best.cost > GAIN * cost:
            return
        cost = best.cost
        now = scales.misfits(output)
        jacobian = _jacobian(scales, originals, here, output)


def _jacobian(scales: _Scales, originals: list, here: np.ndarray, output: np.ndarray) -> np.ndarray:
    """How each misfit answers each scale, by differences; 0 where one is not finite."""
    misfits = scales.misfits(output)
    columns = []
    for alive, place in zip(scales.alive.copy(), np.eye(len(here)), strict=True):
        column = np.zeros(len(misfits))
        if alive:
            scales.set(originals, here + DIFFERENCE * place)
            scales.look()
            column = (scales.misfits(output) - misfits) / DIFFERENCE
        columns.append(column)
    scales.responses = np.nan_to_num(np.array(columns).T, nan=0.0, posinf=0.0, neginf=0.0)
    return scales.responses


def _gradients(cost: Tensor, weights: list[Tensor]) -> np.ndarray:
    """log10 ‖dC/dW‖; -inf where it is zero or the cost does not depend on it."""
    plain = torch.autograd.grad(cost, weights, retain_graph=True, allow_unused=True)
    norms = quick_norms(
        [
            torch.zeros(1, dtype=p.dtype) if g is None else g
            for p, g in zip(weights, plain, strict=True)
        ]
    )
    least = np.array([torch.finfo(p.dtype).tiny for p in weights]) * 2.0**40
    # Far from the ends of its format a plain gradient has lost nothing; else it is taken exactly.
    if (np.isfinite(norms) & (norms > least)).all():
        return np.log10(norms)
    exact = Graph(cost).norms(weights, [])
    return np.array([log10_norm([exact.get(id(p), ZERO)]) for p in weights])


def random_cotangent(output: object) -> Tensor:
    """A cost that is linear in the output, its gradient random and of norm 1, always the same."""
    first = next(tensors(output), None)
    if first is None:
        raise bad("module(...)", output, "a tensor of real numbers in what it returns, or a loss")
    drawn = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
    return (first * (drawn / drawn.norm()).to(first)).sum()


def _restore(kept: dict[Tensor, Tensor]) -> None:
    with torch.no_grad():
        for p, copy in kept.items():
            if not torch.equal(p, copy):
                p.copy_(copy)


def _report(
    weights: dict[str, Tensor],
    kept: dict[Tensor, Tensor],
    before: pd.DataFrame,
    after: pd.DataFrame,
    scales: _Scales,
) -> pd.DataFrame:
    names = list(weights)
    before = before.set_index("name").loc[names]
    after = after.set_index("name").loc[names]
    columns = ["log10_grad_norm", "log10_output_norm"]
    df = after[columns].join(before[columns].add_suffix("_before"))
    df["shape"] = [tuple(p.shape) for p in weights.values()]
    df["log10_scale"] = [
        log10_norm([norm(p)]) - log10_norm([norm(kept[p])]) for p in weights.values()
    ]
    reasons = _reasons(scales, after, len(df))
    df["reason"] = pd.Series([reasons.get(i) for i in range(len(df))], index=names, dtype=object)
    return df.reset_index()[list(INITIALISE_COLUMNS)]


def _reasons(scales: _Scales, after: pd.DataFrame, count: int) -> dict[int, str]:
    """What is left, matrix by matrix, and why scale does not mend it."""
    reasons = {}
    found = scales.gradients[scales.alive]
    mean = found.mean() if len(found) else 0.0
    measured = len(scales.responses) > count
    spared = _unreached(scales, after, count) if measured else {}
    for i in range(count):
        off = scales.gradients[i] - mean
        if not scales.alive[i]:
            status = after.status.iloc[i]
            reasons[i] = f"its gradient is {status}: zero times any scale is zero"
        elif i in spared:
            reasons[i] = spared[i]
        elif scales.off <= FLAT or abs(off) < FLAT / 2 or not measured:
            continue
        else:
            reasons[i] = f"{off:+.2f} decades off the mean: {_obstacle(scales, i, count)}"
    return reasons


def _obstacle(scales: _Scales, i: int, count: int) -> str:
    """Why a gradient is where it is although every scale was free."""
    moved_by = scales.responses[i]
    degree = scales.responses[-1, i] / OUTPUT_WEIGHT
    if np.abs(moved_by).max() < 0.05:
        return "no scale moves it by more than 5 % of its own change"
    if abs(degree) > 1.5:
        return f"the output goes with power {degree:.1f} of its scale (homogeneous of that degree)"
    if scales.chain:
        width = np.median([len(layer.weight) for layer in scales.chain])
        ratio = len(scales.chain) / width
        return (
            f"depth / width = {ratio:.2g} in the chain, whose products of random matrices scatter; "
            f"signals there differ by {np.ptp(scales.signals):.1f} decades already, and would more"
        )
    return "the scales that move it move others as much"


def _unreached(scales: _Scales, after: pd.DataFrame, count: int) -> dict[int, str]:
    """Where a normalisation undoes every scale: dC/dz grows on, whatever the weights' scales."""
    gradients = scales.responses[:count]
    off_own = gradients + np.eye(count) - 1 / count  # centred: each answers its own scale alone
    alone = (np.abs(off_own).max(axis=0) < 0.1) & (
        np.abs(scales.responses[-1]) < 0.1 * OUTPUT_WEIGHT
    )
    places = np.flatnonzero(alone)
    deltas = after.log10_delta_norm.to_numpy()[places]
    if len(places) < 2 or not np.ptp(deltas) > 2 * FLAT:
        return {}
    words = (
        "normalised: its scale moves its own gradient alone; dC/dz, which differs by "
        f"{np.ptp(deltas):.1f} decades over such layers, it cannot mend"
    )
    return dict.fromkeys(places.tolist(), words)
