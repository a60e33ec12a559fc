"""Whether the choice of ReLU'(0) matters: at initialisation, where z is 0 by structure, trained.

In float32 a z that is 0 by chance is so rare that no training of this size meets one: that is
counted. So the choice is also made for a band of z around 0, which many meet.
"""

from functools import partial
from itertools import pairwise, product

import numpy as np
import pandas as pd

import study
from experiments.kink import chance
from experiments.kink.choices import descend, differences, zeros
from study.arithmetic.formats import quietly
from study.arithmetic.rounded import FORMATS, Rounded, rounded_layers
from study.core.backprop import forward
from study.engines.explicit import unit_cotangent
from study.runs.experiment import Experiment
from study.sampling import digits, gaussian
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within
from study.statistics.estimators import mean

KINKS = [0.0, 0.5, 1.0]
WIDTH, DEPTH, SPECIAL = 64, 10, 3  # at initialisation; k of the special layer
EXAMPLES = 8  # where zeros are there by structure
GENERIC = ["random inputs", "MNIST digits"]
SITUATIONS = [*GENERIC, "blank image", "dead layer", "zero-initialised layer"]
TRAINED, RATE, TRAINING_BATCH, TRAINING_IMAGES = [784, 32, 32, 10], 0.25, 16, 4000
ACTIVATIONS = ["relu", "relu", "linear"]
FIRST_JUDGED = 100  # of the bands; seeds below it chose the learning rates
CONTRAST = 0.125  # of the training images; a power of two is exact in every format


def cells(seeds: int, batch: int, trained: int, steps: int, passes: int, many: int) -> list[dict]:
    """A seed of one of the four parts a cell; of the bands, an optimiser with all its seeds."""
    cells = [{"part": "initialisation", "seed": i, "batch": batch} for i in range(seeds)]
    cells += [{"part": "training", "seed": i, "steps": steps} for i in range(trained)]
    cells += [
        {"part": "chance", "network": name, "seed": i, "passes": passes}
        for name in chance.NETWORKS
        for i in range(seeds)
    ]
    judged = [*range(FIRST_JUDGED, FIRST_JUDGED + seeds)]
    return cells + [
        {"part": "bands", "optimiser": name, "seeds": judged, "steps": many}
        for name in chance.RATES
    ]


def measure(part: str, **cell) -> dict[str, pd.DataFrame]:
    """One of the four parts."""
    parts = {"initialisation": initialised, "training": trained}
    parts |= {"chance": chance.counted, "bands": chance.with_bands}
    return {part: parts[part](**cell)}


def he(seed: int, purpose: str, widths: list[int]) -> list[np.ndarray]:
    """He-initialised matrices."""
    key = gaussian.key(seed, "precision", purpose)
    return [
        gaussian.normal(key, k, shape) * (2 / shape[0]) ** 0.5
        for k, shape in enumerate(pairwise(widths))
    ]


def network(situation: str, seed: int, batch: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights and inputs of a situation."""
    count = batch if situation in GENERIC else EXAMPLES
    x = gaussian.normal(gaussian.key(seed, "precision", "inputs"), 0, (count, WIDTH))
    if situation == "MNIST digits":
        x = digits.sample(seed, count)[0]
    if situation == "blank image":
        x = 0 * x
    weights = he(seed, situation, [x.shape[1]] + DEPTH * [WIDTH])
    if situation == "dead layer":
        weights[SPECIAL] = -np.abs(weights[SPECIAL])  # as r >= 0, every z < 0
    if situation == "zero-initialised layer":
        weights[SPECIAL] = 0 * weights[SPECIAL]
    return weights, x


@quietly
def initialised(seed: int, batch: int) -> pd.DataFrame:
    """What ReLU'(0) = 0 and 1/2 change against 1."""
    rows = []
    for situation, name in product(SITUATIONS, FORMATS):
        weights, x = network(situation, seed, batch)
        number = FORMATS[name]
        trace, r = forward(rounded_layers(weights, "relu", number), Rounded(x, number))
        dr = unit_cotangent(gaussian.key(seed, "precision"), r.shape, np.float64)
        differ = differences(trace, Rounded(dr, number), KINKS)
        preactivations = sum(step.z.value.size for step in trace)
        rows.append((situation, name, seed, preactivations, zeros(trace), *differ))
    columns = ["situation", "format", "seed", "preactivations", "zeros"]
    columns += ["gradient_difference", "delta_difference"]
    return pd.DataFrame(rows, columns=columns)


@quietly
def trained(seed: int, steps: int) -> pd.DataFrame:
    """Gradient descent from the same weights on the same digits, for each ReLU'(0)."""
    images, classes = digits.digits()
    x = CONTRAST * images
    y = np.eye(10)[classes]
    rng = np.random.default_rng(gaussian.key(seed, "precision", "batches"))
    chosen = rng.integers(TRAINING_IMAGES, size=(steps, TRAINING_BATCH))
    batches = [(x[rows], y[rows]) for rows in chosen]
    start = he(seed, "training", TRAINED)
    rows = []
    for name, number in FORMATS.items():
        held_out = Rounded(x[TRAINING_IMAGES:], number)
        descents = descend(start, batches, ACTIVATIONS, number, KINKS, RATE)
        for kink, descent in descents.items():
            _, shown = forward(rounded_layers(descent.weights, ACTIVATIONS, number), held_out)
            right = shown.value.argmax(axis=1) == classes[TRAINING_IMAGES:]
            accuracy = 100 * right.mean()
            rows.append((name, kink, seed, steps, descent.zeros, descent.parted, accuracy))
    columns = ["format", "kink", "seed", "steps", "zeros", "step_parted", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


def accuracy_difference(training: pd.DataFrame, name: str) -> Estimate:
    """Mean accuracy with ReLU'(0) = 0 less that with 1, paired by seed."""
    rows = training[training.format == name]
    accuracy = rows.pivot(index="seed", columns="kink", values="accuracy")
    return mean(accuracy[0.0] - accuracy[1.0])


def training_difference(tables: dict[str, pd.DataFrame]) -> Estimate:
    """That of the experiment, where sums are rounded term by term."""
    return accuracy_difference(tables["training"], "float16_narrow")


def largest_difference(tables: dict[str, pd.DataFrame]) -> Estimate:
    """The largest difference of dC/dW there where zeros are due to chance, median over seeds."""
    rows = tables["initialisation"]
    rows = rows[(rows.format == "float16_narrow") & rows.situation.isin(GENERIC)]
    return median_interval(rows.groupby("seed").gradient_difference.max())


def zeros_by_chance(tables: dict[str, pd.DataFrame], of_run: bool) -> Estimate:
    """Share of pre-activations that are exactly 0, where it is largest; or how many a run has."""
    counts = tables["chance"].groupby("network")[["zeros", "preactivations"]].sum()
    shares = {name: chance.share(*row) for name, row in counts.iterrows()}
    largest = max(shares.values(), key=lambda share: share.high)
    factor = tables["bands"].preactivations.max() if of_run else 1
    ends = (factor * end for end in (largest.value, largest.low, largest.high))
    return Estimate(*ends, tables["chance"].seed.nunique())


def band_difference(
    tables: dict[str, pd.DataFrame], optimiser: str, band: float = max(chance.BANDS)
) -> Estimate:
    """Accuracy with the slope 0 in a band less that with 1, paired by seed, mean."""
    rows = tables["bands"].query("optimiser == @optimiser and band == @band")
    accuracy = rows.pivot(index="seed", columns="kink", values="accuracy").dropna()
    return mean(accuracy[0.0] - accuracy[1.0])


def figure(tables: dict[str, pd.DataFrame]):
    """ReLU'(0) matters where pre-activations are zero by structure or by coarse rounding.

    Left: largest change of the gradient of the weights when ReLU'(0) is 0 or 1/2 in place of 1,
    in per cent of the layer's largest entry, at initialisation; median over seeds. Right: accuracy
    after training with ReLU'(0) = 0 less that with 1, points, mean over seeds with its 95 %
    interval; the last four in float32, the choice made for all z of the band, as zeros by chance
    are too rare to be met. float16 sums: every partial sum is rounded, too.
    """
    names = dict(zip(FORMATS, FORMATS, strict=True)) | {"float16_narrow": "float16 sums"}
    figure, [[left, right]] = study.plot.panels(1, 2, 2.2, width_ratios=[1.5, 1])
    initial = tables["initialisation"].assign(format=lambda t: t.format.map(names))
    order = [names[name] for name in FORMATS]
    changes = 100 * initial.pivot_table(
        "gradient_difference", "situation", "format", "median", sort=False
    )
    study.plot.table(changes[order], "{:.3g} %", left)
    found = {names[name]: accuracy_difference(tables["training"], name) for name in FORMATS}
    for band, optimiser in product(chance.BANDS[1:], chance.RATES):
        called = f"$|z|$ ≤ {band:g}, {optimiser}"
        found[called] = band_difference(tables, optimiser, band)
    rows = {name: vars(estimate) for name, estimate in found.items()}
    trained = pd.DataFrame(rows).T.rename_axis("format").reset_index()
    trained = trained.astype({"value": float, "low": float, "high": float})
    study.plot.dots(trained, "value", "format", interval=("low", "high"), ax=right)
    right.set_xlabel("change of accuracy (points)")
    return figure


experiment = Experiment(
    question="Does the choice of ReLU'(0) make a difference?",
    grid={"quick": cells(3, 8, 2, 4, 1, 40), "paper": cells(10, 256, 8, 100, 306, 1000)},
    measure=measure,
    figure=figure,
    claims=[
        # Where sums are rounded less coarsely no z was 0, and zeros by structure do what algebra
        # says: those are tests.
        Claim(
            name="ReLU'(0) makes no difference at initialisation, float16 sums",
            statement="dC/dW, float16_narrow: the largest difference that ReLU'(0) = 0 or 1/2 "
            "makes from 1, relative to the layer's largest entry, median over seeds; below the "
            "format's unit roundoff.",
            threshold=below(float(np.finfo("float16").epsneg)),
            judge=largest_difference,
            about="C2",
        ),
        Claim(
            name="ReLU'(0) makes no difference in training, float16 sums",
            statement="Held-out accuracy on MNIST digits with ReLU'(0) = 0 less that with 1, "
            "paired by seed, mean; less than one point.",
            threshold=within(-1, 1),
            judge=training_difference,
            about="C2",
        ),
        Claim(
            name="float32 meets ReLU's kink by chance",
            statement="Networks at initialisation, float32: share of pre-activations that are "
            "exactly 0, of four kinds of network that with the most; more than 1 in 10^7.",
            threshold=above(1e-7),
            judge=partial(zeros_by_chance, of_run=False),
        ),
        Claim(
            name="a training run of this size would meet the kink",
            statement="The same share times the pre-activations of a training run of the bands; "
            "above 1. Where it is refuted, runs with other ReLU'(0) are the same run: untestable "
            "at this size.",
            threshold=above(1),
            judge=partial(zeros_by_chance, of_run=True),
        ),
        *(
            Claim(
                name=f"the slope in a band around ReLU's kink makes no difference, {optimiser}",
                statement=f"float32, {optimiser}: held-out accuracy on MNIST digits with the slope "
                f"0 where |z| <= {max(chance.BANDS):g} less that with 1, paired by seed, mean; "
                "less than one point.",
                threshold=within(-1, 1),
                judge=partial(band_difference, optimiser=optimiser),
                about="C2",
            )
            for optimiser in chance.RATES
        ),
    ],
    columns={
        "format": "number format of the plain run; float16_narrow rounds its sums term by term [-]",
        "situation": "which ReLU network and inputs [-]",
        "preactivations": "number of entries of all z [-]",
        "zeros": "how many of them were exactly 0 [-]",
        "gradient_difference": "largest difference of dC/dW at ReLU'(0) = 0 or 1/2 from that at 1, "
        "in units of the layer's largest entry; the largest of all layers [1]",
        "delta_difference": "the same of dC/dz, for every example; its sum is a bias's gradient "
        "[1]",
        "steps": "steps of gradient descent [steps]",
        "accuracy": "share of 1,000 held-out images classified rightly [%]",
        "step_parted": "first step after which a weight is not what it is with ReLU'(0) = 1; inf: "
        "none [steps]",
    }
    | chance.COLUMNS,
)
