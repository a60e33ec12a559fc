"""Singular values of the input-output Jacobian, down networks of up to 10,000 layers."""

import numpy as np
import pandas as pd

import study
from study.engines.jacobian import log10_singular_values
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, below, median_interval
from study.statistics.estimators import root_mean_square
from study.theory import deep_linear, spectra

WIDTH = 64
Q = 1e-4  # variance of tanh's pre-activations; isometric while 8 L Q^2 << 1
TANH_W = float(study.theory.gradient_factor("tanh", Q, 1.0)) ** -0.5  # chi = 1
TANH_B = float(Q - study.theory.variance_map("tanh", Q, TANH_W)) ** 0.5  # Q is the fixed point
SCALES = {"linear": (1.0, 0.0), "tanh": (TANH_W, TANH_B), "relu": (2**0.5, 0.0)}
LAWS = {"gaussian": "Gaussian weights", "orthogonal": "orthogonal weights"}
RANKS = [1, 2, 4, 8, 16, 32, 48, 64]


def measure(seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """All activations and weight laws; networks of one law walk through the same weights."""
    x = gaussian.normal(gaussian.key(seed, "isometry inputs"), 0, (1, WIDTH))
    x *= ((Q - TANH_B**2) / TANH_W**2 / np.mean(x**2)) ** 0.5
    rows = []
    for law in LAWS:
        nets = [
            study.Network(name, max(depths), WIDTH, sigma_w=w, sigma_b=b, weights=law)
            for name, (w, b) in SCALES.items()
        ]
        for net, of_depths in zip(nets, log10_singular_values(nets, seed, depths, x), strict=True):
            for depth, log in zip(depths, of_depths, strict=True):
                row = {"activation": net.activation, "weights": law, "width": WIDTH}
                row |= {"depth": depth, "seed": seed}
                row |= {f"log10_s_{k}": log[k - 1] for k in RANKS}
                with np.errstate(under="ignore"):
                    share = 100.0 ** (log - log[0])
                    row["surviving_directions"] = share.sum() ** 2 / (share**2).sum()
                rows.append(row)
    return {"spectra": pd.DataFrame(rows)}


def exponents(activation: str, weights: str) -> np.ndarray:
    """log10 s_k per layer, k = 1, 2, ..., of deep networks; tanh at tiny q* is as linear."""
    if activation == "relu":
        return deep_linear.relu_exponents(WIDTH, weights) / np.log(10)
    newman = deep_linear.lyapunov_spectrum(WIDTH).exponents / np.log(10)
    return newman if weights == "gaussian" else 0 * newman


def expected(activation: str, weights: str, depth: int, rank: int) -> float:
    """log10 s_k: exponents from four times the width on; the largest also at a quarter and below,
    by free probability. NaN elsewhere and where most networks have lost the direction."""
    if activation != "relu" and weights == "orthogonal":
        return 0.0
    if depth >= 4 * WIDTH:
        kept = deep_linear.directions_left(WIDTH, depth, rank) if activation == "relu" else 1.0
        return depth * exponents(activation, weights)[rank - 1] if kept > 0.5 else np.nan
    near = rank == 1 and depth <= WIDTH / 4
    law = spectra.spectrum(activation, depth, weights, Q)
    return 0.5 * float(np.log10(law.largest)) if near else np.nan


def _deepest(tables: dict[str, pd.DataFrame], activation: str, weights: str) -> pd.DataFrame:
    own = tables["spectra"]
    own = own[(own.activation == activation) & (own.weights == weights)]
    return own[own.depth == own.depth.max()].set_index("seed")


def _median(activation: str, weights: str, statistic):
    """Judge: the median over the deepest networks of a kind."""
    return lambda tables: median_interval(statistic(_deepest(tables, activation, weights)))


def _deviation(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: root mean square of (mean decades per layer - exponent)."""
    off = {}
    kinds = [("linear", "gaussian", WIDTH), ("relu", "gaussian", 8), ("relu", "orthogonal", 8)]
    for name, law, last in kinds:
        own, theory = _deepest(tables, name, law), exponents(name, law)
        for k in (k for k in RANKS if k <= last):
            off[f"{name} {law} {k}"] = own[f"log10_s_{k}"] / own.depth - theory[k - 1]
    return root_mean_square(pd.DataFrame(off))


def figure(tables: dict[str, pd.DataFrame]):
    """Orthogonal weights keep every direction of a tanh network, and half of ReLU's in each layer.

    Singular values of the input-output Jacobian by rank, largest first, at four depths. Marks:
    median over seeds with its 95 % interval; at the lower edge: exactly zero. The same for Gaussian
    and for orthogonal weights, tanh near zero and ReLU, each at its critical scale.
    """
    spectra = tables["spectra"].query("activation != 'linear' and depth <= 64")
    spectra = spectra.sort_values(["activation", "weights"], kind="stable")
    called = (
        spectra.activation.map({"tanh": "tanh", "relu": "ReLU"})
        + ", "
        + spectra.weights.replace("gaussian", "Gaussian")
    )
    return study.plot.spectrum(
        spectra.assign(network=called), hue="depth", col="network", ylim=(-8, 1.5)
    ).figure


experiment = Experiment(
    question="Do orthogonal weights keep the directions of the gradient that Gaussian weights "
    "lose?",
    grid={
        preset: [{"seed": seed, "depths": depths} for seed in range(seeds)]
        for preset, seeds, depths in (
            ("quick", 5, [2, 4, 16, 64, 256, 1000]),
            ("paper", 20, [2, 4, 16, 64, 256, 1000, 3000, 10000]),
        )
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="orthogonal weights keep every direction of a linear network",
            statement="Linear, orthogonal, deepest networks: largest |log10 s|; below 1e-9, "
            "rounding.",
            threshold=below(1e-9),
            judge=_median(
                "linear", "orthogonal", lambda f: f.filter(like="log10_s_").abs().max(axis=1)
            ),
        ),
        Claim(
            name="orthogonal weights keep every direction of a tanh network at tiny q*",
            statement="tanh, orthogonal, critical at q* = 1e-4, deepest networks: decades between "
            "the largest and the smallest singular value; within a factor of ten.",
            threshold=below(1),
            judge=_median("tanh", "orthogonal", lambda f: f.log10_s_1 - f[f"log10_s_{WIDTH}"]),
        ),
        Claim(
            name="orthogonal weights keep every direction of a ReLU network",
            statement="ReLU, orthogonal, sigma_w = sqrt 2, deepest networks: decades between even "
            "the two largest singular values; within a factor of ten.",
            threshold=below(1),
            judge=_median("relu", "orthogonal", lambda f: f.log10_s_1 - f.log10_s_2),
            about="saying",
        ),
        Claim(
            name="with Gaussian weights only one direction survives",
            statement="Linear, Gaussian, sigma_w = 1, deepest networks: directions that share what "
            "is left, (sum s^2)^2 / sum s^4; below 1.5.",
            threshold=below(1.5),
            judge=_median("linear", "gaussian", lambda f: f.surviving_directions),
        ),
        Claim(
            name="singular values part as Lyapunov exponents say",
            statement="Deepest networks, linear Gaussian at all ranks, ReLU at ranks up to 8: root "
            "mean square deviation of the mean decades per layer from theory; below 0.005.",
            threshold=below(0.005),
            judge=_deviation,
        ),
    ],
    columns={
        f"log10_s_{k}": f"singular value {k} of {WIDTH} of dr^(depth)/dr^(0), by size; -inf: 0 "
        "[log10]"
        for k in RANKS
    }
    | {"surviving_directions": "(sum s^2)^2 / sum s^4: how many share what is left [-]"},
)
