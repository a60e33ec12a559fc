"""Laws of batch and layer normalisation: Yang, and Philipp's coefficient in normalised networks.

Networks r -> phi(norm(r W)) of 16 layers without skip connections; what is measured is per layer,
between r^(4) and r^(14), away from both ends. The theory is that of infinite width. Tolerances
hold the finite width's shift, relative, as it was found on other seeds: with batch normalisation
from -0.2 B/n (linear, B = 8) to 0.06 B/n (smooth activations), with layer normalisation 1/n.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.laws.law import OFF, Finding, every, law, mean_of, seeds
from study import theory
from study.core.activations import activation as activation_row
from study.engines import blocks
from study.sampling import gaussian

LAYERS, TOP, BOTTOM = 16, 14, 4


def _network(
    seed: int, batch: int, n: int, sigma_w: float = 1.0
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights, inputs and a cotangent."""
    key = gaussian.key(seed, "normalised")
    weights = [sigma_w / math.sqrt(n) * gaussian.normal(key, k, (n, n)) for k in range(LAYERS)]
    x, dr = gaussian.normal(key, LAYERS, (2, batch, n))
    return weights, x, dr


@lru_cache(maxsize=2)
def _logs(count: int, activation: str, batch: int, n: int, axis: int) -> np.ndarray:
    """ln of the gradient's and of the signal's squared change from r^(4) to r^(14), a row a seed.

    Neighbouring laws are about the same networks.
    """
    row, found = activation_row(activation), np.empty((count, 2))
    for i, seed in enumerate(seeds(count)):
        weights, x, dr = _network(seed, batch, n)
        logs = blocks.normalised_gradients(activation, weights, x, dr, axis)
        lengths = []
        for W in weights[:TOP]:
            x = row.phi(blocks.normalise(x @ W, axis)[0])
            lengths.append(blocks.log_square(x))
        found[i] = logs[BOTTOM] - logs[TOP], lengths[TOP - 1] - lengths[BOTTOM - 1]
    return found


def _factor(count: int, activation: str, batch: int, n: int, axis: int) -> np.ndarray:
    """Of the squared gradient, per layer."""
    return np.exp(_logs(count, activation, batch, n, axis)[:, 0] / (TOP - BOTTOM))


def _coefficient(count: int, activation: str, batch: int, n: int, axis: int) -> np.ndarray:
    """Factor per layer of ||dC/dr|| ||r||, going back; norms, not squared."""
    gradient, signal = _logs(count, activation, batch, n, axis).T
    return np.exp((gradient - signal) / (2 * (TOP - BOTTOM)))


def _batch_norm(more: int, activation: str, batch: int = 16, wrong: float | None = None) -> Finding:
    n, networks = (512, 20) if batch == 64 else (256, 60)
    expected = theory.normalised.batch_norm_factor(activation, batch)
    wrong = OFF * expected if wrong is None else wrong
    values = _factor(networks * more, activation, batch, n, blocks.BATCH)
    return mean_of(values, expected, wrong, tolerance=0.2 * batch / n * expected)


@law(
    "Yang et al. 2019",
    "Batch normalisation explodes a ReLU network's gradient: the factor of its square, per layer, "
    "is pi/(pi-1) = 1.467 for large batches, and more for a finite one",
    "ReLU, batch 64, width 512; tolerance 0.2 B/n, relative",
    "5 % off",
    "batch normalisation prevents exploding gradients",
)
def batch_norm_relu(more: int) -> Finding:
    return _batch_norm(more, "relu", 64)


@law(
    "Philipp et al. 2017",
    "Batch normalisation explodes the gradient scale coefficient ||dC/dr|| ||r||, too, by "
    "sqrt(pi/(pi-1)) for large batches: the signal's size is no excuse",
    "ReLU, batch normalisation, batch 64, width 512; factor per layer of the coefficient, a norm; "
    "tolerance 0.1 B/n, relative",
    "5 % off",
)
def batch_norm_coefficient(more: int) -> Finding:
    expected = math.sqrt(theory.normalised.batch_norm_factor("relu", 64))
    values = _coefficient(20 * more, "relu", 64, 512, blocks.BATCH)
    return mean_of(values, expected, OFF * expected, tolerance=0.1 * 64 / 512 * expected)


@law(
    "Yang et al. 2019",
    "Small batches explode more under batch normalisation",
    "ReLU, batch 16, width 256; factor of the squared gradient per layer; tolerance 0.2 B/n, "
    "relative",
    "the factor of an infinite batch",
)
def batch_norm_small_batch(more: int) -> Finding:
    return _batch_norm(more, "relu", wrong=theory.normalised.batch_norm_factor("relu"))


@law(
    "Yang et al. 2019",
    "Batch normalisation alone, without activation, explodes by (B-2)/(B-3)",
    "linear, batch 8, width 256; factor of the squared gradient per layer; tolerance 0.2 B/n, "
    "relative",
    "5 % off",
)
def batch_norm_linear(more: int) -> Finding:
    expected = theory.normalised.linear_batch_factor(8)
    values = _factor(60 * more, "linear", 8, 256, blocks.BATCH)
    return mean_of(values, expected, OFF * expected, tolerance=0.2 * 8 / 256 * expected)


@law(
    "Yang et al. 2019",
    "Batch normalisation explodes a tanh network by E phi'^2 / Var phi",
    "tanh, batch 16, width 256; factor of the squared gradient per layer; tolerance 0.2 B/n, "
    "relative",
    "5 % off",
)
def batch_norm_tanh(more: int) -> Finding:
    return _batch_norm(more, "tanh")


@law(
    "Yang et al. 2019",
    "Batch normalisation explodes a sigmoid network, too, which vanishes by 1/18 per layer without "
    "it at sigma_w = 1",
    "sigmoid, batch 16, width 256; factor of the squared gradient per layer; tolerance 0.2 B/n, "
    "relative",
    "(B-2)/(B-3), that of a linear network",
    "sigmoid's gradients vanish whatever one does",
)
def batch_norm_sigmoid(more: int) -> Finding:
    return _batch_norm(more, "sigmoid", wrong=theory.normalised.linear_batch_factor(16))


@law(
    "Yang et al. 2019",
    "Batch normalisation leaves a SELU network as explosive as it is alone, times about "
    "(B-2)/(B-3): its signal is normalised already",
    "SELU, batch 16, width 256; factor of the squared gradient per layer; tolerance 0.2 B/n, "
    "relative",
    "5 % off",
)
def batch_norm_selu(more: int) -> Finding:
    return _batch_norm(more, "selu")


@law(
    "Yang et al. 2019",
    "Normalisation makes sigma_w drop out of the gradient",
    "ReLU, batch normalisation, batch 16, width 64, sigma_w = 1 and 3 on the same draws; "
    "difference of ln G over 10 layers, every network",
    "2 ln 3 per layer, as without normalisation",
    "small enough weights stop any explosion",
)
def batch_norm_scale(more: int) -> Finding:
    found = []
    for seed in seeds(5 * more):
        one, three = (
            blocks.normalised_gradients("relu", *_network(seed, 16, 64, s), blocks.BATCH)
            for s in (1.0, 3.0)
        )
        found.append((three[BOTTOM] - three[TOP]) - (one[BOTTOM] - one[TOP]))
    chi = (theory.mean_field("relu", sigma_w).chi for sigma_w in (3.0, 1.0))
    wrong = (TOP - BOTTOM) * math.log(next(chi) / next(chi))
    return every(found, 0.0, wrong, tolerance=1e-10)


def _layer_norm(more: int, activation: str, networks: int) -> Finding:
    expected = theory.normalised.layer_norm_factor(activation)
    values = _factor(networks * more, activation, 16, 128, blocks.UNITS)
    return mean_of(values, expected, OFF * expected, tolerance=2 / 128 * expected)


@law(
    "After Yang et al. 2019",
    "Layer normalisation keeps a ReLU network's squared gradient: its factor is E phi'^2 / E phi^2",
    "ReLU, batch 16, width 128; factor of the squared gradient per layer; tolerance 2/n, relative",
    "5 % off",
)
def layer_norm_relu(more: int) -> Finding:
    return _layer_norm(more, "relu", 160)


@law(
    "Philipp et al. 2017",
    "Layer normalisation keeps the gradient scale coefficient ||dC/dr|| ||r|| of a ReLU network",
    "ReLU, layer normalisation, width 128; factor per layer of the coefficient ||dC/dr|| ||r||; "
    "tolerance 1/n, relative",
    "5 % off",
)
def layer_norm_coefficient_relu(more: int) -> Finding:
    expected = math.sqrt(theory.normalised.layer_norm_factor("relu"))
    values = _coefficient(160 * more, "relu", 16, 128, blocks.UNITS)
    return mean_of(values, expected, OFF * expected, tolerance=1 / 128 * expected)


@law(
    "After Yang et al. 2019",
    "Layer normalisation explodes a tanh network by E phi'^2 / E phi^2 = 1.178",
    "tanh, batch 16, width 128; factor of the squared gradient per layer; tolerance 2/n, relative",
    "5 % off",
    "layer normalisation keeps gradients",
)
def layer_norm_tanh(more: int) -> Finding:
    return _layer_norm(more, "tanh", 80)


@law(
    "Philipp et al. 2017",
    "Layer normalisation explodes a tanh network's gradient scale coefficient by sqrt(1.178)",
    "tanh, layer normalisation, width 128; factor per layer of the coefficient ||dC/dr|| ||r||; "
    "tolerance 1/n, relative",
    "5 % off",
)
def layer_norm_coefficient_tanh(more: int) -> Finding:
    expected = math.sqrt(theory.normalised.layer_norm_factor("tanh"))
    values = _coefficient(80 * more, "tanh", 16, 128, blocks.UNITS)
    return mean_of(values, expected, OFF * expected, tolerance=1 / 128 * expected)
