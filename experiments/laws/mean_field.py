"""Laws of infinite width: Glorot, Poole, Schoenholz, Klambauer, Philipp; ends of float ranges.

Slopes of ln of the squared gradient per layer once q has settled, where q and the correlation of
two inputs go, and how soon. Means have the drift or the bias of a finite width
(``theory.fluctuations``); tolerances are what the next order in 1/n may add, or as stated.
"""

import math
from functools import partial

import numpy as np

from experiments.laws.law import OFF, Finding, mean_of
from experiments.laws.walks import BIAS, HE, chains, first_order, log_chi, over_seeds
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.sampling import gaussian
from study.theory.finite_width import backward_law, forward_law
from study.theory.fluctuations import drift_and_spread, fluctuations

WIDTH = 1024
CRITICAL = theory.critical_sigma_w("tanh", BIAS)
SETTLED = 10
"""Layers next to the input that are left out."""


def wide(activation: str, sigma_w: float, sigma_b: float = 0.0, depth: int = 60) -> Network:
    """A network nearly of infinite width."""
    return Network(activation, depth=depth, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)


# --- Gradients -----------------------------------------------------------------------------------


def _slope(
    net: Network,
    factor: int,
    wrong: float | None = None,
    settled: int = SETTLED,
    networks: int = 60,
) -> Finding:
    """The mean of ln G per layer; the wrong number is that with ln chi 5 % off unless given."""
    values = chains(net, networks * factor).gains[:, settled:].mean(axis=1)
    exact = first_order(net, settled)
    expected = exact.mean / exact.layers
    if wrong is None:
        wrong = expected + (OFF - 1) * exact.log_chi / exact.layers
    return mean_of(values, expected, wrong, tolerance=exact.mean_error / exact.layers)


def _usual(activation: str) -> Network:
    """With the weights that were usual before Glorot and Bengio."""
    return Network(activation, depth=30, width=256, sigma_w=3**-0.5, weights="uniform")


def _power_law(factor: int) -> Finding:
    net = wide("tanh", 1.0, depth=100)
    values = chains(net, 60 * factor).gains[:, SETTLED:].sum(axis=1)
    exact = first_order(net, SETTLED)
    wrong = first_order(wide("tanh", OFF, depth=100), SETTLED).mean
    return mean_of(values, exact.mean, wrong, 100 / WIDTH * (exact.log_chi - exact.mean))


# --- Lengths and directions of signals -----------------------------------------------------------

ORDERED = wide("tanh", 1.2**0.5, BIAS, depth=20)


def _mean_square(net: Network, factor: int) -> Finding:
    """The mean square of the signals, averaged over layers, with the bias of finite width.

    E q = q (1 + (shift + variance / 2) / n) from the mean and variance of ln q; the next order
    is about the square of the latter.
    """
    values = np.exp(chains(net, 60 * factor).signals[:, SETTLED:]).mean(axis=1) / WIDTH
    at = fluctuations(net.activation, net.sigma_w, net.sigma_b, depth=61)
    q = at.q * (1 + (at.length_shift + at.length_variance / 2) / WIDTH)
    expected = (q[SETTLED + 1 :].mean() - net.sigma_b**2) / net.sigma_w**2
    return mean_of(values, expected, relative=(float(at.length_variance.max()) / WIDTH) ** 2)


@over_seeds
def _gaps(seed: int, sigma_w: float, c_0: float, layers: int) -> list[float]:
    """1 - c of two inputs' pre-activations in a tanh network, layer by layer.

    Given the layer below, the two pre-activations of a unit are normal with the covariance of the
    two signals: no matrix is needed.
    """
    key = gaussian.key(seed, "pairs")
    q = theory.mean_field("tanh", sigma_w, BIAS).q_star
    g = gaussian.normal(key, 0, (2, WIDTH))
    z = math.sqrt(q) * np.stack([g[0], c_0 * g[0] + math.sqrt(1 - c_0**2) * g[1]])
    gaps = []
    for k in range(layers):
        z, gap = _next_pair(np.tanh(z), sigma_w, gaussian.normal(key, k + 1, (3, WIDTH)))
        gaps.append(gap)
    return gaps


def _next_pair(r: np.ndarray, sigma_w: float, g: np.ndarray) -> tuple[np.ndarray, float]:
    """The next layer's two pre-activations, from normal numbers g, and 1 less their correlation."""
    # Half the sum and half the difference: keeps the digits of 1 - c.
    half_sum = (r[0] + r[1]) / 2
    half_difference = (r[0] - r[1]) / 2
    ss = np.vdot(half_sum, half_sum)
    dd = np.vdot(half_difference, half_difference)
    sd = np.vdot(half_sum, half_difference)
    along = sigma_w * math.sqrt(ss / WIDTH) * g[0]
    d = sd / ss * along + sigma_w * math.sqrt((dd - sd**2 / ss) / WIDTH) * g[1]
    s = along + BIAS * g[2]
    z = np.stack([s + d, s - d])
    size = np.sqrt((z**2).sum(axis=1))
    # |u - v|^2 = 2 (1 - c) for unit vectors, where |z1 - z2| = 2 |d|.
    apart = 4 * np.vdot(d, d) - (size[0] - size[1]) ** 2
    return z, apart / (2 * size[0] * size[1])


def _slowest(net: Network) -> float:
    """The tolerance of rates at which signals draw together: twice the drift of a gradient."""
    return 2 * drift_and_spread(net.activation, net.sigma_w, net.sigma_b).drift / WIDTH


def _depth_scale(factor: int) -> Finding:
    gaps = np.log(_gaps(60 * factor, ORDERED.sigma_w, 0.5, 60))
    expected = -1 / theory.mean_field("tanh", ORDERED.sigma_w, BIAS).xi_c
    return mean_of((gaps[:, 59] - gaps[:, 9]) / 50, expected, expected / 1.15, _slowest(ORDERED))


def _chaos_decorrelates(factor: int) -> Finding:
    gaps = _gaps(60 * factor, 2.0, 0.9, 200)
    expected = theory.mean_field("tanh", 2.0, BIAS).c_star
    wrong = theory.mean_field("tanh", 1.0, BIAS).c_star
    return mean_of(1 - gaps[:, 50:].mean(axis=1), expected, wrong, tolerance=8 / WIDTH)


@over_seeds
def _closing(seed: int, net: Network) -> float:
    """ln per layer of how two lengths of signals draw together, next to q*.

    Given r, pre-activations are independent normals of variance q: no matrix is needed, and the
    same normals serve both signals.
    """
    phi = activation_row(net.activation).phi
    key = gaussian.key(seed, "lengths")
    start = theory.mean_field(net.activation, net.sigma_w, net.sigma_b).q_star
    q = start = start * np.array([1 / OFF, OFF])
    for k in range(net.depth):
        z = np.sqrt(q)[:, None] * gaussian.normal(key, k, (WIDTH,))
        q = net.sigma_w**2 * np.mean(phi(z) ** 2, axis=1) + net.sigma_b**2
    return math.log(np.diff(q)[0] / np.diff(start)[0]) / net.depth


def _lengths(net: Network, factor: int, wrong: float | None = None) -> Finding:
    expected = -1 / theory.mean_field(net.activation, net.sigma_w, net.sigma_b).xi_q
    return mean_of(_closing(60 * factor, net), expected, wrong, _slowest(net))


def _relu_coefficient(factor: int) -> Finding:
    """Growth per layer of ln(||dC/dr^(k)|| ||r^(k)||) towards the input; norms, not squared.

    Exploding gradients, freed of what rescaling the layers does.
    """
    sample = chains(Network("relu", 50, 128, 2.0), 60 * factor)
    growth = sample.gains[:, SETTLED + 1 :].sum(axis=1)
    growth -= sample.signals[:, -1] - sample.signals[:, SETTLED]
    # Backward from the output and forward to it, layers of the same law; without ln chi.
    widths = [128] * (50 - SETTLED)
    expected = backward_law(widths, sigma_w=2.0).mean - forward_law(widths, sigma_w=2.0).mean
    norm_per_layer = 1 / (2 * (50 - SETTLED - 1))
    wrong = log_chi("relu", 2.0) / 2
    return mean_of(growth * norm_per_layer, expected * norm_per_layer, wrong)


# --- Where a gradient leaves float32 -------------------------------------------------------------

# Counted in layers from the output, where the norm is 1, on networks deep enough; between two
# layers the logarithm is interpolated. A random walk with drift comes to a distance b after
# b / drift steps in the mean (Wald), to one step of drift or noise: that is the tolerance.

FLOAT32 = np.finfo(np.float32)
LOG_SMALLEST = 2 * math.log(FLOAT32.tiny)
LOG_LARGEST = 2 * math.log(FLOAT32.max)


def _leaves(
    net: Network, drift: float, variance: float, factor: int, wrong: float | None = None
) -> Finding:
    """Depths at which networks leave the range; drift and variance are per layer, of ln G."""
    end = LOG_LARGEST if drift > 0 else LOG_SMALLEST
    depths = [_depth(steps[::-1], end) for steps in chains(net, 30 * factor).gains]
    return mean_of(depths, end / drift, wrong, tolerance=1 + math.sqrt(variance) / abs(drift))


def _depth(steps: np.ndarray, end: float) -> float:
    """How many steps a walk takes from 0 to a place beyond ``end``, interpolated."""
    walk = np.concatenate([[0.0], steps.cumsum()])
    beyond = walk > end if end > 0 else walk < end
    k = int(beyond.argmax())
    return k - (walk[k] - end) / (walk[k] - walk[k - 1]) if beyond[k] else math.inf


def _settled(activation: str, sigma_w: float, depth: int) -> tuple[Network, float, float]:
    """Where q is settled but for layers near the input that are not reached."""
    per_unit = drift_and_spread(activation, sigma_w)
    drift = log_chi(activation, sigma_w) - per_unit.drift / 256
    return Network(activation, depth, 256, sigma_w), drift, per_unit.spread / 256


RELU_LAYER = forward_law([256] * 2, sigma_w=1.0)

MEASURES = {
    "usual tanh": partial(_slope, _usual("tanh"), networks=20),
    "usual sigmoid": partial(_slope, _usual("sigmoid"), wrong=-math.log(48), networks=20),
    "sigmoid vanishes": partial(_slope, wide("sigmoid", 4.0)),
    "sigmoid explodes": partial(_slope, wide("sigmoid", 16.0)),
    "tanh chaos": partial(_slope, wide("tanh", 2.0)),
    "tanh critical": partial(
        _slope, wide("tanh", CRITICAL, BIAS), wrong=log_chi("tanh", OFF * CRITICAL, BIAS)
    ),
    "power law": _power_law,
    "selu explodes": partial(_slope, wide("selu", 1.0), wrong=0.0),
    "gelu vanishes": partial(
        _slope, wide("gelu", HE, depth=80), wrong=log_chi("relu", HE), settled=40
    ),
    "fixed point": partial(_mean_square, wide("tanh", 2.5**0.5, BIAS)),
    "depth scale": _depth_scale,
    "chaos decorrelates": _chaos_decorrelates,
    "length scale": partial(
        _lengths, ORDERED, wrong=-1 / theory.mean_field("tanh", ORDERED.sigma_w, BIAS).xi_c
    ),
    "selu contracts": partial(_lengths, wide("selu", 1.0, depth=40)),
    "selu signal": partial(_mean_square, wide("selu", 1.0)),
    "scale coefficient relu": _relu_coefficient,
    "sigmoid leaves float32": partial(_leaves, *_settled("sigmoid", 1.0, 80)),
    "wide sigmoid leaves float32": partial(_leaves, *_settled("sigmoid", 4.0, 230)),
    "tanh leaves float32": partial(_leaves, *_settled("tanh", 2.0, 700)),
    "relu leaves float32": partial(
        _leaves,
        Network("relu", 300, 256, 1.0),
        RELU_LAYER.mean,
        RELU_LAYER.variance,
        wrong=LOG_SMALLEST / log_chi("sigmoid", 1.0),
    ),
}
