"""Attention: networks of every kind, what is missing of them, and verdicts both ways."""

import math

import numpy as np
import pandas as pd
import pytest
from verdicts import named, verdicts

from experiments import attention
from experiments.attention import KINDS, MEASURED, SHORT, SHOWN, THEORY
from study.core.columns import LAYER

DEEP = 60
APART = [
    *("skip connections keep tokens apart, pre-LN", "skip connections keep tokens apart, post-LN"),
    *("perceptrons keep them apart", "branches scaled by 1/√L keep them apart"),
    "shaped attention does without skip connections",
]


@pytest.mark.parametrize("kind", ["attention alone", "no skip, shaped", "post-LN"])
def test_tables_of_a_kind(kind):
    tables = attention.measure(kind, 8, SHOWN, [0, 1, 2, 3, 4])
    blocks, norms = tables["blocks"], tables["gradient_norms"]
    assert set(blocks.seed) == {0, 1, 2, 3, 4}
    assert sorted(set(blocks.layer)) == list(range(8))
    lost = blocks.log10_difference.isna()
    assert lost.any() == (kind == "attention alone")
    assert (blocks.log10_query.isna() == lost).all()
    assert blocks[["log10_value", "log10_upstream_norm"]].notna().all(axis=None)
    matrices = {"query", "key", "value", "output"}
    assert set(norms.matrix) == (matrices | {"hidden", "top"} if kind == "post-LN" else matrices)
    assert set(norms.columns) - set(LAYER) == {
        *("kind", "matrix", "log10_difference", "depth", "width", "seed")
    }
    other = attention.measure(kind, 8, 2, [100, 101, 102, 103, 104])
    assert set(other) == {"blocks"}
    assert sorted(set(other["blocks"].layer)) == [0, 7]


def test_the_theory_of_another_kind_is_no_theory():
    """Twelve blocks: the kinds are told apart by more than the claim's 0.2 decades."""
    tables = frames(lambda kind, depth, row: row)
    swapped = tables["blocks"].replace({"kind": dict(zip(THEORY, THEORY[::-1], strict=True))})
    assert attention.off_theory(tables).value < 0.02
    assert attention.off_theory({"blocks": swapped}).low > 0.3


def frames(change):
    """Networks of theory's norms, or a change of them, with a little noise."""
    rng = np.random.default_rng(0)
    parts = []
    for kind in KINDS:
        for depth in (2, SHORT, DEEP):
            base = attention.expected(kind if kind in THEORY else "skip / √L", depth)
            if kind in ("attention alone", "no skip"):
                base["log10_difference"] = -0.1 * 3.0 ** base.layer.clip(upper=6)
            frame = change(kind, depth, base.assign(kind=kind))
            for seed in range(10):
                noise = 1 + 0.01 * rng.normal(size=(depth, len(MEASURED)))
                parts.append(frame.assign(seed=seed, **(frame[MEASURED] * noise)))
    rows = pd.concat(parts, ignore_index=True)
    lost = rows.log10_difference < -13.8
    rows.loc[lost, ["log10_difference", "log10_query"]] = math.nan
    return {"blocks": rows}


def test_if_theory_holds_three_sayings_are_refuted_and_the_rest_supported():
    found = verdicts(attention.experiment, frames(lambda kind, depth, frame: frame))
    assert named(found, "refuted") == {*APART[1:3], "post-LN's gradient vanishes by 1/√2 a block"}
    assert set(found.values()) == {"supported", "refuted"}


def test_other_networks_get_the_other_verdicts():
    def change(kind, depth, frame):
        block = frame.layer + 1
        alone = kind in ("attention alone", "no skip")
        return frame.assign(
            log10_difference=-0.1 * block if alone else -3.0,
            log10_upstream_norm=-0.15 * (depth - block + 1),
            log10_value=-np.log10(depth),
            log10_query=-0.15 * block,
        )

    found = verdicts(attention.experiment, frames(change))
    assert found.pop("post-LN's gradient vanishes by 1/√2 a block") == "supported"
    assert found.pop("perceptrons keep them apart") == "refuted"
    assert set(found.values()) == {"refuted"}
    near = frames(lambda kind, depth, frame: frame.assign(log10_difference=-0.1))
    assert {verdicts(attention.experiment, near)[name] for name in APART} == {"supported"}


def test_the_figure_is_drawn_where_numbers_are_missing():
    from matplotlib import pyplot as plt

    shown = attention.figure(frames(lambda kind, depth, frame: frame))
    assert [ax.get_ylabel() for ax in shown.axes] == [
        f"log10 {called}" for called, _ in attention.SHOWN_AS.values()
    ]
    plt.close(shown)
