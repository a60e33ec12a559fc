"""Laws of finite width: Hanin and Nica, Hanin and Rolnick, He, Lu, Glorot; Euler; summary law.

The theory is exact for scale-free activations, at any widths and depth. For others it is of first
order in 1/n: the limit of n/L times the variance of ln G. Its drift is the offset of the slopes of
ln G (``mean_field``).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import logsumexp

from experiments.laws.law import NARROW, OFF, WIDE, Law, Measure
from experiments.laws.walks import (
    BIAS,
    HE,
    SQUARE,
    Weights,
    alive,
    chains,
    exact_law,
    first_order,
    growths,
    log_chi,
    log_gains,
    side_by_side,
)
from study import theory
from study.core.blocks import Dense
from study.core.network import Network
from study.engines.profile import profile
from study.statistics.extrapolation import deviations
from study.theory.finite_width import backward_law, born_dead, forward_law


def mean(of: Callable[[int], Network]) -> Measure:
    """ln G of each network of a kind, of a width."""
    return lambda n, seeds: log_gains(of(n), seeds)


def variance(of: Callable[[int], Network]) -> Measure:
    """n / L of the variance of ln G."""
    return lambda n, seeds: n / of(n).depth * deviations(log_gains(of(n), seeds))


# --- Equal widths --------------------------------------------------------------------------------


def kind(activation: str, depth: int, sigma_w: float, sigma_b: float = 0.0, **fields) -> Callable:
    """Networks of a kind, by width."""
    # In float32 draws take a third of the time; rounding moves ln G by 1e-6, chance by 1.
    fields = {"dtype": "float32"} | fields
    return lambda n: Network(activation, depth, n, sigma_w, sigma_b, **fields)


RELU = kind("relu", 50, HE)
LINEAR = kind("linear", 50, 1.0)
HALVED = kind("relu", 60, 1.0)
ORTHOGONAL = kind("relu", 50, HE, weights="orthogonal")
SMALL = (16, 32, 64)


def exact_mean(of: Callable[[int], Network], networks: int = 1000) -> Law:
    """The mean of ln G of scale-free networks, at any width."""
    return Law(
        measure=mean(of), sizes=SMALL, networks=networks, exact=lambda n: exact_law(of(n)).mean
    )


def exact_variance(of: Callable[[int], Network]) -> Law:
    """n / L of its variance."""
    return Law(
        measure=variance(of),
        sizes=SMALL,
        networks=2000,
        exact=lambda n: n / of(n).depth * exact_law(of(n)).variance,
    )


def _lengths(n: int, seeds: range) -> np.ndarray:
    """ln of the growth of the squared length through 50 layers."""
    ends = profile(kind("relu", 51, HE)(n), seeds=seeds, layers=2)
    first, last = SQUARE * ends["log10_signal_norm"].to_numpy().reshape(-1, 2).T
    with np.errstate(invalid="ignore"):  # of the dead
        return alive(last - first)


def _dead(n: int, seeds: range) -> np.ndarray:
    """Whether the gradient is truly zero, in 2^n layers."""
    frame = profile(Network("relu", 2**n, n), seeds=seeds, layers=2)
    return (frame["status"].to_numpy()[::2] == "dead").astype(float)


# --- Unequal widths ------------------------------------------------------------------------------


def bottlenecks(n: int) -> list[int]:
    """Nine wide layers, then one of a tenth of their width, five times."""
    return [10 * n] + ([10 * n] * 9 + [n]) * 5


def alternating(n: int) -> list[int]:
    """Narrow layers and layers of four times their width in turn."""
    return [n] + [4 * n, n] * 25


def tapering(n: int) -> list[int]:
    """Each layer half as wide as the one before."""
    return [2**k * n for k in range(5, -1, -1)]


# Var W = 2 / (n_in + n_out) is sigma_w^2 / n_in with this, as each layer halves the width.
XAVIER = math.sqrt(2 / (1 + 1 / 2))


def _growth(of: Callable, activation: str, sigma_w: float) -> Measure:
    """ln of the growth of the squared gradient down, and of the squared signal up."""

    @side_by_side("unequal widths", lambda n: max(of(n)))
    def measure(weights: Weights, n: int) -> np.ndarray:
        widths = of(n)
        r = weights.normal(1, widths[0])
        dr = weights.normal(1, widths[-1])
        pairs = itertools.pairwise(widths)
        layers = [Dense(weights(*pair, scale=sigma_w), activation) for pair in pairs]
        return np.transpose(growths(layers, r, dr))

    return measure


def _unequal(statistic: Callable, moment: str, of: Callable, networks: int) -> Law:
    """A moment of ln G of the living: the theory does not speak of those that are born dead."""
    growth = _growth(of, "relu", HE)
    return Law(
        measure=lambda n, seeds: statistic(alive(growth(n, seeds)[:, 0])),
        sizes=(5, 10, 20),
        networks=networks,
        exact=lambda n: getattr(backward_law(of(n)), moment),
    )


def _compromise(law: Callable, column: int, per_unit: float) -> Law:
    """Of mean squares, not of lengths."""
    growth = _growth(tapering, "linear", XAVIER)
    return Law(
        measure=lambda n, seeds: growth(n, seeds)[:, column] + per_unit,
        sizes=(4, 8, 16),
        networks=800,
        exact=lambda n: law(tapering(n), "linear", sigma_w=XAVIER).mean + per_unit,
    )


# --- The summary law, ln G = L ln chi + N(-a L/n, c L/n), of every kind of activation -------------

TANH_CRITICAL = ("tanh", theory.critical_sigma_w("tanh", BIAS), BIAS)
TANH_CHAOTIC = ("tanh", 1.5)
SELU = ("selu", 1.0)
SIGMOID_CRITICAL = ("sigmoid", theory.critical_sigma_w("sigmoid"))


def _spread(activation: str, *scales: float, sizes: Sequence[int] = NARROW) -> Law:
    """c: n/L of the variance of ln G."""
    of = kind(activation, 10, *scales)
    return Law(
        measure=variance(of), sizes=sizes, networks=8000, limit=first_order(of(1)).variance / 10
    )


# --- Where weight gradients vanish ---------------------------------------------------------------

# In a bias-free homogeneous network <W, dC/dW> is the same for every layer (Euler), so the first
# layer's gradient says nothing that the last one's does not. A saturating activation whose q has
# settled is not homogeneous: its weight gradients fall or grow by chi per layer towards the input.


def _profile(of: Callable, first: int) -> Measure:
    """Slope of ln ||dC/dW^(k)||^2 by k, from a layer to the last but one."""

    def values(n: int, seeds: range) -> np.ndarray:
        logs = chains(of(n), seeds).weight_gradients
        return (logs[:, -2] - logs[:, first]) / (of(n).depth - 2 - first)

    return values


def _towards_input(of: Callable) -> Law:
    net = of(1)
    limit = -log_chi(net.activation, net.sigma_w)
    return Law(measure=_profile(of, 10), sizes=WIDE, networks=100, limit=limit)


# --- The neural tangent kernel at one input, the sum of ||dC/dW^(k)||^2 ---------------------------


def kernel(of: Callable) -> Measure:
    """ln of the kernel over n, for an input of mean square 1 and a cotangent of norm 1."""
    return lambda n, seeds: logsumexp(chains(of(n), seeds).weight_gradients, axis=1) - math.log(n)


def _kernel_spread() -> Law:
    """n / L of the variance of ln of the kernel of a He-ReLU network."""
    depth = 5
    # E ||dC/dW^(j)||^2 ||dC/dW^(k)||^2 over the means' product is to first order
    # 1 + (5 (L - 1) + 5 - 4 |j - k|) / n: layers below or above both give 5, as Hanin and Nica have
    # it; those between only 1, as one of the two signals is met by the other's gradient.
    apart = np.abs(np.subtract.outer(np.arange(depth), np.arange(depth)))
    of = kind("relu", depth, HE)
    return Law(
        measure=lambda n, seeds: n / depth * deviations(kernel(of)(n, seeds)),
        networks=8000,
        limit=float(5 - 4 * apart.mean() / depth),
    )


LAWS = {
    "log gradient mean": exact_mean(RELU),
    "log gradient variance": exact_variance(RELU),
    "typical gradient vanishes": exact_mean(lambda n: kind("relu", 10 * n, HE)(n), 200),
    "xavier halves": Law(
        measure=lambda n, seeds: log_gains(HALVED(n), seeds) / HALVED(n).depth,
        networks=100,
        limit=log_chi("relu", 1.0),
        offset=first_order(HALVED(1)).shift / HALVED(1).depth,
    ),
    "typical length falls": Law(
        measure=_lengths,
        sizes=SMALL,
        networks=1000,
        exact=lambda n: forward_law([n] * 51).mean,
    ),
    "lengths spread": Law(
        measure=lambda n, seeds: deviations(_lengths(n, seeds)),
        sizes=SMALL,
        networks=2000,
        exact=lambda n: forward_law([n] * 51).variance,
    ),
    "born dead": Law(
        measure=_dead, sizes=(3, 4, 6), networks=1000, exact=lambda n: born_dead([n] * 2**n)
    ),
    "relu vanishes uniformly": Law(
        measure=_profile(kind("relu", 50, 1.0), 1),
        sizes=NARROW,
        networks=200,
        exact=lambda n: 0.0,
        off=-OFF * log_chi("relu", 1.0),
    ),
    "sum of reciprocal widths": _unequal(np.asarray, "mean", bottlenecks, 1000),
    "bottlenecks spread": _unequal(deviations, "variance", bottlenecks, 2000),
    "equal beta drift": _unequal(np.asarray, "mean", alternating, 1000),
    "equal beta spread": _unequal(deviations, "variance", alternating, 2000),
    "compromise forward": _compromise(forward_law, 1, math.log(32)),
    "compromise backward": _compromise(backward_law, 0, -math.log(32)),
    "spread linear": exact_variance(LINEAR),
    "spread orthogonal relu": exact_variance(ORTHOGONAL),
    "drift orthogonal relu": exact_mean(ORTHOGONAL),
    "spread tanh critical": _spread(*TANH_CRITICAL),
    "spread tanh chaotic": _spread(*TANH_CHAOTIC),
    "spread selu": _spread(*SELU),
    "spread sigmoid critical": _spread(*SIGMOID_CRITICAL, sizes=WIDE),
    "ntk mean": Law(
        measure=lambda n, seeds: np.exp(kernel(kind("relu", 10, HE))(n, seeds)),
        sizes=NARROW,
        networks=2000,
        exact=lambda n: 10 / 2,
    ),
    "ntk spread": _kernel_spread(),
    "sigmoid vanishes towards input": _towards_input(kind("sigmoid", 40, 1.0)),
    "tanh explodes towards input": _towards_input(kind("tanh", 60, 2.0)),
}
