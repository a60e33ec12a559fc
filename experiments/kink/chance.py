"""How often a pre-activation is 0 by chance in float32, and what a kink as wide as a band does.

A sum that ends near 0 is the difference of two numbers, on a grid of their spacing: it is exactly 0
with about its density there times that spacing, some 1e-8 where the terms have unit size. A product
that is added without rounding of its own (FMA) lies on a finer grid, where 0 is all but impossible.
Bertoin et al. 2021 met zeros in float32 in networks with many more units than these.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from study.core.activations import TABLE, Activation
from study.core.blocks import BATCH, normalise
from study.engines.training import drawn_batches, gaussian_weights, train
from study.sampling import digits, gaussian
from study.statistics.claims import Estimate, confidence
from study.tools import Array

WIDTH, DEPTH, EXAMPLES = 64, 10, 512
# ReLU networks: z = r W; z + b; z normalised over the batch; of two units the larger goes on.
NETWORKS = ("plain", "biases", "BatchNorm", "max-pool")
BANDS = [0.0, 1e-3, 1e-2]
RATES = {"sgd": 0.1, "adam": 0.001}
TRAINED, BATCH_SIZE, IMAGES = [196, 64, 64, 10], 32, 4000

COLUMNS = {
    "network": "plain; biases, of scale 0.1; BatchNorm; max-pool: of two units the larger goes on "
    "[-]",
    "optimiser": "sgd or adam [-]",
    "rate": "learning rate [1]",
    "band": "largest |z| at which the slope is that at the kink [1]",
    "met": "share of pre-activations of the held-out digits in the band, after training [1]",
    "status": "ok; or diverged: loss or gradient were no longer finite [-]",
}


def counted(network: str, seed: int, passes: int) -> pd.DataFrame:
    """Zeros among the pre-activations of He networks, new ones each pass, on random inputs."""
    rng = np.random.default_rng(gaussian.key(seed, "zeros by chance", network))
    zeros = 0
    total = 0
    for _ in range(passes):
        r = rng.standard_normal((EXAMPLES, WIDTH), dtype=np.float32)
        for _ in range(DEPTH):
            draw = rng.standard_normal((r.shape[1], WIDTH), dtype=np.float32)
            z = r @ (np.float32((2 / r.shape[1]) ** 0.5) * draw)
            if network == "biases":
                z += np.float32(0.1) * rng.standard_normal(WIDTH, dtype=np.float32)
            if network == "BatchNorm":
                z = normalise(z, BATCH).x
            zeros += z.size - np.count_nonzero(z)
            total += z.size
            r = np.maximum(z, 0)
            if network == "max-pool":
                r = r.reshape(EXAMPLES, -1, 2).max(axis=2)
    columns = {"network": network, "format": "float32", "seed": seed}
    return pd.DataFrame([columns | {"preactivations": total, "zeros": zeros}])


def share(zeros: int, total: int) -> Estimate:
    """A rate of rare events and its exact interval, Poisson's (Garwood 1936).

    >>> share(0, 10**9).high < 4e-9 < share(1, 10**9).high
    True
    """
    from scipy.stats import chi2  # slow to import

    tail = (1 - confidence()) / 2
    low = float(chi2.ppf(tail, 2 * zeros)) / 2 if zeros else 0.0
    high = float(chi2.ppf(1 - tail, 2 * zeros + 2)) / 2
    return Estimate(zeros / total, low / total, high / total, total)


def widened(band: float) -> Activation:
    """ReLU whose derivative is that at the kink wherever |z| is at most ``band``."""

    def slope(z: Array, e: None, kink: float) -> Array:
        return np.where(np.abs(z) <= z.dtype.type(band), kink, z > 0).astype(z.dtype)

    return replace(TABLE["relu"], name=f"relu, kink {band:g}", prefactor=slope)


def with_bands(optimiser: str, seeds: list[int], steps: int) -> pd.DataFrame:
    """Training from the same weights on the same digits, for each band and slope in it."""
    images, classes = digits.coarse(IMAGES + 1000, 14)
    x = images.astype(np.float32)
    y = np.eye(10, dtype=np.float32)[classes]
    weights = gaussian_weights(
        [gaussian.key(seed, "bands") for seed in seeds], TRAINED, [2**0.5] * len(seeds), "float32"
    )
    batch = drawn_batches((x[:IMAGES], y[:IMAGES]), seeds, 4, steps, BATCH_SIZE)
    held_out = x[IMAGES:], classes[IMAGES:]
    frames = []
    for band in BANDS:
        row = widened(band)
        for kink in (0.0, 1.0):
            course = train(
                weights,
                [RATES[optimiser]] * len(seeds),
                batch,
                steps,
                [row] * (len(TRAINED) - 2) + ["linear"],
                optimiser=optimiser,
                kink=kink,
                held_out=held_out,
                logged=[steps],
            )
            z = held_out[0] @ course.weights[0]
            columns = {"optimiser": optimiser, "rate": RATES[optimiser], "band": band, "kink": kink}
            columns |= {"seed": seeds, "steps": steps, "status": course.networks.status}
            columns["preactivations"] = steps * BATCH_SIZE * sum(TRAINED[1:-1])
            columns["met"] = (np.abs(z) <= band).mean(axis=(1, 2))
            last = course.log[course.log.step == steps].set_index("network").accuracy
            columns["accuracy"] = 100 * last.reindex(range(len(seeds)))
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
