"""For how many layers each of the usual remedies keeps the gradient within three decades."""

from functools import partial

import numpy as np
import pandas as pd

import study
from experiments.remedies import catalogue
from experiments.remedies.catalogue import CLIPPED, DECADES, EXAMPLES, GROUP, WIDTH, expected_depth
from study.core.activations import activation
from study.records.norms import gradient_norms
from study.runs.experiment import Experiment
from study.sampling.draws import Draws
from study.statistics.claims import Claim, Estimate, above, at_level, below, confidence, within
from study.statistics.estimators import near, share_near
from study.statistics.summaries import gains, lost_at, median_lost_at


def cells(random: int, digits: int, deepest: int) -> list[dict]:
    """A seed of either kind of inputs a cell, so many of each."""
    depths = [depth for depth in catalogue.DEPTHS if depth <= deepest]
    return [
        {"inputs": inputs, "seed": seed, "depths": depths}
        for inputs, count in (("random", random), ("digits", digits))
        for seed in range(count)
    ]


def measure(inputs: str, seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every remedy of one seed, to some four times the depth that theory gives it."""
    draws = Draws(seed, "remedies", WIDTH)
    x = draws.normal("inputs", 0, EXAMPLES)
    u = draws.normal("cotangent", 0, EXAMPLES)
    if inputs == "digits":
        x = draws.digits(EXAMPLES) / np.float32(28)  # pixels in a row
    reached = {
        remedy: [d for d in depths if d <= catalogue.reach(remedy)] or depths[:1]
        for remedy in GROUP
    }
    profiles = catalogue.chain_profiles(draws, x[:1], reached)
    clips = {depth: catalogue.clipping(draws, x, u, depth) for depth in reached[CLIPPED]}
    decays = gains(profiles).set_index(["remedy", "depth"]).log10_gain.to_dict()
    decays |= catalogue.block_decays(draws, x, u, reached)
    decays |= {(CLIPPED, depth): decay for depth, (decay, *_) in clips.items()}
    rows = [
        (inputs, remedy, depth, seed, decays[remedy, depth])
        for remedy in GROUP
        for depth in reached[remedy]
    ]
    table = pd.DataFrame(rows, columns=["inputs", "remedy", "depth", "seed", "log10_decay"])
    # From there on nothing is learnt.
    lost = (table.log10_decay.abs() > 2 * DECADES).groupby(table.remedy).cumsum()
    tables = {
        "decays": table[lost <= 1],
        "remedies": depths_kept(table),
        "clipping": pd.DataFrame(
            [(inputs, seed, depth, *clip) for depth, (_, *clip) in clips.items()],
            columns=["inputs", "seed", "depth", "clip_factor", "ratio_change"],
        ),
    }
    if seed == 0:
        deepest = profiles.depth == profiles.groupby("remedy").depth.transform("max")
        tables["gradient_norms"] = gradient_norms(profiles[deepest].assign(inputs=inputs), 9)
    return tables


def depths_kept(table: pd.DataFrame) -> pd.DataFrame:
    """The depth that each remedy keeps the gradient for, in a table of one seed's decays."""
    rows = []
    for (inputs, remedy, seed), networks in table.groupby(["inputs", "remedy", "seed"], sort=False):
        depth, censored = lost_at(networks.depth, networks.log10_decay.abs(), DECADES)
        rows.append((inputs, remedy, GROUP[remedy], seed, depth, censored, expected_depth(remedy)))
    columns = ["inputs", "remedy", "group", "seed", "depth_kept", "censored", "expected_depth"]
    return pd.DataFrame(rows, columns=columns)


def depth_kept(tables: dict[str, pd.DataFrame], remedy: str, inputs: str = "random") -> Estimate:
    """The depth at which the median decay exceeds the limit."""
    rows = tables["decays"]
    return median_lost_at(rows[(rows.inputs == inputs) & (rows.remedy == remedy)], DECADES)


def images_over_random(tables: dict[str, pd.DataFrame], remedy: str) -> Estimate:
    """That of images over that of random inputs; the seeds share nothing."""
    with at_level((1 + confidence()) / 2):  # of two
        top = depth_kept(tables, remedy, "digits")
        bottom = depth_kept(tables, remedy)
    ends = top.low / bottom.high, top.high / bottom.low  # of independent numbers: the worst corners
    return Estimate(top.value / bottom.value, *ends, min(top.n, bottom.n))


def beside_theory(tables: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.Series]:
    """Depths kept on random inputs, a row a seed and a column a remedy, and theory's; inf if none.

    That is none up to the deepest networks.
    """
    rows = tables["remedies"].query("inputs == 'random'")
    deepest = rows.remedy.map(GROUP).map(catalogue.CAPS)
    rows = rows.assign(
        kept=rows.depth_kept.mask(rows.censored, np.inf),
        theory=rows.expected_depth.where(rows.expected_depth <= deepest, np.inf),
    )
    kept = rows.pivot(index="seed", columns="remedy", values="kept")
    return kept, rows.groupby("remedy").theory.first()


def misses(tables: dict[str, pd.DataFrame]) -> set[str]:
    """The remedies whose depth is not theory's."""
    kept, theory = beside_theory(tables)
    return set(kept.columns[~near(kept.median(), theory[kept.columns])])


# Claims, the remedy that each is about, the depth that it means, and who says it, if anybody.
SAYINGS = {
    "ReLU solves vanishing gradients": (
        "relu, PyTorch default",
        above(100),
        "Glorot et al. 2011, section 3.1",
    ),
    "Xavier keeps tanh's gradient": (
        "tanh, Xavier",
        above(1000),
        "Glorot & Bengio 2010, section 4.2",
    ),
    "He keeps ReLU's gradient for 1,000 layers": (
        "relu, He",
        above(1000),
        "He et al. 2015, section 2.2",
    ),
    "SELU is self-normalising, its gradient too": (
        "selu, LeCun",
        above(1000),
        "Klambauer et al. 2017, abstract",
    ),
    "orthogonal weights keep the gradient, sigmoid's too": ("sigmoid, orthogonal", above(100), ""),
    "BatchNorm prevents exploding gradients": (
        "relu, BatchNorm",
        above(100),
        "Ioffe & Szegedy 2015, section 3.3",
    ),
    "LayerNorm keeps ReLU's gradient": ("relu, LayerNorm", above(1000), ""),
    "residual connections alone keep the gradient": (
        "relu, residual",
        above(100),
        "He et al. 2016 (identity mappings), section 2",
    ),
    "branches scaled by 1/√L keep it at any depth": (
        "relu, residual × 1/√L",
        above(1000),
        "Hayou et al. 2021 (stable ResNet), section 3",
    ),
    "BatchNorm in residual branches keeps it": (
        "relu, residual BatchNorm",
        above(1000),
        "De & Smith 2020, section 3",
    ),
    "clipping cures vanishing": (CLIPPED, above(100), ""),
    "sigmoid vanishes at any weight scale": ("sigmoid, critical", below(100), ""),
}


def figure(tables: dict[str, pd.DataFrame]):
    """What each remedy makes of the gradient: decades gained or lost in a layer or block.

    Decades of the gradient's norm from output to input over the number of layers or blocks, in
    networks of 64. Marks: median over seeds with its 95 % interval, random inputs. At 0 a remedy
    keeps the gradient at any depth. Left: initialisers of plain networks; right: other remedies.
    Starred: remedies whose depth kept is more than 10 % off theory's.
    """
    decays = tables["decays"]
    shown = decays[(decays.depth <= 64) & (decays.inputs == "random")]
    # A gradient that is lost before is measured no further.
    shown = shown[shown.depth == shown.groupby("remedy").depth.transform("max")]
    first = tables["remedies"].drop_duplicates("remedy").set_index("remedy").group
    named = shown.remedy.str.partition(", ")
    label = named[0].map(lambda name: activation(name).label)
    star = shown.remedy.isin(misses(tables)).map({True: " *", False: ""})
    rate = shown.log10_decay / shown.depth
    shown = shown.assign(activation=named[0], called=label + ", " + named[2] + star, rate=rate)
    shown = shown.drop(columns="depth")
    plain = shown.remedy.map(first) == "initialiser"
    figure, [axes] = study.plot.panels(1, 2, 3.8, sharex=True)
    for ax, rows in zip(axes, (shown[plain], shown[~plain]), strict=True):
        order = rows.groupby("called").rate.median().sort_values().index
        rows = rows.set_index("called").loc[order].reset_index()
        study.plot.dots(rows, "rate", "called", hue="activation", legend=False, ax=ax)
        ax.set_xlabel("decades a layer or block")
    return figure


experiment = Experiment(
    question="Which remedies keep the gradient within a factor of 1,000, and for how many layers?",
    grid={"quick": cells(2, 1, 16), "paper": cells(16, 10, 2048)},
    measure=measure,
    figure=figure,
    claims=[
        *(
            Claim(
                name=saying,
                statement=f"{remedy}: depth at which the median over seeds of |log10| of the "
                f"decay, ‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖, first exceeds {DECADES:g}; at least that "
                "where the interval has no upper end.",
                threshold=threshold,
                judge=partial(depth_kept, remedy=remedy),
                about="saying" if source else "",
                source=source,
            )
            for saying, (remedy, threshold, source) in SAYINGS.items()
        ),
        Claim(
            name="the depths are theory's",
            statement="All remedies, random inputs: the share whose median depth kept is within 10 "
            "% of theory's, or beyond the deepest networks as theory's is; above 9/10. The figure "
            "stars the others.",
            threshold=above(0.9),
            judge=lambda tables: share_near(*beside_theory(tables)),
        ),
        Claim(
            name="images do not change the depth",
            statement="ReLU with BatchNorm: depth kept on MNIST digits over that on random inputs.",
            threshold=within(0.8, 1.25),
            judge=partial(images_over_random, remedy="relu, BatchNorm"),
        ),
    ],
    columns={
        "inputs": "random: standard normal; digits: MNIST images, projected to the width at random "
        "[-]",
        "remedy": "activation and remedy; l: the block, L: the number of blocks [-]",
        "group": "initialiser: of a plain network; block: another architecture; clipping [-]",
        "log10_decay": "‖dC/dr^(0)‖ / ‖dC/dr^(depth)‖; no deeper rows once it has passed 6 [log10]",
        "depth_kept": "where this network's |log10_decay| first exceeds 3, linear between depths; "
        "the deepest one where it never does [layers]",
        "censored": "whether it never does [-]",
        "expected_depth": "where theory's does; inf beyond its horizon [layers]",
        "clip_factor": "what clipping multiplied the gradients by [1]",
        "ratio_change": "largest relative change of the ratio of a gradient's norm to the last's "
        "[1]",
    },
    version=2,
)
