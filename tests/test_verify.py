"""`study verify` passes what is sound and names what is not, for each kind of damage."""

import json

import numpy as np
import pandas as pd
import pytest
from toyhouse import Here, run

import study
from study import experiment, identities, records, report, verify
from study.experiment import Experiment


@pytest.fixture
def results(toy, tmp_path, monkeypatch):
    """The toy's tables and verdicts, the toy being an experiment of the house."""
    found = Experiment.of(toy)
    for module in (verify, experiment):
        monkeypatch.setattr(module, "discover", lambda: ["toy"])
        monkeypatch.setattr(module, "load", lambda name: Experiment.of(toy))
    assert run(toy, tmp_path / "results", executor=Here()) == []
    report.write_claims([found], tmp_path / "results")
    return tmp_path / "results"


def wrong(results, recompute=3):
    return [c for c in verify.verify(results, recompute, 0) if c.wrong]


def rewrite(path, frame=None, **about):
    """A table, sound as a file, that says something else."""
    kept = records.read_about(path)
    frame = records.read_table(path) if frame is None else frame
    provenance = {k: v for k, v in kept.items() if k not in ("sha256", "schema", "conventions")}
    records.write_table(path, frame, provenance | about)


def test_sound_results_pass_every_check(results):
    checks = list(verify.verify(results, 3, 0))
    assert not [c for c in checks if c.wrong]
    said = [c.what for c in checks]
    assert sum("again, equal" in what for what in said) == 3
    assert "verdicts follow from the tables" in said
    assert sum(what == "checksum, rows, versions" for what in said) == 5
    assert len([c for c in verify.verify(results, 0, 0) if "again" in c.what]) == 0


@pytest.mark.parametrize("name", ["toy/decay.csv", "toy/ends.json", "toy/data_dictionary.csv",
                                  "claims.csv"])  # fmt: skip
@pytest.mark.parametrize("fault", ["gone", "cut", "flipped", "empty"])
def test_a_damaged_file_is_named(results, name, fault):
    path = results / name
    data = path.read_bytes()
    if fault == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:middle], "flipped": flipped, "empty": b""}[fault])
    found = wrong(results)
    if not (fault == "flipped" and path.suffix == ".json"):  # which may be a letter of a sentence
        assert any(str(path.with_suffix(".csv")) == c.where for c in found)
    else:
        assert found


def test_a_number_changed_with_its_checksum_is_found_by_computing_again(results):
    path = results / "toy" / "decay.csv"
    frame = records.read_table(path)
    frame.loc[6, "value"] *= 1 + 1e-6
    rewrite(path, frame)
    (check,) = wrong(results)
    assert "cell 1 of 3 again" in check.what
    assert check.wrong.startswith("decay.value: 1 of 4 differ")
    frame.loc[6, "value"] /= (1 + 1e-6) * (1 - 1e-12)  # as another machine might
    rewrite(path, frame)
    assert wrong(results) == []
    assert any("within 1e-09" in c.what for c in verify.verify(results, 3, 0))


def test_a_seed_changed_is_found_by_computing_again(results):
    path = results / "toy" / "decay.csv"
    frame = records.read_table(path)
    frame.loc[0, "seed"] = 7
    rewrite(path, frame)
    (check,) = wrong(results)
    assert check.wrong == "decay.seed: not what it was computed again"


def test_a_verdict_that_the_tables_do_not_give_is_found(results):
    path = results / "claims.csv"
    frame = records.read_table(path)
    frame.loc[frame["claim"] == "large", "verdict"] = "supported"
    rewrite(path, frame)
    (check,) = wrong(results)
    assert check.what == "verdicts follow from the tables"
    assert "claims.verdict" in check.wrong


@pytest.mark.parametrize(
    ("about", "word"),
    [
        ({"versions": []}, "versions []"),
        ({"versions": [{"study": "0.1.0"}]}, "versions"),
        ({"rows": 11}, "12 rows, not 11"),
        ({"configuration": {}}, "different runs"),
        ({"rows_of_cells": [4, 4]}, "rows are not those of its cells"),
        ({"rows_of_cells": [4, 4, 5]}, "rows are not those of its cells"),
    ],
)
def test_what_is_written_of_a_table_must_be_so(results, about, word):
    rewrite(results / "toy" / "decay.csv", **about)
    assert any(word in check.wrong for check in wrong(results)), wrong(results)


def test_results_of_an_older_study_or_grid_are_named(toy, results, monkeypatch):
    toy.GRID["quick"].append({"scale": 2.0, "seed": 5})
    assert [c.wrong for c in wrong(results)] == [
        "of another version of the experiment; python -m study run toy"
    ]
    toy.GRID["quick"].pop()
    monkeypatch.setattr(records, "NUMERICS_VERSION", 99)
    assert len(wrong(results)) == 1
    monkeypatch.undo()
    monkeypatch.setattr(verify, "discover", lambda: [])
    assert "that this study does not have" in wrong(results)[0].wrong


def test_a_column_that_the_dictionary_does_not_explain_and_a_table_too_few_are_named(results):
    path = results / "toy" / "data_dictionary.csv"
    frame = records.read_table(path)
    rewrite(path, frame[frame["column"] != "value"].reset_index(drop=True))
    assert any("its dictionary says" in c.wrong for c in wrong(results, 0))
    more = pd.concat([frame, frame.head(1).assign(table="third")], ignore_index=True)
    rewrite(path, more)
    assert any(c.wrong == "the table is missing" for c in wrong(results, 0))
    frame.loc[0, "meaning"] = " "
    rewrite(path, frame)
    assert any(c.wrong == "a column has no meaning" for c in wrong(results, 0))


def test_a_file_beside_a_table_that_is_not_json_is_named(results):
    (results / "toy" / "decay.json").write_text(json.dumps({"schema": "x", "sha256": 1}))
    assert any("damaged" in c.wrong for c in wrong(results, 0))


@pytest.fixture
def profile():
    nets = [study.Network(a, depth=9, width=w) for a in ("relu", "linear", "tanh") for w in (1, 8)]
    with np.errstate(all="ignore"):
        return study.profile(nets, seeds=range(4), engine="dense")


def checked(frame):
    with np.errstate(all="ignore"):
        return list(identities.check(frame))


def test_a_profile_obeys_its_checked(profile):
    found = checked(profile)
    assert [what.split(",")[0] for what, _ in found] == [
        "mantissa and exponent",
        "telescoping",
        "Euler",
    ]
    assert [wrong for _, wrong in found] == [""] * 3
    pairs = int(found[1][0].split()[1])
    assert pairs > 0.6 * len(profile)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("grad_norm_exponent", "mantissa"),
        ("grad_norm_mantissa", "mantissa"),
        ("log10_delta_norm", "telescoping"),
        ("log10_weight_factor", "telescoping"),
        ("log10_derivative_factor", "telescoping"),
        ("log10_weight_norm", "Euler"),
    ],
)
def test_each_identity_finds_what_breaks_it(profile, column, what):
    alive = profile.groupby(["activation", "width", "seed"])["log10_grad_norm"].transform("min")
    one = profile.index[np.isfinite(alive) & (profile.width == 1) & (profile.layer == 4)][0]
    change = 1 if column == "grad_norm_exponent" else profile.loc[one, column] * 1e-6 + 1e-6
    profile.loc[one, column] += change
    assert [said.split()[0].strip(",") for said, wrong in checked(profile) if wrong] == [what]


def test_layers_of_different_networks_are_not_compared(profile):
    shuffled = profile[profile.layer % 2 == 0].reset_index(drop=True)
    assert checked(shuffled)[1] == ("telescoping, 0 pairs", "")
