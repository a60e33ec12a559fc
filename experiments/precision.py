"""The depth at which a plain run loses the gradient, by number format, activation and scale."""

from itertools import product

import numpy as np
import pandas as pd

import study
from study.arithmetic.formats import FORMATS
from study.arithmetic.plain import PlainRun, depths_lost
from study.engines.explicit import unit_cotangent
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, above, median_interval, within
from study.statistics.estimators import medians
from study.theory.reach import lost_depth

ACTIVATIONS = ["relu", "sigmoid", "tanh"]
FOUR = ["float16", "bfloat16", "float32", "float64"]
WIDTH, DEEPEST = 64, 1000
HE = 2**0.5
KEYS = ["activation", "sigma_w", "format"]


def measure(seed: int, sigma_w: float) -> dict[str, pd.DataFrame]:
    """Where each format loses the gradient of each network; all on the same unit weights."""
    key = gaussian.key(seed, "weights")  # those of `study.profile`
    weights = np.stack([gaussian.normal(key, k, (WIDTH, WIDTH)) for k in range(DEEPEST)])
    weights *= sigma_w / WIDTH**0.5
    x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (1, WIDTH))
    dr = unit_cotangent(gaussian.key(seed, "cotangent"), (1, WIDTH), np.float64)
    lines, nets = [], []
    for activation, name in product(ACTIVATIONS, FOUR):
        lost, norm_lost = depths_lost(PlainRun(weights, x, activation, FORMATS[name]), dr)
        expected = expected_depth(activation, sigma_w, name)
        lines.append((activation, sigma_w, WIDTH, seed, name, lost, norm_lost, expected))
        nets.append(study.Network(activation, int(min(lost, DEEPEST)), WIDTH, sigma_w, kink=0.0))
    columns = ["activation", "sigma_w", "width", "seed", "format"]
    columns += ["depth_lost", "depth_norm_lost", "expected_depth"]
    true = study.profile(nets, [seed], engine="dense")
    norms = true.log10_grad_norm[true.layer == 0].to_numpy()
    return {"depth": pd.DataFrame(lines, columns=columns).assign(log10_true_norm=norms)}


def expected_depth(activation: str, sigma_w: float, name: str) -> float:
    """The same by theory; inf beyond DEEPEST."""
    number = FORMATS[name]
    return lost_depth(activation, sigma_w, WIDTH, number.smallest, number.largest, DEEPEST)


def _networks(tables: dict, activation: str, sigma_w: float, name: str) -> pd.DataFrame:
    own = tables["depth"]
    return own[(own.activation == activation) & (own.sigma_w == sigma_w) & (own.format == name)]


def bfloat16_reach(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: each seed's smallest depth_lost of bfloat16 / float32, of networks both lose."""
    wide = tables["depth"].pivot(
        index=["activation", "sigma_w", "seed"], columns="format", values="depth_lost"
    )
    ratio = wide.bfloat16 / wide.float32
    return median_interval(ratio[np.isfinite(wide.float32)].groupby("seed").min())


def figure(tables: dict[str, pd.DataFrame]):
    """The depth at which each number format loses the gradient of the first layer.

    Marks: depth at which a plain run has lost it, all zero or not finite; median over seeds with
    its 95 % interval; at the upper edge: not lost within the deepest networks. Lines, no free
    offset: from chi and the format's range with subnormals. Rings: more than 10 % off.
    """
    depth = tables["depth"]
    scales = np.geomspace(depth.sigma_w.min(), depth.sigma_w.max(), 33)
    lines = pd.DataFrame(product(ACTIVATIONS, scales, FOUR), columns=KEYS)
    lines["depth_lost"] = [expected_depth(*row) for row in lines.itertuples(index=False)]
    grid = study.plot.curves(
        depth,
        "sigma_w",
        "depth_lost",
        hue="format",
        col="activation",
        theory=lines,
        height=2.6,
        log="xy",
        ylim=(4, 1.5 * DEEPEST),
    )
    points = medians(depth, KEYS, ["depth_lost"])
    points["expected"] = [expected_depth(*row) for row in points[KEYS].itertuples(index=False)]
    off = points[
        np.isfinite(points["value"]) & ~(points["value"] / points.expected).between(0.9, 1.1)
    ]
    for name, ax in grid.axes_dict.items():
        own = off[off.activation == name]
        ax.plot(own.sigma_w, own["value"], "o", mfc="none", color="black", ms=7, mew=0.8)
    grid.axes[0][0].set_ylabel("layers until the gradient is lost")
    return grid.figure


experiment = Experiment(
    question="How deep does each number format carry the gradient?",
    grid={
        preset: [{"seed": seed, "sigma_w": sigma} for seed in range(seeds) for sigma in scales]
        for preset, seeds, scales in (
            ("quick", 2, [1.0, HE]),
            ("paper", 10, [0.5, 1.0, HE, 2.0, 4.0, 10.149264]),
        )
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="float32 loses sigmoid's gradient where chi says",
            statement="Sigmoid at sigma_w = 1: depth at which a plain float32 run has lost "
            "dC/dW^(0), over the depth expected from chi and the format's range with subnormals; "
            "within 5 % of 1.",
            threshold=within(0.95, 1.05),
            judge=lambda t: median_interval(
                (n := _networks(t, "sigmoid", 1.0, "float32")).depth_lost / n.expected_depth
            ),
        ),
        Claim(
            name="the printed norm is lost at half the depth",
            statement="Sigmoid at sigma_w = 1, float32: depth at which the norm, summed as "
            "squares, is lost, over the depth at which the gradient is; within 10 % of 1/2.",
            threshold=within(0.45, 0.55),
            judge=lambda t: median_interval(
                (n := _networks(t, "sigmoid", 1.0, "float32")).depth_norm_lost / n.depth_lost
            ),
        ),
        Claim(
            name="float64 is deep enough for sigmoid",
            statement="Sigmoid at sigma_w = 1: depth at which a plain float64 run loses "
            f"dC/dW^(0); above {DEEPEST}.",
            threshold=above(DEEPEST),
            judge=lambda t: median_interval(_networks(t, "sigmoid", 1.0, "float64").depth_lost),
            about="saying",
        ),
        Claim(
            name="float64 is deep enough for He-initialised ReLU",
            statement=f"ReLU at sigma_w = sqrt 2: the same; above {DEEPEST}.",
            threshold=above(DEEPEST),
            judge=lambda t: median_interval(_networks(t, "relu", HE, "float64").depth_lost),
            about="saying",
        ),
        Claim(
            name="bfloat16 reaches as deep as float32",
            statement="Depth at which bfloat16 loses dC/dW^(0) over that of float32, the smallest "
            "of all networks that both lose; above 4/5.",
            threshold=above(0.8),
            judge=bfloat16_reach,
        ),
    ],
    columns={
        "format": "number format of the plain run [-]",
        "depth_lost": "smallest depth where all of dC/dW^(0) is 0, or some of it or of the output "
        f"is not finite; inf: none up to {DEEPEST} [layers]",
        "depth_norm_lost": "smallest depth where the norm of dC/dW^(0), as the run prints it, is 0 "
        f"or not finite, or the output is not; inf: none up to {DEEPEST} [layers]",
        "expected_depth": f"depth_lost by theory; inf: beyond {DEEPEST} [layers]",
        "log10_true_norm": "norm of dC/dW^(0) at depth_lost (where that is inf, at depth "
        f"{DEEPEST}), by the scaled engine in float64 [log10]",
    },
)
