"""Weights brought to the scale at which no layer's gradient vanishes or explodes: by measurement.

Every weight matrix has one freedom, its scale; nothing is drawn anew.

*Balance.* In a plain chain (all of the gradient passes through the layer, and its output goes
straight into an activation) the layers are set one after another, in one forward pass: what the
signal gains in a layer, times what the gradient gains on its way back, is 1, and the signal does
not rise above the input's: the critical scale of mean-field theory. Biases there take phi(0) of
the activation before out of the sum, b = -phi(0) sum W, as a sigmoid's 1/2 would drown the signal.

*Equalisation.* The norms ‖dC/dW‖ of all matrices are a function of all scales. Its Jacobian is
measured by differences, and least squares with a trust region brings the norms together; the output
keeps its scale, and in chains a decade off for the gradient weighs as ten for the signals.

*Trial.* Outside plain chains changes of the output and of scales have their price. A few steps of
Adam on the batch with new noise on it decide how bold they are.

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
from operator import itemgetter

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn

from study.tools.checks import bad
from study.torch.autograd import Graph
from study.torch.chains import balance, plain_chain
from study.torch.hooks import tensors
from study.torch.norms import ZERO, direction, has_norm, log10_norm, norm, quick_norms
from study.torch.profiler import check_profiled, forward, profile
from study.torch.state import mapped, preserved

INITIALISE_COLUMNS = {
    "name": "the weight matrix (two dimensions or more), as named_parameters() has it [-]",
    "shape": "its shape [-]",
    "log10_scale": "what it was multiplied with [log10]",
    "log10_grad_norm_before": "‖dC/dW‖ as it was found; -inf: a true zero [log10]",
    "log10_grad_norm": "‖dC/dW‖ afterwards [log10]",
    "log10_output_norm_before": "of its module's output, as it was found [log10]",
    "log10_output_norm": "of its module's output, afterwards [log10]",
    "reason": "why it is not that of the others, or what scale cannot mend; else missing [-]",
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
BANDS = (1.0, 0.5, 0.25)
"""Careful levels: within so many decades of the mean a gradient hardly counts, beyond it much."""
FUNCTION_WEIGHT = 8.0
"""There: a turn of the output's direction by one radian, against a decade of every gradient."""
SCALE_WEIGHT = 0.25
"""There: a decade of a scale, which changes how fast Adam learns that matrix."""
RATES = (1e-3, 3e-3, 1e-2)
STEPS = 40
"""Of Adam, in a trial, at the best of these rates."""
TOLERANCE = 0.02
"""So much higher may the mean loss of a trial be, as other noise moves it by that or more."""
FAR = 2.0
"""So many decades are worth patience: bolder levels, and half of the way, if none has passed."""
WAITING = 0.03
"""The loss may then be higher by so much of that at the start, as if Adam waited for a step."""
FASTER = 0.1
"""So much lower has the mean loss of a trial to be where all scales are free."""
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
    Where gradients are within a factor of 2, or nothing brings them closer by a quarter, nothing is
    changed: a second call leaves the weights of the first. It takes about as many passes forward
    and backward as there are matrices, times ten, and with a loss 120 a trial. ``.grad``, buffers,
    mode, hooks and random states are left as found. Training: see ``docs/initialise.md``.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> len(initialise(net, torch.randn(32, 16)))                           # its two matrices
    2
    """
    check_profiled(module, loss or random_cotangent)
    loss = loss or random_cotangent
    kept = _copies(module)
    before = profile(module, inputs, loss)
    weights = {
        name: p
        for name, p in module.named_parameters()
        if p.dim() > 1 and p.requires_grad and has_norm(p)
    }
    scales = _Scales(module, inputs, loss, list(weights.values()))
    try:
        if redraw is not None:
            for p in weights.values():
                nn.init.orthogonal_(p, generator=redraw)
        while _improved(scales):
            pass
        after = profile(module, inputs, loss)
    except BaseException:
        _restore(kept)
        raise
    return _report(weights, before, after, scales)


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
        self.band: float | None = None  # all scales are free
        self.learnt: float | None = None  # the loss of the last trial that was passed
        self.slowed = False  # whether the last trial was not
        self.responses = np.zeros((0, len(weights)))
        """The last Jacobian: of every gradient, and of the size of the output."""
        self.look()

    def look(self) -> None:
        """Measure: gradients, signals of the chain, the output; all of them log10."""
        outputs: dict[nn.Module, Tensor] = {}

        def see(layer: nn.Module, _: tuple, output: Tensor) -> None:
            outputs[layer] = output.detach()

        with contextlib.ExitStack() as hooks:  # removes them, whatever happens
            for layer in self.layers:
                hooks.enter_context(layer.register_forward_hook(see))
            with preserved(self.module), torch.inference_mode(False), torch.enable_grad():
                _, output, cost = forward(self.module, self.inputs, self.loss, only=())
                with torch.no_grad():
                    self.gradients = _gradients(cost, self.weights)
        self.cost = float(cost.detach())
        self.alive = np.isfinite(self.gradients)
        signals = [outputs[layer] for layer in self.layers]
        with np.errstate(divide="ignore"):
            self.signals = np.log10(quick_norms(signals) / np.sqrt([x.numel() for x in signals]))
        first = next(tensors(output), torch.ones(1)).detach()
        apart = first - first.mean(0)
        apart = apart if apart.any() else first
        sizes = [log10_norm([norm(x)]) for x in (apart, first)]
        sums = () if self.band is None else direction(apart)
        self.output = np.array([*sums, *sizes])

    @property
    def off(self) -> float:
        """Decades between gradients that are not 0, or between a chain's signals, weighted."""
        found = self.gradients[self.alive]
        signals = SIGNAL_WEIGHT * np.ptp(self.signals) if self.layers else 0.0
        return float(max(np.ptp(found), signals)) if len(found) else 0.0

    def misfits(self, output: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """What is to become 0: each gradient and signal against the mean, the output's change.

        output : the `output` that is to be kept
        exponents : of the scales, log10
        """
        gradients = np.where(self.alive, self.gradients, 0.0)
        gradients[self.alive] -= self.gradients[self.alive].mean()
        signals = self.signals - (self.signals.mean() if len(self.signals) else 0.0)
        change = self.output - output
        kept = SIGNAL_WEIGHT * signals, OUTPUT_WEIGHT * change[-2:]
        if self.band is None:
            return np.concatenate([gradients, *kept])
        gradients *= (gradients / self.band) ** 2  # to the sixth in the sum: nearly the range
        turn = FUNCTION_WEIGHT * math.sqrt(len(gradients)) * change[:-2]
        return np.concatenate([gradients, SCALE_WEIGHT * exponents, turn, *kept])

    def learning(self) -> float:
        """The mean loss over a few steps on the batch, at the best rate; infinite: it diverges."""
        return min(map(self._trial, RATES)) if self.loss is not random_cotangent else 0.0

    def _trial(self, rate: float) -> float:
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        twins = [p.detach() for p in parameters]  # the same numbers, with a .grad of their own
        optimizer = torch.optim.Adam(twins, rate)
        noisy = partial(_noisy, torch.Generator().manual_seed(0))
        losses = []
        with preserved(self.module), torch.inference_mode(False), torch.enable_grad():
            for _ in range(STEPS):
                inputs = mapped(noisy, self.inputs)
                try:
                    _, _, cost = forward(self.module, inputs, self.loss, only=())
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
        biases = {layer.weight: layer.bias for layer in self.layers if layer.bias is not None}
        moved = [[p, biases[p]] if p in biases else [p] for p in self.weights]
        return [[(x, x.detach().clone()) for x in together] for together in moved]

    def set(self, originals: list[list[tuple[Tensor, Tensor]]], exponents: np.ndarray) -> None:
        """And look."""
        with torch.no_grad():
            for together, exponent in zip(originals, exponents, strict=True):
                for x, original in together:
                    x.copy_(original * 10.0**exponent)
        self.look()


def _noisy(generator: torch.Generator, x: Tensor) -> Tensor:
    """With noise of its own size: one batch then stands for many. Words stay what they are."""
    if not x.is_floating_point() or x.numel() < 2 or not math.isfinite(size := float(x.std())):
        return x
    return x.detach() + size * torch.randn(x.shape, generator=generator).to(x)


def _improved(scales: _Scales) -> bool:
    """Bring gradients and signals together; keep it, and say so, if that succeeds."""
    if scales.off <= FLAT:
        return False
    is_plain = 2 * len(scales.layers) > len(scales.weights)
    is_better = _balanced(scales) if is_plain else _mended(scales)
    return is_better and scales.off > FLAT


def _balanced(scales: _Scales) -> bool:
    """Bring chains to their critical scale, at any price: they compute something else then."""
    found = _copies(scales.module)
    least = GAIN * scales.off
    balance(scales.module, scales.inputs, scales.layers)
    scales.look()
    _equalise(scales, scales.originals())
    is_better = scales.off < least
    if not is_better:
        _restore(found)
        scales.look()
    return is_better


def _mended(scales: _Scales) -> bool:
    """Go to the boldest level before one that fails; if none passes, where it costs least."""
    originals = scales.originals()
    found = np.zeros(len(originals))
    before = scales.off

    def learning(exponents: np.ndarray) -> float:
        """The loss of a trial there, infinite where gradients are hardly closer."""
        scales.set(originals, exponents)
        return scales.learning() if scales.off < GAIN * before else math.inf

    if scales.learnt is None:
        scales.learnt = scales.learning()
    fast = scales.learnt - FASTER * abs(scales.learnt)
    waited = scales.learnt + WAITING * abs(scales.cost)
    best = found
    tried = []
    for band in (*BANDS, None):
        scales.band = band
        scales.set(originals, found)
        exponents = _equalise(scales, originals)
        loss = learning(exponents)
        if loss == math.inf:
            continue
        limit = scales.learnt + TOLERANCE * abs(scales.learnt)
        scales.slowed = loss > (limit if band else min(limit, fast))
        if not scales.slowed:
            scales.learnt = min(scales.learnt, loss)
            best = exponents
        elif best is not found or before <= FAR:
            break
        elif band:
            tried += [(loss, exponents), (learning(exponents / 2), exponents / 2)]
    if best is found and tried:
        loss, exponents = min(tried, key=itemgetter(0))
        if loss <= waited:
            scales.learnt = loss
            best = exponents
    scales.set(originals, best)
    return best is not found


def _equalise(scales: _Scales, originals: list) -> np.ndarray:
    """Exponents of scales, by a trust region: Jacobians by differences, then Broyden's updates."""
    output = scales.output
    here = np.zeros(len(originals))
    now = scales.misfits(output, here)
    if not np.isfinite(now).all():
        return here
    jacobian = _jacobian(scales, originals, here, output)

    def misfits(exponents: np.ndarray) -> np.ndarray:
        scales.set(originals, exponents)
        return scales.misfits(output, exponents)

    def updated(exponents: np.ndarray) -> np.ndarray:
        """It is asked for after steps that are kept, whose misfits are there still."""
        nonlocal here, now, jacobian
        step = exponents - here
        if step.any():
            there = scales.misfits(output, exponents)
            surprise = there - now - jacobian @ step
            jacobian = jacobian + np.outer(surprise, step) / (step @ step)
            here, now = exponents, there
        return jacobian

    cost = math.inf
    while True:
        best = least_squares(misfits, here, updated, ftol=0.01, xtol=1e-3, max_nfev=ROUNDS)
        misfits(best.x)
        if scales.off <= FLAT or best.cost > GAIN * cost:
            return best.x
        cost = best.cost
        now = scales.misfits(output, here)
        jacobian = _jacobian(scales, originals, here, output)


def _jacobian(scales: _Scales, originals: list, here: np.ndarray, output: np.ndarray) -> np.ndarray:
    """How each misfit answers each scale, by differences; 0 where one is not finite."""
    misfits = scales.misfits(output, here)
    readings = np.append(scales.gradients, scales.output[-1])
    jacobian = np.zeros((len(misfits), len(here)))
    responses = np.zeros((len(readings), len(here)))
    for i in np.flatnonzero(scales.alive):
        exponents = here + DIFFERENCE * (np.arange(len(here)) == i)
        scales.set(originals, exponents)
        jacobian[:, i] = (scales.misfits(output, exponents) - misfits) / DIFFERENCE
        with np.errstate(invalid="ignore"):  # those that are 0, on either side
            moved = np.append(scales.gradients, scales.output[-1])
            responses[:, i] = (moved - readings) / DIFFERENCE
    scales.responses = np.nan_to_num(responses, nan=0.0, posinf=0.0, neginf=0.0)
    return np.nan_to_num(jacobian, nan=0.0, posinf=0.0, neginf=0.0)


def _gradients(cost: Tensor, weights: list[Tensor]) -> np.ndarray:
    """log10 ‖dC/dW‖; -inf where it is zero or the cost does not depend on it."""
    plain = torch.autograd.grad(cost, weights, retain_graph=True, allow_unused=True)
    norms = quick_norms([torch.zeros(1) if g is None else g for g in plain])
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


def _copies(module: nn.Module) -> dict[Tensor, Tensor]:
    return {p: p.detach().clone() for p in module.parameters()}


def _restore(kept: dict[Tensor, Tensor]) -> None:
    with torch.no_grad():
        for p, copy in kept.items():
            if not torch.equal(p, copy):
                p.copy_(copy)


def _report(
    weights: dict[str, Tensor], before: pd.DataFrame, after: pd.DataFrame, scales: _Scales
) -> pd.DataFrame:
    names = list(weights)
    before = before.set_index("name").loc[names]
    after = after.set_index("name").loc[names]
    columns = ["log10_grad_norm", "log10_output_norm"]
    df = after[columns].join(before[columns].add_suffix("_before"))
    df["shape"] = [tuple(p.shape) for p in weights.values()]
    df["log10_scale"] = after.log10_weight_norm - before.log10_weight_norm
    df["reason"] = pd.Series(_reasons(scales, after), index=names, dtype=object)
    return df.reset_index()[list(INITIALISE_COLUMNS)]


def _reasons(scales: _Scales, after: pd.DataFrame) -> list[str | None]:
    """Of each matrix, why scale does not mend what is left; None where nothing is."""
    offs = scales.gradients - scales.gradients[scales.alive].mean() if scales.alive.any() else ()
    spared = _unreached(scales, after)
    reasons: list[str | None] = [None] * len(after)
    for i, status in enumerate(after.status):
        if not scales.alive[i]:
            reasons[i] = f"its gradient is {status}: zero times any scale is zero"
        elif i in spared:
            reasons[i] = spared[i]
        elif scales.off > FLAT and abs(offs[i]) > FLAT / 2 and len(scales.responses):
            reasons[i] = f"{offs[i]:+.2f} decades off the mean: {_obstacle(scales, i)}"
    return reasons


def _obstacle(scales: _Scales, i: int) -> str:
    """Why a gradient is where it is although every scale was free."""
    degree = scales.responses[-1, i]
    if np.abs(scales.responses[i]).max() < 0.05:
        return "no scale moves it by more than 5 % of its own change"
    if scales.slowed:
        return "with more of that mended the network learnt more slowly in a trial"
    if abs(degree) > 1.5:
        return f"the output goes with power {degree:.1f} of its scale (homogeneous of that degree)"
    if scales.layers:
        ratio = len(scales.layers) / np.median([len(layer.weight) for layer in scales.layers])
        return (
            f"depth / width = {ratio:.2g} in the chain, whose products of random matrices scatter; "
            f"signals there differ by {np.ptp(scales.signals):.1f} decades already, and would more"
        )
    return "the scales that move it move others as much"


def _unreached(scales: _Scales, after: pd.DataFrame) -> dict[int, str]:
    """Where a normalisation undoes every scale: dC/dr grows on, whatever the weights' scales."""
    if not len(scales.responses):
        return {}
    others = scales.responses + np.eye(*scales.responses.shape)
    places = np.flatnonzero(np.abs(others).max(axis=0) < 0.1)  # those that move themselves alone
    arriving = (after.log10_delta_norm + after.log10_weight_factor).iloc[places]
    apart = arriving.max() - arriving.min()
    if not apart > 2 * FLAT:
        return {}
    words = (
        "normalised: its scale moves its own gradient alone; dC/dr, which differs by "
        f"{apart:.1f} decades over such layers, it cannot mend"
    )
    return dict.fromkeys(places.tolist(), words)
