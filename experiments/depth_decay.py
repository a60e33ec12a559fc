"""How the gradient decays or grows on its way down networks of 10 to 10,000 layers."""

from functools import partial

import numpy as np
import pandas as pd

import study
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling import digits
from study.statistics.claims import (
    Claim,
    Estimate,
    above,
    below,
    confidence,
    median_interval,
    within,
)
from study.statistics.summaries import gains

CRITICAL_SIGMOID = 10.149264
SCALES = {
    name: [0.5, 1.0, 2**0.5, 2.0, 4.0, CRITICAL_SIGMOID]
    for name in ("relu", "sigmoid", "tanh", "linear")
}
SCALES["sigmoid"][3] = 16.0  # where sigmoid explodes, too
NETS = [[name, sigma_w] for name, scales in SCALES.items() for sigma_w in scales]
WIDTH = 256
IMAGES = 4  # a network
SHOWN = 9  # layers of a profile
RECORDED = [0, 1, 1000]  # seeds whose gradient norms are kept
COMPARED = [1.0, 2**0.5, 4.0, CRITICAL_SIGMOID]  # scales at which all were measured
NET = ["inputs", "activation", "sigma_w", "depth", "width"]


def cells(seeds: int, depths: list[int], image_seeds: int, image_depths: list[int]) -> list[dict]:
    """Random inputs: an activation a cell, with all seeds. Digits: all on a seed's matrices."""
    random = {"inputs": "random", "seeds": [*range(seeds)], "depths": depths}
    images = {"inputs": "digits", "nets": NETS, "depths": image_depths}
    kinds = [[net for net in NETS if net[0] == name] for name in SCALES]
    # Seeds that random inputs have not.
    return [random | {"nets": nets} for nets in kinds] + [
        images | {"seeds": [1000 + i]} for i in range(image_seeds)
    ]


def measure(
    inputs: str, nets: list[list], seeds: list[int], depths: list[int]
) -> dict[str, pd.DataFrame]:
    """Profile every network at every depth; of few seeds the gradient norms are kept."""
    networks = [
        study.Network(name, depth, WIDTH, sigma_w, dtype="float32")
        for name, sigma_w in nets
        for depth in depths
    ]
    how = {"engine": "matrix_free"}
    if inputs == "digits":
        x, y = digits.sample(seeds[0], IMAGES)
        how = {"engine": "dense", "inputs": x, "targets": y}  # the same matrices for all
    df = study.profile(networks, seeds, layers=SHOWN, **how).assign(inputs=inputs)
    decays = gains(df).rename(columns={"log10_gain": "log10_decay"})
    tables = {"networks": decays[[*NET, "seed", "log10_decay"]]}
    few = df[df.seed.isin(RECORDED)]
    return tables | ({"gradient_norms": gradient_norms(few, SHOWN)} if len(few) else {})


def networks_of(
    tables: dict, inputs: str, activation: str, sigma_w: float, depth: int | None = None
) -> pd.DataFrame:
    """The networks of a kind at that depth, or the largest, with their decades a layer."""
    rows = tables["networks"].query(
        "inputs == @inputs and activation == @activation and sigma_w == @sigma_w"
    )
    rows = rows[rows.depth == (depth or rows.depth.max())]
    return rows.assign(rate=rows.log10_decay / rows.depth)  # decades a layer


def deepest(tables: dict, column: str, activation: str, sigma_w: float) -> Estimate:
    """The median decay or rate, for random inputs at the largest depth."""
    return median_interval(networks_of(tables, "random", activation, sigma_w)[column])


def images_less_random(tables: dict) -> Estimate:
    """Two groups of seeds that share nothing."""
    images = networks_of(tables, "digits", "sigmoid", 1.0)
    random = networks_of(tables, "random", "sigmoid", 1.0, images.depth.max())
    a, b = (median_interval(rows.rate, (1 + confidence()) / 2) for rows in (images, random))
    return Estimate(a.value - b.value, a.low - b.high, a.high - b.low, min(a.n, b.n))


def figure(tables: dict[str, pd.DataFrame]):
    """What reaches the input of networks of up to 100 layers, at equal weights.

    Decades of the gradient's norm gained from the output to the input, at four weight scales that
    all activations share. Marks: median over seeds with its 95 % interval, random inputs. Lines, no
    free offset: for ReLU and linear the median of the exact law at this width, for sigmoid and tanh
    mean-field theory. Shaded: beyond the normal range of float32, where a plain run shows 0 or inf.
    Deeper networks go on as straight: the same slope holds over 10,000 layers.
    """
    shown = tables["networks"].query("inputs == 'random' and depth <= 100 and sigma_w in @COMPARED")
    return study.plot.depth(
        shown, "log10_decay", hue="activation", col="sigma_w", theory=True, height=2.3
    ).figure


DECAY = "log10_decay"
RATE = 0.5 * np.log10(study.theory.mean_field("sigmoid", 1.0).chi)
GAIN = "median decades the gradient gains on its way down the deepest network"

experiment = Experiment(
    question="How much of the gradient reaches the input, by activation, weight scale and depth?",
    grid={
        "quick": cells(5, [10, 30, 100], 1, [10, 30]),
        "paper": cells(10, [10, 30, 100, 300, 1000, 10000], 10, [10, 30, 100, 300]),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="sigmoid vanishes as mean field says",
            statement="Sigmoid at sigma_w = 1: decades of gradient norm per layer, median over "
            "seeds; within 2 % of 1/2 log10 chi.",
            threshold=within(1.02 * RATE, 0.98 * RATE),
            judge=partial(deepest, column="rate", activation="sigmoid", sigma_w=1.0),
        ),
        *(
            Claim(
                name=f"weights alone make {name} {fate}",
                statement=f"{name} at sigma_w = {sigma_w}: {GAIN}; outside float32's range.",
                threshold=beyond,
                judge=partial(deepest, column=DECAY, activation=name.lower(), sigma_w=sigma_w),
                about="B2",
            )
            for name, sigma_w, fate, beyond in (
                ("ReLU", 1, "vanish", below(-38)),
                ("ReLU", 2, "explode", above(38)),
                ("sigmoid", 16, "explode", above(38)),
            )
        ),
        Claim(
            name="He initialisation preserves the gradient at any depth",
            statement=f"ReLU at sigma_w = sqrt 2: {GAIN}; within a factor of ten.",
            threshold=within(-1, 1),
            judge=partial(deepest, column=DECAY, activation="relu", sigma_w=2**0.5),
            about="saying",
            source="He et al. 2015, section 2.2",
        ),
        Claim(
            name="images do not change the rate",
            statement="Sigmoid at sigma_w = 1: median decades per layer on MNIST digits less those "
            "on random inputs, in networks of equal depth with seeds of their own.",
            threshold=within(-0.01, 0.01),
            judge=images_less_random,
        ),
    ],
    columns={
        "inputs": "random: one standard normal input and a random unit cotangent at the output, by "
        "the matrix-free engine; digits: MNIST images and the squared-error cost, by the dense "
        "engine [-]",
        "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖: the part of the gradient that reaches the "
        "input, the sum of all factors [log10]",
    },
    version=3,
)
