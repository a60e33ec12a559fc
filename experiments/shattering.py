"""How alike the gradients at two inputs are, against depth: shattered gradients."""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd

import study
from study.core.activations import Array
from study.core.backprop import Layer
from study.core.blocks import BATCH, Dense, Linear, Normalised, Residual
from study.engines.pullback import pullback
from study.runs.experiment import Experiment
from study.sampling.draws import Draws
from study.statistics.claims import Claim, Estimate, above, within
from study.statistics.estimators import resampled
from study.theory import blocks
from study.theory.blocks import branch_scales, normalised_scales
from study.theory.two_inputs import shattering_offset

WIDTH, ROWS = 512, 32  # ROWS is inputs times cotangents
HE = 2**0.5
OWN = 4  # examples of a batch whose gradients are compared


class Kind(NamedTuple):
    """A kind of network: where and how it is drawn, and what it is."""

    panel: str
    label: str
    colour: str
    activation: str = "relu"
    sigma_w: float = HE
    normalised: bool = False
    frozen: bool = False  # its statistics count as constants
    residual: bool = False
    coins: bool = False  # units are active at random

    @property
    def inputs(self) -> int:
        """How many inputs are compared: a batch normalisation needs many."""
        return ROWS if self.normalised else 2


PLAIN, SKIP, BENT = "without skip connections", "with skip connections", "saturating activations"
KINDS = {
    "relu": Kind(PLAIN, "ReLU", "#D55E00"),
    "relu, coins": Kind(PLAIN, "coin-tossed", "#56B4E9", coins=True),
    "relu, BatchNorm": Kind(PLAIN, "BatchNorm", "#332288", normalised=True),
    "relu, frozen BatchNorm": Kind(
        PLAIN, "BatchNorm, frozen", "#AA99EE", normalised=True, frozen=True
    ),
    "residual": Kind(SKIP, "ReLU", "#D55E00", residual=True),
    "residual, coins": Kind(SKIP, "coin-tossed", "#56B4E9", residual=True, coins=True),
    "residual, BatchNorm": Kind(SKIP, "BatchNorm", "#332288", residual=True, normalised=True),
    "residual, frozen BatchNorm": Kind(
        SKIP, "BatchNorm, frozen", "#AA99EE", residual=True, normalised=True, frozen=True
    ),
    "tanh 0.9": Kind(BENT, r"tanh, $\sigma_w$ = 0.9", "#009E73", "tanh", 0.9),
    "tanh 2": Kind(BENT, r"tanh, $\sigma_w$ = 2", "#009E73", "tanh", 2.0),
    "sigmoid 4": Kind(BENT, r"sigmoid, $\sigma_w$ = 4", "#0072B2", "sigmoid", 4.0),
    "sigmoid 16": Kind(BENT, r"sigmoid, $\sigma_w$ = 16", "#0072B2", "sigmoid", 16.0),
}
DEPTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
JUDGED = 16  # the deepest network that a claim is about


class Coins(Dense):
    """A layer whose slopes are given, whatever z is."""

    def __init__(self, W: Array, activation: str, scale: float, slopes: Array):
        super().__init__(W, activation, scale=scale)
        self.slopes = slopes

    def slope(self, z: Array) -> Array:
        return self.slopes


def cells(seeds: int, depths: list[int]) -> list[dict]:
    """A seed of either kind of inputs a cell.

    At depths beyond all that claims are about half as many, of digits a sixth.
    """
    half = max(1, seeds // 2)
    few = max(1, seeds // 6)
    judged = [depth for depth in depths if depth <= JUDGED]
    of_each = [("orthogonal", seed, depths if seed < half else judged) for seed in range(seeds)]
    of_each += [("digits", seed, judged) for seed in range(few)]
    return [{"inputs": inputs, "seed": seed, "depths": ds} for inputs, seed, ds in of_each]


def measure(inputs: str, seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every kind of network of one seed, all of them on the same weights."""
    draws = Draws(seed, "shattering", WIDTH)
    depths = sorted(depths, reverse=True)
    weights = [draws.weights(k) for k in range(2 * depths[0])]
    coins = [(draws.normal("coins", k, ROWS) > 0).astype(np.float32) for k in range(depths[0])]
    tables = []
    for name, kind in KINDS.items():
        if inputs == "orthogonal":
            x = np.linalg.qr(draws.normal("inputs", 0, kind.inputs).T)[0].T
        else:
            x = draws.digits(kind.inputs)
        x *= WIDTH**0.5 / np.linalg.norm(x, axis=1, keepdims=True)
        u = draws.normal("cotangents", 0, ROWS // kind.inputs) / np.float32(WIDTH**0.5)
        layers = [layer_of(kind, k, weights, coins) for k in range(depths[0])]
        of_kind = own_overlaps if kind.normalised and not kind.frozen else overlaps
        covariance, variance = of_kind(layers, depths, x, u)
        # Of unit mean square.
        cosine = 0.0 if inputs == "orthogonal" else float(np.vdot(x[0], x[1])) / WIDTH
        theory = expected(kind, depths[0], cosine)[np.array(depths) - 1]
        finite = theory + [offset(kind, depth, cosine) / WIDTH for depth in depths]
        table = {"inputs": inputs, "kind": name, "depth": depths, "seed": seed}
        table |= {"covariance": covariance, "variance": variance, "expected": theory}
        table |= {"expected_at_width": finite}
        tables.append(pd.DataFrame(table))
    return {"overlaps": pd.concat(tables, ignore_index=True)}


def layer_of(kind: Kind, k: int, weights: list[Array], coins: list[Array]) -> Layer:
    """The k-th layer, or residual block of two matrices."""
    W = weights[2 * k] if kind.residual else weights[k]
    if kind.normalised:
        hidden = Normalised(W, kind.activation, BATCH, frozen=kind.frozen)
    elif kind.coins:
        slopes = coins[k].reshape(-1, kind.inputs, WIDTH)
        hidden = Coins(W, kind.activation, kind.sigma_w, slopes)
    else:
        hidden = Dense(W, kind.activation, scale=kind.sigma_w)
    if not kind.residual:
        return hidden
    # He's factor stands where ReLU is not normalised away.
    scale = kind.sigma_w if kind.normalised else None
    return Residual([hidden, Linear(weights[2 * k + 1], scale)])


def overlaps(
    layers: list[Layer], depths: list[int], inputs: Array, cotangents: Array
) -> tuple[Array, Array]:
    """Mean <g_i, g_j> of the gradients at two different inputs, and mean ||g_i||^2, by network.

    Means are over pairs of the inputs, a (count, n) array, and over the cotangents, (m, n), each
    the same for all inputs; a batch normalisation takes inputs times cotangents for its batch.
    Networks are the first of the layers, their depths in falling order.

    A linear network has one gradient, whatever its input:

    >>> W, x, u = np.random.default_rng(0).standard_normal((3, 5, 5))
    >>> covariance, variance = overlaps([Dense(W, "linear")] * 3, [3, 1], x[:4], u)
    >>> bool(np.allclose(covariance, variance))
    True
    """
    # Every input under every cotangent.
    dr = np.repeat(cotangents[:, None], len(inputs), axis=1)
    gradients = pullback(lambda k, _: layers[k], depths, inputs[None, None], dr)
    return _moments(gradients.mantissa, gradients.exponent)


def own_overlaps(
    layers: list[Layer], depths: list[int], inputs: Array, cotangents: Array
) -> tuple[Array, Array]:
    """The same of each example's output by its own input, in a batch that normalises them all.

    Of the first `OWN` examples, under the one cotangent, (1, n): with a cotangent for all examples
    at once their gradients would add up to 0 behind a batch normalisation.
    """
    dr = np.zeros((OWN, *inputs.shape), inputs.dtype)
    own = np.arange(OWN)
    dr[own, own] = cotangents
    gradients = pullback(lambda k, _: layers[k], depths, inputs[None, None], dr)
    return _moments(gradients.mantissa[:, None, own, own], gradients.exponent)


def _moments(g: Array, exponent: Array) -> tuple[Array, Array]:
    """Of gradients times 2^exponent, (networks, cotangents, inputs, n)."""
    _, m, count, _ = g.shape
    g = g.astype(np.float64)
    squares = np.sum(g**2, axis=(1, 2, 3)) / (m * count)
    square_of_sum = np.sum(np.sum(g, axis=2) ** 2, axis=(1, 2)) / (m * count)
    scale = np.ldexp(1.0, 2 * exponent)  # exponents are of norms, moments of squares
    return scale * (square_of_sum - squares) / (count - 1), scale * squares


@lru_cache(maxsize=64)
def expected(kind: Kind, depth: int, cosine: float) -> np.ndarray:
    """Likeness at 1, ..., depth layers as theory has it, by the angle between the inputs."""
    scales = branch_scales("undamped", depth) if kind.residual else None
    if kind.normalised and kind.residual:
        scales = normalised_scales(depth, batch=ROWS)
    if kind.normalised or kind.coins:  # the angle plays no part
        return blocks.independent_shattering(depth, scales).correlation
    if kind.activation == "relu":
        return blocks.shattering(depth, scales, cosine).correlation
    return blocks.plain_shattering(kind.activation, kind.sigma_w, depth, cosine).correlation


@lru_cache(maxsize=64)
def offset(kind: Kind, depth: int, cosine: float) -> float:
    """n times what finite width adds to that, where theory knows it: of plain ReLU."""
    known = kind.activation == "relu" and not (kind.residual or kind.normalised or kind.coins)
    return shattering_offset(depth, cosine) if known else 0.0


def likeness(moments: Array) -> float:
    """Covariance over variance, each averaged over networks, the rows, before the division."""
    covariance, variance = moments.mean(axis=0)
    return covariance / variance  # a ratio of means: a mean of ratios would be biased


def over(tables: dict[str, pd.DataFrame], kind: str, depth: int, reference: str) -> Estimate:
    """Likeness over "2^-L", over a column of theory, or over another kind on the same weights."""
    rows = tables["overlaps"].query("inputs == 'orthogonal' and depth == @depth")
    by_kind = {name: moments_of(group) for name, group in rows.groupby("kind")}
    if reference in KINDS:
        pairs = pd.concat([by_kind[kind], by_kind[reference]], axis=1)
        return resampled(pairs, lambda pair: likeness(pair[:, :2]) / likeness(pair[:, 2:]))
    expected = 2.0**-depth
    if reference in rows:
        expected = rows[reference][rows.kind == kind].iloc[0]
    return resampled(by_kind[kind], lambda moments: likeness(moments) / expected)


def moments_of(rows: pd.DataFrame) -> pd.DataFrame:
    """What `likeness` is of, a row a seed."""
    return rows.set_index("seed")[["covariance", "variance"]]


def figure(tables: dict[str, pd.DataFrame]):
    """Gradients of a plain ReLU network at two inputs lose their likeness with depth.

    Likeness of the gradients at two inputs at right angles, mean inner product over mean square,
    with its 95 % bootstrap interval over networks. Lines: theory, no free offset, of infinite
    width; of plain ReLU with its c/n, too. Coin-tossed: units active at random for each input, as
    Balduzzi et al. (2017) assume. BatchNorm: of each example's output by its own input; frozen: its
    statistics taken for constants on the way back, as theory's lines do.
    """
    points = []
    overlaps = tables["overlaps"].query("inputs == 'orthogonal'")
    for (kind, depth), rows in overlaps.groupby(["kind", "depth"], sort=False):
        place = {"panel": KINDS[kind].panel, "label": KINDS[kind].label, "depth": depth}
        measured = vars(resampled(moments_of(rows), likeness, resamples=200))
        points.append(place | measured | {"expected": rows.expected_at_width.mean()})
    points = pd.DataFrame(points)
    theory = points.assign(value=points.expected)
    points["value"] = points["value"].where(points["value"] > 0)  # else hidden by finite width
    grid = study.plot.curves(
        points, "depth", "value", hue="label", col="panel", interval=("low", "high"), theory=theory,
        palette={kind.label: kind.colour for kind in KINDS.values()}, height=2.4, log="y",
        ylim=(1e-3, 1.5),
    )  # fmt: skip
    grid.axes[0][0].set_ylabel("likeness")
    return grid.figure


FACTOR = within(1 / 1.5, 1.5)

experiment = Experiment(
    question="Do gradients at different inputs lose their likeness with depth, and how fast?",
    grid={"quick": cells(3, DEPTHS[:8]), "paper": cells(60, DEPTHS)},
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="gradients of plain ReLU networks shatter as 2^-L",
            statement="Plain He-ReLU, inputs at right angles: likeness of their gradients after 8 "
            "layers over 2^-8; within a factor of 1.5.",
            threshold=FACTOR,
            judge=partial(over, kind="relu", depth=8, reference="2^-L"),
            about="saying",
            source="Balduzzi et al. 2017, theorem 1",
        ),
        Claim(
            name="they follow the mean-field product",
            statement="Plain He-ReLU: likeness after 8 layers over prod (pi - theta_l) / pi, which "
            "falls as L^-3; within a factor of 1.5.",
            threshold=FACTOR,
            judge=partial(over, kind="relu", depth=8, reference="expected"),
        ),
        Claim(
            name="finite width takes over further down",
            statement="Plain He-ReLU: likeness after 16 layers over that product and theory's c/n, "
            "to which a gradient's part along the signal contributes most; within a factor of 1.5.",
            threshold=FACTOR,
            judge=partial(over, kind="relu", depth=JUDGED, reference="expected_at_width"),
        ),
        Claim(
            name="units active independently give 2^-L",
            statement="ReLU with active units drawn for each input: likeness after 6 layers over "
            "2^-6; within a factor of 1.5.",
            threshold=FACTOR,
            judge=partial(over, kind="relu, coins", depth=6, reference="2^-L"),
        ),
        Claim(
            name="BatchNorm makes them so",
            statement="Plain ReLU with batch normalisation, through its statistics, too: likeness "
            "of the gradients of examples' own outputs after 6 layers over 2^-6; within a factor "
            "of 1.5.",
            threshold=FACTOR,
            judge=partial(over, kind="relu, BatchNorm", depth=6, reference="2^-L"),
        ),
        Claim(
            name="skip connections slow the shattering",
            statement="ReLU with skip connections: likeness after 8 layers over that without, on "
            "the same weights.",
            threshold=above(1),
            negligible=within(1 / 1.1, 1.1),
            judge=partial(over, kind="residual", depth=8, reference="relu"),
            about="saying",
            source="Balduzzi et al. 2017, theorem 2",
        ),
        Claim(
            name="the weight scale decides on shattering",
            statement="Sigmoid at sigma_w = 4, below its critical scale: likeness after 4 layers "
            "over that at sigma_w = 16, above it; more than tenfold.",
            threshold=above(10),
            judge=partial(over, kind="sigmoid 4", depth=4, reference="sigmoid 16"),
            about="B1",
        ),
    ],
    columns={
        "inputs": "orthogonal: random inputs at right angles; digits: MNIST images, projected to "
        "the width at random [-]",
        "kind": "the network; coins: active units drawn at random for each input, as Balduzzi et "
        "al. assume; frozen: BatchNorm's statistics are constants on the way back; numbers: "
        "sigma_w [-]",
        "depth": "layers, or residual blocks [layers]",
        "covariance": "mean inner product of dC/dx at two inputs for the same unit cotangent, over "
        "cotangents and, with BatchNorm, over pairs of its batch [squared norm]",
        "variance": "mean squared norm of dC/dx [squared norm]",
        "expected": "theory's covariance / variance for these inputs, infinite width; statistics "
        "of BatchNorm taken for constants [1]",
        "expected_at_width": "the same with the first order in 1 / width, where theory has it: of "
        "plain ReLU [1]",
    },
    version=2,
)
