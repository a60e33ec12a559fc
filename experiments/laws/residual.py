"""Laws of residual networks r -> r + alpha V phi(W r): how signal and gradient grow.

For ReLU the means E of squared growths are exact at any width, so tolerances are 0. For tanh the
theory is that of infinite width: the tolerance is twice the shift of 0.7/n, relative, that was
found at widths 32 to 128 on other seeds. A network is walked by 32 examples with a cotangent each;
the growth is that of their sum of squares.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, every, law, mean_of, seeds
from study.engines import blocks
from study.sampling import gaussian
from study.theory.residual import branch_scales, first_step, growth

WIDTH, BATCH = 128, 32


@lru_cache(maxsize=2)
def _logs(
    count: int, schedule: str, depth: int, activation: str = "relu", sigma_w: float = 2**0.5
) -> np.ndarray:
    """ln of the squared gradient and of the squared signal: (2, count, depth + 1)."""
    found = np.empty((2, count, depth + 1))
    for i, seed in enumerate(seeds(count)):
        key = gaussian.key(seed, "residual")
        x, dr = gaussian.normal(key, 0, (2, BATCH, WIDTH))
        x /= np.sqrt(np.mean(x**2, axis=1, keepdims=True))
        branches = []
        for k in range(depth):
            W, V = gaussian.normal(key, 1 + k, (2, WIDTH, WIDTH)) / math.sqrt(WIDTH)
            branches.append((sigma_w * W, V))
        scales = branch_scales(schedule, depth)
        found[:, i] = blocks.residual_gradients(activation, branches, scales, x, dr)
    return found


def _gradient(more: int, schedule: str, depth: int, wrong: float, networks: int = 40) -> Finding:
    """E of the squared gradient's growth in a He-ReLU network."""
    logs = _logs(networks * more, schedule, depth)[0]
    expected = math.exp(growth(branch_scales(schedule, depth)).log_gradient[-1])
    return mean_of(np.exp(logs[:, 0] - logs[:, -1]), expected, wrong)


def _signal(more: int, schedule: str, depth: int, wrong: float, networks: int = 40) -> Finding:
    """E of the squared signal's growth."""
    logs = _logs(networks * more, schedule, depth)[1]
    expected = math.exp(growth(branch_scales(schedule, depth)).log_signal[-1])
    return mean_of(np.exp(logs[:, -1] - logs[:, 0]), expected, wrong)


def _end(schedule: str, depth: int) -> float:
    return math.exp(growth(branch_scales(schedule, depth)).log_gradient[-1])


@law(
    "De & Smith 2020",
    "An undamped residual block doubles the signal's variance",
    "x + V relu(W x), He, width 128, 6 blocks; E of the squared signal's growth",
    "5 % off per block",
)
def undamped_signal(more: int) -> Finding:
    return _signal(more, "undamped", 6, _end("undamped", 6) * OFF**6, 160)


@law(
    "De & Smith 2020",
    "An undamped residual block doubles the squared gradient: skip connections explode as 2^L",
    "x + V relu(W x), He, width 128, 6 blocks; E of the squared gradient's growth",
    "5 % off per block",
    "skip connections prevent exploding gradients",
)
def undamped_gradient(more: int) -> Finding:
    return _gradient(more, "undamped", 6, _end("undamped", 6) * OFF**6, 160)


@law(
    "Zhang et al. 2019 (Fixup)",
    "Branches scaled by 1/sqrt L grow the squared gradient by (1 + 1/L)^L < e at any depth",
    "x + V relu(W x) / sqrt L, He, width 128, 60 blocks; E of the squared gradient's growth",
    "5 % off",
)
def scaled_by_root_depth(more: int) -> Finding:
    return _gradient(more, "1/sqrt(L)", 60, OFF * _end("1/sqrt(L)", 60), 60)


@law(
    "De & Smith 2020",
    "Branches scaled by 1/L hardly touch the squared gradient: (1 + 1/L^2)^L",
    "x + V relu(W x) / L, He, width 128, 10 blocks; E of the squared gradient's growth",
    "1, no growth",
)
def scaled_by_depth(more: int) -> Finding:
    return _gradient(more, "1/L", 10, 1.0, 80)


@law(
    "De & Smith 2020",
    "Branches scaled by 1/sqrt l grow the squared gradient as L + 1, linearly",
    "x + V relu(W x) / sqrt l, He, width 128, 60 blocks; E of the squared gradient's growth",
    "(L + 1)^1.05",
    "every deep network explodes or vanishes exponentially",
)
def scaled_by_root_layer(more: int) -> Finding:
    return _gradient(more, "1/sqrt(l)", 60, _end("1/sqrt(l)", 60) ** OFF, 80)


@law(
    "After Hanin & Rolnick 2018",
    "Lengths stay bounded if the squared branch scales have a finite sum: prod (1 + 1/l^2)",
    "x + V relu(W x) / l, He, width 128, 20 blocks; E of the squared signal's growth",
    "5 % off",
)
def summable_branches(more: int) -> Finding:
    return _signal(more, "1/l", 20, OFF * _end("1/l", 20), 120)


@law(
    "Bachlechner et al. 2020 (ReZero)",
    "Branches that start at 0 make the Jacobian the identity",
    "x + 0 V relu(W x), He, width 128, 60 blocks; ln of the squared gradient's growth, every "
    "network",
    "the growth of 1/L branches",
)
def zero_branches(more: int) -> Finding:
    logs = _logs(2 * more, "zero", 60)[0]
    expected, wrong = math.log(_end("zero", 60)), math.log(_end("1/L", 60))
    return every(logs[:, 0] - logs[:, -1], expected, wrong, tolerance=0.0)


def _tanh_growth(more: int) -> np.ndarray:
    """ln of the squared gradient's growth through the first l of 160 blocks, l from 0."""
    logs = _logs(40 * more, "undamped", 160, "tanh", 1.0)[0]
    return logs[:, :1] - logs


@law(
    "Yang & Schoenholz 2017",
    "Residual tanh networks explode as the recursion of their variance says: about "
    "exp(1.06 sqrt l)",
    "x + V tanh(W x), sigma_w = sigma_v = 1, width 128, 160 blocks; ln of the squared gradient's "
    "growth; tolerance 1.5/n, relative",
    "5 % off",
)
def residual_tanh(more: int) -> Finding:
    scales = branch_scales("undamped", 160)
    expected = float(growth(scales, "tanh", sigma_w=1.0).log_gradient[-1])
    return mean_of(
        _tanh_growth(more)[:, -1], expected, OFF * expected, tolerance=1.5 / WIDTH * expected
    )


@law(
    "Yang & Schoenholz 2017",
    "Residual tanh networks grow neither exponentially nor as a power of depth: four times the "
    "blocks, about twice the logarithm",
    "x + V tanh(W x), sigma_w = sigma_v = 1, width 128; ln of the growth through 160 blocks over "
    "that through the first 40; tolerance 2 %",
    "4, an exponential law",
    "gradients grow exponentially with depth or not at all",
)
def residual_tanh_root(more: int) -> Finding:
    found = _tanh_growth(more)
    logs = growth(branch_scales("undamped", 160), "tanh", sigma_w=1.0).log_gradient
    relu = growth(branch_scales("undamped", 160)).log_gradient
    expected, wrong = (float(log[159] / log[39]) for log in (logs, relu))
    return mean_of(found[:, 160] / found[:, 40], expected, wrong, tolerance=0.02 * expected)


def _moved(seed: int, depth: int, scale: float, eta: float) -> float:
    """How far one step of gradient descent moves the output, over eta ||x||^2 ||dC/dr^(L)||.

    C = ||r^(L) - y||^2 / 2; every V is 0 at first, and all weights take the step.
    """
    key = gaussian.key(seed, "first step")
    x, y = gaussian.normal(key, 0, (2, WIDTH))
    first = [
        gaussian.normal(key, 1 + k, (WIDTH, WIDTH)) * scale * math.sqrt(2 / WIDTH)
        for k in range(depth)
    ]
    last = [np.zeros((WIDTH, WIDTH)) for _ in range(depth)]

    def walk() -> list[tuple[np.ndarray, np.ndarray]]:
        r, trace = x, []
        for W, V in zip(first, last, strict=True):
            trace.append((r, r @ W))
            r = r + np.maximum(trace[-1][1], 0) @ V
        return [*trace, (r, r)]

    *trace, (before, _) = walk()
    dr = start = before - y
    for k in reversed(range(depth)):
        r, z = trace[k]
        delta = (dr @ last[k].T) * (z > 0)
        dr, dV = dr + delta @ first[k].T, np.outer(np.maximum(z, 0), dr)
        first[k] = first[k] - eta * np.outer(r, delta)
        last[k] = last[k] - eta * dV
    after = walk()[-1][0]
    return float(np.linalg.norm(after - before) / (eta * np.vdot(x, x) * np.linalg.norm(start)))


@law(
    "Zhang et al. 2019 (Fixup)",
    "With V = 0 and W scaled by 1/sqrt L, one step of gradient descent moves the output by eta "
    "||x||^2 ||dC/dr||, whatever the depth",
    "x + V relu(W x / sqrt L), V = 0, width 128, 64 blocks, squared error, eta = 1e-5; the move "
    "over that; tolerance 1 %",
    "64: the move grows as the number of blocks",
)
def fixup_step(more: int) -> Finding:
    values = [_moved(seed, 64, 64**-0.5, 1e-5) for seed in seeds(20 * more)]
    return mean_of(values, first_step(64, 64**-0.5), first_step(64), tolerance=0.01)


@law(
    "Zhang et al. 2019 (Fixup)",
    "With V = 0 and W not scaled, the output moves L times as far: V = 0 alone does not make the "
    "step independent of depth",
    "x + V relu(W x), V = 0, He, width 128, 64 blocks, squared error, eta = 1e-6; the move over "
    "eta ||x||^2 ||dC/dr||; tolerance 2 %",
    "1, the move of one block",
    "zero-initialised branches suffice at any depth",
)
def unscaled_step(more: int) -> Finding:
    values = [_moved(seed, 64, 1.0, 1e-6) for seed in seeds(20 * more)]
    expected = first_step(64)
    return mean_of(values, expected, first_step(1), tolerance=0.02 * expected)


@law(
    "Zhang et al. 2019 (Fixup)",
    "With V = 0 and W scaled by 1/sqrt L, the output's move is proportional to eta",
    "x + V relu(W x / sqrt L), V = 0, width 128, 64 blocks; ratio of the moves at eta = 2e-5 and "
    "1e-5, every network; tolerance 0.02",
    "4, second order",
)
def step_in_proportion(more: int) -> Finding:
    ratios = []
    for seed in seeds(5 * more):
        one, two = (_moved(seed, 64, 64**-0.5, eta) for eta in (1e-5, 2e-5))
        ratios.append(2 * two / one)
    return every(ratios, 2.0, 4.0, tolerance=0.02)
