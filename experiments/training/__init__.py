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
SHARES = {"relu": [0.5, 0.5**0.5, 1, 1.25, 2], "tanh": [0.5, 0.8, 1, 1.25, 2]}
SHARES["sigmoid"] = [1 / CRITICAL["sigmoid"], 0.5, 1, 1.25, 2]


def measure(
    activation: str, method: str, depth: int, seed: int, steps: int, scales: list[float]
) -> dict[str, pd.DataFrame]:
    """Train a network a scale and rate, all from the same unit weights and on the same batches."""
    rates = RATES[method][activation]
    rows = [(activation, method, depth, sigma, seed, r) for sigma in scales for r in rates]
    nets = pd.DataFrame(rows, columns=NET)
    layered = [0, steps // 2, steps] if depth <= DEEP else [0, steps]
    course = trainability.train_on_digits(nets, steps, layered)
    return trainability.outcomes(nets, course)


def _of(tables: dict, activation: str, depth: float, share=1.0, method="momentum"):
    return trainability.chosen(tables["networks"], activation, depth, share, method)


def _median(column: str, *which):
    """Judge: the median over seeds; what a diverged run does not have is beyond all bounds."""
    return lambda tables: median_interval(_of(tables, *which)[column].fillna(np.inf))


def _large_less_critical(tables: dict[str, pd.DataFrame]) -> Estimate:
    large, critical = (_of(tables, "relu", SHALLOW, share) for share in (2, 1))
    return median_interval(large.accuracy - critical.accuracy)


def _relu_less_others(method: str, tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: growth of a large weight norm, ReLU's less the lower of tanh's and sigmoid's."""
    found = [_of(tables, name, SHALLOW, 2, method) for name in CRITICAL]
    relu, tanh, sigmoid = (own.log10_weight_growth for own in found)
    return median_interval(relu - np.minimum(tanh, sigmoid))


def _share_trained(low: float, high: float, tables: dict[str, pd.DataFrame]) -> Estimate:
    """Judge: the share that trains among networks with depth / reach in these bounds."""
    found = tables["networks"]
    found = found[found.chosen & (found.method == "momentum") & (found.activation != "relu")]
    return trainability.share_trained(found, low, high, TRAINED)


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
        preset: [
            {
                "activation": name,
                "method": method,
                "depth": depth,
                "seed": seed,
                "steps": steps,
                "scales": [round(share * CRITICAL[name], 9) for share in shares],
            }
            for method in METHODS
            for depth in (depths if method == "momentum" else [SHALLOW])
            for name in CRITICAL
            for shares in [SHARES[name][::every] if method == "momentum" else [1, 2]]
            for seed in range(seeds)
        ]
        for preset, seeds, steps, depths, every in (
            ("quick", 2, 100, [SHALLOW, DEEP], 2),
            ("paper", 5, 150, [5, SHALLOW, 20, DEEP, 100, 300], 1),
        )
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(name=name, statement=statement, threshold=threshold, judge=judge, about=about)
        for name, about, threshold, judge, statement in (
            *(
                (
                    f"deep sigmoid networks cannot be trained, {depth} layers",
                    "saying",
                    below(2 * CHANCE),
                    _median("accuracy", "sigmoid", depth),
                    f"Sigmoid at its critical sigma_w, {depth} layers: {BEST}.",
                )
                for depth in (SHALLOW, DEEP)
            ),
            *(
                (
                    f"He initialisation makes deep ReLU trainable, {called}",
                    "saying",
                    above(TRAINED),
                    _median("accuracy", "relu", depth),
                    f"ReLU at sigma_w = sqrt 2, {called}: {BEST}.",
                )
                for depth, called in ((DEEP, f"{DEEP} layers"), (np.inf, "the deepest networks"))
            ),
            (
                "beyond 6 xi_c nothing trains",
                "",
                below(0.1),
                partial(_share_trained, 2, np.inf),
                f"Tanh and sigmoid networks over twice as deep as 6 xi_c: {SHARE}.",
            ),
            (
                "within 6 xi_c all train",
                "",
                above(0.9),
                partial(_share_trained, 0, 0.5),
                f"Tanh and sigmoid networks under half as deep as 6 xi_c: {SHARE}.",
            ),
            (
                "large weights are poor solutions for ReLU",
                "C",
                below(0),
                _large_less_critical,
                f"ReLU {LARGE}: held-out accuracy less that at the critical one, by seed.",
            ),
            *(
                (
                    f"ReLU leaves large weights more than tanh and sigmoid do, {method}",
                    "C",
                    below(0),
                    partial(_relu_less_others, method),
                    f"Networks {LARGE}, {method}: decades that the weight norm grows in training "
                    "under ReLU, less the lower of those under tanh and sigmoid, by seed.",
                )
                for method in METHODS
            ),
            (
                "descent takes ReLU back from large weights",
                "C",
                below(-0.5 * math.log10(2)),
                _median("log10_weight_growth", "relu", SHALLOW, 2, "clipped"),
                f"ReLU {LARGE}, clipped: decades that the weight norm grows; half way back or "
                "more.",
            ),
            (
                "descent does not take ReLU to large weights",
                "C",
                below(3 / SHALLOW),
                _median("log10_weight_growth", "relu", SHALLOW),
                f"ReLU started at sigma_w = sqrt 2, {SHALLOW} layers: decades that the weight norm "
                "grows; less than what, in each layer, would raise a gradient by three decades.",
            ),
            *(
                (
                    f"a healthy {name} network stays healthy",
                    "",
                    below(3),
                    _median("spread_after", name, DEEP),
                    f"Networks of {name}, critical sigma_w, {DEEP} layers, after training: decades "
                    "between the largest and the smallest gradient norm of the layers.",
                )
                for name in CRITICAL
            ),
            (
                "ReLU's derivative is 1 often enough in training",
                "A",
                within(0.5 / PER_LAYER, 0.5 * PER_LAYER),
                _median("active_after", "relu", DEEP),
                f"ReLU at sigma_w = sqrt 2, {DEEP} layers, after training: share of active units; "
                "within what keeps the gradient within three decades.",
            ),
        )
    ],
    columns=trainability.OUTCOMES,
)
