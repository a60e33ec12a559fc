"""`study verify` passes what is sound and names what is not, for each kind of damage."""

import numpy as np
import pandas as pd
import pytest
from toyhouse import ROOT, Here, change, flips, run, stored
from toyhouse import study as command

import study
from study.core.columns import Column
from study.records import tables as records
from study.report import publish
from study.runs import agreement, experiment, identities, verify
from study.runs.experiment import Experiment
from study.runs.sweep import read_results
from study.statistics.claims import judge_all


def judged(found, results):
    return judge_all(found, read_results(results, found.name, found.version))


@pytest.fixture
def results(toy, tmp_path, monkeypatch):
    """The toy's tables and verdicts, the toy being an experiment of the house."""
    found = Experiment.of(toy)
    for module in (verify, experiment):
        monkeypatch.setattr(module, "discover", lambda: ["toy"])
        monkeypatch.setattr(module, "load", lambda name: Experiment.of(toy))
    assert run(toy, tmp_path / "results", executor=Here()) == []
    claims = judged(found, tmp_path / "results")
    publish.write_claims({"toy": claims}, tmp_path / "results")
    return tmp_path / "results"


def wrong(results, recompute=3):
    return [c for c in verify.verify(results, recompute, 0) if c.wrong]


def forget_parts(results):
    """As in a copy of the results, which comes without."""
    for path in stored(results):
        path.unlink()


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
@pytest.mark.parametrize("fault", ["gone", "cut", "flipped", "empty", "other JSON"])
def test_a_damaged_file_is_named(results, name, fault):
    path = results / name
    data = path.read_bytes()
    middle = len(data) // 2
    (flipped,) = flips(data, [8 * middle + 2])
    broken = {"cut": data[:middle], "flipped": flipped, "empty": b""}
    path.write_bytes(broken.get(fault, b'{"schema": "x", "sha256": 1}'))
    if fault == "gone":
        path.unlink()
    where = [check.where for check in wrong(results)]
    assert where
    if (fault, path.suffix) != ("flipped", ".json"):  # which may be a letter of a sentence
        assert str(path.with_suffix(".csv")) in where


@pytest.mark.parametrize(
    ("name", "row", "column", "value", "words"),
    [
        ("toy/decay.csv", 6, "value", 0.1, "decay.value: 1 of 4 differ"),
        ("toy/decay.csv", 0, "seed", 7, "decay.seed: 1 of 4 differ, the first"),
        ("claims.csv", 1, "verdict", "supported", "claims.verdict: 1 of 2 differ"),
    ],
)
def test_what_was_changed_with_its_checksum_is_found(results, name, row, column, value, words):
    forget_parts(results)
    frame = records.read_table(results / name)
    frame.loc[row, column] = value
    rewrite(results / name, frame)
    (check,) = wrong(results)
    assert check.wrong.startswith(words)
    assert f"cell {row // 4} of 3 again" in check.what or name == "claims.csv"


def test_the_last_bits_of_another_machine_are_within_the_tolerance(results):
    forget_parts(results)
    path = results / "toy" / "decay.csv"
    frame = records.read_table(path)
    frame.loc[6, "value"] *= 1 + 1e-12
    rewrite(path, frame)
    assert wrong(results) == []
    assert any("within the tolerance" in c.what for c in verify.verify(results, 3, 0))


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
        "of another version of the experiment; it is made again by: "
        f"python -m study run toy --preset quick --results {results}"
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


# --- Identities ----------------------------------------------------------------------------------


@pytest.fixture
def profile():
    nets = [study.Network(a, depth=9, width=w) for a in ("relu", "linear", "tanh") for w in (1, 8)]
    with np.errstate(all="ignore"):
        return study.profile(nets, seeds=range(4), engine="dense")


def checked(frame):
    with np.errstate(all="ignore"):
        return {what.partition(",")[0]: (what, wrong) for what, wrong in identities.check(frame)}


def test_a_profile_obeys_its_identities_and_different_networks_are_not_compared(profile):
    checks = checked(profile)
    assert [*checks] == ["mantissa and exponent", "telescoping", "gradient", "Euler"]
    assert {wrong for _, wrong in checks.values()} == {""}
    assert int(checks["telescoping"][0].split()[1]) > 0.6 * len(profile)
    shuffled = profile[profile.layer % 2 == 0].reset_index(drop=True)
    assert checked(shuffled)["telescoping"] == ("telescoping, 0 pairs", "")


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("grad_norm_exponent", {"mantissa and exponent"}),
        ("grad_norm_mantissa", {"mantissa and exponent"}),
        ("log10_grad_norm", {"mantissa and exponent", "gradient", "Euler"}),
        ("log10_delta_norm", {"telescoping"}),
        ("log10_weight_factor", {"telescoping"}),
        ("log10_derivative_factor", {"telescoping"}),
        ("log10_weight_norm", {"Euler"}),
    ],
)
def test_each_identity_finds_what_breaks_it(profile, column, what):
    alive = profile.groupby(["activation", "width", "seed"])["log10_grad_norm"].transform("min")
    one = profile.index[np.isfinite(alive) & (profile.width == 1) & (profile.layer == 4)][0]
    change = 1 if column == "grad_norm_exponent" else abs(profile.loc[one, column]) * 1e-6 + 1e-6
    profile.loc[one, column] += change
    assert {name for name, (_, wrong) in checked(profile).items() if wrong} == what


# --- Parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "misnamed"])
def test_a_damaged_part_is_named(results, fault):
    path, other, _ = stored(results)
    data = path.read_bytes()
    (flipped,) = flips(data, [8 * len(data) - 22])
    misnamed = other.read_bytes()
    broken = {"cut": data[:-9], "flipped": flipped, "empty": b"", "misnamed": misnamed}
    path.write_bytes(broken[fault])
    (check,) = wrong(results, 0)
    assert (check.where, check.what) == (str(path), "part")
    assert "damaged" in check.wrong


def test_parts_that_are_there_are_looked_at_and_those_of_another_grid_counted(toy, results):
    (said,) = [c.what for c in verify.verify(results, 0, 0) if "parts" in c.what]
    assert said == "3 of 3 parts are here, equal to the tables"
    toy.GRID["quick"].pop()
    run(toy, results, executor=Here())
    publish.write_claims({"toy": judged(Experiment.of(toy), results)}, results)
    assert wrong(results, 0) == []
    (said,) = [c.what for c in verify.verify(results, 0, 0) if "parts" in c.what]
    assert said.endswith(
        "2 of 2 parts are here, equal to the tables; 1 of another grid or version, which none uses"
    )


def test_a_number_changed_with_its_checksum_is_found_in_the_parts(results):
    path = results / "toy" / "decay.csv"
    frame = records.read_table(path)
    frame.loc[6, "value"] *= 1 + 1e-15
    rewrite(path, frame)
    (check,) = wrong(results, 0)
    assert (check.what, check.wrong) == ("part", "decay: not the rows of cell 1 in the table")


# --- Another machine -----------------------------------------------------------------------------

# An activation, and the sigma_w at which one of the two is chaotic.
CHAOTIC = {"tanh": 8.0, "relu": 2**0.5}


def layers(seed):
    nets = [study.Network(name, 80, 16, sigma_w=s) for name, s in CHAOTIC.items()]
    with np.errstate(all="ignore"):
        return study.profile(nets, range(seed, seed + 12), engine="dense")


@pytest.fixture(scope="module")
def machines():
    """The same cell here, and as two other machines would round it."""
    rng = np.random.default_rng(0)
    here = layers(0)
    chaos = (here.activation == "tanh") & (here.layer > 0)
    others = []
    for draw in (1, 2):
        frame = layers(100 * draw)
        for column in here.columns[[*here].index("grad_norm_mantissa") :]:
            tame = here[column]
            if tame.dtype.kind == "f":
                tame = tame * (1 + 1e-15 * rng.integers(-2, 3, len(here)))
            frame[column] = frame[column].where(chaos, tame)
        others.append(frame.assign(seed=here.seed))
    return here, *others


def between(kept, here, elsewhere):
    return agreement.compare_chaotic("layers", kept, here, elsewhere, {})


def test_chaotic_networks_of_another_machine_are_held_to_their_distribution(machines):
    here, kept, elsewhere = machines
    assert "differ" in agreement.compare("layers", kept, here, {})
    assert not agreement.altered({"layers": kept}, {"layers": here})
    assert between(kept, here, elsewhere) == ""
    # Rounding may decide how many rows a cell has.
    assert between(here, kept, elsewhere.iloc[:-3]) == ""
    assert "rows and columns" in between(kept.iloc[:-3], here, elsewhere)


@pytest.mark.parametrize(
    ("activation", "by", "word"),
    [("relu", 1e-6, "log10_signal_norm: 12 of 960 differ"), ("tanh", 1.0, "another distribution")],
)
def test_what_chaos_does_not_explain_is_found(machines, activation, by, word):
    here, kept, elsewhere = machines
    rows = (kept.activation == activation) & (kept.layer == 40)
    changed = kept.assign(log10_signal_norm=kept.log10_signal_norm + by * rows)
    assert word in between(changed, here, elsewhere)


def test_a_few_numbers_that_alone_differ_are_no_other_machines(machines):
    kept = machines[0].copy()
    kept.loc[5:9, "active_fraction"] += 1e-6
    assert agreement.altered({"layers": kept}, {"layers": machines[0]})


def test_a_column_may_declare_its_tolerance(toy, results):
    forget_parts(results)
    path = results / "toy" / "decay.csv"
    frame = records.read_table(path)
    rewrite(path, frame.assign(value=frame["value"] * (1 + 1e-5)))
    assert len([c for c in wrong(results) if "again" in c.what]) == 3
    wide = Column("float64", "1", "what is left", tolerance=1e-4)
    change(toy, columns={**toy.COLUMNS, "value": wide})
    assert [c for c in wrong(results) if "again" in c.what] == []


def test_a_process_with_other_instructions_rounds_otherwise():
    """What `agreement` compares with: the same cell, its last bits others."""
    code = "import numpy as np; a = np.sin(np.arange(1e4)).reshape(100, 100)"
    code += "; print(hash((a @ a).tobytes()))"
    fixed = {"PYTHONHASHSEED": "0"}
    status, here, _ = command(ROOT, "-c", code, program=(), **fixed)
    assert status == 0
    assert command(ROOT, "-c", code, program=(), **fixed, **agreement.OTHER_KERNELS)[1] != here


def test_a_cell_that_fails_is_said(toy, results):
    forget_parts(results)
    change(toy, measure=lambda scale, seed: 1 / 0)
    assert [c.wrong.partition(" (")[0] for c in wrong(results)] == [
        "ZeroDivisionError: division by zero"
    ] * 3
