"""`study verify` passes what is sound and names what is not, for each kind of damage."""

import json

import numpy as np
import pandas as pd
import pytest
from toyhouse import EXPERIMENT, Here, run, stored

import study
from study.arithmetic import formats
from study.arithmetic.plain import PlainRun
from study.engines import blocks, dense, jacobian
from study.records import tables as records
from study.report import publish
from study.runs import experiment, identities, nudge, verify
from study.runs.experiment import Experiment


@pytest.fixture
def results(toy, tmp_path, monkeypatch):
    """The toy's tables and verdicts, the toy being an experiment of the house."""
    found = Experiment.of(toy)
    for module in (verify, experiment):
        monkeypatch.setattr(module, "discover", lambda: ["toy"])
        monkeypatch.setattr(module, "load", lambda name: Experiment.of(toy))
    assert run(toy, tmp_path / "results", executor=Here()) == []
    claims = publish.judge(found, tmp_path / "results")
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
    publish.write_claims({"toy": publish.judge(Experiment.of(toy), results)}, results)
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
"""


def measured_anew(toy, results, source):
    """The toy's tables when it measures as ``source`` says; neither its own nor parts are left."""
    exec(source + EXPERIMENT, vars(toy))
    run(toy, results, executor=Here())
    forget_parts(results)
    for left in (results / "toy").glob("*"):
        if left.stem in ("decay", "ends"):
            left.unlink()
    return results / "toy"


@pytest.fixture
def layered(toy, results):
    """Tables of layers, of a chaotic and of a tame network; no parts are kept."""
    return measured_anew(toy, results, LAYERED) / "layers.csv"


def of_layers(path, recompute=2):
    """The checks of the layers, without those of the toy's verdicts, which are gone."""
    return [c for c in verify.verify(path.parents[1], recompute, 0) if "verdicts" not in c.what]


def test_layers_computed_again_obey_euler(layered, monkeypatch):
    checks = of_layers(layered)
    assert not [c for c in checks if c.wrong]
    assert [c.what for c in checks if "Euler" in c.what] == [
        f"cell {place}: Euler in 160 layers" for place in range(2)
    ]
    plain = dense.Dense.backward

    def off(self, k, delta, out):
        plain(self, k, delta, out)
        if k == 20:
            out *= 1 + 1e-6

    monkeypatch.setattr(dense.Dense, "backward", off)
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


CHOOSING = """
import pandas as pd
import study
from study.sampling import gaussian
from study.arithmetic.formats import FORMATS
from study.arithmetic.plain import PlainRun

COLUMNS = {"rate": "a name [-]", "chosen": "whether train_loss is lowest [-]",
           "train_loss": "a chaotic number [-]", "half": "of a float16 run [-]"}
GRID = {"quick": [{"seed": 0}, {"seed": 1}], "paper": [{"seed": 0}]}
CLAIMS = []

def measure(seed):
    def losses(net, seeds):
        frame = study.profile(net, seeds, engine="dense").query("layer == 0")
        return frame.log10_grad_norm.to_numpy()
    chaos = losses(study.Network("tanh", 90, 16, sigma_w=8.0), [seed, seed + 10, seed + 20])
    tame = losses(study.Network("relu", 9, 16, sigma_w=1.4), [seed, seed + 10, seed + 20])
    W = [gaussian.normal(gaussian.key(seed), k, (64, 64)) / 8 for k in range(9)]
    run = PlainRun(W, gaussian.normal(gaussian.key(seed), 9, (32, 64)), "tanh", FORMATS["float16"])
    nets = pd.DataFrame({"activation": ["tanh"] * 3 + ["relu"] * 3, "seed": seed,
                         "rate": [1.0, 2.0, 3.0] * 2, "train_loss": [*(1e6 * chaos % 1), *tame],
                         "half": [float(row.sum()) for row in run.r[-1][:6]]})
    best = nets.groupby("activation").train_loss.idxmin()
    nets.insert(3, "chosen", nets.index.isin(best))
    return {"nets": nets, "best": nets.loc[best, ["activation", "rate", "train_loss"]]}
"""


def choosing(seed, number=None):
    """What another machine makes of a cell: its last bits are those of a nudge of no check."""
    space = {}
    exec(CHOOSING, space)
    if number is None:
        return space["measure"](seed)
    with nudge.nudged(number):
        return space["measure"](seed)


@pytest.fixture
def chosen(toy, results):
    """Tables of a choice by chaotic numbers, and of float16 runs, of two cells."""
    return measured_anew(toy, results, CHOOSING)


def kept_from(folder, tables, **change):
    """Keep the tables of two cells, with numbers of the first changed: column -> (row, by)."""
    frame = pd.concat([cell["nets"] for cell in tables], ignore_index=True)
    for column, (row, by) in change.items():
        frame.loc[row, column] += by
    rewrite(folder / "nets.csv", frame)
    best = pd.concat([cell["best"] for cell in tables], ignore_index=True)
    rewrite(folder / "best.csv", best)
    return [c for c in of_layers(folder / "nets.csv") if c.wrong]


def test_a_choice_by_chaotic_numbers_may_be_another_on_another_machine(chosen):
    plain = choosing(0)["nets"]
    others = {n: choosing(0, n) for n in range(50, 60)}
    flipped = [n for n, t in others.items() if not t["nets"].chosen.equals(plain.chosen)]
    assert flipped
    for number in flipped[:2]:
        tables = [others[number], choosing(1, number)]
        assert not np.array_equal(tables[0]["nets"].half, plain.half)
        assert kept_from(chosen, tables) == []


def test_what_chaos_does_not_reach_is_held_though_choices_flip(chosen):
    """Negative controls, each a small but real amount, in a cell full of chaos."""
    tables = [choosing(seed, 50) for seed in (0, 1)]
    plain = tables[0]["nets"]
    row = plain.index[(plain.activation == "relu") & ~plain.chosen][0]
    found = kept_from(chosen, tables, train_loss=(row, 1e-6))
    assert any("nets.train_loss: 1 of 6 differ" in c.wrong for c in found)
    found = kept_from(chosen, tables, half=(2, 0.5))
    assert any("nets.half: 1 of 6 differ" in c.wrong for c in found)
    tables[0]["nets"].loc[plain.activation == "relu", "chosen"] = [True, True, True]
    found = kept_from(chosen, tables)
    assert any(c.what == "choice" for c in found)


def survey(number):
    """Five networks as a machine may see them: tame, tame, diverged, chaotic, near its end."""
    noise = np.random.default_rng(number).normal(size=5)
    still, chaos = np.array([1e-8, 1e-8, 0, 0, 0]), np.array([0, 0, 0, 0.2, 0.2])
    frame = pd.DataFrame({"rate": [1e-4, 3e-4, 0.03, 1e-3, 0.01], "status": "ok", "steps": 150})
    frame["train_loss"] = 2 + (still + chaos) * noise
    frame["accuracy"] = [0.11, 0.12, np.nan, *(0.4 + 0.03 * noise[3:].round())]
    frame["growth"] = [1e-6, 1e-6, 9.7, 1e-3, 0.1] + 1e-7 * noise
    return diverged(frame, 2, 3)


def diverged(frame, row, step, growth=9.7):
    frame = frame.copy()
    frame.loc[row, ["status", "steps", "train_loss", "accuracy"]] = "diverged", step, np.inf, np.nan
    frame.loc[row, "growth"] = growth + 1e-7
    return frame


def of_survey(kept, first=None, tame=False):
    """What is wrong with it beside nudged runs; if tame, as if none had found chaos."""
    runs = [survey(0) if first is None else first, *map(survey, range(1, 9))]
    reach = nudge.Reach(runs)
    if tame:
        reach.chaotic[:] = False
    return verify._compare("nets", kept, runs[0], 1e-9, reach)


def test_an_event_of_a_chaotic_network_may_be_another_on_another_machine():
    plain, late = survey(50), diverged(survey(50), 4, 56, 2.7)
    assert of_survey(plain) == ""
    assert of_survey(late) == ""  # which no nudge found
    assert "status" in of_survey(late, tame=True)
    assert of_survey(plain, first=late) == ""
    assert of_survey(diverged(survey(50), 4, 70, 3.1), first=late) == ""


@pytest.mark.parametrize(
    ("row", "change", "column"),
    [
        (0, {"status": "diverged"}, "status"),
        (0, {"steps": 149}, "steps"),
        (0, {"train_loss": np.inf}, "train_loss"),
        (0, {"train_loss": 2.0001}, "train_loss"),
        (0, {"accuracy": 0.61}, "accuracy"),
        (2, {"status": "ok"}, "status"),
        (2, {"steps": 4}, "steps"),
        (2, {"train_loss": 2.0}, "train_loss"),
        (4, {"status": "exploded"}, "status"),
        (4, {"status": "diverged"}, "status"),  # and yet it has a loss
        (4, {"train_loss": np.inf}, "train_loss"),  # of no run that ended
        (4, {"train_loss": 1e9}, "train_loss"),
    ],
)
def test_an_event_that_no_nudge_makes_plausible_is_found(row, change, column):
    """Negative controls: events of tame networks, and events of chaotic ones that no run knows."""
    kept = survey(50)
    kept.loc[row, [*change]] = [*change.values()]
    assert f"nets.{column}: " in of_survey(kept)


def test_a_network_that_is_tame_does_not_diverge_on_another_machine():
    assert "nets.status: " in of_survey(diverged(survey(50), 0, 56))
    recovered = survey(50)
    recovered.loc[2] = recovered.loc[3].where(recovered.columns != "rate", 0.03)
    assert "nets.status: " in of_survey(recovered.astype(survey(50).dtypes))


@pytest.mark.parametrize(("column", "value"), [("steps", 151), ("steps", -1), ("growth", 1e3),
                                               ("rate", 0.011)])  # fmt: skip
def test_the_numbers_of_an_event_are_held_to_what_the_runs_span(column, value):
    late = diverged(survey(50), 4, 56, 2.7)
    late.loc[4, column] = value
    assert f"nets.{column}: " in of_survey(late)


def test_a_number_in_float32_may_leap_as_its_like_do():
    """A unit that passes its kink in one run of twenty; in float64 it does not."""
    runs = [pd.DataFrame({"spread": np.array([0.8, 0.9, 0.7])}) for _ in range(9)]
    for n, frame in enumerate(runs):
        frame.spread += np.array([1e-7, 1e-7, 1e-15]) * n
    runs[5].loc[1, "spread"] += 1e-3
    reach = nudge.Reach(runs)
    for row, off, found in ((0, 5e-4, ""), (0, 5e-3, "nets.spread"), (2, 5e-4, "nets.spread")):
        kept = runs[0].copy()
        kept.loc[row, "spread"] += off
        wrong = verify._compare("nets", kept, runs[0], 1e-9, reach)
        assert wrong.partition(":")[0] == found


def test_a_nudge_that_makes_a_cell_fail_excuses_nothing(toy, chosen, monkeypatch):
    tables = [choosing(seed, 50) for seed in (0, 1)]
    monkeypatch.setattr(nudge, "compute", lambda *part: (b"", "ValueError: a fault", (0, 0)))
    found = kept_from(chosen, tables)
    assert [c.wrong for c in found] == [
        "with its last bits flipped, the cell fails: ValueError: a fault"
    ] * 2


def test_a_nudge_moves_what_is_rounded_after_its_sum_and_no_prescribed_order():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 200))
    for name, number in formats.FORMATS.items():
        one, two = number.rounded(a), number.rounded(b)
        plain = number.matmul(one, two)
        with nudge.nudged(1):
            assert np.array_equal(number.matmul(one, two), plain) == (name == "float16_narrow")
        assert np.array_equal(number.matmul(one, two), plain)


# --- Plain runs, blocks and Jacobians ------------------------------------------------------------


def plain_run(kink):
    rng = np.random.default_rng(1)
    for number in formats.FORMATS.values():
        W = [rng.normal(size=(24, 24)) / 4 for _ in range(6)]
        W[2][:, :5] = 0  # z = 0, at the kink
        run = PlainRun(W, rng.normal(size=(5, 24)), "relu", number)
        for k, delta in enumerate(run.backward(np.ones((5, 24)), kink)):
            run.gradient(k, delta)


def blocks_run():
    rng = np.random.default_rng(2)
    W = (rng.normal(size=(12, 32, 32)) / 32**0.5).astype(np.float32)
    x, u = rng.normal(size=(2, 8, 32)).astype(np.float32)
    for block in (
        blocks.Block("relu", sigma_w=2**0.5),
        blocks.Block("tanh", residual=True),
        blocks.Block("relu", blocks.BATCH, frozen=True),
        blocks.Block("relu", blocks.BATCH, residual=True),
    ):
        blocks.gradient_overlaps(block, W.__getitem__, [6, 3], x, u[:1])


def jacobians():
    nets = [study.Network(a, 1, 16, sigma_w=1.5) for a in ("linear", "tanh", "relu")]
    jacobian.log10_singular_values(nets, 0, [3, 40])


OTHERS = [
    (lambda: plain_run(0.5), PlainRun, "backward", "Euler in 55 layers"),
    (lambda: plain_run(0.0), PlainRun, "gradient", "Euler in 55 layers"),
    (blocks_run, blocks.Block, "backward", "Euler in 36 layers"),
    (jacobians, jacobian.Product, "log_singular_values", "direction of 6 Jacobians"),
    (jacobians, jacobian.Product, "_restore", "direction of 6 Jacobians"),
]


@pytest.mark.parametrize(("compute", "owner", "name", "said"), OTHERS)
def test_other_engines_obey_their_identities_and_what_breaks_them_is_found(
    compute, owner, name, said, monkeypatch
):
    with identities.watched() as seen:
        compute()
    assert seen.said.endswith(said)
    assert seen.wrong == ""
    plain = getattr(owner, name)

    def off(self, *args):
        found = plain(self, *args)
        if name == "backward" and owner is PlainRun:
            found[1] = 4 * found[1]
        elif name == "log_singular_values":
            found[0] += 1e-5
        elif name == "_restore":  # a QR step that loses a direction's size
            self.log[0] += 1e-5
        else:
            found = found * (1.5 if owner is blocks.Block else 4)
        return found

    monkeypatch.setattr(owner, name, off)
    with identities.watched() as seen:
        compute()
    assert "times what is allowed" in seen.wrong
