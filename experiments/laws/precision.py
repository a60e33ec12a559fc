"""Laws of number formats and of ReLU'(0): Bertoin."""

import numpy as np

from experiments.laws.law import Law
from experiments.laws.walks import HE, SQUARE
from study.core.network import Network
from study.engines.profile import profile
from study.sampling import gaussian
from study.statistics.summaries import gains
from study.theory.finite_width import backward_law
from study.theory.rounding import cancellation, underflow


def above_dead(n: int, seeds: range, kink: float = 1.0) -> np.ndarray:
    """ln G of 20 He layers above a dead one, from which nothing comes up, by ReLU'(0)."""
    net = Network("relu", 20, n, HE, kink=kink)
    frame = profile(net, seeds=seeds, inputs=np.zeros((1, n)))
    # Weight gradients are 0 there either way, as r is: dC/dr tells the two apart.
    return SQUARE * gains(frame).log10_gain.to_numpy()


# --- How often a pre-activation is exactly 0 -----------------------------------------------------

_BLOCK = 100_000  # dot products a seed


def _products(key: int, k: int, scale: float) -> np.ndarray:
    """The k-th products of the dot products, in float32."""
    a, w = gaussian.normal(key, k, (2, _BLOCK), np.float32)
    return a * w * np.float32(scale)


@np.errstate(under="ignore")  # products and sums that are stored as 0 are the point here
def _cancelled(products: int, seeds: range) -> np.ndarray:
    """How often sums of rounded products, rounded to float16 at each step, end in 0."""

    def share(key: int) -> float:
        total = np.zeros(_BLOCK, "float16")
        for k in range(products - 1):
            total += _products(key, k, products**-0.5).astype("float16")
        last = _products(key, products, products**-0.5).astype("float16")
        # The last sum is 0 if and only if the last product is the negative of the sum before it:
        # so each product is held against each sum.
        return float(_histogram(-total) @ _histogram(last)) / _BLOCK**2

    return np.array([share(gaussian.key(seed, "cancellation")) for seed in seeds])


def _histogram(x: np.ndarray) -> np.ndarray:
    return np.bincount((x + 0).view(np.uint16), minlength=2**16)  # + 0: 0 and -0 are the same


@np.errstate(under="ignore")
def _underflown(products: int, seeds: range) -> np.ndarray:
    """How often sums in float32 are stored as 0 in float16."""

    def share(key: int) -> float:
        scale = SMALL * products**-0.5
        total = sum(_products(key, k, scale) for k in range(products))
        return float(np.mean(total.astype("float16") == 0))

    return np.array([share(gaussian.key(seed, "underflow")) for seed in seeds])


SMALL = 2.0**-16  # scale of the pre-activations that mixed precision is tried on

LAWS = {
    "relu slope one": Law(
        measure=above_dead,
        sizes=(16, 32, 64),
        networks=200,
        exact=lambda n: backward_law([n] * 21, "linear", sigma_w=HE).mean,
    ),
    "half precision zeros": Law(
        measure=_cancelled, sizes=(3, 5, 10), networks=8, exact=cancellation
    ),
    "mixed precision zeros": Law(
        measure=_underflown,
        sizes=(3, 5, 8),
        networks=10,
        exact=lambda products: underflow(products, "float16", SMALL),
    ),
}
