"""The depth at which a plain run loses the gradient, by number format, activation and scale."""

import functools
import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd

import study
from study.arithmetic.formats import quietly
from study.arithmetic.rounded import FORMATS, Rounded, is_lost, printed_norm, rounded_layers
from study.core.backprop import Step, backward, forward, weight_gradient
from study.core.blocks import Dense
from study.engines.explicit import unit_cotangent
from study.records.columns import Column
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, above, median_interval, within
from study.statistics.estimators import medians, near, share_near
from study.theory.gradient_norms import lost_depth

ACTIVATIONS = ["relu", "sigmoid", "tanh"]
FOUR = ["float16", "bfloat16", "float32", "float64"]
WIDTH, DEEPEST = 64, 1000
HE = 2**0.5
KEYS = ["activation", "sigma_w", "format"]
COLUMNS = [
    "activation", "sigma_w", "width", "seed", "format", "depth_lost", "depth_norm_lost",
    "expected_depth",
]  # fmt: skip


def cells(seeds: int, scales: list[float]) -> list[dict]:
    """A seed and a scale a cell."""
    return [{"seed": seed, "sigma_w": sigma_w} for seed in range(seeds) for sigma_w in scales]


def measure(seed: int, sigma_w: float) -> dict[str, pd.DataFrame]:
    """Where each format loses the gradient of each network; all on the same unit weights."""
    key = gaussian.key(seed, "weights")  # those of `study.profile`
    weights = np.stack([gaussian.normal(key, k, (WIDTH, WIDTH)) for k in range(DEEPEST)])
    weights *= sigma_w / WIDTH**0.5  # after the draw: all scales have the same unit weights
    x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (1, WIDTH))
    dr = unit_cotangent(gaussian.key(seed, "cotangent"), (1, WIDTH), np.float64)
    rows, nets = [], []
    for activation, name in product(ACTIVATIONS, FOUR):
        number = FORMATS[name]
        layers = (rounded_layers([W], activation, number)[0] for W in weights)
        lost, norm_lost = depths_lost(layers, Rounded(x, number), Rounded(dr, number), DEEPEST)
        theory = expected_depth(activation, sigma_w, name)
        rows.append((activation, sigma_w, WIDTH, seed, name, lost, norm_lost, theory))
        nets.append(study.Network(activation, int(min(lost, DEEPEST)), WIDTH, sigma_w, kink=0.0))
    # What a run with exponents has at that depth.
    true = study.profile(nets, [seed], engine="dense")
    depth = pd.DataFrame(rows, columns=COLUMNS)
    depth["log10_true_norm"] = true.log10_grad_norm[true.layer == 0].to_numpy()
    if seed != 0:
        return {"depth": depth}  # norms are kept of one seed alone
    lost_in = np.repeat(depth.format, [net.depth for net in nets]).to_numpy()
    return {"depth": depth, "gradient_norms": gradient_norms(true.assign(format=lost_in), 9)}


def known(step: Step) -> Step:
    """A step whose slope is computed once, by the first of several passes down that get there."""
    layer = SimpleNamespace(slope=functools.cache(step.layer.slope), down=step.layer.down)
    return step._replace(layer=layer)


@quietly
def depths_lost(
    layers: Iterable[Dense], x: Rounded, dr: Rounded, deepest: int
) -> tuple[float, float]:
    """The smallest depths, of the first so many layers, at which dC/dW^(0) is lost.

    At the first depth the gradient `is_lost` or the output is not finite; at the second the
    gradient's `printed_norm` is 0 or not finite, too. Once lost, it is taken to stay lost; inf
    where no depth up to ``deepest`` loses it. ``dr`` is dC/dr at the output, whatever the depth.
    Layers are made as deep as the search gets.

    A gradient of 10^-2 (depth - 1) against the smallest number, 2^-149, and its root:

    >>> one = Rounded(np.ones((1, 1)), FORMATS["float32"])
    >>> layers = rounded_layers([np.array([[0.01]])] * 40, "linear", one.number)
    >>> depths_lost(layers, one, one, 40)
    (24.0, 13.0)
    """
    left = iter(layers)
    steps: list[Step] = []
    outputs = [x]

    def climb(depth: int) -> None:
        for layer in itertools.islice(left, max(0, depth - len(steps))):
            [step], output = forward([layer], outputs[-1])
            steps.append(known(step))
            outputs.append(output)

    @functools.cache
    def first_gradient(depth: int) -> Rounded:
        for last in backward(steps[:depth], dr):
            if not last.delta.value.any():  # no layer below brings back what is all 0
                break
        return weight_gradient(last.r, last.delta)

    def lost(depth: int) -> bool:
        climb(depth)
        return not np.isfinite(outputs[depth].value).all() or is_lost(first_gradient(depth))

    def norm_lost(depth: int) -> bool:
        return lost(depth) or not 0 < printed_norm(first_gradient(depth)) < np.inf

    return smallest(lost, deepest), smallest(norm_lost, deepest)


def smallest(holds: Callable[[int], bool], deepest: int) -> float:
    """The smallest depth for which something holds that then goes on to hold; or inf."""
    below = 0
    above = 1
    while not holds(above):
        if above == deepest:
            return np.inf
        below = above
        above = min(4 * above, deepest)
    # Some ten passes, not a thousand; none begins where theory expects the depth.
    return below + 1.0 + bisect_left(range(below + 1, above), True, key=holds)


def expected_depth(activation: str, sigma_w: float, name: str) -> float:
    """The same by theory; inf beyond DEEPEST."""
    number = FORMATS[name]
    return lost_depth(activation, sigma_w, WIDTH, number.smallest, number.largest, DEEPEST)


def of_format(tables: dict, column: str, over: str = "", **network) -> Estimate:
    """The median of a depth, or of its ratio to another, of one network in one format."""
    rows = tables["depth"]
    for name, value in network.items():
        rows = rows[rows[name] == value]
    return median_interval(rows[column] / rows[over] if over else rows[column])


def share_where_expected(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Of all networks and formats, those whose median depth is theory's."""
    rows = tables["depth"]
    lost = rows.pivot(index="seed", columns=KEYS, values="depth_lost")
    return share_near(lost, rows.groupby(KEYS).expected_depth.first())


def bfloat16_reach(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Each seed's smallest depth_lost of bfloat16 / float32, of networks both lose."""
    keys = ["activation", "sigma_w", "seed"]
    wide = tables["depth"].pivot(index=keys, columns="format", values="depth_lost")
    ratio = wide.bfloat16 / wide.float32
    return median_interval(ratio[np.isfinite(wide.float32)].groupby("seed").min())


def figure(tables: dict[str, pd.DataFrame]):
    """The depth at which each number format loses the gradient of the first layer.

    Marks: depth at which a plain run has lost it, all zero or not finite; median over seeds with
    its 95 % interval; at the upper edge: not lost within the deepest networks. Lines, no free
    offset: from chi and the format's range with subnormals. Rings: more than 10 % off.
    """
    depth = tables["depth"]
    scales = np.geomspace(depth.sigma_w.min(), depth.sigma_w.max(), 33)
    theory = pd.DataFrame(product(ACTIVATIONS, scales, FOUR), columns=KEYS)
    theory["depth_lost"] = [expected_depth(*row) for row in theory.itertuples(index=False)]
    grid = study.plot.curves(
        depth, "sigma_w", "depth_lost", hue="format", col="activation", theory=theory, height=2.6,
        log="xy", ylim=(4, 1.5 * DEEPEST),
    )  # fmt: skip
    points = medians(depth, [*KEYS, "expected_depth"], "depth_lost")
    off = points[~near(points["value"], points.expected_depth) & np.isfinite(points["value"])]
    for activation, rings in off.groupby("activation"):
        ax = grid.axes_dict[activation]
        ax.plot(rings.sigma_w, rings["value"], "o", mfc="none", color="black", ms=7, mew=0.8)
    grid.set_ylabels("layers until the gradient is lost")
    return grid.figure


SIGMOID = {"activation": "sigmoid", "sigma_w": 1.0}
# The last entry is lost by its last bits.
DEPTH = partial(Column, "float64", "layers", tolerance=0.02)

experiment = Experiment(
    question="How deep does each number format carry the gradient?",
    grid={
        "quick": cells(2, [1.0, HE]),
        "paper": cells(10, [0.5, 1.0, HE, 2.0, 4.0, 10.149264]),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="formats lose the gradient where chi says",
            statement="All activations, scales and formats: the share whose median depth at which "
            "a plain run has lost dC/dW^(0) is within 10 % of that expected from chi and the "
            f"format's range with subnormals, or beyond {DEEPEST} as it is; above 9/10. The figure "
            "rings the others.",
            threshold=above(0.9),
            judge=share_where_expected,
        ),
        Claim(
            name="the printed norm is lost at half the depth",
            statement="Sigmoid at sigma_w = 1, float32: depth at which the norm, summed as "
            "squares, is lost, over the depth at which the gradient is; within 10 % of 1/2.",
            threshold=within(0.45, 0.55),
            judge=partial(
                of_format, column="depth_norm_lost", over="depth_lost", format="float32", **SIGMOID
            ),
        ),
        Claim(
            name="float64 is deep enough for sigmoid",
            statement="Sigmoid at sigma_w = 1: depth at which a plain float64 run loses dC/dW^(0); "
            f"above {DEEPEST}.",
            threshold=above(DEEPEST),
            judge=partial(of_format, column="depth_lost", format="float64", **SIGMOID),
        ),
        Claim(
            name="float64 is deep enough for He-initialised ReLU",
            statement=f"ReLU at sigma_w = sqrt 2: the same; above {DEEPEST}.",
            threshold=above(DEEPEST),
            judge=partial(
                of_format, column="depth_lost", format="float64", activation="relu", sigma_w=HE
            ),
        ),
        Claim(
            name="bfloat16 reaches as deep as float32",
            statement="Depth at which bfloat16 loses dC/dW^(0) over that of float32, the smallest "
            "of all networks that both lose; above 4/5.",
            threshold=above(0.8),
            judge=bfloat16_reach,
        ),
    ],
    columns={
        "format": "number format of the plain run [-]",
        "depth_lost": DEPTH(
            meaning="smallest depth where all of dC/dW^(0) is 0, or some of it or of the output is "
            f"not finite; inf: none up to {DEEPEST}",
        ),
        "depth_norm_lost": DEPTH(
            meaning="smallest depth where the norm of dC/dW^(0), as the run prints it, is 0 or not "
            f"finite, or the output is not; inf: none up to {DEEPEST}",
        ),
        "expected_depth": f"depth_lost by theory; inf: beyond {DEEPEST} [layers]",
        "log10_true_norm": "norm of dC/dW^(0) at depth_lost (where that is inf, at depth "
        f"{DEEPEST}), by the scaled engine in float64 [log10]",
    },
    version=2,
)
