"""Whether the choice of ReLU'(0) matters: at initialisation, where z is 0 by structure, trained."""

from itertools import pairwise, product

import numpy as np
import pandas as pd

import study
from experiments.kink.choices import descend, differences, zeros
from study.arithmetic.formats import FORMATS
from study.arithmetic.plain import PlainRun
from study.engines.explicit import unit_cotangent
from study.runs.experiment import Experiment
from study.sampling import digits, gaussian
from study.statistics.claims import Claim, Estimate, below, median_interval, within
from study.statistics.estimators import mean

KINKS = [0.0, 0.5, 1.0]
WIDTH, DEPTH, SPECIAL = 64, 10, 3  # at initialisation; k of the special layer
EXAMPLES = 8  # where zeros are there by structure
GENERIC = ["random inputs", "MNIST digits"]
SITUATIONS = [*GENERIC, "blank image", "dead layer", "zero-initialised layer"]
TRAINED, RATE, TRAINING_BATCH, TRAINING_IMAGES = [784, 32, 32, 10], 0.25, 16, 4000
CONTRAST = 0.125  # of the training images; a power of two is exact in every format
WEIGHTS, DELTA = "gradient_difference", "delta_difference"


def measure(part: str, seed: int, **size) -> dict[str, pd.DataFrame]:
    """One of the two parts, for one seed."""
    return {part: {"initialisation": _initialisation, "training": _training}[part](seed, **size)}


def he(seed: int, purpose: str, widths: list[int]) -> list[np.ndarray]:
    """He-initialised matrices."""
    key, shapes = gaussian.key(seed, "precision", purpose), pairwise(widths)
    return [gaussian.normal(key, k, n) * (2 / n[0]) ** 0.5 for k, n in enumerate(shapes)]


def _initialisation(seed: int, batch: int) -> pd.DataFrame:
    """What ReLU'(0) = 0 and 1/2 change against 1."""
    lines = []
    for situation, name in product(SITUATIONS, FORMATS):
        count = batch if situation in GENERIC else EXAMPLES
        x = gaussian.normal(gaussian.key(seed, "precision", "inputs"), 0, (count, WIDTH))
        x = digits.sample(seed, count)[0] if situation == "MNIST digits" else x
        x = 0 * x if situation == "blank image" else x
        weights = he(seed, situation, [x.shape[1]] + DEPTH * [WIDTH])
        if situation == "dead layer":
            weights[SPECIAL] = -np.abs(weights[SPECIAL])  # as r >= 0, every z < 0
        if situation == "zero-initialised layer":
            weights[SPECIAL] = 0 * weights[SPECIAL]
        run = PlainRun(weights, x, "relu", FORMATS[name])
        dr = unit_cotangent(gaussian.key(seed, "precision"), run.z[-1].shape, np.float64)
        differ = differences(run, dr, KINKS)
        lines.append((situation, name, seed, sum(z.size for z in run.z), zeros(run.z), *differ))
    columns = ["situation", "format", "seed", "preactivations", "zeros", WEIGHTS, DELTA]
    return pd.DataFrame(lines, columns=columns)


def _training(seed: int, steps: int) -> pd.DataFrame:
    """Gradient descent from the same weights on the same digits, for each ReLU'(0)."""
    sampled, start = digits.digits(), he(seed, "training", TRAINED)
    x, y, layers = (
        CONTRAST * sampled.images,
        np.eye(10)[sampled.classes],
        ["relu", "relu", "linear"],
    )
    rng = np.random.default_rng(gaussian.key(seed, "precision", "batches"))
    chosen = rng.integers(TRAINING_IMAGES, size=(steps, TRAINING_BATCH))
    batches, lines = [(x[rows], y[rows]) for rows in chosen], []
    for name, number in FORMATS.items():
        for kink, own in descend(start, batches, layers, number, KINKS, RATE).items():
            shown = PlainRun(own.weights, x[TRAINING_IMAGES:], layers, number).r[-1]
            right = shown.argmax(axis=1) == digits.classes[TRAINING_IMAGES:]
            lines.append((name, kink, seed, steps, own.zeros, own.parted, 100 * right.mean()))
    columns = ["format", "kink", "seed", "steps", "zeros", "step_parted", "accuracy"]
    return pd.DataFrame(lines, columns=columns)


def accuracy_difference(training: pd.DataFrame, name: str) -> Estimate:
    """Mean accuracy with ReLU'(0) = 0 less that with 1, paired by seed."""
    own = training[training.format == name].pivot(index="seed", columns="kink", values="accuracy")
    return mean(own[0.0] - own[1.0])


def _difference(name: str, situations: list[str], number: str, column: str = WEIGHTS) -> Claim:
    def largest(tables: dict[str, pd.DataFrame]) -> Estimate:
        own = tables["initialisation"].groupby("format").get_group(number)
        return median_interval(own[own.situation.isin(situations)].groupby("seed")[column].max())

    return Claim(
        name=f"ReLU'(0) makes no difference {name}",
        statement=f"{'dC/dW' if column == WEIGHTS else 'dC/dz'}, {number}: the largest difference "
        "that ReLU'(0) = 0 or 1/2 makes from 1, relative to the layer's largest entry, median over "
        "seeds; below the format's unit roundoff.",
        threshold=below(float(np.finfo(number.removesuffix("_narrow")).epsneg)),
        judge=largest,
        about="C",
    )


CALLED = {n: n for n in ("float64", "float32", "float16")} | {"float16_narrow": "float16 sums"}


def figure(tables: dict[str, pd.DataFrame]):
    """ReLU'(0) matters where pre-activations are zero by structure or by coarse rounding.

    Left: largest change of the gradient of the weights when ReLU'(0) is 0 or 1/2 in place of 1,
    in per cent of the layer's largest entry, at initialisation; median over seeds. Right: accuracy
    after training with ReLU'(0) = 0 less that with 1, points, mean over seeds with its 95 %
    interval. float16 sums: every partial sum is rounded, too.
    """
    names = dict(zip(FORMATS, FORMATS, strict=True)) | {"float16_narrow": "float16 sums"}
    figure, [[left, right]] = study.plot.panels(1, 2, 1.9, width_ratios=[1.5, 1])
    initial = tables["initialisation"].assign(format=lambda t: t.format.map(names))
    order = [names[name] for name in FORMATS]
    changes = 100 * initial.pivot_table(WEIGHTS, "situation", "format", "median", sort=False)
    study.plot.table(changes[order], "{:.3g} %", left)
    found = {name: vars(accuracy_difference(tables["training"], name)) for name in FORMATS}
    trained = pd.DataFrame(found).T.rename(index=names).rename_axis("format").reset_index()
    trained = trained.astype({"value": float, "low": float, "high": float})
    study.plot.dots(trained, "value", "format", interval=("low", "high"), ax=right)
    right.set_xlabel("change of accuracy (points)")
    return figure


experiment = Experiment(
    question="Does the choice of ReLU'(0) make a difference?",
    grid={
        preset: [{"part": "initialisation", "seed": i, "batch": batch} for i in range(seeds)]
        + [{"part": "training", "seed": i, "steps": steps} for i in range(trained)]
        for preset, seeds, batch, trained, steps in (
            ("quick", 3, 8, 2, 10),
            ("paper", 10, 256, 8, 100),
        )
    },
    measure=measure,
    figure=figure,
    claims=[
        *(_difference(f"at initialisation, {CALLED[name]}", GENERIC, name) for name in CALLED),
        _difference("to weights around a dead layer", ["dead layer"], "float64"),
        _difference("to biases above a dead layer", ["dead layer"], "float64", DELTA),
        _difference("to a zero-initialised layer", ["zero-initialised layer"], "float64"),
        *(
            Claim(
                name=f"ReLU'(0) makes no difference in training, {CALLED[name]}",
                statement="Held-out accuracy on MNIST digits with ReLU'(0) = 0 less that with 1, "
                "paired by seed, mean; less than one point.",
                threshold=within(-1, 1),
                judge=lambda t, name=name: accuracy_difference(t["training"], name),
                about="C",
            )
            for name in ("float32", "float16_narrow")
        ),
    ],
    columns={
        "format": "number format of the plain run; float16_narrow rounds its sums term by term [-]",
        "situation": "which ReLU network and inputs [-]",
        "preactivations": "number of entries of all z [-]",
        "zeros": "how many of them were exactly 0 [-]",
        WEIGHTS: "largest difference of dC/dW at ReLU'(0) = 0 or 1/2 from that at 1, in "
        "units of the layer's largest entry; the largest of all layers [1]",
        DELTA: "the same of dC/dz, for every example; its sum is a bias's gradient [1]",
        "steps": "steps of gradient descent [steps]",
        "accuracy": "share of 1,000 held-out images classified rightly [%]",
        "step_parted": "first step after which a weight is not what it is with ReLU'(0) = 1; inf: "
        "none [steps]",
    },
)
