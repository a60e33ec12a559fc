"""ReLU against sigmoid at equal weights: how their gradients run, and what each then learns.

Two things can go wrong in a deep network, and they are told apart here. The *level*: all layers'
gradients are too small or too large by one and the same factor. The *profile*: they differ from
layer to layer. One number, say on the output, changes the level of all layers; none changes the
profile.
"""

from functools import partial

import numpy as np
import pandas as pd

import study
from experiments.relu_against_sigmoid import trained
from study.engines.arms import Arm
from study.records.norms import COLUMNS as NORMS
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within
from study.statistics.summaries import PROFILE, profile_and_level

ACTIVATIONS = ["relu", "sigmoid", "tanh"]
CRITICAL = {name: round(study.theory.critical_sigma_w(name), 9) for name in ACTIVATIONS}
HE = CRITICAL["relu"]
ONE = r"$\sigma_w$ = 1"
EQUAL = {ONE: 1.0, r"$\sigma_w$ = √2": HE}
OWN = r"each at its critical $\sigma_w$"
RESCALED = r"$\sigma_w$ = 1, outputs rescaled"
WIDTH = 256
SHOWN = 100  # layers of the networks in the figure
RECORDED = 13  # layers of a network that are kept
FIRST_JUDGED = 400  # seeds below it choose the learning rates
# sigma_w of what is trained, and its output; tanh's critical scale is 1.
ARMS = {
    "relu": [(HE, "as drawn"), (1.0, "rescaled"), (1.0, "as drawn")],
    "sigmoid": [(CRITICAL["sigmoid"], "as drawn"), (1.0, "rescaled"), (1.0, "as drawn")],
    "tanh": [(1.0, "as drawn"), (1.0, "rescaled")],
}
DEEPEST = 40  # layers at which those arms are trained of which shallower networks learn
DEEP_ARMS = {"relu": ARMS["relu"][:2], "sigmoid": ARMS["sigmoid"][:1], "tanh": ARMS["tanh"][:1]}


def cells(
    seeds: int, depths: list[int], trained_depths: list[int], trained_seeds: int, steps: int
) -> list[dict]:
    """Before training, an activation a cell; trained, a network a cell with all its seeds."""
    before = [
        {"table": "levels", "activation": name, "seeds": [*range(seeds)], "depths": depths}
        for name in ACTIVATIONS
    ]
    task = {"steps": steps, "few": steps // 15, "many": steps // 4, "tuning_seeds": [0, 1]}
    task["seeds"] = [*range(FIRST_JUDGED, FIRST_JUDGED + trained_seeds)]
    arms = [
        {"table": "trained", "activation": name, "depth": depth, "sigma_w": sigma_w}
        | {"output": output}
        | task
        for depth in trained_depths[::-1]  # those that take longest first
        for name in ACTIVATIONS
        for sigma_w, output in (DEEP_ARMS if depth == DEEPEST else ARMS)[name]
    ]
    return before + arms


def measure(table: str, **cell) -> dict[str, pd.DataFrame]:
    """One of the two tables, for a cell; with the gradient norms of networks before training."""
    return {"levels": measure_levels, "trained": measure_trained}[table](**cell)


def measure_levels(activation: str, seeds: list[int], depths: list[int]) -> dict[str, pd.DataFrame]:
    """Profile and level of dC/dW, and the factors of dC/dr, at each scale and depth."""
    scales = sorted({*EQUAL.values(), CRITICAL[activation]})
    nets = [study.Network(activation, depth, WIDTH, scale) for scale in scales for depth in depths]
    df = study.profile(nets, seeds, engine="matrix_free")
    few = df[df.seed < 10]
    return {"levels": profile_and_level(df), "gradient_norms": gradient_norms(few, RECORDED)}


def measure_trained(
    activation: str, sigma_w: float, output: str, depth: int, **task
) -> dict[str, pd.DataFrame]:
    """One kind of network: its rate tuned, then its seeds trained."""
    remedy = {"as drawn": "none", "rescaled": "output rescaled"}[output]
    return {"trained": trained.outcomes(Arm(activation, sigma_w, depth, remedy), **task)}


def level(tables: dict, column: str, activation: str, depth: int = SHOWN) -> Estimate:
    """The median over seeds of a column of the levels at sigma_w = 1."""
    rows = tables["levels"]
    rows = rows[(rows.activation == activation) & (rows.sigma_w == 1) & (rows.depth == depth)]
    return median_interval(rows[column])


def relu_less_sigmoid(tables: dict) -> Estimate:
    """Decades a layer that the derivative takes, ReLU's less sigmoid's, by seed, at sigma_w = 1."""
    rows = tables["levels"]
    rows = rows[(rows.sigma_w == 1) & (rows.depth == SHOWN)]
    wide = rows.pivot(index="seed", columns="activation", values="log10_derivative")
    return median_interval(wide.relu - wide.sigmoid)


def accuracy(
    tables: dict, activation: str, depth: int, sigma_w: float = 1.0, output: str = "as drawn"
) -> pd.Series:
    """Of the networks of an arm after training, by seed."""
    rows = tables["trained"]
    rows = rows[(rows.activation == activation) & (rows.depth == depth) & (rows.output == output)]
    return rows[rows.sigma_w == sigma_w].set_index("seed").accuracy


def better(tables: dict, depth: int, ours: dict, theirs: dict) -> Estimate:
    """Accuracy of an arm less another's, by seed."""
    difference = accuracy(tables, depth=depth, **ours) - accuracy(tables, depth=depth, **theirs)
    return median_interval(difference.dropna())


def beside_their_own(df: pd.DataFrame) -> pd.DataFrame:
    """The networks at equal scales, and once more those at the critical scale of their own."""
    names = {sigma_w: name for name, sigma_w in EQUAL.items()}
    equal = df.assign(scale=df.sigma_w.map(names)).dropna(subset="scale")
    is_critical = np.isclose(df.sigma_w, df.activation.map(CRITICAL), rtol=1e-6)
    return pd.concat([equal, df[is_critical].assign(scale=OWN)], ignore_index=True)


def draw_profiles(norms: pd.DataFrame):
    """‖dC/dW‖ against layer, at equal scales and at critical ones."""
    shown = beside_their_own(norms[norms.depth == SHOWN])
    return study.plot.profile(
        shown, hue="activation", col="scale", theory=True, floats=False, height=2.3
    ).figure


def draw_trained(rows: pd.DataFrame):
    """Accuracy against depth, of outputs as drawn and rescaled, and at critical scales."""
    drawn = beside_their_own(rows[rows.output == "as drawn"])
    rescaled = rows[rows.output == "rescaled"].assign(scale=RESCALED)
    parts = [drawn[drawn.scale == ONE], rescaled, drawn[drawn.scale == OWN]]
    shown = pd.concat(parts, ignore_index=True)
    grid = study.plot.curves(
        shown, "depth", "accuracy", hue="activation", col="scale", log="x", ylim=(0, 1), height=2.3
    )
    depths = sorted(shown.depth.unique())
    grid.set(xticks=depths, xticklabels=depths)
    return grid.figure


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """A weight scale moves the level of ReLU's gradients, and tilts those of sigmoid and tanh.

    profile: ‖dC/dW‖ in the layers of networks of 100 layers, next to the input on the left. Marks:
    median over seeds with its 95 % interval; lines: theory, no free offset. ReLU's are flat at any
    scale, and one number on the output undoes their level. Sigmoid's fall layer by layer.

    trained: held-out accuracy on MNIST digits against depth, each kind of network at a learning
    rate of its own (width 64, momentum). Left: at equal weights. Middle: the same weights, the
    output times one number, so that it has unit size: ReLU learns, sigmoid does not. Right: at the
    critical scale of each. Marks: median over seeds with its 95 % interval; chance is 0.1.
    """
    return {
        "profile": draw_profiles(tables["gradient_norms"]),
        "trained": draw_trained(tables["trained"]),
    }


RATE = 0.5 * np.log10(study.theory.mean_field("sigmoid", 1.0).chi)
OWN_RELU = {"activation": "relu", "sigma_w": HE}
OWN_TANH = {"activation": "tanh", "sigma_w": CRITICAL["tanh"]}
OWN_SIGMOID = {"activation": "sigmoid", "sigma_w": CRITICAL["sigmoid"]}
RELU = {"activation": "relu"}
SIGMOID = {"activation": "sigmoid"}
UNIT = {"output": "rescaled"}
# Of the held-out digits, that one kind of network tells right more than another: one learns.
LEARNS = 0.3
SLIGHT = 0.05  # a difference that would not matter there
DIFFERENCE = "held-out accuracy after training, tuned each, difference by seed"
SPREAD = f"decades between the largest and the smallest ‖dC/dW‖ of {SHOWN} layers"

experiment = Experiment(
    question="At equal weights, what does a gradient lose in a ReLU and in a sigmoid layer, and "
    "what do such networks learn?",
    grid={
        "quick": cells(8, [2, 10, 100, 300], [10, 2], 2, 60),
        "paper": cells(40, [2, 5, 10, 30, 100, 300], [2, 5, 10, 20, DEEPEST], 10, 1500),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="ReLU's derivative takes less than sigmoid's",
            statement="sigma_w = 1: decades a layer that phi' takes from the gradient's norm, "
            "ReLU's less sigmoid's, by seed; more than a factor of two.",
            threshold=above(np.log10(2)),
            judge=relu_less_sigmoid,
            about="A3",
        ),
        Claim(
            name="ReLU's gradients are alike in all layers",
            statement="ReLU, sigma_w = 1: decades a layer by which ‖dC/dW‖ changes towards the "
            "input; a factor of ten in a thousand layers at the most.",
            threshold=within(-0.001, 0.001),
            judge=partial(level, column="log10_profile", activation="relu"),
            about="A3",
        ),
        Claim(
            name="sigmoid's gradients fall from layer to layer",
            statement="Sigmoid, sigma_w = 1: decades a layer by which ‖dC/dW‖ changes towards the "
            "input; within 2 % of mean field's.",
            threshold=within(1.02 * RATE, 0.98 * RATE),
            judge=partial(level, column="log10_profile", activation="sigmoid"),
            about="A1",
        ),
        Claim(
            name="one number undoes what weights did to ReLU",
            statement=f"ReLU, sigma_w = 1: {SPREAD}, which a factor of all layers leaves as it is.",
            threshold=below(2),
            judge=partial(level, column="log10_spread", activation="relu"),
            about="A3",
        ),
        Claim(
            name="no number undoes what sigmoid did",
            statement=f"Sigmoid, sigma_w = 1: {SPREAD}; more than float32 has.",
            threshold=above(38),
            judge=partial(level, column="log10_spread", activation="sigmoid"),
            about="A1",
        ),
        Claim(
            name="weights alone make ReLU's gradients vanish",
            statement="ReLU, sigma_w = 1, 300 layers: mean over layers of log10 ‖dC/dW‖; below "
            "float32's range.",
            threshold=below(-38),
            judge=partial(level, column="log10_level", activation="relu", depth=300),
            about="B2",
        ),
        Claim(
            name="at equal weights sigmoid fails to learn where ReLU learns",
            statement=f"sigma_w = 1, 10 layers, ReLU less sigmoid: {DIFFERENCE}; more than "
            f"{LEARNS:g}.",
            threshold=above(LEARNS),
            negligible=within(-SLIGHT, SLIGHT),
            judge=partial(better, depth=10, ours=RELU, theirs=SIGMOID),
            about="A3",
        ),
        Claim(
            name="one number lets a deep ReLU network learn",
            statement="ReLU, sigma_w = 1, 20 layers, outputs rescaled less as drawn: "
            f"{DIFFERENCE}; more than {LEARNS:g}.",
            threshold=above(LEARNS),
            negligible=within(-SLIGHT, SLIGHT),
            judge=partial(better, depth=20, ours=RELU | UNIT, theirs=RELU),
            about="A3",
        ),
        Claim(
            name="one number does not let a deep sigmoid network learn",
            statement="Sigmoid, sigma_w = 1, 10 layers, outputs rescaled less as drawn: "
            f"{DIFFERENCE}; within {SLIGHT:g}.",
            threshold=within(-SLIGHT, SLIGHT),
            judge=partial(better, depth=10, ours=SIGMOID | UNIT, theirs=SIGMOID),
            about="A1",
        ),
        Claim(
            name="at critical scales a deep ReLU network learns more than a sigmoid one",
            statement=f"20 layers, each at its critical scale, ReLU less sigmoid: {DIFFERENCE}; "
            f"more than {SLIGHT:g}.",
            threshold=above(SLIGHT),
            judge=partial(better, depth=20, ours=OWN_RELU, theirs=OWN_SIGMOID),
            about="A4",
        ),
        Claim(
            name="a deep ReLU network learns as well as a tanh one",
            statement=f"40 layers, each at its critical scale, ReLU less tanh: {DIFFERENCE}; "
            f"above -{SLIGHT:g}.",
            threshold=above(-SLIGHT),
            judge=partial(better, depth=40, ours=OWN_RELU, theirs=OWN_TANH),
            about="saying",
            source="Glorot, Bordes & Bengio 2011, abstract",
        ),
    ],
    columns=PROFILE | trained.COLUMNS | NORMS,
)
