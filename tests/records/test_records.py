"""A table comes back bit for bit, and a damaged one does not come back at all."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toyhouse import flips

from study.core.columns import PROFILE_COLUMNS
from study.records import disk
from study.records import tables as records

FLOATS = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True, width=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.from_regex(r"[a-z,\"_ é0-9]+", fullmatch=True).map(str.strip).filter(bool)
VALUES = {
    "float64": FLOATS,
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": TEXTS | st.sampled_from(["", "nan", "a,b", '"', '""', "\r\n", ',"",', "é∂ℒ", " x "]),
}


@st.composite
def frames(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(0, 6))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(list(VALUES)))
        values = draw(st.lists(VALUES[kind], min_size=rows, max_size=rows))
        columns[name] = pd.Series(values, dtype=records._TEXT if kind == "string" else kind)
    return pd.DataFrame(columns)


def assert_same_bits(left, right):
    assert list(left.columns) == list(right.columns)
    for name in left.columns:
        assert left[name].dtype == right[name].dtype
        a, b = left[name].to_numpy(), right[name].to_numpy()
        if a.dtype == np.float64:
            assert (np.isnan(a) == np.isnan(b)).all()
            a, b = (x[~np.isnan(x)].view(np.int64) for x in (a, b))  # tells -0.0 from 0.0
        pd.testing.assert_series_equal(pd.Series(a), pd.Series(b), check_exact=True)


@given(frames())
def test_any_frame_comes_back_bit_for_bit(frame):
    again = records.Table.of(frame).frame()
    assert_same_bits(frame, again)
    assert records.Table.of(again) == records.Table.of(frame)


def test_nan_and_empty_text_are_empty_cells_and_infinities_are_words():
    frame = pd.DataFrame(
        {"x": [np.nan, np.inf, -np.inf, -0.0, 5e-324], "text": ["nan", "", "NA", "inf", " "]}
    )
    table = records.Table.of(frame)
    assert table.csv.decode() == "x,text\n,nan\ninf,\n-inf,NA\n-0.0,inf\n5e-324, \n"
    assert_same_bits(frame, table.frame())


def test_numbers_that_do_not_fit_are_damage():
    with pytest.raises(ValueError, match="not an int64"):
        records.Table(b"n\n" + b"9" * 30 + b"\n", {"n": "int64"}, 1).frame()


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (pd.DataFrame({"x": np.zeros(1, np.float32)}), "'x' has dtype float32"),
        (pd.DataFrame({"x": [1, "a"]}), "'x' has dtype object"),
        (pd.DataFrame({"x": pd.to_datetime(["2020-01-01"])}), "'x' has dtype datetime"),
        (pd.DataFrame({"x": ["a", None]}), "text that is not missing"),
        (pd.DataFrame({0: [1]}), "column 0"),
        (pd.DataFrame({" x": [1]}), "column ' x'"),
        (pd.DataFrame({"\ufeffx": [1]}), "allowed: words, each name once"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame(), "no columns"),
    ],
)
def test_what_would_not_come_back_is_refused(frame, word):
    with pytest.raises(ValueError, match=word):
        records.Table.of(frame)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "toy" / "t.csv"
    path.parent.mkdir()
    frame = pd.DataFrame({"layer": [0, 1], "status": ["ok", "dead"]})
    records.write_table(path, frame, {"configuration": {"preset": "quick"}})
    return path


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_every_prefix_and_every_bit_flip_of_a_table_is_refused(table, ending):
    path = table.with_suffix(ending)
    data = path.read_bytes()
    broken = [data[:n] for n in range(len(data) - 1)]  # the last byte is only the line's end
    if ending == ".csv":
        broken += flips(data, range(8 * len(data)))
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged.*python -m study run toy"):
            records.read_table(table)
    path.write_bytes(data)
    assert len(records.read_table(table)) == 2
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"missing.*python -m study run toy"):
        records.read_table(table)


def test_what_stands_beside_a_table(table):
    about = json.loads(table.with_suffix(".json").read_text("utf-8"))
    assert about["schema"] == {"layer": "int64", "status": "string"}
    assert about["rows"] == 2
    assert about["conventions"] == records.CONVENTIONS
    assert about["configuration"] == {"preset": "quick"}
    assert set(records.versions()) == {"study", "numpy", "scipy", "numba", "python", "blas"}


def test_the_data_dictionary_explains_every_column_or_refuses():
    assert all(all(column) for column in PROFILE_COLUMNS.values())
    assert [*PROFILE_COLUMNS][-2:] == ["status", "engine"]
    own = {"rate": "growth per layer [log10]", "label": "a name"}
    types = {"layer": "int64", "rate": "float64", "label": "string"}
    frame = records.data_dictionary({"t": types}, own)
    meanings = [PROFILE_COLUMNS["layer"].meaning, "growth per layer", "a name"]
    assert frame["meaning"].tolist() == meanings
    assert frame["unit"].tolist() == ["layers", "log10", ""]
    assert_same_bits(frame, records.Table.of(frame).frame())
    for name, kind in (("rat", "float64"), ("layer", "float64")):
        with pytest.raises(ValueError, match=rf"'{name}' \({kind}\) of table 't'"):
            records.data_dictionary({"t": {name: kind}}, own)


def test_a_failed_write_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch):
    old = {tmp_path / "a": b"old a", tmp_path / "b": b"old b"}
    disk.write_together(old)
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*b'"):
        disk.write_together(dict.fromkeys(old, b"new"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old
    with pytest.raises(FileNotFoundError):
        disk.write_atomic(tmp_path / "none" / "x", b"")
