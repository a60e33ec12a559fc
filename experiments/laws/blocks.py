"""Laws of normalised and of residual networks: Yang, De and Smith, Zhang, Balduzzi.

For ReLU in residual branches the means E of squared growths are exact at any width, and where coins
are tossed for the masks, as Balduzzi et al. assume, those of overlaps as well: tolerances are 0.
Elsewhere the theory is that of infinite width, and tolerances hold the finite width's shift as it
was found on other seeds, relative: with batch normalisation from -0.2 B/n (linear, B = 8) to 0.06
B/n (smooth activations), with layer normalisation 1/n, in residual tanh networks twice 0.7/n.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.laws.law import OFF, Finding, mean_of
from experiments.laws.walks import HE, input_gradient, log_squares, over_seeds
from study.core.activations import activation as activation_row
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import BATCH, UNITS, Dense, Linear, Normalised, Residual
from study.sampling import gaussian
from study.theory.blocks import (
    Shattering,
    batch_norm_factor,
    branch_scales,
    first_step,
    growth,
    independent_shattering,
    layer_norm_factor,
    linear_batch_factor,
    normalised_shattering,
    shattering,
)

WIDTH = 128
EXAMPLES = 32


def _pair(key: int, k: int, n: int) -> np.ndarray:
    """W and V of a block at sigma_w = 1, the k-th draw."""
    return gaussian.normal(key, k, (2, n, n)) / math.sqrt(n)


# --- Normalised layers ---------------------------------------------------------------------------

TOP = 14
BOTTOM = 4
LAYERS = 16


class Kind(NamedTuple):
    """Networks r -> phi(norm(r W)) of 16 layers, and how many in the quick preset."""

    activation: str
    batch: int = 16
    n: int = 256
    axis: int = BATCH
    networks: int = 60


@over_seeds
def _factors(seed: int, kind: Kind) -> float:
    """Of the squared gradient per layer from r^(14) back to r^(4), away from both ends."""
    key = gaussian.key(seed, "normalised")
    n = kind.n
    weights = [gaussian.normal(key, k, (n, n)) / math.sqrt(n) for k in range(LAYERS)]
    layers = [Normalised(W, kind.activation, kind.axis) for W in weights]
    r, dr = gaussian.normal(key, LAYERS, (2, kind.batch, n))
    gradients, _ = log_squares(layers, r, dr)
    return math.exp((gradients[BOTTOM] - gradients[TOP]) / (TOP - BOTTOM))


def _normalised(kind: Kind, factor: int, wrong: float | None = None) -> Finding:
    if kind.axis == BATCH:
        expected = batch_norm_factor(kind.activation, kind.batch)
        relative = 0.2 * kind.batch / kind.n
    else:
        expected = layer_norm_factor(kind.activation)
        relative = 2 / kind.n
    return mean_of(_factors(kind.networks * factor, kind), expected, wrong, relative=relative)


# --- How signal and gradient grow in residual networks -------------------------------------------

GRADIENT = 0
SIGNAL = 1


@over_seeds
def _growths(
    seed: int, schedule: str, depth: int, activation: str = "relu", sigma_w: float = HE
) -> np.ndarray:
    """ln of what the squared gradient and the signal grow by in the first l blocks, (2, depth + 1).

    A network is walked by 32 examples with a cotangent each; these are of their sum of squares.
    """
    key = gaussian.key(seed, "residual")
    x, dr = gaussian.normal(key, 0, (2, EXAMPLES, WIDTH))
    x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
    blocks = []
    for k, scale in enumerate(branch_scales(schedule, depth)):
        W, V = _pair(key, 1 + k, WIDTH)
        blocks.append(Residual([Dense(sigma_w * W, activation), Linear(V, scale)]))
    gradients, signals = log_squares(blocks, x, dr)
    return np.stack([gradients[0] - gradients, signals - signals[0]])


def _expected(schedule: str, depth: int) -> float:
    """E of the squared gradient's growth in a He-ReLU network, which is that of the signal."""
    return math.exp(growth(branch_scales(schedule, depth)).log_gradient[-1])


def _relu(
    what: int, schedule: str, depth: int, networks: int, factor: int, wrong: float | None = None
) -> Finding:
    growths = _growths(networks * factor, schedule, depth)[:, what, -1]
    return mean_of(np.exp(growths), _expected(schedule, depth), wrong)


def _tanh(factor: int) -> Finding:
    growths = _growths(40 * factor, "undamped", 160, "tanh", 1.0)[:, GRADIENT]
    logs = growth(branch_scales("undamped", 160), "tanh", sigma_w=1.0).log_gradient
    return mean_of(growths[:, -1], logs[-1], relative=1.5 / WIDTH)


def _tanh_root(factor: int) -> Finding:
    growths = _growths(40 * factor, "undamped", 160, "tanh", 1.0)[:, GRADIENT]
    tanh = growth(branch_scales("undamped", 160), "tanh", sigma_w=1.0).log_gradient
    relu = growth(branch_scales("undamped", 160)).log_gradient
    ratios = growths[:, 160] / growths[:, 40]
    return mean_of(ratios, tanh[159] / tanh[39], relu[159] / relu[39], relative=0.02)


# --- The first step of gradient descent ----------------------------------------------------------


@over_seeds
def moved(seed: int, depth: int, scale: float, eta: float) -> float:
    """How far one step of gradient descent moves the output, over eta ||x||^2 ||dC/dr^(L)||.

    C = ||r^(L) - y||^2 / 2; every V is 0 at first, and all weights take the step.
    """
    key = gaussian.key(seed, "first step")
    x, y = gaussian.normal(key, 0, (2, 1, WIDTH))
    size = scale * math.sqrt(2 / WIDTH)
    blocks = []
    for k in range(depth):
        W = size * gaussian.normal(key, 1 + k, (WIDTH, WIDTH))
        blocks.append(Residual([Dense(W, "relu"), Linear(np.zeros((WIDTH, WIDTH)))]))
    trace, before = forward(blocks, x)
    dr = before - y
    stepped = []
    for block in backward(trace, dr):
        first, last = block.z.trace
        # The gradient of W is 0 where V is; a block's phi is the identity, so its delta is V's.
        V = -eta * weight_gradient(last.r, block.delta)
        stepped.append(Residual([first.layer, Linear(V)]))
    _, after = forward(stepped[::-1], x)
    return np.linalg.norm(after - before) / (eta * np.vdot(x, x) * np.linalg.norm(dr))


def _step(scale: float, eta: float, wrong: float, tolerance: float, factor: int) -> Finding:
    expected = first_step(64, scale)
    return mean_of(moved(20 * factor, 64, scale, eta), expected, wrong, relative=tolerance)


# --- Shattered gradients -------------------------------------------------------------------------

# What is measured is tr(J1 J2') / n of two inputs: the mean inner product <g1, g2> of their
# gradients over cotangents common to both.


class Tossed(Dense):
    """A ReLU layer whose gradient is masked by coins, not by the signs of z."""

    def __init__(self, W: np.ndarray, coins: np.ndarray):
        super().__init__(W, "relu")
        self.mask = activation_row("relu").derivative(coins)

    def slope(self, z: np.ndarray) -> np.ndarray:
        return self.mask


@over_seeds
def _overlaps(
    seed: int, n: int, depth: int, coins: bool, schedule: str | None = None
) -> tuple[float, float]:
    """tr(J1 J1') / n and tr(J1 J2') / n of orthogonal inputs in a He-ReLU network.

    ``schedule`` makes the layers residual blocks with these branch scales.
    """
    key = gaussian.key(seed, "shattered")
    tosses = gaussian.normal(key, 1, (depth, 2, 1, n))
    layers = []
    for k in range(depth):
        W, V = _pair(key, 2 + k, n)
        layer = Tossed(HE * W, tosses[k]) if coins else Dense(HE * W, "relu")
        if schedule is not None:
            layer = Residual([layer, Linear(V, branch_scales(schedule, depth)[k])])
        layers.append(layer)
    x = gaussian.normal(key, 0, (2, n))
    x[1] -= np.vdot(x[0], x[1]) / np.vdot(x[0], x[0]) * x[0]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    J = input_gradient(layers, x[:, None], np.stack([np.eye(n)] * 2))
    return np.vdot(J[0], J[0]) / n, np.vdot(J[0], J[1]) / n


def _laws(depth: int, schedule: str | None = None) -> tuple[Shattering, Shattering]:
    """By coin-tossed masks, and by those of orthogonal inputs."""
    scales = None if schedule is None else branch_scales(schedule, depth)
    return independent_shattering(depth, scales), shattering(depth, scales)


def _by_coins(networks: int, factor: int, schedule: str | None = None) -> Finding:
    covariances = _overlaps(networks * factor, 128, 4, True, schedule)[:, 1]
    coins, angles = _laws(4, schedule)
    return mean_of(covariances, coins.covariance[-1], angles.covariance[-1])


def _by_angles(factor: int) -> Finding:
    covariances = _overlaps(100 * factor, 256, 8, False)[:, 1]
    coins, angles = _laws(8)
    expected = angles.covariance[-1]
    return mean_of(covariances, expected, coins.covariance[-1], relative=10 * 8 / 256)


def _residual_variance(factor: int) -> Finding:
    variances = _overlaps(150 * factor, 128, 4, True, "undamped")[:, 0]
    coins, _ = _laws(4, "undamped")
    expected = math.exp(coins.log_variance[-1])
    return mean_of(variances, expected, OFF**4 * expected)


def _scaled_branches(factor: int) -> Finding:
    covariances = _overlaps(60 * factor, 128, 16, True, "1/sqrt(l)")[:, 1]
    coins, angles = _laws(16, "1/sqrt(l)")
    correlations = covariances / math.exp(coins.log_variance[-1])
    return mean_of(correlations, coins.correlation[-1], angles.correlation[-1])


DEPTH = 40


@over_seeds
def _branches(seed: int, n: int) -> np.ndarray:
    """ln of the mean of <g1, g1> and of <g1, g2> over pairs of a batch.

    x + V relu(BN(W x)) with Var V = 2/n; the gradients of each example's output by its own input,
    the batch's statistics held fixed, under 8 cotangents that all examples have in common.
    """
    key = gaussian.key(seed, "normalised branches")
    blocks = []
    for k in range(DEPTH):
        W, V = _pair(key, 2 + k, n)
        blocks.append(Residual([Normalised(W, "relu", BATCH, frozen=True), Linear(HE * V)]))
    cotangents = gaussian.normal(key, 1, (8, 1, n))
    dr = np.broadcast_to(cotangents, (8, EXAMPLES, n))
    g = input_gradient(blocks, gaussian.normal(key, 0, (EXAMPLES, n)), dr)
    squares = np.sum(g**2) / EXAMPLES
    # Pairs of different examples: what the square of the sum has beyond the squares.
    sums = np.sum(g.sum(axis=1) ** 2) / EXAMPLES
    pairs = (sums - squares) / (EXAMPLES - 1)
    return np.log(np.array([squares, pairs]) / np.sum(cotangents**2))


BY_BATCH = normalised_shattering(DEPTH, EXAMPLES)
BY_ROOT_LAYER, _ = _laws(DEPTH, "1/sqrt(l)")


def _branch_growth(factor: int) -> Finding:
    logs = _branches(20 * factor, 256)[:, 0]
    wrong = BY_ROOT_LAYER.log_variance[-1]
    return mean_of(logs, BY_BATCH.log_variance[-1], wrong, tolerance=0.05)


def _branch_correlation(factor: int) -> Finding:
    squares, pairs = _branches(20 * factor, 256).T
    expected, wrong = (
        (law.log_covariance - law.log_variance)[-1] for law in (BY_BATCH, BY_ROOT_LAYER)
    )
    return mean_of(pairs - squares, expected, wrong, tolerance=0.05)


MEASURES = {
    "batch norm relu": partial(_normalised, Kind("relu", batch=64, n=512, networks=20)),
    "batch norm small batch": partial(_normalised, Kind("relu"), wrong=batch_norm_factor("relu")),
    "batch norm linear": partial(_normalised, Kind("linear", batch=8)),
    "batch norm tanh": partial(_normalised, Kind("tanh")),
    "batch norm sigmoid": partial(_normalised, Kind("sigmoid"), wrong=linear_batch_factor(16)),
    "batch norm selu": partial(_normalised, Kind("selu")),
    "layer norm relu": partial(_normalised, Kind("relu", n=128, axis=UNITS, networks=160)),
    "layer norm tanh": partial(_normalised, Kind("tanh", n=128, axis=UNITS, networks=80)),
    "undamped signal": partial(
        _relu, SIGNAL, "undamped", 6, 160, wrong=OFF**6 * _expected("undamped", 6)
    ),
    "undamped gradient": partial(
        _relu, GRADIENT, "undamped", 6, 160, wrong=OFF**6 * _expected("undamped", 6)
    ),
    "scaled by root depth": partial(_relu, GRADIENT, "1/sqrt(L)", 60, 60),
    "scaled by depth": partial(_relu, GRADIENT, "1/L", 10, 80, wrong=1.0),
    "scaled by root layer": partial(
        _relu, GRADIENT, "1/sqrt(l)", 60, 80, wrong=_expected("1/sqrt(l)", 60) ** OFF
    ),
    "summable branches": partial(_relu, SIGNAL, "1/l", 20, 120),
    "residual tanh": _tanh,
    "residual tanh root": _tanh_root,
    "fixup step": partial(_step, 64**-0.5, 1e-5, first_step(64), 0.01),
    "unscaled step": partial(_step, 1.0, 1e-6, first_step(1), 0.02),
    "shattered by coins": partial(_by_coins, 250),
    "shattered by angles": _by_angles,
    "residual covariance": partial(_by_coins, 150, schedule="undamped"),
    "residual variance": _residual_variance,
    "scaled branches correlation": _scaled_branches,
    "normalised branches growth": _branch_growth,
    "normalised branches correlation": _branch_correlation,
}
