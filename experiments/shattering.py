"""How alike the gradients at two inputs are, against depth: shattered gradients."""

from functools import lru_cache

import numpy as np
import pandas as pd

import study
from study.engines.blocks import BATCH, Block, gradient_overlaps
from study.runs.experiment import Experiment
from study.sampling.draws import Draws
from study.statistics.claims import Claim, Estimate, above, bootstrap_over_seeds, within
from study.theory import correlation
from study.theory.residual import branch_scales, normalised_scales

WIDTH, ROWS = 512, 32
INPUTS = {False: 2, True: ROWS}
"""Inputs of a network without and with batch normalisation; ROWS is inputs times cotangents."""
HE = 2**0.5
KINDS = {
    "relu": Block("relu", sigma_w=HE),
    "relu, coins": Block("relu", sigma_w=HE),
    "relu, BatchNorm": Block("relu", BATCH, frozen=True),
    "residual": Block("relu", residual=True, sigma_w=HE),
    "residual, coins": Block("relu", residual=True, sigma_w=HE),
    "residual, BatchNorm": Block("relu", BATCH, residual=True, sigma_v=HE, frozen=True),
    "tanh 0.9": Block("tanh", sigma_w=0.9),
    "tanh 2": Block("tanh", sigma_w=2.0),
    "sigmoid 4": Block("sigmoid", sigma_w=4.0),
    "sigmoid 16": Block("sigmoid", sigma_w=16.0),
}
DEPTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]


def measure(inputs: str, seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every kind of network of one seed, all of them on the same weights."""
    draws, depths = Draws(seed, "shattering", WIDTH), sorted(depths, reverse=True)
    weights = [draws.weights(k) for k in range(2 * depths[0])]
    coins = [(draws.normal("coins", k, ROWS) > 0).astype(np.float32) for k in range(depths[0])]
    tables = []
    for kind, block in KINDS.items():
        count = INPUTS[block.axis is not None]
        if inputs == "orthogonal":
            x = np.linalg.qr(draws.normal("inputs", 0, count).T)[0].T
        else:
            x = draws.digits(count)
        x *= WIDTH**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
        u = draws.normal("cotangents", 0, ROWS // count) / np.float32(WIDTH**0.5)
        slopes = coins.__getitem__ if "coins" in kind else None
        covariance, variance = gradient_overlaps(block, weights.__getitem__, depths, x, u, slopes)
        cosine = 0.0 if inputs == "orthogonal" else float(np.vdot(x[0], x[1])) / WIDTH
        theory = expected(kind, depths[0], cosine)[np.array(depths) - 1]
        at = {"inputs": inputs, "kind": kind, "depth": depths, "seed": seed}
        at |= {"covariance": covariance, "variance": variance, "expected": theory}
        tables.append(pd.DataFrame(at))
    return {"overlaps": pd.concat(tables, ignore_index=True)}


@lru_cache(maxsize=64)
def expected(kind: str, depth: int, cosine: float) -> np.ndarray:
    """Likeness at 1, ..., depth layers as theory has it, by the angle between the inputs."""
    block = KINDS[kind]
    scales = branch_scales("undamped", depth) if block.residual else None
    if block.axis is not None and block.residual:
        scales = normalised_scales(depth, batch=ROWS)
    if block.axis is not None or "coins" in kind:  # the angle plays no part
        return correlation.independent_shattering(depth, scales).correlation
    if block.activation == "relu":
        return correlation.shattering(depth, scales, cosine).correlation
    return correlation.plain_shattering(block.activation, block.sigma_w, depth, cosine).correlation


def likeness(frame: pd.DataFrame) -> float:
    """Covariance over variance, each averaged over networks before the division."""
    return float(frame.covariance.mean() / frame.variance.mean())


def beside(kind: str, depth: int, reference: float | str | None):
    """Judge: likeness over a number, over that of another kind, or (None) over theory's."""

    def judge(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["overlaps"]
        own = own[(own.inputs == "orthogonal") & (own.depth == depth)].set_index("seed")
        frame, over = own[own.kind == kind][["covariance", "variance"]], reference
        if reference is None:
            over = own[own.kind == kind].expected.iloc[0]
        elif isinstance(reference, str):
            other = own[own.kind == reference][["covariance", "variance"]]
            frame = frame.join(other.add_suffix("_other"))

        def ratio(f: pd.DataFrame) -> float:
            if isinstance(reference, str):
                return likeness(f) / float(f.covariance_other.mean() / f.variance_other.mean())
            return likeness(f) / over

        return bootstrap_over_seeds(frame.reset_index(), ratio)

    return judge


FACTOR = within(1 / 1.5, 1.5)
HALVING = beside("relu", 8, 2.0**-8)


FAMILIES = {
    "relu": ("without skip connections", "ReLU", "#D55E00"),
    "relu, coins": ("without skip connections", "coin-tossed", "#56B4E9"),
    "relu, BatchNorm": ("without skip connections", "BatchNorm", "#332288"),
    "residual": ("with skip connections", "ReLU", "#D55E00"),
    "residual, coins": ("with skip connections", "coin-tossed", "#56B4E9"),
    "residual, BatchNorm": ("with skip connections", "BatchNorm", "#332288"),
    "tanh 0.9": ("saturating activations", r"tanh, $\sigma_w$ = 0.9", "#009E73"),
    "tanh 2": ("saturating activations", r"tanh, $\sigma_w$ = 2", "#009E73"),
    "sigmoid 4": ("saturating activations", r"sigmoid, $\sigma_w$ = 4", "#0072B2"),
    "sigmoid 16": ("saturating activations", r"sigmoid, $\sigma_w$ = 16", "#0072B2"),
}
"""Panel, name and colour of each kind."""


def figure(tables: dict[str, pd.DataFrame]):
    """Gradients of a plain ReLU network at two inputs lose their likeness with depth.

    Likeness of the gradients at two inputs at right angles, mean inner product over mean square,
    with its 95 % bootstrap interval over networks. Lines: theory of infinite width, no free offset,
    which great depth leaves. Coin-tossed: units active at random for each input, as Balduzzi et al.
    (2017) assume. BatchNorm: its statistics taken for constants on the way back.
    """
    overlaps = tables["overlaps"].query("inputs == 'orthogonal'")
    points = []
    for key, own in overlaps.groupby(["kind", "depth"], sort=False):
        at = bootstrap_over_seeds(own[["seed", "covariance", "variance"]], likeness, resamples=200)
        points.append((*key, at.value, at.low, at.high, own.expected.mean()))
    points = pd.DataFrame(points, columns=["kind", "depth", "value", "low", "high", "expected"])
    points[["family", "kind"]] = [FAMILIES[kind][:2] for kind in points.kind]
    points.loc[points["value"] <= 0, "value"] = np.nan  # hidden by the noise of finite width
    colours = {name: colour for _, name, colour in FAMILIES.values()}
    grid = study.plot.curves(
        points, "depth", "value", hue="kind", col="family", interval=("low", "high"),
        theory=points.assign(value=points.expected), palette=colours, height=2.4, log="y",
        ylim=(1e-3, 1.5),
    )  # fmt: skip
    grid.axes[0][0].set_ylabel("likeness")
    return grid.figure


experiment = Experiment(
    question="Do gradients at different inputs lose their likeness with depth, and how fast?",
    grid={
        preset: [
            {"inputs": inputs, "seed": seed, "depths": depths}
            for inputs, count in (("orthogonal", seeds), ("digits", seeds // 3))
            for seed in range(count)
        ]
        for preset, seeds, depths in (("quick", 9, DEPTHS[:8]), ("paper", 60, DEPTHS))
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name=name,
            statement=f"{statement} after {depth} layers over {over}.",
            threshold=threshold,
            judge=judge,
            about=about,
        )
        for about, name, statement, depth, over, threshold, judge in (
            (
                "saying",
                "gradients of plain ReLU networks shatter as 2^-L",
                "Plain He-ReLU, inputs at right angles: likeness of their gradients",
                8,
                "2^-8; within a factor of 1.5",
                FACTOR,
                HALVING,
            ),
            (
                "",
                "they follow the mean-field product",
                "Plain He-ReLU: likeness",
                8,
                "prod (pi - theta_l) / pi, which falls as L^-3; within a factor of 1.5",
                FACTOR,
                beside("relu", 8, None),
            ),
            (
                "",
                "they follow it further down",
                "Plain He-ReLU: likeness",
                16,
                "that product; within a factor of 2",
                within(0.5, 2),
                beside("relu", 16, None),
            ),
            (
                "",
                "units active independently give 2^-L",
                "ReLU with active units drawn for each input: likeness",
                6,
                "2^-6; within a factor of 1.5",
                FACTOR,
                beside("relu, coins", 6, 2.0**-6),
            ),
            (
                "",
                "BatchNorm makes them so",
                "Plain ReLU with batch normalisation, its statistics taken for constants: likeness",
                6,
                "2^-6; within a factor of 1.5",
                FACTOR,
                beside("relu, BatchNorm", 6, 2.0**-6),
            ),
            (
                "saying",
                "skip connections slow the shattering",
                "ReLU with skip connections: likeness",
                8,
                "that without, on the same weights",
                above(1),
                beside("residual", 8, "relu"),
            ),
            (
                "B",
                "the weight scale decides on shattering",
                "Sigmoid at sigma_w = 4, below its critical scale: likeness",
                4,
                "that at sigma_w = 16, above it; more than tenfold",
                above(10),
                beside("sigmoid 4", 4, "sigmoid 16"),
            ),
        )
    ],
    columns={
        "inputs": "orthogonal: random inputs at right angles; digits: MNIST images, projected to "
        "the width at random [-]",
        "kind": "the network; coins: active units drawn at random for each input, as Balduzzi et "
        "al. assume; numbers: sigma_w [-]",
        "depth": "layers, or residual blocks [layers]",
        "covariance": "mean inner product of dC/dx at two inputs for the same unit cotangent, over "
        "cotangents and, with BatchNorm, over all pairs of its batch [squared norm]",
        "variance": "mean squared norm of dC/dx [squared norm]",
        "expected": "theory's covariance / variance for these inputs, infinite width [1]",
    },
)
