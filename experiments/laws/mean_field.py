"""Laws of infinite width: Glorot, Poole, Schoenholz, Klambauer, Philipp.

Slopes of ln of the squared gradient per layer once q has settled, where q and the correlation of
two inputs go, and how soon: their limits, and where ``theory.fluctuations`` knows it their 1/n.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from experiments.laws.finite_width import kernel, kind
from experiments.laws.law import NARROW, OFF, WIDE, Law
from experiments.laws.walks import BIAS, HE, SQUARE, chains, first_order, log_chi
from study import theory
from study.core.activations import Activation
from study.core.activations import activation as activation_row
from study.sampling import gaussian
from study.theory.fluctuations import fluctuations
from study.theory.gradient_norms import log10_norms

CRITICAL = theory.critical_sigma_w("tanh", BIAS)
SIGMOID_CRITICAL = theory.critical_sigma_w("sigmoid")
TANH = activation_row("tanh")
SETTLED = 10  # layers next to the input that are left out

# --- Gradients -----------------------------------------------------------------------------------


def slope(
    of: Callable,
    settled: int = SETTLED,
    off: float | None = None,
    sizes: tuple[int, ...] = WIDE,
    networks: int = 200,
) -> Law:
    """The mean of ln G per layer."""
    law = first_order(of(1), settled)
    return Law(
        measure=lambda n, seeds: chains(of(n), seeds).gains[:, settled:].mean(axis=1),
        sizes=sizes,
        networks=networks,
        limit=law.log_chi / law.layers,
        offset=law.shift / law.layers,
        off=off,
    )


def usual(activation: str) -> Law:
    """With the weights that were usual before Glorot and Bengio."""
    of = kind(activation, 30, 3**-0.5, weights="uniform")
    return slope(of, sizes=(24, 48, 96), networks=60)


# --- Lengths and directions of signals -----------------------------------------------------------


def _mean_square(of: Callable) -> Law:
    """The mean square of the signals, averaged over layers."""
    # E q = q (1 + (shift + variance / 2) / n) from the mean and variance of ln q.
    net = of(1)
    at = fluctuations(net.activation, net.sigma_w, net.sigma_b, depth=61)
    settled = slice(SETTLED + 1, None)
    offset = at.q * (at.length_shift + at.length_variance / 2)
    return Law(
        measure=lambda n, seeds: np.exp(chains(of(n), seeds).signals[:, SETTLED:]).mean(axis=1) / n,
        sizes=(64, *WIDE),
        powers=(1, 2),
        networks=200,
        limit=float(at.q[settled].mean() - net.sigma_b**2) / net.sigma_w**2,
        offset=float(offset[settled].mean()) / net.sigma_w**2,
    )


def gaps(
    n: int,
    seeds: range,
    sigma_w: float,
    c_0: float,
    layers: int,
    row: Activation = TANH,
    sigma_b: float = BIAS,
) -> np.ndarray:
    """1 - c of two inputs' pre-activations, a row a network, layer by layer."""
    # Given the layer below, the two pre-activations of a unit are normal with the covariance of the
    # two signals: no matrix is needed.
    key = gaussian.key(seeds.start, "pairs")
    shape = (len(seeds), n)
    q = theory.mean_field(row, sigma_w, sigma_b).q_star
    g, h = gaussian.normal(key, 0, (2, *shape), np.float32)
    z = math.sqrt(q) * np.stack([g, c_0 * g + math.sqrt(1 - c_0**2) * h])
    by_layer = []
    for k in range(layers):
        normals = gaussian.normal(key, k + 1, (3, *shape), np.float32)
        z, gap = _next_pair(row.phi(z), sigma_w, sigma_b, normals)
        by_layer.append(gap)
    return np.transpose(by_layer)


def _next_pair(
    r: np.ndarray, sigma_w: float, sigma_b: float, g: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The next layer's two pre-activations, from normal numbers g, and 1 less their correlation."""
    n = r.shape[-1]
    # Half the sum and half the difference: keeps the digits of 1 - c.
    half_sum = (r[0] + r[1]) / 2
    half_difference = (r[0] - r[1]) / 2
    ss = np.vecdot(half_sum, half_sum)[:, None]
    dd = np.vecdot(half_difference, half_difference)[:, None]
    sd = np.vecdot(half_sum, half_difference)[:, None]
    along = sigma_w * np.sqrt(ss / n) * g[0]
    d = sd / ss * along + sigma_w * np.sqrt((dd - sd**2 / ss) / n) * g[1]
    s = along + sigma_b * g[2]
    z = np.stack([s + d, s - d])
    size = np.sqrt((z**2).sum(axis=-1))
    # |u - v|^2 = 2 (1 - c) for unit vectors, where |z1 - z2| = 2 |d|.
    apart = 4 * np.vecdot(d, d) - (size[0] - size[1]) ** 2
    return z, apart / (2 * size[0] * size[1])


def _closing_in(n: int, seeds: range) -> np.ndarray:
    """Slope of ln(1 - c) from layer 10 to 40."""
    logs = np.log(gaps(n, seeds, 1.2**0.5, 0.5, 41))
    return (logs[:, 40] - logs[:, 10]) / 30


def _closing(activation: str, sigma_w: float, sigma_b: float, depth: int) -> Law:
    """ln per layer of how two lengths of signals draw together, next to q*."""
    # Given r, pre-activations are independent normals of variance q: no matrix is needed, and the
    # same normals serve both signals.
    phi = activation_row(activation).phi
    start = theory.mean_field(activation, sigma_w, sigma_b).q_star
    start = start * np.array([1 / OFF_START, OFF_START])
    path = start
    for _ in range(depth):
        path = theory.variance_map(activation, path, sigma_w, sigma_b)

    def rate(q: np.ndarray) -> np.ndarray:
        return np.log(np.diff(q)[..., 0] / np.diff(start)[0]) / depth

    def measure(n: int, seeds: range) -> np.ndarray:
        key = gaussian.key(seeds.start, "lengths")
        q = np.tile(start, (len(seeds), 1))
        for k in range(depth):
            z = np.sqrt(q)[..., None] * gaussian.normal(key, k, (len(seeds), 1, n))
            q = sigma_w**2 * np.mean(phi(z) ** 2, axis=-1) + sigma_b**2
        return rate(q)

    return Law(measure=measure, sizes=WIDE, networks=100, limit=float(rate(path)))


OFF_START = 1.05  # by what factor lengths that draw together are off the fixed point at first


def _coefficient(n: int, seeds: range) -> np.ndarray:
    """Growth per layer of ln(||dC/dr^(k)|| ||r^(k)||) towards the input; norms, not squared."""
    # Exploding gradients, freed of what rescaling the layers does.
    sample = chains(kind("relu", 50, 2.0)(n), seeds)
    growth = sample.gains[:, SETTLED + 1 :].sum(axis=1)
    growth -= sample.signals[:, -1] - sample.signals[:, SETTLED]
    return growth / (2 * (50 - SETTLED - 1))


def _power_law() -> Law:
    """Mean of ln G from layer 10 to 60."""
    of = kind("tanh", 60, 1.0)
    law = first_order(of(1), SETTLED)
    return Law(
        measure=lambda n, seeds: chains(of(n), seeds).gains[:, SETTLED:].sum(axis=1),
        sizes=(*WIDE, 1024),
        networks=300,
        limit=law.log_chi,
        offset=law.shift,
        powers=(1, 2),
    )


def _kernel(sigma_w: float, sigma_b: float, depth: int = 30, networks: int = 500) -> Law:
    """ln of the neural tangent kernel of a tanh network at one input, over n."""
    norms = log10_norms("tanh", sigma_w, sigma_b, depth, 1, range(depth))
    return Law(
        measure=kernel(kind("tanh", depth, sigma_w, sigma_b)),
        sizes=WIDE,
        networks=networks,
        limit=float(logsumexp(SQUARE * norms)),
        off=OFF,
    )


LAWS = {
    "usual tanh": usual("tanh"),
    "usual sigmoid": usual("sigmoid"),
    "sigmoid vanishes": slope(kind("sigmoid", 60, 4.0)),
    "sigmoid explodes": slope(kind("sigmoid", 60, 16.0)),
    "tanh chaos": slope(kind("tanh", 60, 2.0)),
    "tanh critical": slope(
        kind("tanh", 60, CRITICAL, BIAS), off=log_chi("tanh", (1 + OFF) * CRITICAL, BIAS)
    ),
    "sigmoid critical": slope(
        kind("sigmoid", 60, SIGMOID_CRITICAL),
        off=log_chi("sigmoid", (1 + OFF) * SIGMOID_CRITICAL),
    ),
    "power law": _power_law(),
    "selu explodes": slope(kind("selu", 60, 1.0)),
    "gelu vanishes": slope(kind("gelu", 80, HE), settled=40),
    "fixed point": _mean_square(kind("tanh", 61, 2.5**0.5, BIAS)),
    "depth scale": Law(
        measure=_closing_in,
        sizes=WIDE,
        networks=200,
        limit=-1 / theory.mean_field("tanh", 1.2**0.5, BIAS).xi_c,
    ),
    "chaos decorrelates": Law(
        measure=lambda n, seeds: 1 - gaps(n, seeds, 2.0, 0.9, 100)[:, 50:].mean(axis=1),
        networks=900,
        limit=theory.mean_field("tanh", 2.0, BIAS).c_star,
    ),
    "length scale": _closing("tanh", 1.2**0.5, BIAS, 20),
    "selu contracts": _closing("selu", 1.0, 0.0, 40),
    "selu signal": _mean_square(kind("selu", 61, 1.0)),
    "ntk ordered": _kernel(1.2**0.5, BIAS),
    "ntk critical": _kernel(CRITICAL, BIAS),
    "ntk chaotic": _kernel(2.0, BIAS, networks=1200),
    "scale coefficient relu": Law(
        measure=_coefficient,
        sizes=NARROW,
        networks=200,
        exact=lambda n: 0.0,
        off=OFF * log_chi("relu", 2.0) / 2,
    ),
}
