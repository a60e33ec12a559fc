"""Laws of residual networks r -> r + alpha V phi(W r): how signal and gradient grow.

For ReLU the means E of squared growths are exact at any width, so tolerances are 0. For tanh the
theory is that of infinite width: the tolerance is twice the shift of 0.7/n, relative, that was
found at widths 32 to 128 on other seeds. A network is walked by 32 examples with a cotangent each;
the growth is that of their sum of squares.
"""

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, every, mean_of, seeds
from experiments.laws.walks import HE, log_squares
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense, Linear, Residual
from study.sampling import gaussian
from study.theory.residual import branch_scales, first_step, growth

WIDTH = 128
BATCH = 32


@lru_cache(maxsize=2)  # neighbouring laws are about the same networks
def _logs(
    count: int, schedule: str, depth: int, activation: str = "relu", sigma_w: float = HE
) -> np.ndarray:
    """ln of the squared gradient and of the squared signal: (2, count, depth + 1)."""
    scales = branch_scales(schedule, depth)
    rows = []
    for seed in seeds(count):
        key = gaussian.key(seed, "residual")
        x, dr = gaussian.normal(key, 0, (2, BATCH, WIDTH))
        x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        blocks = []
        for k in range(depth):
            W, V = gaussian.normal(key, 1 + k, (2, WIDTH, WIDTH)) / math.sqrt(WIDTH)
            branch = [Dense(sigma_w * W, activation), Linear(V, scale=scales[k])]
            blocks.append(Residual(branch))
        rows.append(log_squares(blocks, x, dr))
    return np.swapaxes(rows, 0, 1)


def _expected(schedule: str, depth: int) -> float:
    """E of the squared gradient's growth in a He-ReLU network, which is that of the signal."""
    return math.exp(growth(branch_scales(schedule, depth)).log_gradient[-1])


def _gradient(factor: int, schedule: str, depth: int, networks: int, wrong: float) -> Finding:
    logs, _ = _logs(networks * factor, schedule, depth)
    return mean_of(np.exp(logs[:, 0] - logs[:, -1]), _expected(schedule, depth), wrong)


def _signal(factor: int, schedule: str, depth: int, networks: int, wrong: float) -> Finding:
    _, logs = _logs(networks * factor, schedule, depth)
    return mean_of(np.exp(logs[:, -1] - logs[:, 0]), _expected(schedule, depth), wrong)


def _zero_branches(factor: int) -> Finding:
    logs, _ = _logs(2 * factor, "zero", 60)
    wrong = math.log(_expected("1/L", 60))
    return every(logs[:, 0] - logs[:, -1], math.log(_expected("zero", 60)), wrong, tolerance=0.0)


# --- Tanh ----------------------------------------------------------------------------------------


def _tanh_growth(factor: int) -> np.ndarray:
    """ln of the squared gradient's growth through the first l of 160 blocks, l from 0."""
    logs, _ = _logs(40 * factor, "undamped", 160, "tanh", 1.0)
    return logs[:, :1] - logs


def _tanh(factor: int) -> Finding:
    logs = growth(branch_scales("undamped", 160), "tanh", sigma_w=1.0).log_gradient
    return mean_of(_tanh_growth(factor)[:, -1], float(logs[-1]), relative=1.5 / WIDTH)


def _tanh_root(factor: int) -> Finding:
    measured = _tanh_growth(factor)
    tanh = growth(branch_scales("undamped", 160), "tanh", sigma_w=1.0).log_gradient
    relu = growth(branch_scales("undamped", 160)).log_gradient
    values = measured[:, 160] / measured[:, 40]
    return mean_of(values, float(tanh[159] / tanh[39]), float(relu[159] / relu[39]), relative=0.02)


# --- The first step of gradient descent ----------------------------------------------------------


def _moved(seed: int, depth: int, scale: float, eta: float) -> float:
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
    _, after = forward(_stepped(trace, dr, eta), x)
    return np.linalg.norm(after - before) / (eta * np.vdot(x, x) * np.linalg.norm(dr))


def _stepped(trace: list, dr: np.ndarray, eta: float) -> list[Residual]:
    """The blocks, from the input up, after a step of gradient descent."""
    blocks = []
    for block in backward(trace, dr):
        # A block's phi is the identity, so its branch's upstream gradient is the block's delta.
        last, first = (
            layer.W - eta * weight_gradient(r, delta)
            for layer, r, _, delta, _ in backward(block.z.trace, block.delta)
        )
        blocks.append(Residual([Dense(first, "relu"), Linear(last)]))
    return blocks[::-1]


def _fixup_step(factor: int) -> Finding:
    moves = [_moved(seed, 64, 64**-0.5, 1e-5) for seed in seeds(20 * factor)]
    return mean_of(moves, first_step(64, 64**-0.5), first_step(64), tolerance=0.01)


def _unscaled_step(factor: int) -> Finding:
    moves = [_moved(seed, 64, 1.0, 1e-6) for seed in seeds(20 * factor)]
    return mean_of(moves, first_step(64), first_step(1), relative=0.02)


def _in_proportion(factor: int) -> Finding:
    ratios = []
    for seed in seeds(5 * factor):
        single = _moved(seed, 64, 64**-0.5, 1e-5)
        double = _moved(seed, 64, 64**-0.5, 2e-5)
        ratios.append(2 * double / single)
    return every(ratios, 2.0, 4.0, tolerance=0.02)


MEASURES = {
    "undamped signal": lambda factor: _signal(
        factor, "undamped", 6, 160, OFF**6 * _expected("undamped", 6)
    ),
    "undamped gradient": lambda factor: _gradient(
        factor, "undamped", 6, 160, OFF**6 * _expected("undamped", 6)
    ),
    "scaled by root depth": lambda factor: _gradient(
        factor, "1/sqrt(L)", 60, 60, OFF * _expected("1/sqrt(L)", 60)
    ),
    "scaled by depth": lambda factor: _gradient(factor, "1/L", 10, 80, wrong=1.0),
    "scaled by root layer": lambda factor: _gradient(
        factor, "1/sqrt(l)", 60, 80, _expected("1/sqrt(l)", 60) ** OFF
    ),
    "summable branches": lambda factor: _signal(factor, "1/l", 20, 120, OFF * _expected("1/l", 20)),
    "zero branches": _zero_branches,
    "residual tanh": _tanh,
    "residual tanh root": _tanh_root,
    "fixup step": _fixup_step,
    "unscaled step": _unscaled_step,
    "step in proportion": _in_proportion,
}
