"""`study verify` passes what is sound and names what is not, for each kind of damage."""

import json

import numpy as np
import pandas as pd
import pytest
from toyhouse import Here, run, stored

import study
from study import experiment, identities, march, nudge, records, report, verify
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
    forget_parts(results)
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
    forget_parts(results)
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


def test_a_profile_obeys_its_identities(profile):
    found = checked(profile)
    assert [what.split(",")[0] for what, _ in found] == [
        "mantissa and exponent",
        "telescoping",
        "gradient",
        "Euler",
    ]
    assert [wrong for _, wrong in found] == [""] * 4
    pairs = int(found[1][0].split()[1])
    assert pairs > 0.6 * len(profile)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("grad_norm_exponent", ["mantissa"]),
        ("grad_norm_mantissa", ["mantissa"]),
        ("log10_grad_norm", ["mantissa", "gradient", "Euler"]),
        ("log10_delta_norm", ["telescoping"]),
        ("log10_weight_factor", ["telescoping"]),
        ("log10_derivative_factor", ["telescoping"]),
        ("log10_weight_norm", ["Euler"]),
    ],
)
def test_each_identity_finds_what_breaks_it(profile, column, what):
    alive = profile.groupby(["activation", "width", "seed"])["log10_grad_norm"].transform("min")
    one = profile.index[np.isfinite(alive) & (profile.width == 1) & (profile.layer == 4)][0]
    change = 1 if column == "grad_norm_exponent" else abs(profile.loc[one, column]) * 1e-6 + 1e-6
    profile.loc[one, column] += change
    assert [said.split()[0].strip(",") for said, wrong in checked(profile) if wrong] == what


def test_layers_of_different_networks_are_not_compared(profile):
    shuffled = profile[profile.layer % 2 == 0].reset_index(drop=True)
    assert checked(shuffled)[1] == ("telescoping, 0 pairs", "")


# --- Parts ---------------------------------------------------------------------------------------


def test_parts_that_are_there_are_looked_at(results):
    (said,) = [c.what for c in verify.verify(results, 0, 0) if "parts" in c.what]
    assert said == "3 of 3 parts are here, equal to the tables"


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "misnamed"])
def test_a_damaged_part_is_named(results, fault):
    path, other, _ = stored(results)
    data = path.read_bytes()
    flipped = data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]
    misnamed = other.read_bytes()
    path.write_bytes(
        {"cut": data[:-9], "flipped": flipped, "empty": b"", "misnamed": misnamed}[fault]
    )
    (check,) = wrong(results, 0)
    assert (check.where, check.what) == (str(path), "part")
    assert "damaged" in check.wrong


def test_parts_of_another_grid_are_counted(toy, results):
    toy.GRID["quick"].pop()
    run(toy, results, executor=Here())
    report.write_claims([Experiment.of(toy)], results)
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


# --- Layers --------------------------------------------------------------------------------------

LAYERED = """
import study

COLUMNS = {}
GRID = {"quick": [{"seed": 0}, {"seed": 1}], "paper": [{"seed": 0}]}
CLAIMS = []

def measure(seed):
    nets = [study.Network(a, 80, 16, sigma_w=s) for a, s in (("tanh", 8.0), ("relu", 2**0.5))]
    return {"layers": study.profile(nets, [seed], engine="dense")}

def cost(seed):
    return 0.01, 2**20
"""


@pytest.fixture
def layered(toy, results):
    """Tables of layers, of a chaotic and of a tame network; no parts are kept."""
    exec(LAYERED, vars(toy))
    run(toy, results, executor=Here())
    forget_parts(results)
    for left in (results / "toy").glob("*"):
        if left.stem in ("decay", "ends"):
            left.unlink()
    return results / "toy" / "layers.csv"


def of_layers(path, recompute=2):
    """The checks of the layers, without those of the toy's verdicts, which are gone."""
    return [c for c in verify.verify(path.parents[1], recompute, 0) if "verdicts" not in c.what]


def test_layers_computed_again_obey_euler(layered, monkeypatch):
    checks = of_layers(layered)
    assert not [c for c in checks if c.wrong]
    assert [c.what for c in checks if "Euler" in c.what] == [
        f"cell {place}: Euler in 160 layers" for place in range(2)
    ]
    plain = march.Dense.backward

    def off(self, k, delta, out):
        plain(self, k, delta, out)
        if k == 20:
            out *= 1 + 1e-6

    monkeypatch.setattr(march.Dense, "backward", off)
    found = [c for c in of_layers(layered) if c.wrong and "Euler" in c.what]
    assert len(found) == 2


def test_who_looks_on_changes_no_bit(layered):
    nets = [study.Network(a, 60, 8, sigma_w=5.0, sigma_b=0.3) for a in ("tanh", "relu", "gelu")]
    for engine in ("dense", "matrix_free"):
        plain = study.profile(nets, [0, 1], batch=2, engine=engine)
        with identities.watched() as seen:
            assert study.profile(nets, [0, 1], batch=2, engine=engine).equals(plain)
        assert (seen.layers, seen.wrong) == (360, "")
    assert study.profile(nets, [0, 1], batch=2, engine=engine).equals(plain)
    assert seen.layers == 360


@pytest.mark.parametrize("column", ["log10_delta_norm", "log10_weight_factor", "log10_grad_norm"])
def test_a_norm_changed_with_its_checksum_is_found_by_the_identities_alone(layered, column):
    frame = records.read_table(layered)
    frame.loc[120, column] *= 1 + 1e-6
    rewrite(layered, frame)
    found = [c for c in of_layers(layered, 0) if c.wrong]
    whats = {c.what.split(",")[0] for c in found}
    assert whats
    assert whats <= {"mantissa and exponent", "telescoping", "gradient"}


# --- Another machine -----------------------------------------------------------------------------


def test_what_another_machine_computed_is_held_to_what_rounding_moves(toy, layered):
    """Its last bits are others: those of nudges that no check uses."""
    with nudge.nudged(4):
        frame = pd.concat([toy.measure(seed)["layers"] for seed in (0, 1)], ignore_index=True)
    kept = records.read_table(layered)
    chaos = frame.activation == "tanh"
    off = (frame.log10_grad_norm - kept.log10_grad_norm).abs()
    assert off[chaos].max() > 1e-6
    assert off[~chaos].max() < 1e-12
    rewrite(layered, frame)
    checks = of_layers(layered)
    assert not [c for c in checks if c.wrong]
    assert sum("within 1e-09 or what rounding moves" in c.what for c in checks) == 2
    frame.loc[frame.index[~chaos][10], "log10_signal_norm"] += 1e-6
    rewrite(layered, frame)
    (check,) = [c for c in of_layers(layered) if c.wrong]
    assert "log10_signal_norm: 1 of 160 differ" in check.wrong


def test_a_chaotic_number_that_alone_differs_is_no_other_machines(layered):
    frame = records.read_table(layered)
    frame.loc[5, "active_fraction"] += 1e-6
    rewrite(layered, frame)
    (check,) = [c for c in of_layers(layered) if c.wrong]
    assert "active_fraction: 1 of 160 differ" in check.wrong
