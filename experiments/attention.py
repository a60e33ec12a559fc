"""Whether tokens and gradients survive in transformers of up to 1,000 blocks, at initialisation.

Six kinds of `study.engines.transformer` beside the theory that `study.theory.transformers` derives.
Where float64 cannot tell the tokens apart, their differences, and the gradients of queries and keys
with them, are rounding errors: they are missing.
"""

import math
from collections.abc import Iterable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

import study
from study.core.columns import Column
from study.engines.attention import Mix
from study.engines.transformer import ROUNDING, Transformer
from study.engines.transformer import gradient_norms as norms_of
from study.records.norms import COLUMNS as NORMS
from study.records.norms import gradient_norms, recorded_layers
from study.runs.experiment import Experiment
from study.sampling import gaussian
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within
from study.statistics.estimators import root_mean_square
from study.theory.transformers import transformer

WIDTH, TOKENS = 128, 8
SIDE_BY_SIDE = 10  # networks of a cell
FIRST = (0, 100)  # of the seeds of the quick and the paper preset
SHOWN = 16  # blocks of the deepest networks, log-spaced from the input
RECORDED = 7  # blocks of the networks whose gradient norms are kept
MIDDLE = (10, 60)  # blocks where the rate of queries is taken: tokens are alike, but not yet lost
SHORT = 12  # blocks of the networks that are held against infinite width
# The kinds of networks (`network`), each with its colour.
KINDS = {
    "attention alone": "#D55E00",
    "no skip": "#E69F00",
    "no skip, shaped": "#CC79A7",
    "skip / √L": "#009E73",
    "pre-LN": "#0072B2",
    "post-LN": "#332288",
}
# Those of which theory is more than that all tokens are alike.
THEORY = ("skip / √L", "pre-LN", "post-LN")
MEASURED = ["log10_difference", "log10_upstream_norm", "log10_value", "log10_query"]


def network(kind: str, blocks: int) -> Transformer:
    """The network of a kind and depth."""
    root = blocks**-0.5
    alone = {"norm": "none", "residual": False, "mlp": False}
    fields = {
        "attention alone": alone,
        "no skip": {"residual": False},
        "no skip, shaped": alone | {"mix": Mix(1.0, root, root)},
        "skip / √L": {"norm": "none", "branch": root},
        "pre-LN": {"norm": "pre"},
        "post-LN": {"norm": "post"},
    }
    return Transformer(blocks=blocks, width=WIDTH, **fields[kind])


def cells(kinds: Iterable[str], seeds: range, depths: list[int]) -> list[dict]:
    """A kind, a depth and some seeds a cell; those that take longest first."""
    rows = []
    for blocks, kind in product(depths[::-1], kinds):
        for first in seeds[::SIDE_BY_SIDE]:
            some = [*range(first, min(first + SIDE_BY_SIDE, seeds.stop))]
            cell = {"kind": kind, "blocks": blocks, "seeds": some}
            rows.append(cell | {"shown": SHOWN if blocks == depths[-1] else 2})
    return rows


def measure(kind: str, blocks: int, shown: int, seeds: list[int]) -> dict[str, pd.DataFrame]:
    """So many blocks of each network; all kinds share the tokens and the cotangents of seeds."""
    net = network(kind, blocks)
    size = (2, len(seeds), TOKENS, WIDTH)
    x, u = gaussian.normal(gaussian.key(*seeds, "attention", "tokens"), 0, size)
    x /= np.sqrt(np.mean(x**2, axis=-1, keepdims=True))  # as layer normalisation leaves tokens
    u /= np.linalg.norm(u, axis=(-2, -1), keepdims=True)
    key = gaussian.key(*seeds, "attention", "weights")
    places = np.unique(np.geomspace(1, blocks, shown).round().astype(int)) - 1
    layers = np.union1d(places, recorded_layers(blocks, RECORDED))
    df = norms_of(net, lambda k: net.drawn(key, k, len(seeds)), x, u, layers)
    df = df.assign(kind=kind, depth=blocks, width=WIDTH, seed=np.array(seeds)[df.pop("network")])
    tables = {"blocks": by_block(df[df.layer.isin(places)])}
    if shown == SHOWN and seeds[0] in FIRST:
        tables["gradient_norms"] = gradient_norms(df[df.seed == seeds[0]], RECORDED)
    return tables


def by_block(df: pd.DataFrame) -> pd.DataFrame:
    """A row a block, with the gradients of values and of queries."""
    keys = ["kind", "depth", "seed", "layer"]
    values, queries = (df[df.matrix == name].set_index(keys) for name in ("value", "query"))
    rows = values.assign(log10_value=values.log10_grad_norm, log10_query=queries.log10_grad_norm)
    return rows[MEASURED].round(3).reset_index()


def expected(kind: str, blocks: int) -> pd.DataFrame:
    """What theory has of a network with skip connections, a row a block."""
    net = network(kind, blocks)
    norms = transformer(blocks, TOKENS, WIDTH, net.norm, net.branch)
    query, _, value, *_ = norms.log10_norms.T
    columns = (norms.log10_difference, norms.log10_upstream, value, query)
    frame = pd.DataFrame(dict(zip(MEASURED, columns, strict=True)))
    return frame.assign(kind=kind, depth=blocks, layer=np.arange(blocks))


def deepest(tables: dict[str, pd.DataFrame], kind: str) -> pd.DataFrame:
    """The rows of the deepest networks of a kind."""
    rows = tables["blocks"]
    return rows[(rows.kind == kind) & (rows.depth == rows.depth.max())]


def by_seed(tables: dict[str, pd.DataFrame], kind: str, column: str, layer: int) -> pd.Series:
    """A column at a block of the deepest networks; lost differences are as large as may be."""
    rows = deepest(tables, kind)
    values = rows[rows.layer == layer % rows.depth].set_index("seed")[column]
    return values.fillna(math.log10(ROUNDING)) if column == "log10_difference" else values


def cubed(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Decades of difference lost by the fourth block's tokens over the third's, attention alone."""
    third, fourth = (by_seed(tables, "attention alone", "log10_difference", k) for k in (2, 3))
    return median_interval(fourth / third)


def kept(tables: dict[str, pd.DataFrame], kind: str) -> Estimate:
    """log10 of the difference between tokens at the last block."""
    return median_interval(by_seed(tables, kind, "log10_difference", -1))


def post_ln_rate(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Decades a block that dC/dr gains on its way down."""
    gained = by_seed(tables, "post-LN", "log10_upstream_norm", 0)
    return median_interval(gained / tables["blocks"].depth.max())


def pre_ln_slope(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Of log10 of the last block's value gradient over log10 of the number of blocks."""
    rows = tables["blocks"].query("kind == 'pre-LN' and depth >= @SHORT and layer == depth - 1")
    return median_interval(slopes(rows.assign(x=np.log10(rows.depth), y=rows.log10_value)))


def query_rate(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Decades a block that the query gradient loses against the value gradient, post-LN."""
    rows = deepest(tables, "post-LN")
    rows = rows[rows.layer.between(*MIDDLE)]
    rows = rows.assign(x=rows.layer, y=rows.log10_query - rows.log10_value)
    return median_interval(slopes(rows.dropna()))


def slopes(rows: pd.DataFrame) -> np.ndarray:
    """Of y over x, one a seed."""
    return np.array([np.polyfit(of.x, of.y, 1)[0] for _, of in rows.groupby("seed")])


def off_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    """Root mean square, over kinds, blocks and columns, of mean log10 less theory's."""
    rows = tables["blocks"].query("depth == @SHORT and kind in @THEORY")
    keys = ["kind", "layer"]
    theory = pd.concat([expected(kind, SHORT) for kind in THEORY]).set_index(keys)[MEASURED]
    off = rows.set_index([*keys, "seed"])[MEASURED] - theory
    return root_mean_square(off.dropna().unstack([0, 1]))


def figure(tables: dict[str, pd.DataFrame]):
    """Attention makes tokens alike; then queries get no gradient, while values still do.

    The deepest transformers at initialisation, block by block from the input. Left: what tells the
    tokens apart, over their norm; middle and right: gradient norms of the matrices of values and of
    queries, on one scale. Marks: median over seeds with its 95 % interval; they end where float64
    cannot tell the tokens apart. Lines: theory of infinite width and uniform attention, no free
    offset; marks of post-LN leave them where the blocks are many beside the width, 128.
    """
    rows = tables["blocks"]
    rows = rows[rows.depth == rows.depth.max()]
    theory = pd.concat([expected(kind, int(rows.depth.iloc[0])) for kind in THEORY])
    rows, theory = (frame.assign(block=frame.layer + 1) for frame in (rows, theory))
    canvas, [axes] = study.plot.panels(1, 3, 1.9)
    for ax, (column, (called, ends)) in zip(axes, SHOWN_AS.items(), strict=True):
        # Where some seeds are lost the median of the others would be a biased one.
        lost = rows[column].isna().groupby([rows.kind, rows.layer]).transform("any")
        study.plot.curves(
            rows[~lost], "block", column, hue="kind", theory=theory, palette=KINDS, log="x",
            ylim=ends, ax=ax,
        )  # fmt: skip
        ticks = [10**k for k in range(4) if 10**k <= rows.depth.iloc[0]]
        ax.set(xlabel="block", ylabel=f"log10 {called}", xticks=ticks)
    return canvas


# Columns of the figure, what they are called, and the ends of their axes.
SHOWN_AS = {
    "log10_difference": ("difference of tokens", (-11, 1)),
    "log10_value": ("gradient of values", (-22, 3)),
    "log10_query": ("gradient of queries", (-22, 3)),
}


DEEP = "networks of the most blocks"
APART = (
    "log10 of ‖r - mean over tokens‖ / ‖r‖ of the last block's input, median over seeds; above -2."
)
SAYINGS = {
    "skip connections keep tokens apart, pre-LN": ("pre-LN", "Dong et al. 2021, section 3.1"),
    "skip connections keep tokens apart, post-LN": ("post-LN", "Dong et al. 2021, section 3.1"),
    "perceptrons keep them apart": ("no skip", "Dong et al. 2021, abstract"),
    "branches scaled by 1/√L keep them apart": ("skip / √L", "Noci et al. 2022, abstract"),
    "shaped attention does without skip connections": (
        "no skip, shaped",
        "Noci et al. 2023, abstract",
    ),
}
HALF = math.log10(0.5)
LOOSE = 0.03  # of what tells tokens apart, a few per cent are rounding errors before it is lost

experiment = Experiment(
    question="Do tokens and gradients survive 1,000 blocks of a transformer, at initialisation?",
    grid={
        "quick": cells(KINDS, range(FIRST[0], FIRST[0] + 5), [2, SHORT, 20]),
        # More of the kind whose queries' rate the first ten leave open.
        "paper": cells(["post-LN"], range(FIRST[1] + 10, FIRST[1] + 40), [1000])
        + cells(KINDS, range(FIRST[1], FIRST[1] + 10), [2, SHORT, 100, 1000]),
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name="attention alone makes tokens alike doubly exponentially",
            statement="Attention alone: decades that the tokens' difference has lost before the "
            "fourth block over those before the third, median over seeds; above 2, where a "
            "constant factor a block would give 1.5 and a cube 3.",
            threshold=above(2),
            judge=cubed,
            about="saying",
            source="Dong et al. 2021, theorem 2.2",
        ),
        *(
            Claim(
                name=saying,
                statement=f"{kind}, {DEEP}: {APART}",
                threshold=above(-2),
                judge=partial(kept, kind=kind),
                about="saying",
                source=source,
            )
            for saying, (kind, source) in SAYINGS.items()
        ),
        Claim(
            name="post-LN's gradient vanishes by 1/√2 a block",
            statement=f"post-LN, {DEEP}: decades that ‖dC/dr‖ gains from the output down to the "
            "first block, over the number of blocks, median over seeds; below -0.1, where 1/√2 "
            "would give -0.15.",
            threshold=below(-0.1),
            judge=post_ln_rate,
            about="saying",
            source="Xiong et al. 2020, section 3.3",
        ),
        Claim(
            name="pre-LN's last gradient falls as 1/√L",
            statement="pre-LN: slope of log10 of the last block's ‖dC/dW_value‖ over log10 of the "
            f"number of blocks, from {SHORT} up, median over seeds.",
            threshold=within(-0.55, -0.45),
            judge=pre_ln_slope,
            about="saying",
            source="Xiong et al. 2020, theorem 1",
        ),
        Claim(
            name="the gradient of queries halves with each block of post-LN",
            statement=f"post-LN, {DEEP}, blocks {MIDDLE[0]} to {MIDDLE[1]}: slope of log10 of "
            "‖dC/dW_query‖ / ‖dC/dW_value‖ over the block, median over seeds; within 10 % of log10 "
            "1/2.",
            threshold=within(1.1 * HALF, 0.9 * HALF),
            judge=query_rate,
        ),
        Claim(
            name="the norms are theory's",
            statement=f"Networks of {SHORT} blocks with skip connections, first and last block: "
            "root mean square of mean log10 less theory's, of the tokens' difference, ‖dC/dr‖ and "
            "the gradients of values and queries; below 0.2.",
            threshold=below(0.2),
            judge=off_theory,
        ),
    ],
    columns={
        "kind": "attention alone; no skip: with layer normalisation and perceptrons, but without "
        "skip connections; shaped: attention alone of 1 + (A - 1/tokens) / √L; skip / √L: branches "
        "times 1 / √L, no layer normalisation; pre-LN; post-LN [-]",
        "depth": "blocks [blocks]",
        "layer": "the block, 0 next to the input [blocks]",
        "matrix": "query, key, value, output, hidden or top: of attention, of the perceptron [-]",
        "log10_difference": Column(
            "float64",
            "log10",
            "‖r - mean over tokens‖ / ‖r‖ of the block's input r; missing: rounding errors",
            LOOSE,
        ),
        "log10_upstream_norm": "‖dC/dr‖ at the block's output [log10]",
        "log10_signal_norm": "‖r‖ at the block's input [log10]",
        "log10_value": Column("float64", "log10", "‖dC/dW‖ of values", LOOSE),
        "log10_query": Column(
            "float64", "log10", "‖dC/dW‖ of queries; missing: rounding errors", LOOSE
        ),
        "grad_norm_mantissa": NORMS["grad_norm_mantissa"]._replace(tolerance=3 * LOOSE),
        "log10_grad_norm": NORMS["log10_grad_norm"]._replace(tolerance=LOOSE),
        "status": "as in other tables; rounding: the norm is missing [-]",
    },
    version=2,
)
