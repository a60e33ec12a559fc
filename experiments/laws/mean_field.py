"""Laws of infinite width: Glorot, Poole, Schoenholz, Klambauer, Philipp; ends of float ranges.

Slopes of ln of the squared gradient per layer once q has settled, where q and the correlation of
two inputs go, and how soon. Means have the drift or the bias of a finite width
(``theory.fluctuations``); tolerances are what the next order in 1/n may add, or as stated.
"""

import math

import numpy as np

from experiments.laws.law import OFF, Finding, every, mean_of, seeds
from experiments.laws.walks import HE, chains, log_chi
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.sampling import gaussian
from study.theory.finite_width import backward_law, forward_law
from study.theory.fluctuations import drift_and_spread, fluctuations
from study.theory.moments import KURTOSIS

WIDTH = 1024
SETTLED = 10
"""Layers next to the input that are left out."""

BIAS = 0.05**0.5


def wide(activation: str, sigma_w: float, sigma_b: float = 0.0, depth: int = 60) -> Network:
    """A network nearly of infinite width."""
    return Network(activation, depth=depth, width=WIDTH, sigma_w=sigma_w, sigma_b=sigma_b)


# --- Gradients -----------------------------------------------------------------------------------


def _slope(
    factor: int,
    net: Network,
    wrong: float | None = None,
    settled: int = SETTLED,
    networks: int = 60,
) -> Finding:
    """The mean of ln G per layer; the wrong number is that with ln chi 5 % off unless given."""
    values = chains(net, networks * factor).gains[:, settled:].mean(axis=1)
    kurtosis = KURTOSIS[net.weights]
    at = fluctuations(net.activation, net.sigma_w, net.sigma_b, depth=net.depth, kurtosis=kurtosis)
    exact = at.gain(net.width, settled)
    expected = exact.mean / exact.layers
    if wrong is None:
        wrong = expected + (OFF - 1) * exact.log_chi / exact.layers
    return mean_of(values, expected, wrong, tolerance=exact.mean_error / exact.layers)


def _usual(factor: int, activation: str, wrong: float | None = None) -> Finding:
    """At the weights that were usual before Glorot and Bengio."""
    net = Network(activation, depth=30, width=256, sigma_w=3**-0.5, weights="uniform")
    return _slope(factor, net, wrong, networks=20)


def _critical(factor: int) -> Finding:
    critical = theory.critical_sigma_w("tanh", BIAS)
    return _slope(factor, wide("tanh", critical, BIAS), log_chi("tanh", OFF * critical, BIAS))


def _power_law(factor: int) -> Finding:
    values = chains(wide("tanh", 1.0, depth=100), 60 * factor).gains[:, SETTLED:].sum(axis=1)
    exact = fluctuations("tanh", 1.0, depth=100).gain(WIDTH, SETTLED)
    wrong = fluctuations("tanh", OFF, depth=100).gain(WIDTH, SETTLED)
    tolerance = 100 / WIDTH * (exact.log_chi - exact.mean)
    return mean_of(values, exact.mean, wrong.mean, tolerance)


# --- Lengths and directions of signals -----------------------------------------------------------

ORDERED = 1.2**0.5


def _mean_square(factor: int, net: Network) -> Finding:
    """The mean square of the signals, averaged over layers, with the bias of finite width.

    E q = q (1 + (shift + variance / 2) / n) from the mean and variance of ln q; the next order
    is about the square of the latter.
    """
    values = np.exp(chains(net, 60 * factor).signals[:, SETTLED:]).mean(axis=1) / WIDTH
    at = fluctuations(net.activation, net.sigma_w, net.sigma_b, depth=61)
    q = at.q * (1 + (at.length_shift + at.length_variance / 2) / WIDTH)
    expected = (q[SETTLED + 1 :].mean() - net.sigma_b**2) / net.sigma_w**2
    return mean_of(values, expected, relative=(float(at.length_variance.max()) / WIDTH) ** 2)


def _pairs(count: int, sigma_w: float, c_0: float, layers: int) -> np.ndarray:
    """1 - c of two inputs' pre-activations in tanh networks, a row a seed, a column a layer.

    Given the layer below, the two pre-activations of a unit are normal with the covariance of the
    two signals: no matrix is needed.
    """
    tanh = activation_row("tanh")
    gaps = np.empty((count, layers))
    q = theory.mean_field("tanh", sigma_w, BIAS).q_star
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "pairs")
        g = gaussian.normal(key, 0, (2, WIDTH))
        z = math.sqrt(q) * np.stack([g[0], c_0 * g[0] + math.sqrt(1 - c_0**2) * g[1]])
        for k in range(layers):
            z, gaps[i, k] = _next_pair(
                tanh.phi(z), sigma_w, gaussian.normal(key, k + 1, (3, WIDTH))
            )
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


def _depth_scale(factor: int) -> Finding:
    gaps = np.log(_pairs(60 * factor, ORDERED, 0.5, 60))
    expected = -1 / theory.mean_field("tanh", ORDERED, BIAS).xi_c
    tolerance = 2 * drift_and_spread("tanh", ORDERED, BIAS).drift / WIDTH
    return mean_of((gaps[:, 59] - gaps[:, 9]) / 50, expected, expected / 1.15, tolerance)


def _chaos_decorrelates(factor: int) -> Finding:
    gaps = _pairs(60 * factor, 2.0, 0.9, 200)
    expected = theory.mean_field("tanh", 2.0, BIAS).c_star
    wrong = theory.mean_field("tanh", 1.0, BIAS).c_star
    return mean_of(1 - gaps[:, 50:].mean(axis=1), expected, wrong, tolerance=8 / WIDTH)


def _lengths(factor: int, net: Network, wrong: float | None = None) -> Finding:
    """ln per layer of how two lengths of signals draw together, next to q*: -1 / xi_q.

    Given r, pre-activations are independent normals of variance q: no matrix is needed, and the
    same normals serve both signals.
    """
    phi = activation_row(net.activation).phi
    specification = (net.activation, net.sigma_w, net.sigma_b)
    at = theory.mean_field(*specification)
    slopes = []
    for seed in seeds(60 * factor):
        key = gaussian.key(seed, "lengths")
        start = q = at.q_star * np.array([1 / OFF, OFF])
        for k in range(net.depth):
            z = np.sqrt(q)[:, None] * gaussian.normal(key, k, (WIDTH,))
            q = net.sigma_w**2 * np.mean(phi(z) ** 2, axis=1) + net.sigma_b**2
        slopes.append(math.log(np.diff(q)[0] / np.diff(start)[0]) / net.depth)
    expected = -1 / at.xi_q
    return mean_of(slopes, expected, wrong, 2 * drift_and_spread(*specification).drift / WIDTH)


def _length_scale(factor: int) -> Finding:
    wrong = -1 / theory.mean_field("tanh", ORDERED, BIAS).xi_c
    return _lengths(factor, wide("tanh", ORDERED, BIAS, depth=20), wrong)


# --- The gradient scale coefficient --------------------------------------------------------------

# ||dC/dr^(k)|| ||r^(k)||, relative to the output's: exploding gradients, freed of what rescaling
# the layers does. Norms, not squared.


def _growth(net: Network, count: int) -> np.ndarray:
    """Growth per layer of ln(||dC/dr^(k)|| ||r^(k)||) towards the input."""
    signals = chains(net, count).signals
    change = chains(net, count).gains[:, SETTLED + 1 :].sum(axis=1)
    change -= signals[:, -1] - signals[:, SETTLED]
    return change / (2 * (net.depth - SETTLED - 1))


def _coefficient(factor: int, net: Network, off: float = OFF) -> Finding:
    """Where q has settled, lengths stay and the gradient's growth is all there is."""
    at = fluctuations(net.activation, net.sigma_w, depth=net.depth)
    exact = at.gain(net.width, SETTLED + 1)
    norm_per_layer = 1 / (2 * exact.layers)
    expected = exact.mean * norm_per_layer
    wrong = (exact.mean + (off - 1) * exact.log_chi) * norm_per_layer
    tolerance = exact.mean_error * norm_per_layer
    return mean_of(_growth(net, 60 * factor), expected, wrong, tolerance)


def _relu(sigma_w: float) -> Network:
    return Network("relu", depth=50, width=128, sigma_w=sigma_w)


def _relu_coefficient(factor: int) -> Finding:
    # Backward from the output and forward to it, layers of the same law; without ln chi.
    down = backward_law([128] * (50 - SETTLED), sigma_w=2.0).mean
    up = forward_law([128] * (50 - SETTLED), sigma_w=2.0).mean
    expected = (down - up) / (2 * (50 - SETTLED - 1))
    return mean_of(_growth(_relu(2.0), 60 * factor), expected, log_chi("relu", 2.0) / 2)


def _relu_coefficients(factor: int) -> Finding:
    slopes = [_growth(_relu(sigma_w), 60 * factor) for sigma_w in (1.0, 2**0.5, 2.0)]
    return every(np.ptp(slopes, axis=0), 0.0, log_chi("relu", 2.0) / 2, tolerance=1e-12)


# --- Where a gradient leaves float32 -------------------------------------------------------------

# Counted in layers from the output, where the norm is 1, on networks deep enough; between two
# layers the logarithm is interpolated. A random walk with drift comes to a distance b after
# b / drift steps in the mean (Wald), to one step of drift or noise: that is the tolerance.

FLOAT32 = np.finfo(np.float32)
LOG_SMALLEST = 2 * math.log(FLOAT32.tiny)
LOG_LARGEST = 2 * math.log(FLOAT32.max)


def _leaves(
    factor: int, net: Network, drift: float, noise: float, wrong: float | None = None
) -> Finding:
    """Depths at which networks leave the range; drift and noise are per layer, of ln G."""
    end = LOG_LARGEST if drift > 0 else LOG_SMALLEST
    depths = [_depth(steps[::-1], end) for steps in chains(net, 30 * factor).gains]
    return mean_of(depths, end / drift, wrong, tolerance=1 + noise / abs(drift))


def _depth(steps: np.ndarray, end: float) -> float:
    """How many steps a walk takes from 0 to a place beyond ``end``, interpolated."""
    walk = np.concatenate([[0.0], steps.cumsum()])
    beyond = walk > end if end > 0 else walk < end
    k = int(beyond.argmax())
    return k - (walk[k] - end) / (walk[k] - walk[k - 1]) if beyond[k] else math.inf


def _settled(factor: int, activation: str, sigma_w: float, depth: int) -> Finding:
    """Where q is settled but for layers near the input that are not reached."""
    net = Network(activation, depth=depth, width=256, sigma_w=sigma_w)
    first_order = drift_and_spread(activation, sigma_w)
    drift = log_chi(activation, sigma_w) - first_order.drift / 256
    return _leaves(factor, net, drift, math.sqrt(first_order.spread / 256))


def _relu_leaves(factor: int) -> Finding:
    net = Network("relu", depth=300, width=256, sigma_w=1.0)
    layer = forward_law([256] * 2, sigma_w=1.0)
    wrong = LOG_SMALLEST / log_chi("sigmoid", 1.0)
    return _leaves(factor, net, layer.mean, math.sqrt(layer.variance), wrong)


MEASURES = {
    "usual tanh": lambda factor: _usual(factor, "tanh"),
    "usual sigmoid": lambda factor: _usual(factor, "sigmoid", -math.log(48)),
    "sigmoid vanishes": lambda factor: _slope(factor, wide("sigmoid", 4.0)),
    "sigmoid explodes": lambda factor: _slope(factor, wide("sigmoid", 16.0)),
    "tanh chaos": lambda factor: _slope(factor, wide("tanh", 2.0)),
    "tanh critical": _critical,
    "power law": _power_law,
    "selu explodes": lambda factor: _slope(factor, wide("selu", 1.0), log_chi("linear", 1.0)),
    "gelu vanishes": lambda factor: _slope(
        factor, wide("gelu", HE, depth=80), log_chi("relu", HE), settled=40
    ),
    "fixed point": lambda factor: _mean_square(factor, wide("tanh", 2.5**0.5, BIAS)),
    "depth scale": _depth_scale,
    "chaos decorrelates": _chaos_decorrelates,
    "length scale": _length_scale,
    "selu contracts": lambda factor: _lengths(factor, wide("selu", 1.0, depth=40)),
    "selu signal": lambda factor: _mean_square(factor, wide("selu", 1.0)),
    "scale coefficient": lambda factor: _coefficient(factor, wide("tanh", 2.0)),
    "scale coefficient sigmoid": lambda factor: _coefficient(factor, wide("sigmoid", 4.0)),
    "scale coefficient selu": lambda factor: _coefficient(factor, wide("selu", 1.0), off=0.0),
    "scale coefficient relu": _relu_coefficient,
    "relu scale coefficient": _relu_coefficients,
    "sigmoid leaves float32": lambda factor: _settled(factor, "sigmoid", 1.0, depth=80),
    "wide sigmoid leaves float32": lambda factor: _settled(factor, "sigmoid", 4.0, depth=230),
    "tanh leaves float32": lambda factor: _settled(factor, "tanh", 2.0, depth=700),
    "relu leaves float32": _relu_leaves,
}
