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
    squares = []
    exponents = []
    for a in arrays:
        x = settle(a.reshape(len(a), -1), 0)
        squares.append(x.squares)
        exponents.append(spread(x.exponent, x.squares.shape))
    return norm(*total(np.stack(squares), np.stack(exponents), axis=0))


def clip_to(limit: float, gradients: Sequence[Array], size: tuple[Array, Array]) -> None:
    """Shrink, in place, the gradients of those networks whose norm ``size`` exceeds the limit."""
    mantissa, exponent = size
    share = np.minimum(1, ldexp(limit / mantissa, -exponent))
    for g in gradients:
        g *= _beside(share, g)


def _sgd(g: Array, t: int) -> Array:
    return g


def _momentum(g: Array, t: int, v: Array) -> Array:
    v *= g.dtype.type(MOMENTUM)
    v += g
    return v


def _adam(g: Array, t: int, m: Array, s: Array) -> Array:
    number = g.dtype.type
    m *= number(DECAY)
    m += number(1 - DECAY) * g
    s *= number(SQUARE_DECAY)
    s += number(1 - SQUARE_DECAY) * np.square(g)
    mean = m / number(1 - DECAY**t)
    square = s / number(1 - SQUARE_DECAY**t)
    return mean / (np.sqrt(square) + number(EPSILON))


OPTIMISERS = {"sgd": (_sgd, 0), "momentum": (_momentum, 1), "adam": (_adam, 2)}
"""The direction of a step, and how many arrays it remembers of each parameter."""


class Descent:
    """An optimiser: what it remembers of past gradients, and its step."""

    def __init__(self, name: str, parameters: Sequence[Array]):
        self.direction, count = OPTIMISERS[name]
        self.memory = [[np.zeros_like(p) for p in parameters] for _ in range(count)]
        self.t = 0

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rates: Array) -> None:
        """Move the parameters, in place; ``rates`` has one learning rate a network."""
        self.t += 1
        for p, g, *memory in zip(parameters, gradients, *self.memory, strict=True):
            p -= _beside(rates, p) * self.direction(g, self.t, *memory)


def _beside(values: Array, p: Array) -> Array:
    """One value a network, in the format of a parameter and with as many axes."""
    return values.astype(p.dtype).reshape(-1, *[1] * (p.ndim - 1))
