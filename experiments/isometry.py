"""Singular values of the input-output Jacobian, down networks of up to 10,000 layers.

``gradient_norms`` holds the norms of the first seed's networks, at each depth, in about five
layers.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

import study
from study.engines.jacobian import log10_singular_values
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, below, median_interval
from study.statistics.estimators import root_mean_square
from study.theory import spectra

WIDTH = 64
Q = 1e-4  # variance of tanh's pre-activations; isometric while 8 L Q^2 << 1
TANH_W = float(study.theory.gradient_factor("tanh", Q, 1.0)) ** -0.5  # chi = 1
TANH_B = float(Q - study.theory.variance_map("tanh", Q, TANH_W)) ** 0.5  # Q is the fixed point
SCALES = {"linear": (1.0, 0.0), "tanh": (TANH_W, TANH_B), "relu": (2**0.5, 0.0)}
LAWS = ("gaussian", "orthogonal")
RANKS = [1, 2, 4, 8, 16, 32, 48, 64]
RECORDED = 0  # the seed whose gradient norms are kept, at five layers


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """All activations and weight laws; networks of one law walk through the same weights."""
    x = gaussian.normal(gaussian.key(seed, "isometry inputs"), 0, (1, WIDTH))
    # So that tanh starts at its fixed point.
    x *= ((Q - TANH_B**2) / TANH_W**2 / np.mean(x**2)) ** 0.5
    rows = []
    norms = []
    for law in LAWS:
        nets = [
            study.Network(name, max(depths), WIDTH, sigma_w, sigma_b, weights=law)
            for name, (sigma_w, sigma_b) in SCALES.items()
        ]
        spectra_of_nets = log10_singular_values(nets, seed, depths, x)  # one walk for all of a law
        for net, of_depths in zip(nets, spectra_of_nets, strict=True):
            for depth, values in zip(depths, of_depths, strict=True):
                row = {"activation": net.activation, "weights": law, "width": WIDTH}
                row |= {"depth": depth, "seed": seed}
                row |= {f"log10_s_{k}": values[k - 1] for k in RANKS}
                rows.append(row | {"surviving_directions": surviving_directions(values)})
        if seed == RECORDED:
            of_each_depth = [replace(net, depth=depth) for net in nets for depth in depths]
            df = study.profile(of_each_depth, [seed], engine="dense", layers=5, inputs=x)
            norms.append(gradient_norms(df, 5))
    tables = {"spectra": pd.DataFrame(rows)}
    return tables | ({"gradient_norms": pd.concat(norms)} if norms else {})


@np.errstate(under="ignore")
def surviving_directions(log10_values: np.ndarray) -> float:
    """How many directions share what is left: (sum s^2)^2 / sum s^4 of the singular values s."""
    # Beside the largest, so that none overflows.
    squares = 100.0 ** (log10_values - log10_values[0])
    return squares.sum() ** 2 / (squares**2).sum()


def exponents(activation: str, weights: str) -> np.ndarray:
    """log10 s_k per layer, k = 1, 2, ..., of deep networks; tanh at tiny q* is as linear."""
    if activation == "relu":
        return spectra.relu_exponents(WIDTH, weights) / np.log(10)
    newman = spectra.lyapunov_exponents(WIDTH) / np.log(10)
    return newman if weights == "gaussian" else 0 * newman  # orthogonal: every direction is kept


def deepest(tables: dict[str, pd.DataFrame], activation: str, weights: str) -> pd.DataFrame:
    """The deepest networks of a kind, by seed."""
    rows = tables["spectra"]
    rows = rows[(rows.activation == activation) & (rows.weights == weights)]
    return rows[rows.depth == rows.depth.max()].set_index("seed")


def decades_between(tables: dict[str, pd.DataFrame], activation: str, rank: int) -> Estimate:
    """Decades between the largest singular value and that of a rank, of orthogonal weights."""
    rows = deepest(tables, activation, "orthogonal")
    return median_interval(rows.log10_s_1 - rows[f"log10_s_{rank}"])


def beyond_exponents(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Root mean square of (mean decades per layer - exponent)."""
    deviations = {}
    kinds = [("linear", "gaussian", WIDTH), ("relu", "gaussian", 8), ("relu", "orthogonal", 8)]
    for name, law, last in kinds:
        rows = deepest(tables, name, law)
        theory = exponents(name, law)
        for k in RANKS:
            if k <= last:
                rate = rows[f"log10_s_{k}"] / rows.depth
                deviations[f"{name} {law} {k}"] = rate - theory[k - 1]
    return root_mean_square(pd.DataFrame(deviations))


def figure(tables: dict[str, pd.DataFrame]):
    """Orthogonal weights keep every direction of a tanh network, and half of ReLU's in each layer.

    Singular values of the input-output Jacobian by rank, largest first, at four depths. Marks:
    median over seeds with its 95 % interval; at the lower edge: exactly zero. The same for Gaussian
    and for orthogonal weights, tanh near zero and ReLU, each at its critical scale.
    """
    spectra = tables["spectra"].query("activation != 'linear' and depth <= 64")
    spectra = spectra.sort_values(["activation", "weights"], kind="stable")
    names = spectra.activation.map({"tanh": "tanh", "relu": "ReLU"})
    shown = spectra.assign(network=names + ", " + spectra.weights.replace("gaussian", "Gaussian"))
    return study.plot.spectrum(shown, hue="depth", col="network", ylim=(-8, 1.5)).figure


experiment = Experiment(
    question="Do orthogonal weights keep the directions of the gradient that Gaussian weights "
    "lose?",
    grid={
        "quick": [{"seed": seed, "depths": [2, 4, 16, 64]} for seed in range(3)],
        "paper": [
            {"seed": seed, "depths": [2, 4, 16, 64, 256, 1000, 3000, 10000]} for seed in range(10)
        ],
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="orthogonal weights keep every direction of a tanh network at tiny q*",
            statement="tanh, orthogonal, critical at q* = 1e-4, deepest networks: decades between "
            "the largest and the smallest singular value; within a factor of ten.",
            threshold=below(1),
            judge=partial(decades_between, activation="tanh", rank=WIDTH),
        ),
        Claim(
            name="orthogonal weights keep every direction of a ReLU network",
            statement="ReLU, orthogonal, sigma_w = sqrt 2, deepest networks: decades between even "
            "the two largest singular values; within a factor of ten.",
            threshold=below(1),
            judge=partial(decades_between, activation="relu", rank=2),
        ),
        Claim(
            name="singular values part as Lyapunov exponents say",
            statement="Deepest networks, linear Gaussian at all ranks, ReLU at ranks up to 8: root "
            "mean square deviation of the mean decades per layer from theory; below 0.005.",
            threshold=below(0.005),
            judge=beyond_exponents,
        ),
    ],
    columns={
        f"log10_s_{k}": f"singular value {k} of {WIDTH} of dr^(depth)/dr^(0), by size; -inf: 0 "
        "[log10]"
        for k in RANKS
    }
    | {"surviving_directions": "(sum s^2)^2 / sum s^4: how many share what is left [-]"},
    version=2,
)
