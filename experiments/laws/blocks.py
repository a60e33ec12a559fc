"""Laws of normalised and of residual networks: Yang, De and Smith, Zhang, Balduzzi.

For ReLU in residual branches the means E of squared growths are exact at any width, and where coins
are tossed for the masks, as Balduzzi et al. assume, those of overlaps as well. Elsewhere the theory
is that of infinite width, and what is averaged are logarithms.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import digamma

from experiments.laws.law import NARROW, OFF, Law, Measure
from experiments.laws.walks import (
    HE,
    Weights,
    growths,
    input_gradient,
    log_gradients,
    log_square,
    side_by_side,
    unit,
)
from study.core.activations import activation as activation_row
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import BATCH, UNITS, Dense, Linear, Normalised, Residual
from study.theory.blocks import (
    batch_norm_factor,
    branch_scales,
    growth,
    independent_shattering,
    layer_norm_factor,
    normalised_shattering,
    shattering,
)
from study.theory.finite_width import active_units
from study.theory.two_inputs import shattering_offset

# --- Normalised layers ---------------------------------------------------------------------------

LAYERS = 12
TOP = 10
BOTTOM = 4


def _normalised(activation: str, batch: int = 16, axis: int = BATCH, networks: int = 150) -> Law:
    """ln of the factor of the squared gradient per layer from r^(10) back to r^(4)."""

    @side_by_side("normalised", lambda n: batch * n)
    def measure(weights: Weights, n: int) -> np.ndarray:
        r, dr = weights.ends(batch, n)
        layers = [Normalised(weights(n, n), activation, axis) for _ in range(LAYERS)]
        logs = log_gradients(layers, r, dr)
        return (logs[BOTTOM] - logs[TOP]) / (TOP - BOTTOM)

    by_batch = axis == BATCH
    limit = math.log(
        batch_norm_factor(activation, batch) if by_batch else layer_norm_factor(activation)
    )
    # 5 % of a number next to 0 would be no control.
    off = OFF if abs(limit) < OFF else None
    return Law(measure=measure, networks=networks, limit=limit, off=off)


# --- How signal and gradient grow in residual networks -------------------------------------------

GRADIENT = 0
SIGNAL = 1


def _blocks(
    weights: Weights, n: int, scales: np.ndarray, activation: str = "relu", sigma_w: float = HE
) -> list[Residual]:
    """x + scale V phi(W x)."""
    return [
        Residual([Dense(weights(n, n, sigma_w), activation), Linear(weights(n, n, scale))])
        for scale in scales
    ]


def _relu(what: int, schedule: str, depth: int, networks: int = 500) -> Law:
    """E of what the squared gradient, or the squared signal, grows by in He-ReLU blocks."""
    scales = branch_scales(schedule, depth)
    expected = math.exp(growth(scales).log_gradient[-1])

    @side_by_side("residual", lambda n: n)
    def measure(weights: Weights, n: int) -> np.ndarray:
        x, dr = weights.ends(1, n)
        return np.exp(growths(_blocks(weights, n, scales), x, dr)[what])

    return Law(measure=measure, sizes=NARROW, networks=networks, exact=lambda n: expected)


TANH_BLOCKS = 160


@side_by_side("residual tanh", lambda n: n)
def _tanh_growths(weights: Weights, n: int) -> np.ndarray:
    """ln of what the squared gradient grows by in the first 40 blocks and in all 160."""
    x, dr = weights.ends(1, n)
    layers = _blocks(weights, n, np.ones(TANH_BLOCKS), "tanh", 1.0)
    logs = log_gradients(layers, unit(x), dr)
    return (logs[0] - logs[[40, TANH_BLOCKS]]).T


TANH_LOGS = growth(branch_scales("undamped", TANH_BLOCKS), "tanh", sigma_w=1.0).log_gradient

# --- The first step of gradient descent ----------------------------------------------------------

ETA = 1e-9


def moved(depth: int, scale: float, eta: float = ETA) -> Measure:
    """How far one step of gradient descent moves the output, over eta ||x||^2 ||dC/dr^(L)||."""
    # Branches are x + V relu(scale W x), every V is 0 at first, and all weights take the step, for
    # C = ||r^(L) - y||^2 / 2. To first order in eta the output moves by L scale^2 sigma_w^2 / 2: by
    # 1 at every depth L if scale is 1 / sqrt(L).

    @side_by_side("first step", lambda n: depth * n**2)
    def measure(weights: Weights, n: int) -> np.ndarray:
        x, y = weights.ends(1, n)
        size = scale * math.sqrt(2 / n)
        zero = np.zeros((len(x), n, n))
        layers = [
            Residual([Dense(size * weights.normal(n, n), "relu"), Linear(zero)])
            for _ in range(depth)
        ]
        trace, before = forward(layers, x)
        dr = before - y
        stepped = []
        for block in backward(trace, dr):
            first, last = block.z.trace
            # The gradient of W is 0 where V is; a block's phi is the identity: its delta is V's.
            V = -eta * weight_gradient(last.r, block.delta)
            stepped.append(Residual([first.layer, Linear(V)]))
        _, after = forward(stepped[::-1], x)
        move = np.sqrt(np.exp(log_square(after - before) - log_square(dr)))
        return move / (eta * np.exp(log_square(x)))

    return measure


# --- Shattered gradients -------------------------------------------------------------------------

# What is measured is tr(J1 J2') / n of two inputs: the mean inner product <g1, g2> of their
# gradients under a cotangent common to both.


class Tossed(Dense):
    """A ReLU layer whose gradient is masked by coins, not by the signs of z."""

    def __init__(self, W: np.ndarray, coins: np.ndarray):
        super().__init__(W, "relu")
        self.mask = activation_row("relu").derivative(coins)

    def slope(self, z: np.ndarray) -> np.ndarray:
        return self.mask


def overlaps(depth: int, coins: bool, scales: np.ndarray | None = None) -> Measure:
    """<g1, g1> and <g1, g2> of orthogonal inputs in a He-ReLU network, a row a network."""

    @side_by_side("shattered", lambda n: 2 * n)
    def measure(weights: Weights, n: int) -> np.ndarray:
        layers = []
        for k in range(depth):
            W = weights(n, n, HE)
            layer = Tossed(W, weights.normal(2, n)) if coins else Dense(W, "relu")
            if scales is not None:  # of branches: the layers are residual blocks
                layer = Residual([layer, Linear(weights(n, n, scales[k]))])
            layers.append(layer)
        x = weights.normal(2, n)
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        first, second = x[:, :1], x[:, 1:]
        second -= np.vecdot(first, second)[..., None] * first
        second /= np.linalg.norm(second, axis=-1, keepdims=True)
        u = weights.normal(1, n)
        u /= np.linalg.norm(u, axis=-1, keepdims=True)
        g = input_gradient(layers, x, np.repeat(u, 2, axis=1))
        return np.transpose([np.vecdot(g[:, 0], g[:, 0]), np.vecdot(g[:, 0], g[:, 1])])

    return measure


def _by_coins(depth: int, schedule: str | None, column: int, networks: int) -> Law:
    scales = None if schedule is None else branch_scales(schedule, depth)
    law = independent_shattering(depth, scales)
    expected = (math.exp(law.log_variance[-1]), law.covariance[-1])[column]
    measure = overlaps(depth, True, scales)
    return Law(
        measure=lambda n, seeds: measure(n, seeds)[:, column],
        sizes=NARROW,
        networks=networks,
        exact=lambda n: expected,
    )


@side_by_side("angles", lambda n: 2 * n)
def _angles(weights: Weights, n: int) -> np.ndarray:
    """ln of the growth of sin^2 of a small angle between two inputs through 20 He-ReLU layers."""
    # The second row is the tangent d of the first, r; sin^2 is |d|^2 / |r|^2 off its part along r.

    def sine(x: np.ndarray) -> np.ndarray:
        r, d = x.swapaxes(0, 1)
        square = np.vecdot(r, r)
        across = d - (np.vecdot(r, d) / square)[:, None] * r
        return np.log(np.vecdot(across, across) / square)

    x = weights.normal(2, n)
    first = sine(x)
    for _ in range(20):
        z = x @ weights(n, n, HE)
        x = z * (z[:, :1] > 0)
    return sine(x) - first


def _angle_drift(n: int) -> float:
    """Of chi^2 of B - 1 over one of B degrees of freedom a layer, B the number of active units."""
    units, p = active_units(n)
    enough = units > 1
    drift = digamma((units[enough] - 1) / 2) - digamma(units[enough] / 2)
    return float(20 * (p[enough] @ drift) / p[enough].sum())


EXAMPLES = 32
BY_BATCH = normalised_shattering(40, EXAMPLES)


@side_by_side("normalised branches", lambda n: EXAMPLES * n)
def _branches(weights: Weights, n: int) -> np.ndarray:
    """ln of the mean of <g1, g1> and of <g1, g2> over pairs of a batch, a row a network."""
    # x + V relu(BN(W x)) with Var V = 2/n, 40 blocks; the gradients of each example's output by its
    # own input, the batch's statistics held fixed, under a cotangent that all have in common.
    blocks = [
        Residual([Normalised(weights(n, n), "relu", BATCH, frozen=True), Linear(weights(n, n, HE))])
        for _ in range(40)
    ]
    x = weights.normal(EXAMPLES, n)
    u = weights.normal(1, n)
    g = input_gradient(blocks, x, np.repeat(u, EXAMPLES, axis=1))
    squares = np.sum(g**2, axis=(1, 2)) / EXAMPLES
    # Pairs of different examples: what the square of the sum has beyond the squares.
    sums = np.sum(g.sum(axis=1) ** 2, axis=1) / EXAMPLES
    pairs = (sums - squares) / (EXAMPLES - 1)
    return np.transpose(np.log([squares, pairs]) - log_square(u))


def _of_branches(of: Callable[[np.ndarray], np.ndarray], limit: float) -> Law:
    return Law(
        measure=lambda n, seeds: of(_branches(n, seeds)),
        sizes=(128, 256, 512),
        networks=8,
        limit=limit,
    )


LAWS = {
    "batch norm relu": _normalised("relu", 32),
    "batch norm small batch": _normalised("relu"),
    "batch norm linear": _normalised("linear", 8),
    "batch norm tanh": _normalised("tanh"),
    "batch norm sigmoid": _normalised("sigmoid"),
    "batch norm selu": _normalised("selu"),
    "layer norm relu": _normalised("relu", 4, UNITS, 1000),
    "layer norm tanh": _normalised("tanh", 4, UNITS, 1000),
    "undamped signal": _relu(SIGNAL, "undamped", 6),
    "undamped gradient": _relu(GRADIENT, "undamped", 6),
    "scaled by root depth": _relu(GRADIENT, "1/sqrt(L)", 30),
    "scaled by depth": _relu(GRADIENT, "1/L", 10),
    "scaled by root layer": _relu(GRADIENT, "1/sqrt(l)", 30),
    "summable branches": _relu(SIGNAL, "1/l", 20),
    "residual tanh": Law(
        measure=lambda n, seeds: _tanh_growths(n, seeds)[:, 1],
        networks=40,
        limit=float(TANH_LOGS[-1]),
    ),
    "residual tanh root": Law(
        measure=lambda n, seeds: np.divide(*_tanh_growths(n, seeds).T[::-1]),
        networks=40,
        limit=float(TANH_LOGS[-1] / TANH_LOGS[39]),
    ),
    "unscaled step": Law(
        measure=moved(16, 1.0), sizes=(16, 32, 64), networks=60, exact=lambda n: 16 * HE**2 / 2
    ),
    "shattered by coins": _by_coins(4, None, 1, 10_000),
    "shattered by angles": Law(
        measure=lambda n, seeds: overlaps(4, coins=False)(n, seeds)[:, 1],
        networks=6000,
        limit=float(shattering(4).covariance[-1]),
        offset=shattering_offset(4),
    ),
    "angles close": Law(measure=_angles, sizes=NARROW, networks=15_000, exact=_angle_drift),
    "residual covariance": _by_coins(4, "undamped", 1, 1000),
    "residual variance": _by_coins(4, "undamped", 0, 1000),
    "scaled branches correlation": _by_coins(16, "1/sqrt(l)", 1, 700),
    "normalised branches growth": _of_branches(
        lambda logs: logs[:, 0], float(BY_BATCH.log_variance[-1])
    ),
    "normalised branches correlation": _of_branches(
        lambda logs: logs[:, 1] - logs[:, 0],
        float(BY_BATCH.log_covariance[-1] - BY_BATCH.log_variance[-1]),
    ),
}
