"""What the networks of one seed share, in float32: random weights, and images at their input."""

from dataclasses import dataclass

import numpy as np

from study.sampling import digits, gaussian
from study.tools import Array


@dataclass(frozen=True)
class Draws:
    """Draws for networks of one width; each experiment has its own.

    >>> draws = Draws(seed=0, experiment="an example", width=4)
    >>> draws.normal("inputs", 0, rows=3).shape, draws.weights(7).dtype
    ((3, 4), dtype('float32'))
    """

    seed: int
    experiment: str
    width: int

    def normal(self, purpose: str, layer: int, rows: int) -> Array:
        """Standard normal, (rows, width); other purposes and layers give other draws."""
        key = gaussian.key(self.seed, self.experiment, purpose)
        return gaussian.normal(key, layer, (rows, self.width), np.float32)

    def weights(self, k: int) -> Array:
        """(width, width), Var W = 1 / width."""
        return self.normal("weights", k, self.width) / np.float32(self.width**0.5)

    def digits(self, count: int) -> Array:
        """MNIST images times standard normal numbers, (count, width)."""
        pixels = digits.sample(self.seed, count)[0].astype(np.float32)
        return pixels @ self.normal("stem", 0, pixels.shape[1])  # the same stem for every image
