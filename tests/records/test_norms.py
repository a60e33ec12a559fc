"""The table of gradient norms: rows of the frame, rounded and not otherwise changed."""

import numpy as np

import study
from study.core.columns import PROFILE_COLUMNS
from study.records import norms
from study.records.tables import read_table, schema, write_table
from study.runs import identities


def test_rows_are_those_of_the_frame_to_nine_digits_and_survive_a_file(tmp_path):
    nets = [study.Network("relu", depth, 4, sigma_w) for depth in (3, 40) for sigma_w in (0.1, 9.0)]
    df = study.profile(nets, seeds=range(3), batch=2).assign(remedy="none")
    rows = norms.gradient_norms(df, 5)
    assert list(rows) == ["remedy", *PROFILE_COLUMNS]
    whole = df.merge(rows[["depth", "sigma_w", "seed", "layer"]], how="inner")
    assert len(whole) == len(rows)
    for name in norms.COLUMNS:
        np.testing.assert_allclose(rows[name], whole[name], rtol=norms.TOLERANCE / 2)
    assert rows.layer[rows.depth == 40].unique().tolist() == [0, 3, 20, 36, 39]
    assert not [wrong for _, wrong in identities.check(rows) if wrong]
    write_table(tmp_path / "gradient_norms.csv", rows, {})
    again = read_table(tmp_path / "gradient_norms.csv")
    assert schema(again) == schema(rows)
    np.testing.assert_array_equal(again.log10_grad_norm, rows.log10_grad_norm)


def test_a_wrong_factor_is_still_noticed():
    """The control of the tolerance: the seventh digit."""
    df = study.profile(study.Network("tanh", 40, 8), seeds=[0])
    rows = norms.gradient_norms(df, 9)
    rows.loc[1, "log10_weight_factor"] += 1e-6
    assert any(wrong for _, wrong in identities.check(rows))
