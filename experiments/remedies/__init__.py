"""For how many layers each of the usual remedies keeps the gradient within three decades."""

from functools import partial

import numpy as np
import pandas as pd

import study
from experiments.remedies import catalogue
from experiments.remedies.catalogue import (
    CLIPPED,
    DECADES,
    DEPTHS,
    EXAMPLES,
    GROUP,
    WIDTH,
    expected_depth,
)
from study.core.activations import activation
from study.runs.experiment import Experiment
from study.sampling.draws import Draws
from study.statistics.claims import Claim, Estimate, above, below, median_interval, within
from study.statistics.depths import distance_from, lost_at, median_lost_at


def measure(inputs: str, seed: int, depths: list[int]) -> dict[str, pd.DataFrame]:
    """Every remedy of one seed, to some four times the depth that theory gives it."""
    draws = Draws(seed, "remedies", WIDTH)
    x, u = draws.normal("inputs", 0, EXAMPLES), draws.normal("cotangent", 0, EXAMPLES)
    if inputs == "digits":
        x = draws.digits(EXAMPLES) / np.float32(28)  # pixels in a row
    cells = {
        name: [d for d in depths if d <= catalogue.reach(name)] or depths[:1] for name in GROUP
    }
    found, clips = catalogue.decays(draws, x, u, cells), []
    for d in cells[CLIPPED]:
        found[CLIPPED, d], *clip = catalogue.clipping(draws, x, u, d)
        clips.append((inputs, seed, d, *clip))
    rows = [(inputs, n, d, seed, found[n, d]) for n in GROUP for d in cells[n]]
    table = pd.DataFrame(rows, columns=["inputs", "remedy", "depth", "seed", "log10_decay"])
    lost = (table.log10_decay.abs() > 2 * DECADES).groupby(table.remedy).cumsum()
    kept = []
    for n, own in table.groupby("remedy", sort=False):
        at = lost_at(own.depth, own.log10_decay.abs(), DECADES)
        kept.append((inputs, n, GROUP[n], seed, *at, expected_depth(n)))
    names = ["inputs", "remedy", "group", "seed", "depth_kept", "censored", "expected_depth"]
    clip_names = ["inputs", "seed", "depth", "clip_factor", "ratio_change"]
    return {
        "decays": table[lost <= 1],
        "remedies": pd.DataFrame(kept, columns=names),
        "clipping": pd.DataFrame(clips, columns=clip_names),
    }


def _kept(tables: dict[str, pd.DataFrame], remedy: str, inputs: str = "random") -> Estimate:
    own = tables["decays"]
    return median_lost_at(own[(own.inputs == inputs) & (own.remedy == remedy)], DECADES)


def _images_over_random(tables: dict[str, pd.DataFrame], remedy: str) -> Estimate:
    top, bottom = (_kept(tables, remedy, inputs) for inputs in ("digits", "random"))
    ends = top.low / bottom.high, top.high / bottom.low
    return Estimate(top.value / bottom.value, *ends, min(top.n, bottom.n))


def _ratio_change(tables: dict[str, pd.DataFrame]) -> Estimate:
    worst = tables["clipping"].groupby(["inputs", "seed"]).ratio_change.max()
    return median_interval(np.log10(np.maximum(worst, 1e-17)))


def _beside_theory(tables: dict[str, pd.DataFrame]) -> Estimate:
    own = tables["remedies"]
    own = own[(own.inputs == "random") & (4 * own.expected_depth <= catalogue.CAPS["block"])]
    expected = own.groupby("remedy").expected_depth.first()
    return distance_from(expected, own.pivot(index="seed", columns="remedy", values="depth_kept"))


SAYINGS = {
    "ReLU solves vanishing gradients": ("relu, PyTorch default", above(100)),
    "Xavier keeps tanh's gradient": ("tanh, Xavier", above(1000)),
    "He keeps ReLU's gradient": ("relu, He", above(1000)),
    "SELU is self-normalising, its gradient too": ("selu, LeCun", above(1000)),
    "orthogonal weights keep the gradient, sigmoid's too": ("sigmoid, orthogonal", above(100)),
    "BatchNorm prevents exploding gradients": ("relu, BatchNorm", above(100)),
    "LayerNorm keeps ReLU's gradient": ("relu, LayerNorm", above(1000)),
    "residual connections alone keep the gradient": ("relu, residual", above(100)),
    "branches scaled by 1/√L keep it at any depth": ("relu, residual × 1/√L", above(1000)),
    "BatchNorm in residual branches keeps it": ("relu, residual BatchNorm", above(1000)),
    "clipping cures vanishing": (CLIPPED, above(100)),
    "sigmoid vanishes at any weight scale": ("sigmoid, critical", below(100)),
}
"""Sayings, the remedy that each is about and the depth that it means, at the least."""


def figure(tables: dict[str, pd.DataFrame]):
    """What each remedy makes of the gradient: decades gained or lost in a layer or block.

    Decades of the gradient's norm from output to input over the number of layers or blocks, in
    networks of 64. Marks: median over seeds with its 95 % interval, random inputs. At 0 a remedy
    keeps the gradient at any depth. Left: initialisers of plain networks; right: other remedies.
    """
    decays = tables["decays"]
    shown = decays[(decays.depth <= 64) & (decays.inputs == "random")]
    # A gradient that is lost before is measured no further.
    shown = shown[shown.depth == shown.groupby("remedy").depth.transform("max")]
    first = tables["remedies"].drop_duplicates("remedy").set_index("remedy").group
    named = shown.remedy.str.partition(", ")
    shown = shown.assign(
        activation=named[0],
        called=named[0].map(lambda name: activation(name).label) + ", " + named[2],
        rate=shown.log10_decay / shown.depth,
    ).drop(columns="depth")
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
    grid={
        preset: [
            {"inputs": inputs, "seed": seed, "depths": [d for d in DEPTHS if d <= deepest]}
            for inputs, count in (("random", seeds), ("digits", seeds // 2))
            for seed in range(count)
        ]
        for preset, seeds, deepest in (("quick", 6, 64), ("paper", 16, 2048))
    },
    measure=measure,
    figure=figure,
    claims=[
        Claim(
            name=saying,
            statement=f"{remedy}: depth at which the median over seeds of |log10| of the "
            f"gradient's decay first exceeds {DECADES:g}; at least that where the interval has no "
            "upper end.",
            threshold=threshold,
            judge=partial(_kept, remedy=remedy),
            about="saying",
        )
        for saying, (remedy, threshold) in SAYINGS.items()
    ]
    + [
        Claim(
            name="clipping changes no ratio of layers",
            statement="log10 of the largest relative change of any gradient's norm over the last "
            "one's; median over networks.",
            threshold=below(-12),
            judge=_ratio_change,
        ),
        Claim(
            name="the depths are theory's",
            statement="Remedies that theory gives at most a quarter of the depth measured: "
            "|measured / expected - 1| of the median depth kept, the median over remedies.",
            threshold=below(0.05),
            judge=_beside_theory,
        ),
        Claim(
            name="images do not change the depth",
            statement="ReLU with BatchNorm: depth kept on MNIST digits over that on random inputs.",
            threshold=within(0.8, 1.25),
            judge=partial(_images_over_random, remedy="relu, BatchNorm"),
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
)
