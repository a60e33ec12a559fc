"""Whether a network whose Jacobian keeps all directions also learns in fewer steps.

Saxe et al. 2013 say so of deep linear networks with orthogonal weights, Pennington et al. 2017 of
tanh, and that ReLU does not gain. Only the square matrices between hidden layers differ: Gaussian
or orthogonal, at the activation's critical scale. Digits of 7 x 7 pixels, softmax and
cross-entropy, plain gradient descent in batches of 32, a learning rate tuned for each arm.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

import study
from study.core.backprop import forward
from study.core.blocks import Dense
from study.engines import arms
from study.engines.arms import WIDTH, Arm, Task
from study.engines.jacobian import Product
from study.engines.training import Course, steps_to_goal
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, median_interval, within
from study.tools import Array

TASK = Task("isometry and learning", stream=2, side=7)
SIGMA_W = {"linear": 1.0, "tanh": 1.0, "relu": 2**0.5}
LAWS = {"gaussian": "none", "orthogonal": "orthogonal"}
FIRST_JUDGED = 100  # seeds below it choose the learning rates
GOAL = 1.0  # nats
WINDOW = 20  # steps over which a batch's loss is averaged
DEEPEST = 40


def cells(depths: list[int], steps: int, seeds: int) -> list[dict]:
    """A kind of network a cell, all its seeds side by side."""
    task = {"steps": steps, "few": steps // 10, "many": steps // 3, "tuning_seeds": [0, 1]}
    task["seeds"] = [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]
    return [
        {"activation": name, "weights": law, "depth": depth} | task
        for depth in depths[::-1]  # those that take longest first
        for name in SIGMA_W
        for law in LAWS
    ]


def arm_of(activation: str, law: str, depth: int) -> Arm:
    """One kind of network; the first and the last matrix are Gaussian in both laws."""
    return Arm(activation, SIGMA_W[activation], depth, LAWS[law], "sgd", TASK)


def kept_directions(weights: Sequence[Array], activation: str, x: Array) -> float:
    """(sum s^2)^2 / sum s^4 of the hidden layers' Jacobian at one input, of singular values s."""
    layers = [Dense(W.astype(float), activation) for W in weights[:-1]]
    trace, _ = forward(layers, x)
    product = Product(WIDTH)
    for step in trace[1:]:
        product.multiply(step.layer.W, step.layer.slope(step.z)[0])
    logs = product.log_singular_values()
    squares = np.exp(2 * (logs - logs[0]))
    return float(squares.sum() ** 2 / (squares**2).sum())


def whole_loss(course: Course) -> Array:
    """The mean on the whole way."""
    return course.losses.mean(axis=0)


def measure(
    activation: str, weights: str, depth: int, steps: int, seeds: list[int], **tuning
) -> dict[str, pd.DataFrame]:
    """One kind of network: its rate tuned, then its seeds trained; a row a seed."""
    arm = arm_of(activation, weights, depth)
    course, rows = arm.judged(seeds, steps, loss=whole_loss, **tuning)
    begun, _ = arm.start(seeds)
    image = arm.images[:1].astype(float)
    kept = [kept_directions([W[i] for W in begun], activation, image) for i in range(len(seeds))]
    about = {"activation": activation, "weights": weights, "depth": depth}
    rows = rows[["seed", "rate", "enclosed", "status"]].assign(
        kept_directions=kept,
        steps_to_goal=steps_to_goal(course.losses, GOAL, WINDOW),
    )
    return {"learning": pd.DataFrame(about, rows.index).join(rows)}


def steps_of(tables: dict, activation: str, weights: str, depth: int) -> pd.Series:
    """log10 of the steps to the goal, by seed."""
    rows = tables["learning"].query(
        "activation == @activation and weights == @weights and depth == @depth"
    )
    return np.log10(rows.set_index("seed").steps_to_goal)


def apart(ours: pd.Series, theirs: pd.Series) -> Estimate:
    """The median over seeds of a ratio of steps, log10; 0 where neither came to the goal."""
    with np.errstate(invalid="ignore"):
        ratio = (ours - theirs).where(np.isfinite(ours) | np.isfinite(theirs), 0.0)
    return median_interval(ratio.dropna())


def gained(tables: dict[str, pd.DataFrame], activation: str) -> Estimate:
    """Steps with Gaussian weights over those with orthogonal ones, in deep networks."""
    depth = tables["learning"].depth.max()
    laws = (steps_of(tables, activation, law, depth) for law in LAWS)
    return apart(*laws)


def slowed(tables: dict[str, pd.DataFrame], weights: str) -> Estimate:
    """Steps of the deepest linear networks over those of the shallowest."""
    depths = tables["learning"].depth
    ends = (steps_of(tables, "linear", weights, d) for d in (depths.max(), depths.min()))
    return apart(*ends)


STEPS = {"yticks": [30, 100, 300, 1000], "ylabel": f"steps to {GOAL:g} nat"}


def figure(tables: dict[str, pd.DataFrame]) -> dict:
    """Networks that keep the Jacobian's directions learn sooner, and as fast at any depth.

    depth: steps until the loss of MNIST digits is 1 nat, against depth, each kind of network at a
    learning rate of its own; at the upper edge: never. Marks: median over seeds with its 95 %
    interval.

    kept: the same steps against the number of directions, of 64, that the hidden layers' Jacobian
    keeps before training. Marks: a kind of network each, median over seeds.
    """
    rows = tables["learning"].replace({"weights": {"gaussian": "Gaussian"}})
    grid = study.plot.curves(
        rows, "depth", "steps_to_goal", hue="weights", col="activation", log="xy"
    )
    depths = sorted(rows.depth.unique())
    grid.set(xticks=depths, xticklabels=depths, **STEPS)
    keys = ["activation", "weights", "depth"]
    kinds = rows.groupby(keys)[["kept_directions", "steps_to_goal"]].median()
    canvas, [[ax]] = study.plot.panels(1, 1, 2.2)
    kept = study.plot.curves(
        kinds.reset_index("activation"), "kept_directions", "steps_to_goal", hue="activation",
        log="xy", linestyle="", legend=True, ax=ax,
    )  # fmt: skip
    kept.set(xlabel="directions kept, of 64", xticks=[1, 2, 4, 8, 16, 32, 64], **STEPS)
    return {"depth": grid.figure, "kept": canvas}


DEEP = f"the deepest networks, {DEEPEST} layers of width {WIDTH}, each at a rate of its own"
TWICE = float(np.log10(2))

experiment = Experiment(
    question="Does a network whose Jacobian keeps all directions learn in fewer steps?",
    grid={"quick": cells([4, 10], 40, 2), "paper": cells([4, 12, DEEPEST], 1000, 10)},
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=f"{name} networks learn sooner from orthogonal weights",
                statement=f"{name}, {DEEP}: log10 of the steps to {GOAL:g} nat from Gaussian "
                "weights over those from orthogonal ones, by seed; more than a factor of two.",
                threshold=above(TWICE),
                judge=partial(gained, activation=name),
            )
            for name in ("linear", "tanh")
        ),
        Claim(
            name="ReLU networks gain nothing from orthogonal weights",
            statement=f"ReLU, {DEEP}: log10 of the steps to {GOAL:g} nat from Gaussian weights "
            "over those from orthogonal ones, by seed; within a factor of 1.25 (Pennington et al. "
            "2017 of infinite width, where ReLU never comes to isometry).",
            threshold=within(-float(np.log10(1.25)), float(np.log10(1.25))),
            judge=partial(gained, activation="relu"),
        ),
        *(
            Claim(
                name=f"linear networks with {law} weights learn as fast at any depth",
                statement=f"Linear, {law} weights: log10 of the steps to {GOAL:g} nat of the "
                "deepest networks over those of the shallowest, by seed; within a factor of two "
                "(Saxe et al. 2013, of orthogonal weights).",
                threshold=within(-TWICE, TWICE),
                judge=partial(slowed, weights=law),
            )
            for law in LAWS
        ),
    ],
    columns=arms.COLUMNS
    | {
        "kept_directions": "(sum s^2)^2 / sum s^4 of the singular values s of the hidden layers' "
        "Jacobian at one image, before training [directions]",
        "steps_to_goal": f"steps until the mean loss of {WINDOW} batches was {GOAL:g} nat or less; "
        "inf if never [steps]",
    },
)
