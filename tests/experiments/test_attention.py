"""Attention: networks of every kind, what is missing of them, and verdicts both ways."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments import attention
from experiments.attention import KINDS, MEASURED, SHORT, SHOWN, THEORY
from study.core.columns import LAYER


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
    tables = frames()
    swapped = tables["blocks"].replace({"kind": dict(zip(THEORY, THEORY[::-1], strict=True))})
    assert attention.off_theory(tables).value < 0.02
    assert attention.off_theory({"blocks": swapped}).low > 0.3


def frames():
    """Networks of theory's norms, with a little noise."""
    rng = np.random.default_rng(0)
    parts = []
    for kind in KINDS:
        for depth in (2, SHORT, 60):
            frame = attention.expected(kind if kind in THEORY else "skip / √L", depth)
            if kind in ("attention alone", "no skip"):
                frame["log10_difference"] = -0.1 * 3.0 ** frame.layer.clip(upper=6)
            for seed in range(10):
                noise = 1 + 0.01 * rng.normal(size=(depth, len(MEASURED)))
                parts.append(frame.assign(kind=kind, seed=seed, **(frame[MEASURED] * noise)))
    rows = pd.concat(parts, ignore_index=True)
    lost = rows.log10_difference < -13.8
    rows.loc[lost, ["log10_difference", "log10_query"]] = math.nan
    return {"blocks": rows}


def test_the_figure_is_drawn_where_numbers_are_missing():
    from matplotlib import pyplot as plt

    shown = attention.figure(frames())
    assert [ax.get_ylabel() for ax in shown.axes] == [
        f"log10 {called}" for called, _ in attention.SHOWN_AS.values()
    ]
    plt.close(shown)
