"""Which networks gradient descent trains, on real digits, and where it takes their weights.

No claim rests on it: 150 steps at three rates do not show what longer training would.
``gradient_norms`` holds the norms of the first seed at the rates that were chosen: five layers,
before training, half way (up to 50 layers) and after.
"""

import numpy as np
import pandas as pd

import study
from experiments.training import trainability
from experiments.training.trainability import CRITICAL, METHODS, NET, RATES
from study.records.norms import COLUMNS as NORMS
from study.runs.experiment import Experiment

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
    columns=trainability.OUTCOMES | NORMS,
    version=1,
)
