"""Laws of long products of matrices: Pennington, Saxe, Newman, Xiao, Pascanu.

Jacobians of depths far below the width come from the backward pass, a cotangent a unit of the
output; products without activation are re-orthonormalised where they outgrow the floats.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.linalg import eigvalsh
from scipy.linalg import lapack

from experiments.laws.finite_width import kind
from experiments.laws.law import NARROW, OFF, Law
from experiments.laws.mean_field import slope
from experiments.laws.walks import (
    SQUARE,
    Weights,
    input_gradient,
    log_gains,
    log_square,
    side_by_side,
)
from study.core.blocks import Dense
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.statistics.summaries import gains
from study.theory.maps import gradient_factor, variance_map
from study.theory.spectra import Spectrum, lyapunov_exponents, spectrum


def _matrices(weights: Weights, n: int, law: str) -> np.ndarray:
    """The next W of each network at sigma_w = 1."""
    G = weights.normal(n, n)
    if law == "gaussian":
        return G / math.sqrt(n)
    # Haar as a product of reflections of normals, of which no QR is needed (Stewart 1980): that of
    # row k takes its part from k on to beta e_k.
    alpha = G.diagonal(axis1=1, axis2=2)
    beta = -np.copysign(np.sqrt(np.sum(np.triu(G) ** 2, axis=-1)), alpha)
    tau = 1 - alpha / beta
    V = G / (alpha - beta)[..., None]
    room = 32 * n  # for blocks of 32 reflections: without it they are met by threes
    Q = np.stack([lapack.sorgqr(v.T, t, lwork=room)[0] for v, t in zip(V, tau, strict=True)])
    return Q * np.copysign(1, beta)[:, None]


# --- Singular values at the critical line --------------------------------------------------------


def _at_length(activation: str, q: float) -> tuple[float, float]:
    """sigma_w and sigma_b on the critical line at which pre-activations have the variance q."""
    sigma_w = gradient_factor(activation, q, 1.0) ** -0.5
    return sigma_w, math.sqrt(max(0.0, q - float(variance_map(activation, q, sigma_w))))


class Kind(NamedTuple):
    """Four layers whose pre-activations have the variance q."""

    activation: str
    weights: str
    q: float = 1.0

    def theory(self) -> Spectrum:
        """The spectrum at infinite width."""
        return spectrum(self.activation, 4, self.weights, self.q)

    def grams(self, weights: Weights, n: int) -> np.ndarray:
        """J'J over the mean of its eigenvalues, the squared singular values."""
        sigma_w, sigma_b = _at_length(self.activation, self.q)
        layers = []
        for _ in range(4):
            W = sigma_w * _matrices(weights, n, self.weights)
            layers.append(Dense(W, self.activation, b=sigma_b * weights.normal(1, n)))
        r = layers[0].phi(math.sqrt(self.q) * weights.normal(1, n))
        below = input_gradient(layers, r, np.eye(n, dtype=r.dtype))
        return below @ below.mT * (n / np.sum(below**2, axis=(1, 2), keepdims=True))


RELU = Kind("relu", "gaussian")
RELU_ORTHOGONAL = Kind("relu", "orthogonal")
HARD_TANH = Kind("hard_tanh", "orthogonal", 0.2)
ERF = Kind("erf", "orthogonal", 0.1)
# Of wide spectra, which depend more on width.
BENT = {"sizes": (*NARROW, 256), "powers": (1, 2), "networks": 100}


# A layer of a network is a matrix, and there are four.
_spectra = side_by_side("spectra", lambda n: 8 * n**2)


def _spread(of: Kind, **fit) -> Law:
    """Var / mean^2 of the squared singular values."""
    return Law(
        measure=_spectra(lambda weights, n: np.sum(of.grams(weights, n) ** 2, axis=(1, 2)) / n - 1),
        limit=of.theory().normalised_variance,
        **{"sizes": NARROW, "networks": 400} | fit,
    )


def _largest(of: Kind) -> Law:
    """Mean of ln of the largest s^2 over the mean of s^2."""
    edge = of.theory()
    return Law(
        measure=_spectra(lambda weights, n: np.log(eigvalsh(of.grams(weights, n))[:, -1])),
        sizes=NARROW,
        networks=400,
        limit=math.log(edge.largest),
        offset=math.log(edge.largest_at(1) / edge.largest),
        powers=(2 / 3, 1),  # by Tracy and Widom's law it is short of the edge as n^(-2/3)
    )


# --- Long products -------------------------------------------------------------------------------


@side_by_side("exponents", np.square)
def _middle_exponent(weights: Weights, n: int) -> np.ndarray:
    """The one after the n/2 largest Lyapunov exponents of Gaussian matrices, by 20 QR steps."""
    Q = np.eye(n)
    total = 0.0
    for _ in range(20):
        Q, R = np.linalg.qr(_matrices(weights, n, "gaussian") @ Q)
        total = total + np.log(np.abs(R[:, n // 2, n // 2]))
    return total / 20


SMALL_Q = 1e-4
SIGMA_W, SIGMA_B = _at_length("tanh", SMALL_Q)


def _isometric(n: int, seeds: range) -> np.ndarray:
    """ln G over 10,000 layers of orthogonal tanh on the critical line at q* = 1e-4."""
    net = Network("tanh", 10_000, n, SIGMA_W, SIGMA_B, "orthogonal")
    inputs = gaussian.normal(gaussian.key(seeds.start, "spectra inputs"), 0, (1, n))
    inputs *= math.sqrt((SMALL_Q - SIGMA_B**2) / SIGMA_W**2 / np.mean(inputs**2))
    frame = profile(net, seeds=seeds, inputs=inputs, layers=2)
    return SQUARE * gains(frame).log10_gain.to_numpy()


# --- Where the norms of matrices do not decide ---------------------------------------------------


@side_by_side("tied", lambda steps: 64**2)
def _beyond_radius(weights: Weights, steps: int) -> np.ndarray:
    """Growth of ln ||dC/dr|| per step of a recurrent network, less ln of the spectral radius."""
    # rho(W) < 1: the signal stays where tanh is linear, and leaves the range of float32.
    W = 0.7 * _matrices(weights, 64, "gaussian").astype(float)
    x, u = weights.ends(1, 64)
    below = input_gradient([Dense(W, "tanh")] * steps, 1e-3 * x, u)
    radius = np.abs(np.linalg.eigvals(W)).max(axis=-1)
    return (log_square(below) - log_square(u)) / (2 * steps) - np.log(radius)


LAWS = {
    "spectrum relu gaussian": _spread(RELU, **BENT),
    "largest relu gaussian": _largest(RELU),
    "spectrum relu orthogonal": _spread(RELU_ORTHOGONAL, **BENT),
    "largest relu orthogonal": _largest(RELU_ORTHOGONAL),
    "spectrum hard tanh": _spread(HARD_TANH),
    "spectrum erf": _spread(ERF),
    "lyapunov middle": Law(
        measure=_middle_exponent,
        sizes=(8, 16, 32),
        networks=250,
        exact=lambda n: lyapunov_exponents(n)[n // 2],
    ),
    "lyapunov top": Law(
        # Half of ln G per layer: what becomes of a single direction.
        measure=lambda n, seeds: log_gains(Network("linear", 100, n, 1.0), seeds) / 200,
        sizes=(8, 16, 32),
        networks=1500,
        exact=lambda n: lyapunov_exponents(n)[0],
    ),
    "ten thousand layers": Law(
        measure=_isometric,
        sizes=(16, 32, 64, 128),
        networks=2,
        limit=0.0,
        powers=(1, 2),
        off=10_000 * math.log(gradient_factor("tanh", SMALL_Q, 1.001 * SIGMA_W)),
    ),
    "tied weights": Law(
        measure=_beyond_radius,
        sizes=(100, 200, 400),
        networks=25,
        limit=0.0,
        off=OFF * math.log(spectrum("linear", 1).largest) / 2,
    ),
    "vanishing above the bound": slope(kind("tanh", 60, 0.8)),
}
