"""Whether full-batch descent comes to where its rate just fits the curvature (Cohen et al. 2021).

On a parabola of curvature a, descent at the rate eta diverges where a > 2 / eta. The sharpness of a
network, the largest eigenvalue of its cost's Hessian, rises in training until it is there, and then
stays. Full batches of few digits, the derivation's squared error, three layers, float64.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse.linalg import LinearOperator, eigsh

import study
from study.core.activations import TABLE
from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import Dense
from study.engines.optimisers import squared_error
from study.engines.training import gaussian_weights, train
from study.runs.experiment import Experiment
from study.sampling import digits, gaussian
from study.statistics.claims import Claim, Estimate, above, median_interval, within
from study.tools import Array

IMAGES = 200
WIDTHS = [49, 32, 32, 10]
RATES = {"relu": [0.05, 0.1, 0.2], "tanh": [0.05, 0.1, 0.14], "sigmoid": [0.1, 0.2, 0.3]}
CALLED = {name: TABLE[name].label for name in RATES}
FIRST_JUDGED = 100  # seeds below it chose rates and steps
STEP = 1e-10  # of the weights' norm: so short that no unit crosses its kink
LAST = 3  # looks that are judged


def cells(seeds: int, steps: int, looks: int, rates: slice) -> list[dict]:
    """An activation and a rate a cell, all seeds side by side."""
    return [
        {"activation": name, "rate": rate, "steps": steps, "looks": looks}
        | {"seeds": [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]}
        for name, some in RATES.items()
        for rate in some[rates]
    ]


def gradient(weights: Sequence[Array], kinds: Sequence[str], x: Array, y: Array) -> list[Array]:
    """dC/dW of every layer, of all data."""
    layers = [Dense(W, kind) for W, kind in zip(weights, kinds, strict=True)]
    trace, r = forward(layers, x)
    _, dr = squared_error(r, y)
    return [weight_gradient(step.r, step.delta) for step in backward(trace, dr)][::-1]


@np.errstate(under="ignore")
def sharpness(weights: Sequence[Array], kinds: Sequence[str], x: Array, y: Array) -> float:
    """The largest eigenvalue of the cost's Hessian, by Lanczos on differences of the gradient."""
    shapes = [W.shape for W in weights]
    ends = np.cumsum([W.size for W in weights])
    at = np.concatenate([W.ravel() for W in weights])

    def gradient_at(flat: Array) -> Array:
        parts = [part.reshape(s) for part, s in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
        return np.concatenate([g.ravel() for g in gradient(parts, kinds, x, y)])

    def product(v: Array) -> Array:
        h = STEP * np.linalg.norm(at) / np.linalg.norm(v)
        v = v.ravel()
        return (gradient_at(at + h * v) - gradient_at(at - h * v)) / (2 * h)

    hessian = LinearOperator((len(at), len(at)), matvec=product, dtype=np.float64)
    first = gaussian.normal(gaussian.key(0, "sharpness"), 0, (len(at),))
    found = eigsh(hessian, k=1, which="LA", tol=1e-3, v0=first, return_eigenvectors=False)
    return float(found[0])


def measure(
    activation: str, rate: float, steps: int, looks: int, seeds: list[int]
) -> dict[str, pd.DataFrame]:
    """Loss and sharpness of every seed, before training and ``looks`` times on its way."""
    kinds = [activation] * (len(WIDTHS) - 2) + ["linear"]
    images, classes = digits.coarse(IMAGES)
    targets = np.eye(10)[classes]
    keys = [gaussian.key(seed, "edge of stability") for seed in seeds]
    weights = gaussian_weights(keys, WIDTHS, [1.0] * len(seeds))
    stretch = steps // looks
    is_ok = np.full(len(seeds), True)
    rows = []
    for look in range(looks + 1):
        # Plain descent remembers nothing, so that it may be taken a stretch at a time.
        course = train(
            weights,
            [rate] * len(seeds),
            lambda _: (images, targets),
            stretch,
            kinds,
            cost="squared_error",
        )
        for i, seed in enumerate(seeds):
            found = np.nan, np.nan
            if is_ok[i]:
                curvature = sharpness([W[i] for W in weights], kinds, images, targets)
                found = course.losses[0, i], curvature
            rows.append((activation, rate, seed, look * stretch, *found))
        is_ok &= course.networks.status == "ok"
        weights = course.weights
    df = pd.DataFrame(rows, columns=["activation", "rate", "seed", "step", "loss", "sharpness"])
    return {"sharpness": df.assign(of_edge=0.5 * rate * df.sharpness)}


def last_of_edge(tables: dict[str, pd.DataFrame], activation: str) -> Estimate:
    """Sharpness over 2 / rate, mean over two rates of the last looks' median, by seed."""
    rows = tables["sharpness"]
    rows = rows[rows.activation == activation]
    late = rows[rows.step.isin(np.sort(rows.step.unique())[-LAST:])]
    late = late[late.rate.isin(np.sort(rows.rate.unique())[-2:])]
    of_runs = late.groupby(["seed", "rate"]).of_edge.median().dropna()
    return median_interval(of_runs.groupby("seed").mean())


def sharpening(tables: dict[str, pd.DataFrame]) -> Estimate:
    """tanh at its smallest rate: the last sharpness over that at the first look."""
    rows = tables["sharpness"].query("activation == 'tanh'")
    wide = rows[rows.rate == rows.rate.min()].pivot(index="seed", columns="step", values="of_edge")
    return median_interval(wide.iloc[:, -1] / wide.iloc[:, 1])


def figure(tables: dict[str, pd.DataFrame]):
    """The curvature of the cost rises until the learning rate is as large as it bears, and stays.

    Largest eigenvalue of the cost's Hessian over 2 / rate in full-batch gradient descent, for three
    learning rates an activation, all from sigma_w = 1; 1 is where descent on a parabola would begin
    to diverge. Marks: median over seeds with its 95 % interval; 200 digits, three layers of width
    32.
    """
    grid = study.plot.curves(
        tables["sharpness"], "step", "of_edge", hue="rate", col="activation", ylim=(0, 2)
    )
    for ax in grid.axes.flat:
        ax.axhline(1, color="#888888", lw=0.6, zorder=0)
    grid.set_ylabels("sharpness over 2 / rate")
    return grid.figure


experiment = Experiment(
    question="Does gradient descent seek curvature until its learning rate only just fits?",
    grid={"quick": cells(2, 200, 4, slice(-1, None)), "paper": cells(10, 2400, 8, slice(None))},
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=f"{called} is trained at the edge of stability",
                statement=f"{called}, full-batch descent at two rates: largest Hessian eigenvalue "
                f"over 2 / rate, median of the last {LAST} looks, mean of both, by seed; within "
                "0.9 to 1.2.",
                threshold=within(0.9, 1.2),
                judge=partial(last_of_edge, activation=name),
            )
            for name, called in CALLED.items()
        ),
        Claim(
            name="curvature rises before the edge",
            statement="tanh, the smallest rate: largest Hessian eigenvalue at the last step over "
            "that at the first look; at least a fifth more.",
            threshold=above(1.2),
            judge=sharpening,
        ),
    ],
    columns={
        "rate": "learning rate [1]",
        "step": "steps taken so far [steps]",
        "loss": "squared error 1/2 |r - y|^2, mean over all data; nan where the run diverged [1]",
        "sharpness": "largest eigenvalue of the cost's Hessian; nan where the run diverged [1]",
        "of_edge": "sharpness over 2 / rate [1]",
    },
)
