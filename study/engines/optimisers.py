"""What descends and how: costs at the output, and optimisers that turn gradients into steps.

With gradient g and learning rate ``rate``, at step t = 1, 2, ...:

    sgd        w -= rate g
    momentum   v = 0.9 v + g                                w -= rate v
    adam       m = 0.9 m + 0.1 g, s = 0.999 s + 0.001 g^2
               w -= rate (m / (1 - 0.9^t)) / (sqrt(s / (1 - 0.999^t)) + 1e-8)

(Polyak 1964; Kingma & Ba 2015.) Clipping scales the gradient of a whole network to a norm of at
most ``clip`` (Pascanu et al. 2013). Arrays have the networks leading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from study.arithmetic.scaled import ldexp, norm, settle, spread, total
from study.tools import Array

MOMENTUM = 0.9
DECAY = 0.9
SQUARE_DECAY = 0.999
EPSILON = 1e-8


def cross_entropy(r: Array, y: Array) -> tuple[Array, Array]:
    """Softmax cross-entropy (natural log) of each network, and dC/dr; mean over the batch.

    >>> loss, dr = cross_entropy(np.zeros((1, 1, 2)), np.array([[1.0, 0.0]]))
    >>> loss.round(6).tolist(), dr.tolist()
    ([0.693147], [[[-0.5, 0.5]]])
    """
    shifted = r - r.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=-1, keepdims=True)
    losses = np.log(sums[..., 0]) - (shifted * y).sum(axis=-1)
    return losses.mean(axis=-1), (powers / sums - y) / r.dtype.type(r.shape[-2])


def squared_error(r: Array, y: Array) -> tuple[Array, Array]:
    """The derivation's cost 1/2 |r - y|^2 of each network, and dC/dr; mean over the batch."""
    error = r - y
    losses = np.square(error).sum(axis=-1)
    return 0.5 * losses.mean(axis=-1), error / r.dtype.type(r.shape[-2])


COSTS = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def norms(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Norm of each network over all arrays, (mantissa, exponent); not finite where an entry is."""
    settled = [settle(a.reshape(len(a), -1), 0) for a in arrays]
    squares = np.stack([x.squares for x in settled])
    if all(isinstance(x.exponent, int) for x in settled):
        return norm(squares.sum(axis=0), 0)
    exponents = np.stack([spread(x.exponent, x.squares.shape) for x in settled])
    return norm(*total(squares, exponents, axis=0))


def are_finite(arrays: Sequence[Array]) -> Array:
    """Whether the norm of each network over all arrays is finite; as `norms`, and quicker."""
    flat = [a.reshape(len(a), -1) for a in arrays]
    finite = np.isfinite(sum(np.vecdot(a, a) for a in flat))
    # Squares may overflow where the norm does not.
    return finite if finite.all() else np.isfinite(norms(arrays)[0])


def clip_shares(limit: float, size: tuple[Array, Array]) -> Array:
    """What each network's gradient of norm ``size`` is multiplied by, to be at most the limit."""
    mantissa, exponent = size
    return np.minimum(1, ldexp(limit / mantissa, -exponent))


# A step reads and writes every parameter once: in NumPy's own calls, one a term, the memory's
# speed would take more time than the products of a small network.
@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sgd(p, g, memory, rates, shares, grown):
    for i in range(len(p)):
        rate = rates[i]
        share = shares[i]
        for j in range(p.shape[1]):
            p[i, j] -= rate * (g[i, j] * share)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _momentum(p, g, memory, rates, shares, grown):
    kept = p.dtype.type(MOMENTUM)
    for i in range(len(p)):
        rate = rates[i]
        share = shares[i]
        for j in range(p.shape[1]):
            v = kept * memory[0, i, j] + g[i, j] * share
            memory[0, i, j] = v
            p[i, j] -= rate * v


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _adam(p, g, memory, rates, shares, grown):
    number = p.dtype.type
    mean_share = number(grown[0])
    square_share = number(grown[1])
    for i in range(len(p)):
        rate = rates[i]
        share = shares[i]
        for j in range(p.shape[1]):
            slope = g[i, j] * share
            m = number(DECAY) * memory[0, i, j] + number(1 - DECAY) * slope
            s = number(SQUARE_DECAY) * memory[1, i, j] + number(1 - SQUARE_DECAY) * (slope * slope)
            memory[0, i, j] = m
            memory[1, i, j] = s
            size = np.sqrt(s / square_share) + number(EPSILON)
            p[i, j] -= rate * ((m / mean_share) / size)


# The compiled step of each, and how many arrays it remembers of a parameter.
OPTIMISERS = {"sgd": (_sgd, 0), "momentum": (_momentum, 1), "adam": (_adam, 2)}


class Descent:
    """An optimiser: what it remembers of past gradients, and its step."""

    def __init__(self, name: str, parameters: Sequence[Array]):
        self.move, count = OPTIMISERS[name]
        self.parameters = [p.reshape(len(p), -1) for p in parameters]
        self.memory = [np.zeros((count, *p.shape), p.dtype) for p in self.parameters]
        self.t = 0

    def step(self, gradients: Sequence[Array], rates: Array, shares: Array) -> None:
        """Move the parameters, in place.

        Parameters
        ----------
        gradients : of each parameter, networks leading
        rates, shares : (networks,) learning rates, and factors of the gradients
        """
        self.t += 1
        number = self.parameters[0].dtype
        rates = rates.astype(number)
        shares = shares.astype(number)
        # Shares of the means' final size that Adam's have grown to, from 0.
        grown = (1 - DECAY**self.t, 1 - SQUARE_DECAY**self.t)
        for p, g, memory in zip(self.parameters, gradients, self.memory, strict=True):
            self.move(p, g.reshape(p.shape), memory, rates, shares, grown)

    def resume(self, other: Descent, networks: Array) -> None:
        """Go on as another would have with some of its networks."""
        self.t = other.t
        self.memory = [memory[:, networks] for memory in other.memory]
