"""Laws of bounds and of clipping: Pascanu."""

from __future__ import annotations

import math

import numpy as np

from experiments.laws.chains import gains
from experiments.laws.law import Finding, every, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.core.network import Network
from study.engines.blocks import Block, all_gradients, clipped
from study.sampling import gaussian


@law(
    "Pascanu et al. 2013",
    "Sigmoid's derivative is at most 1/4, so ||J|| <= prod s_max(W) / 4: below s_max = 4 it must "
    "vanish",
    "sigmoid, sigma_w = 1.9 (s_max about 3.8), width 100, depth 30; how far ln||J|| exceeds the "
    "bound, if it does, every network",
    "how far the mean field stays below the bound",
)
def sigmoid_norm_bound(more: int) -> Finding:
    n, depth, sigma_w = 100, 30, 1.9
    row, excess = activation_row("sigmoid"), []
    for seed in seeds(3 * more):
        key = gaussian.key(seed, "bounds")
        r, J, bound = gaussian.normal(key, depth, (n,)), np.eye(n), 0.0
        for k in range(depth):
            W = sigma_w / math.sqrt(n) * gaussian.normal(key, k, (n, n))
            z = r @ W
            J, r = J @ W * row.derivative(z), row.phi(z)
            bound += math.log(row.max_slope * np.linalg.norm(W, 2))
        excess.append(max(0.0, math.log(np.linalg.norm(J, 2)) - bound))
    chi = theory.mean_field("sigmoid", sigma_w).chi
    wrong = depth * math.log(row.max_slope * 2 * sigma_w / math.sqrt(chi))
    return every(excess, 0.0, wrong, tolerance=1e-9)


@law(
    "Pascanu et al. 2013",
    "s_max(W) max|phi'| > 1 is necessary for explosion and not sufficient: at s_max = 1.6 a tanh "
    "network vanishes by sigma_w^2 per layer",
    "tanh, sigma_w = 0.8, width 512, layers 10 to 60; mean of ln G per layer; tolerance 8/n",
    "2 ln(2 sigma_w), the bound",
    "a spectral norm above 1 makes gradients explode",
)
def vanishing_above_the_bound(more: int) -> Finding:
    values = gains(Network("tanh", depth=60, width=512, sigma_w=0.8), 40 * more)
    expected = float(np.log(theory.trajectory("tanh", 0.8, 0.0, 60).chi[10:]).mean())
    return mean_of(values[:, 10:].mean(axis=1), expected, 2 * math.log(1.6), tolerance=8 / 512)


@law(
    "Pascanu et al. 2013",
    "Clipping the global norm keeps the ratios of the layers' gradients: it cannot cure vanishing",
    "tanh, sigma_w = 2, width 64, depth 20, clipped to norm 1; change of ln of the first over the "
    "last layer's norm, every network",
    "19 layers of ln chi / 2 to none: each layer clipped by itself",
    "clipping equalises the layers",
)
def clipping(more: int) -> Finding:
    changes = []
    for seed in seeds(5 * more):
        key = gaussian.key(seed, "clipping")
        weights = [gaussian.normal(key, k, (64, 64)) * 2 / 8 for k in range(20)]
        inputs, cotangent = (gaussian.normal(key, k, (1, 64)) for k in (20, 21))
        _, *gradients, _ = all_gradients(Block("tanh"), weights, inputs, cotangent)
        before, after = (
            math.log(np.linalg.norm(gs[0]) / np.linalg.norm(gs[-1]))
            for gs in (gradients, clipped(gradients, 1.0))
        )
        changes.append(abs(after - before))
    wrong = 19 * math.log(theory.mean_field("tanh", 2.0).chi) / 2
    return every(changes, 0.0, wrong, tolerance=1e-12)
