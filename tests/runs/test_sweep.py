"""A sweep resumes, refuses what cannot work before any work, and its tables say what they are."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from toyhouse import Here, change, run, stored, tables

from study.records import tables as records
from study.runs import sweep
from study.runs.experiment import Experiment


def test_a_sweep_gives_tables_a_dictionary_and_what_they_are(toy, tmp_path, capsys):
    assert run(toy, tmp_path, executor=Here()) == []
    assert "study: toy (quick): 3 of 3 parts done after 00:0" in capsys.readouterr().err
    names = ("data_dictionary", "decay", "ends")
    assert list(tables(tmp_path)) == [f"{n}.{ending}" for n in names for ending in ("csv", "json")]
    read = sweep.read_results(tmp_path, "toy")
    assert list(read) == ["decay", "ends"]
    assert read["decay"]["seed"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    about = records.read_about(tmp_path / "toy" / "decay.csv")
    assert about["configuration"]["cells"] == toy.GRID["quick"]
    assert about["configuration"]["preset"] == "quick"
    assert (about["rows"], about["versions"]) == (12, [records.versions()])
    assert about["design"] == ""  # of no commit
    for content in tables(tmp_path).values():
        assert str(tmp_path).encode() not in content
        assert os.uname().nodename.encode() not in content


def test_a_second_run_computes_nothing_and_changes_nothing(toy, tmp_path, capsys):
    run(toy, tmp_path, executor=Here())
    before = tables(tmp_path)
    change(toy, measure=lambda scale, seed: pytest.fail("computed again"))
    run(toy, tmp_path, executor=Here())
    assert tables(tmp_path) == before
    assert "3 parts, 3 done, 0 to compute" in capsys.readouterr().err


def test_adding_a_cell_computes_that_cell_alone(toy, tmp_path, capsys):
    run(toy, tmp_path, executor=Here())
    before = {path: path.read_bytes() for path in stored(tmp_path)}
    toy.GRID["quick"].insert(0, {"scale": 9.0, "seed": 9})
    run(toy, tmp_path, executor=Here())
    assert "4 parts, 3 done, 1 to compute" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert sweep.read_results(tmp_path, "toy")["ends"]["seed"].tolist() == [9, 0, 1, 2]


def test_a_new_version_of_the_numbers_makes_every_part_stale(toy, tmp_path, monkeypatch, capsys):
    run(toy, tmp_path, executor=Here())
    change(toy, version=2)
    run(toy, tmp_path, executor=Here())
    monkeypatch.setattr(records, "NUMERICS_VERSION", records.NUMERICS_VERSION + 1)
    run(toy, tmp_path, executor=Here())
    assert capsys.readouterr().err.count("3 parts, 0 done, 3 to compute") == 3


@pytest.mark.parametrize(("fault", "word"), [("raise", "RuntimeError: the toy broke (toy.py:"),
                                             ("exit", "SystemExit: 5")])  # fmt: skip
def test_a_cell_that_fails_costs_itself_alone(toy, tmp_path, capsys, fault, word):
    toy.GRID["quick"][1]["fault"] = fault
    (failure,) = run(toy, tmp_path, executor=Here())
    assert "\n" not in failure
    assert word in failure
    assert f'"fault":"{fault}"' in failure
    assert failure in capsys.readouterr().err
    assert (len(stored(tmp_path)), tables(tmp_path)) == (2, {})
    toy.GRID["quick"][1]["fault"] = ""
    assert run(toy, tmp_path, executor=Here()) == []
    assert "3 parts, 2 done, 1 to compute" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["layer", "order"])
def test_cells_whose_tables_do_not_fit_together_are_refused(toy, tmp_path, lost):
    original = toy.measure

    def measure(scale, seed):
        made = original(scale, seed)
        ends = made["ends"].drop(columns="layer") if lost == "layer" else made["ends"].iloc[:, ::-1]
        return made if seed < 2 else {**made, "ends": ends}

    change(toy, measure=measure)
    with pytest.raises(ValueError, match="table 'ends' of toy has the columns"):
        run(toy, tmp_path, executor=Here())


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "", "Big", "data_dictionary"])
def test_a_table_cannot_leave_its_folder(toy, tmp_path, name):
    original = toy.measure
    change(toy, measure=lambda scale, seed: {name: original(scale, seed)["decay"]})
    toy.GRID["quick"] = toy.GRID["quick"][:1]
    (failure,) = run(toy, tmp_path, executor=Here())
    assert f"table name {name!r} is not allowed" in failure


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ({"scale": float("nan"), "seed": 1}, "not JSON compliant"),
        ({"scale": (1, 2), "seed": 1}, "a tuple"),
        ({5: 2}, "a name that is not text"),
        ({"scale": 1.0}, "missing a required argument: 'seed'"),
        ({"scale": 1.0, "seed": 1, "typo": 2}, "unexpected keyword argument 'typo'"),
        ({"scale": 0.5, "seed": 0}, "occurs twice"),
        ({"scale": object(), "seed": 1}, "not JSON serializable"),
    ],
)
def test_a_cell_that_is_not_allowed_stops_before_work(toy, tmp_path, cell, word):
    toy.GRID["quick"].append(cell)
    with pytest.raises(ValueError, match=r"grid\['quick'\] cell .*" + word):
        run(toy, tmp_path / "results", executor=Here())
    assert not (tmp_path / "results").exists()


def test_what_else_cannot_work_is_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="preset 'long' is unknown; allowed: quick, paper"):
        run(toy, tmp_path, preset="long")
    with pytest.raises(ValueError, match="workers 0 is not allowed; allowed: at least 1"):
        run(toy, tmp_path, workers=0)
    del toy.COLUMNS["value"]
    with pytest.raises(ValueError, match=r"'value' .*table 'decay'"):
        run(toy, tmp_path, executor=Here())
    del toy.experiment
    with pytest.raises(ValueError, match=r"toy\.experiment None .* experiment = Experiment\("):
        Experiment.of(toy)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("question", " ", "a sentence"),
        ("grid", {"quick": []}, "non-empty list of dicts for each of quick and paper"),
        ("claims", ["A"], "a list of Claim"),
        ("columns", {"x": 1}, "a dict from column to meaning"),
        ("measure", 3, "a function of a cell"),
        ("figure", None, "a function of the tables"),
        ("version", "1", "an integer"),
    ],
)
def test_an_experiment_that_breaks_the_contract_is_refused(toy, field, value, word):
    with pytest.raises(ValueError, match=rf"experiment\.{field} .* not allowed; allowed: .*{word}"):
        change(toy, **{field: value})


def test_tables_of_two_runs_are_not_read_together(toy, tmp_path):
    run(toy, tmp_path, executor=Here())
    old = {path: path.read_bytes() for path in (tmp_path / "toy").glob("ends.*")}
    toy.GRID["quick"].pop()
    run(toy, tmp_path, executor=Here())
    for path, data in old.items():
        path.write_bytes(data)
    with pytest.raises(ValueError, match=r"ends.csv is damaged.*python -m study run toy"):
        sweep.read_results(tmp_path, "toy")


def test_temporary_files_of_a_killed_run_are_cleared(toy, tmp_path):
    store = tmp_path / "toy" / ".parts"
    store.mkdir(parents=True)
    ending = f"{'0f' * 8}.tmp"
    left = [store / f".x.part.{ending}", tmp_path / "toy" / f".decay.csv.{ending}"]
    for path in left:
        path.write_bytes(b"half")
    run(toy, tmp_path, executor=Here())
    assert not any(path.exists() for path in left)


def test_tables_are_kept_as_parquet_if_asked_and_as_csv_again(toy, tmp_path):
    pytest.importorskip("pyarrow")
    run(toy, tmp_path, executor=Here())
    before, read = tables(tmp_path), sweep.read_results(tmp_path, "toy")
    run(toy, tmp_path, executor=Here(), kind="parquet")
    folder = tmp_path / "toy"
    assert {path.name for path in folder.glob("*.parquet")} == {"decay.parquet", "ends.parquet"}
    assert not (folder / "decay.csv").exists()
    for name, frame in sweep.read_results(tmp_path, "toy").items():
        pd.testing.assert_frame_equal(frame, read[name], check_exact=True)
    data = (folder / "decay.parquet").read_bytes()
    (folder / "decay.parquet").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="damaged"):
        sweep.read_results(tmp_path, "toy")
    run(toy, tmp_path, executor=Here())
    assert tables(tmp_path) == before


def test_the_design_is_the_commit_that_changed_the_experiment_last_and_none_if_it_is_changed(
    tmp_path, monkeypatch
):
    def git(*words):
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True)
        return done.stdout.strip()

    module = SimpleNamespace(__file__=str(tmp_path / "asked.py"))
    monkeypatch.setitem(sys.modules, "asked", module)
    (tmp_path / "asked.py").write_text("1")
    asked = SimpleNamespace(module="asked")
    assert sweep.design(asked) == ""
    git("init")
    git("add", "asked.py")
    git("commit", "-m", "asked")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "other.py").write_text("2")
    git("add", "other.py")
    git("commit", "-m", "other")
    assert sweep.design(asked) == commit != git("rev-parse", "HEAD")
    (tmp_path / "asked.py").write_text("3")
    assert sweep.design(asked) == ""
