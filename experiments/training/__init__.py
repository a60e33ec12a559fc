"""Which networks gradient descent trains, on real digits, and where it takes their weights."""

import math
from functools import partial

import numpy as np
import pandas as pd

import study
from experiments.training import trainability
from experiments.training.trainability import CHANCE, CRITICAL, METHODS, NET, RATES
from study.runs.experiment import Experiment
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within

TRAINED = 0.55  # half way from chance to perfect
SHALLOW, DEEP = 10, 50  # layers
SHARES = {
    "relu": [0.5, 0.5**0.5, 1, 1.25, 2],
    "tanh": [0.5, 0.8, 1, 1.25, 2],
    "sigmoid": [1 / CRITICAL["sigmoid"], 0.5, 1, 1.25, 2],
}
"""Of the critical sigma_w."""


def cells(seeds: int, steps: int, depths: list[int], every: int) -> list[dict]:
    """A network and seed a cell, at every scale; other methods start from two of them."""
    rows = []
    for method in METHODS:
        for depth in depths if method == "momentum" else [SHALLOW]:
            for name in CRITICAL:
                shares = SHARES[name][::every] if method == "momentum" else [1, 2]
                scales = [round(share * CRITICAL[name], 9) for share in shares]
                cell = {"activation": name, "method": method, "depth": depth}
                rows += [
                    cell | {"seed": seed, "steps": steps, "scales": scales} for seed in range(seeds)
                ]
    return rows


def measure(
    activation: str, method: str, depth: int, seed: int, steps: int, scales: list[float]
) -> dict[str, pd.DataFrame]:
    """Train a network a scale and rate, all from the same unit weights and on the same batches."""
    rows = [
        (activation, method, depth, sigma_w, seed, rate)
        for sigma_w in scales
        for rate in RATES[method][activation]
    ]
    nets = pd.DataFrame(rows, columns=NET)
    layered = [0, steps // 2, steps] if depth <= DEEP else [0, steps]
    course = trainability.train_on_digits(nets, steps, layered)
    return trainability.outcomes(nets, course)


def median_of(
    tables: dict,
    column: str,
    activation: str,
    depth: float,
    share: float = 1,
    method: str = "momentum",
) -> Estimate:
    """The median over seeds; what a diverged run does not have is beyond all bounds."""
    rows = trainability.chosen(tables["networks"], activation, depth, share, method)
    return median_interval(rows[column].fillna(np.inf))


def large_less_critical(tables: dict[str, pd.DataFrame]) -> Estimate:
    """ReLU's accuracy from large weights less that from critical ones, by seed."""
    networks = tables["networks"]
    large = trainability.chosen(networks, "relu", SHALLOW, 2, "momentum")
    critical = trainability.chosen(networks, "relu", SHALLOW, 1, "momentum")
    return median_interval(large.accuracy - critical.accuracy)


def relu_less_others(tables: dict[str, pd.DataFrame], method: str) -> Estimate:
    """Growth of a large weight norm, ReLU's less the lower of tanh's and sigmoid's."""
    relu, tanh, sigmoid = (
        trainability.chosen(tables["networks"], name, SHALLOW, 2, method).log10_weight_growth
        for name in CRITICAL
    )
    return median_interval(relu - np.minimum(tanh, sigmoid))


def share_trained(tables: dict[str, pd.DataFrame], low: float, high: float) -> Estimate:
    """The share that trains among networks with depth / reach in these bounds."""
    rows = tables["networks"]
    rows = rows[rows.chosen & (rows.method == "momentum") & (rows.activation != "relu")]
    return trainability.share_trained(rows, low, high, TRAINED)


BEST = f"held-out accuracy at the rate with the lowest training loss (chance {CHANCE})"
LARGE = f"started at twice the critical sigma_w, {SHALLOW} layers"
SHARE = f"share with held-out accuracy above {TRAINED}"
PER_LAYER = 10 ** (6 / DEEP)  # the factor of the squared gradient that makes 3 decades of its norm


def figure(tables: dict[str, pd.DataFrame]):
    """What descent makes of networks at the critical scale, and of weights that start too large.

    Loss against step at two depths and held-out accuracy against depth, momentum, at the rate with
    the lowest training loss. Right: decades that the norm of all weights grows from twice the
    critical scale, gradients clipped. Marks: median over seeds with its 95 % interval, or their
    range below six seeds; MNIST digits. A run that diverged has no loss.
    """
    course = tables["course"].drop(columns="rate")  # chosen for each seed
    networks = tables["networks"].drop(columns="rate")
    figure, [axes] = study.plot.panels(1, 4, 2.2)
    critical = np.isclose(course.sigma_w, course.activation.map(CRITICAL))
    slow = course[critical & (course.method == "momentum")]
    for ax, depth in zip(axes, (SHALLOW, DEEP), strict=False):
        study.plot.training(slow[slow.depth == depth], hue="activation", ylim=(0, 3), ax=ax)
        ax.set_title(f"{depth} layers")
    best = networks[networks.chosen & (networks.method == "momentum")]
    best = best[np.isclose(best.sigma_w, best.activation.map(CRITICAL))]
    study.plot.curves(best, "depth", "accuracy", hue="activation", log="x", ylim=(0, 1), ax=axes[2])
    axes[2].set_title("critical scale")
    growth = trainability.weight_growth(course[course.depth == SHALLOW])
    large = growth[(growth.start == "twice critical") & (growth.method == "clipped")]
    study.plot.curves(
        large, "step", "value", hue="activation", interval=("low", "high"), ax=axes[3]
    )
    axes[3].set(title=f"twice critical, {SHALLOW} layers", ylabel="decades the weights grow")
    return figure


experiment = Experiment(
    question="How deep a network can be trained, from which weight scale, and where do weights go?",
    grid={
        "quick": cells(2, 100, [SHALLOW, DEEP], 2),
        "paper": cells(5, 150, [5, SHALLOW, 20, DEEP, 100, 300], 1),
    },
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=f"deep sigmoid networks cannot be trained, {depth} layers",
                statement=f"Sigmoid at its critical sigma_w, {depth} layers: {BEST}.",
                threshold=below(2 * CHANCE),
                judge=partial(median_of, column="accuracy", activation="sigmoid", depth=depth),
                about="saying",
            )
            for depth in (SHALLOW, DEEP)
        ),
        *(
            Claim(
                name=f"He initialisation makes deep ReLU trainable, {called}",
                statement=f"ReLU at sigma_w = sqrt 2, {called}: {BEST}.",
                threshold=above(TRAINED),
                judge=partial(median_of, column="accuracy", activation="relu", depth=depth),
                about="saying",
            )
            for depth, called in ((DEEP, f"{DEEP} layers"), (np.inf, "the deepest networks"))
        ),
        Claim(
            name="beyond 6 xi_c nothing trains",
            statement=f"Tanh and sigmoid networks over twice as deep as 6 xi_c: {SHARE}.",
            threshold=below(0.1),
            judge=partial(share_trained, low=2, high=np.inf),
        ),
        Claim(
            name="within 6 xi_c all train",
            statement=f"Tanh and sigmoid networks under half as deep as 6 xi_c: {SHARE}.",
            threshold=above(0.9),
            judge=partial(share_trained, low=0, high=0.5),
        ),
        Claim(
            name="large weights are poor solutions for ReLU",
            statement=f"ReLU {LARGE}: held-out accuracy less that at the critical one, by seed.",
            threshold=below(0),
            judge=large_less_critical,
            about="C",
        ),
        *(
            Claim(
                name=f"ReLU leaves large weights more than tanh and sigmoid do, {method}",
                statement=f"Networks {LARGE}, {method}: decades that the weight norm grows in "
                "training under ReLU, less the lower of those under tanh and sigmoid, by seed.",
                threshold=below(0),
                judge=partial(relu_less_others, method=method),
                about="C",
            )
            for method in METHODS
        ),
        Claim(
            name="descent takes ReLU back from large weights",
            statement=f"ReLU {LARGE}, clipped: decades that the weight norm grows; half way back "
            "or more.",
            threshold=below(-0.5 * math.log10(2)),
            judge=partial(
                median_of,
                column="log10_weight_growth",
                activation="relu",
                depth=SHALLOW,
                share=2,
                method="clipped",
            ),
            about="C",
        ),
        Claim(
            name="descent does not take ReLU to large weights",
            statement=f"ReLU started at sigma_w = sqrt 2, {SHALLOW} layers: decades that the "
            "weight norm grows; less than what, in each layer, would raise a gradient by three "
            "decades.",
            threshold=below(3 / SHALLOW),
            judge=partial(
                median_of, column="log10_weight_growth", activation="relu", depth=SHALLOW
            ),
            about="C",
        ),
        *(
            Claim(
                name=f"a healthy {name} network stays healthy",
                statement=f"Networks of {name}, critical sigma_w, {DEEP} layers, after training: "
                "decades between the largest and the smallest gradient norm of the layers.",
                threshold=below(3),
                judge=partial(median_of, column="spread_after", activation=name, depth=DEEP),
            )
            for name in CRITICAL
        ),
        Claim(
            name="ReLU's derivative is 1 often enough in training",
            statement=f"ReLU at sigma_w = sqrt 2, {DEEP} layers, after training: share of active "
            "units; within what keeps the gradient within three decades.",
            threshold=within(0.5 / PER_LAYER, 0.5 * PER_LAYER),
            judge=partial(median_of, column="active_after", activation="relu", depth=DEEP),
            about="A",
        ),
    ],
    columns=trainability.OUTCOMES,
)
