"""What the derivative did to the gradient and what the weights did, layer by layer."""

import math
from functools import partial

import numpy as np
import pandas as pd

import study
from study.core.activations import TABLE
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling import digits
from study.statistics.claims import Claim, Estimate, above, below, within
from study.statistics.estimators import mean, resampled
from study.statistics.summaries import FACTORS, mean_factors, running_factors
from study.theory.gradient_norms import derivative_decades

WIDTH, DEPTH = 256, 100
FIRST, LAST = 10, 95  # past the transient of the forward pass, below the cost
BATCH = {"random": 1, "digits": 4}
CALLED = {name: TABLE[name].label for name in ("sigmoid", "tanh", "relu")}
SIGMA_B = {"sigmoid": 0.0, "tanh": 0.05**0.5, "relu": 0.0}
# Theory's, to the last bit: networks at twice that scale are chaotic.
CRITICAL = {"sigmoid": 10.149263710019525, "tanh": 1.327009660705882, "relu": 2**0.5}
SCALES = [0.5, 1.0, 2.0]
SEED = 1000  # those from 0 on were seen when the thresholds were chosen

CLOSE = math.log10(1.01)  # 1 % of a factor, in decades
ROUGHLY = math.log10(1.05)  # 5 %

PASSED = ["layers_passed", "derivative", "weights"]
NET = ["activation", "scale", "sigma_w", "sigma_b"]
KEYS = ["inputs", *NET, "seed"]


def cells(seeds: int) -> list[dict]:
    """A kind of input and a seed a cell, with every activation and scale."""
    return [
        {"inputs": inputs, "seed": SEED + i, "scales": SCALES}
        for inputs in BATCH
        for i in range(seeds)
    ]


def measure(inputs: str, seed: int, scales: list[float]) -> dict[str, pd.DataFrame]:
    """Every activation at multiples of its critical scale and at 1, on the same unit weights."""
    multiples = [(name, scale * CRITICAL[name]) for name in SIGMA_B for scale in scales]
    common = [(name, 1.0) for name in SIGMA_B]
    batch = BATCH[inputs]
    x, y = digits.sample(seed, batch) if inputs == "digits" else (None, None)
    frames = []
    for kinds in (multiples, common):
        nets = [study.Network(name, DEPTH, WIDTH, scale, SIGMA_B[name]) for name, scale in kinds]
        frames.append(study.profile(nets, [seed], batch, engine="dense", inputs=x, targets=y))
    df = pd.concat(frames, ignore_index=True).assign(inputs=inputs)
    df["scale"] = df.sigma_w / df.activation.map(CRITICAL)  # of networks at sigma_w = 1, too
    layers = running_factors(df)
    shown = layers.layers_passed.isin(np.linspace(0, DEPTH, 9)[1:].astype(int))
    return {
        "networks": mean_factors(df, KEYS, FIRST, LAST),
        "layers": layers.loc[shown, [*KEYS, *PASSED]],
        "gradient_norms": gradient_norms(df, 5),
    }


def networks(tables: dict[str, pd.DataFrame], activation: str, scale: float) -> pd.DataFrame:
    """The networks of random inputs at a multiple of the critical scale, by seed."""
    rows = tables["networks"].query(
        "inputs == 'random' and activation == @activation and scale == @scale"
    )
    return rows.set_index("seed").assign(
        growth=growth, paid_back=lambda at: -at.log10_weight / at.log10_derivative
    )


def growth(rows: pd.DataFrame) -> pd.Series:
    """Decades per layer, of both factors."""
    return rows.log10_derivative + rows.log10_weight


def mean_of(tables: dict[str, pd.DataFrame], activation: str, column: str) -> Estimate:
    """The mean of a column over networks at their critical scale."""
    return mean(networks(tables, activation, 1.0)[column])


def same_fate(tables: dict[str, pd.DataFrame], activation: str) -> Estimate:
    """1 where half and twice the critical scale let the gradient do the same."""
    half, twice = (networks(tables, activation, scale).growth for scale in (0.5, 2.0))
    return mean(np.sign(half * twice))  # 1 where both vanish or both explode


def sigmoid_takes_more(tables: dict[str, pd.DataFrame]) -> Estimate:
    """What larger weights add to sigmoid's factor."""
    half, twice = (networks(tables, "sigmoid", scale).log10_derivative for scale in (0.5, 2.0))
    return mean(twice - half)  # paired by seed


def explosion(tables: dict[str, pd.DataFrame], scale: float) -> pd.DataFrame:
    """Level of ‖dC/dW‖ and how it grows towards the input, of networks at a multiple, by seed."""
    norms = tables["gradient_norms"].query("inputs == 'random' and scale == @scale")
    wide = norms.pivot(index=["activation", "seed"], columns="layer", values="log10_grad_norm")
    _, upper, *_, lower, _ = wide.columns  # within the ends, where input and cost still show
    profile = (wide[upper] - wide[lower]) / (lower - upper)
    return pd.DataFrame({"level": wide.mean(axis=1), "profile": profile})


def relu_less_others(tables: dict[str, pd.DataFrame], column: str) -> Estimate:
    """What doubling the critical scale adds a layer, ReLU's less the larger of the others'."""
    added = explosion(tables, 2.0)[column] - explosion(tables, 1.0)[column]
    wide = added.unstack("activation")
    if column == "level":
        wide = wide / DEPTH  # decades a layer, as the profile's
    return mean(wide.relu - wide[["sigmoid", "tanh"]].max(axis=1))


def farthest(deviations: pd.DataFrame) -> Estimate:
    """The largest mean over seeds, in absolute value, of any kind of network."""
    return resampled(deviations, lambda rows: np.abs(rows.mean(axis=0)).max())


def beyond_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The largest distance of either factor from mean field's."""
    wide = tables["networks"].pivot(index="seed", columns=KEYS[:-1])
    derivative = [
        derivative_decades(name, sigma_w, sigma_b, DEPTH)[FIRST:LAST].mean()
        for _, name, _, sigma_w, sigma_b in wide.log10_derivative.columns
    ]
    weight = np.log10(wide.log10_weight.columns.get_level_values("sigma_w"))
    deviations = wide.log10_derivative - derivative, wide.log10_weight - weight
    return farthest(pd.concat(deviations, axis=1))


def images_beyond_random(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The largest difference that images make, by seed."""
    wide = growth(tables["networks"].pivot(index="seed", columns=KEYS[:-1]))
    return farthest(wide["digits"] - wide["random"])


EXPLOSION = {
    "level": "the level, the mean over layers of log10 ‖dC/dW‖, gains with depth",
    "profile": "log10 ‖dC/dW‖ gains towards the input",
}

CAPTIONS = {
    0.5: "half the critical scale",
    1.0: "critical scale",
    2.0: "twice the critical scale",
}


def figure(tables: dict[str, pd.DataFrame]):
    """What the derivative takes and the weights give back in a layer, at four weight scales.

    Decades of the gradient's norm a layer, mean over the layers in the middle: what the derivative
    did, what the weights did, and both. Marks: median over seeds with its 95 % interval, random
    inputs, Gaussian weights; biases for tanh alone. Strokes: mean-field theory, no free offset, 1/2
    log10 E phi'^2, log10 sigma_w and their sum. At sigma_w = 1, the same for all, the weights do
    nothing and sigmoid loses most; at its own critical scale each cancels.
    """
    networks = tables["networks"].query("inputs == 'random'")
    shown = networks.rename(
        columns={
            "log10_derivative": "log10_derivative_factor",
            "log10_weight": "log10_weight_factor",
        }
    )
    shown = shown.assign(scale=shown.scale.map(CAPTIONS).fillna(r"$\sigma_w$ = 1"), depth=DEPTH)
    shown = shown.sort_values("sigma_w", key=lambda column: column != 1, kind="stable")
    return study.plot.factors(shown, per="network", col="scale", theory=True, height=1.6).figure


experiment = Experiment(
    question="What did the derivative take from the gradient, and what did the weights give back?",
    grid={"quick": cells(2), "paper": cells(20)},
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="ReLU's derivative lets half of the square through",
            statement="ReLU at its critical scale: share of the gradient's square that passes a "
            "layer; within 0.49 to 0.51.",
            threshold=within(0.49, 0.51),
            judge=partial(mean_of, activation="relu", column="square_passed"),
            about="A3",
        ),
        Claim(
            name="ReLU's derivative counts active units",
            statement="ReLU at its critical scale: decades by which its factor differs from the "
            "square root of the share of active units; within 1 % of a factor.",
            threshold=within(-CLOSE, CLOSE),
            judge=partial(mean_of, activation="relu", column="log10_over_count"),
            about="A3",
        ),
        *(
            Claim(
                name=f"the weights pay back what {called}'s derivative takes",
                statement=f"{called} at its critical scale, sigma_w = {CRITICAL[name]:.6g}: "
                "decades that the weights give beside those that the derivative takes; within 5 % "
                "of 1.",
                threshold=within(0.95, 1.05),
                judge=partial(mean_of, activation=name, column="paid_back"),
                about="B1",
            )
            for name, called in CALLED.items()
        ),
        *(
            Claim(
                name=f"{called}'s derivative alone decides",
                statement=f"{called}: 1 where the gradient does the same, vanish or explode, at "
                "half and at twice the critical scale, -1 where not; above 0.",
                threshold=above(0),
                judge=partial(same_fate, activation=name),
            )
            for name, called in CALLED.items()
        ),
        Claim(
            name="larger weights make sigmoid's derivative take more",
            statement="Sigmoid: decades per layer of the derivative at twice the critical scale "
            "less those at half of it; below 0.",
            threshold=below(0),
            negligible=within(-ROUGHLY, ROUGHLY),
            judge=sigmoid_takes_more,
            about="A2",
        ),
        # The seeds are those that showed it; what is claimed is the answer's word, and the sign.
        *(
            Claim(
                name=f"at equal excess ReLU's gradients explode less, by their {column}",
                statement="Each from its critical scale to twice that: decades a layer that "
                f"{added}, ReLU's less the larger of sigmoid's and tanh's; below 0.",
                threshold=below(0),
                judge=partial(relu_less_others, column=column),
                about="C1",
            )
            for column, added in EXPLOSION.items()
        ),
        Claim(
            name="both factors are mean field's",
            statement="All activations, scales and inputs: decades per layer between the "
            "derivative's factor and 1/2 log10 E phi'^2, or the weights' and sigma_w, the largest; "
            "below 5 % of a factor.",
            threshold=below(ROUGHLY),
            judge=beyond_theory,
        ),
        Claim(
            name="images do not change the balance",
            statement="All activations and scales: decades per layer on MNIST digits less those on "
            "random inputs, paired by seed, the largest mean; below 5 % of a factor.",
            threshold=below(ROUGHLY),
            judge=images_beyond_random,
        ),
    ],
    columns={
        "inputs": "random: one standard normal input and a random unit cotangent at the output; "
        "digits: 4 MNIST images and the squared-error cost [-]",
        "scale": "sigma_w beside the activation's critical one [1]",
    }
    | FACTORS,
    version=2,
)
