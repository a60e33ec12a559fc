"""What descends and how: costs at the output, and optimisers that turn gradients into steps.

With gradient g and learning rate ``rate``, at step t = 1, 2, ...:

    sgd        w -= rate g
    momentum   v = 0.9 v + g                                w -= rate v
    adam       m = 0.9 m + 0.1 g, s = 0.999 s + 0.001 g^2
               w -= rate (m / (1 - 0.9^t)) / (sqrt(s / (1 - 0.999^t)) + 1e-8)

(Polyak 1964; Kingma & Ba 2015, algorithm 1 with the constants proposed there.) Clipping scales the
gradient of a whole network to a norm of at most ``clip`` (Pascanu et al. 2013, algorithm 1).
Arrays have the networks leading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.arithmetic.scaled import Array, ldexp, norm, settle, spread, total

OPTIMISERS = ("sgd", "momentum", "adam")
MOMENTUM = 0.9
DECAYS, EPSILON = (0.9, 0.999), 1e-8


def cross_entropy(r: Array, y: Array) -> tuple[Array, Array]:
    """Softmax cross-entropy (natural log) of each network, and dC/dr; mean over the batch.

    >>> loss, dr = cross_entropy(np.zeros((1, 1, 2)), np.array([[1.0, 0.0]]))
    >>> loss.round(6).tolist(), dr.tolist()
    ([0.693147], [[[-0.5, 0.5]]])
    """
    shifted = r - r.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    sums = e.sum(axis=-1, keepdims=True)
    loss = (np.log(sums[..., 0]) - (shifted * y).sum(axis=-1)).mean(axis=-1)
    return loss, (e / sums - y) / r.dtype.type(r.shape[-2])


def squared_error(r: Array, y: Array) -> tuple[Array, Array]:
    """The derivation's cost 1/2 |r - y|^2 of each network, and dC/dr; mean over the batch."""
    difference = r - y
    loss = 0.5 * np.square(difference).sum(axis=-1).mean(axis=-1)
    return loss, difference / r.dtype.type(r.shape[-2])


COSTS = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def norms(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """Norm of each network over all arrays, (mantissa, exponent); not finite where an entry is."""
    parts = [settle(a.reshape(len(a), -1), 0) for a in arrays]
    exponents = [spread(x.exponent, s.shape) for x, s in parts]
    return norm(*total(np.stack([s for _, s in parts]), np.stack(exponents), axis=0))


def clip_to(limit: float, gradients: Sequence[Array], size: tuple[Array, Array]) -> None:
    """Shrink, in place, the gradients of those networks whose norm ``size`` exceeds the limit."""
    share = np.minimum(1, ldexp(limit / size[0], -size[1]))
    for g in gradients:
        g *= share.astype(g.dtype).reshape(-1, *[1] * (g.ndim - 1))


class Descent:
    """An optimiser: what it remembers of past gradients, and its step."""

    def __init__(self, name: str, parameters: Sequence[Array]):
        self.name, self.t = name, 0
        count = OPTIMISERS.index(name)  # sgd keeps nothing, momentum one average, adam two
        self.memory = [[np.zeros_like(p) for p in parameters] for _ in range(count)]

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], rates: Array) -> None:
        """Move the parameters, in place; ``rates`` has one learning rate a network."""
        self.t += 1
        for p, g, *memory in zip(parameters, gradients, *self.memory, strict=True):
            if self.name == "momentum":
                (v,) = memory
                v *= p.dtype.type(MOMENTUM)
                v += g
                g = v
            elif self.name == "adam":
                g = self._adam(*memory, g)
            p -= rates.astype(p.dtype).reshape(-1, *[1] * (p.ndim - 1)) * g

    def _adam(self, m: Array, s: Array, g: Array) -> Array:
        for mean, decay, value in ((m, DECAYS[0], g), (s, DECAYS[1], np.square(g))):
            mean *= g.dtype.type(decay)
            mean += g.dtype.type(1 - decay) * value
        first, second = (g.dtype.type(1 - decay**self.t) for decay in DECAYS)
        return m / first / (np.sqrt(s / second) + g.dtype.type(EPSILON))
