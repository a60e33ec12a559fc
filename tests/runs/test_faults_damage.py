"""Files that were damaged, are of another study, or were written while the power failed."""

import builtins
import json
import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toyhouse import Here, run, stored, tables

from study.records import disk
from study.records import tables as records
from study.runs import parts, sweep
from study.runs.experiment import Experiment

pytestmark = pytest.mark.faults


@pytest.fixture
def small(toy, tmp_path):
    """One part on disk, its configuration, and the tables that follow from it."""
    toy.GRID["quick"] = toy.cells(1)
    run(toy, tmp_path, executor=Here())
    (path,) = stored(tmp_path)
    return path, sweep.parts(Experiment.of(toy), "quick")[0].configuration, tables(tmp_path)


def test_every_prefix_and_a_thousand_flipped_bits_are_computed_again(toy, small, tmp_path, capsys):
    path, configuration, expected = small
    data, part = path.read_bytes(), parts.Part("toy", configuration)
    broken = [data[:n] for n in range(len(data))]
    for bit in random.Random(8).sample(range(8 * len(data)), 1000):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(flipped))
    capsys.readouterr()
    for place, content in enumerate(broken):
        path.write_bytes(content)
        assert not sweep._stored(path.parent, part)
        said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
        assert len(said) == 1
        assert "computed again" in said[0]
        if place % 50 == 0:
            run(toy, tmp_path, executor=Here())
            capsys.readouterr()
            assert path.read_bytes() == data
    path.write_bytes(data)
    assert sweep._stored(path.parent, part)
    assert tables(tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"[" * 100_000, "checksum"),
        (b"[" * 100_000 + b"\n", "checksum"),
        (b"null\n", "checksum"),
        (b"9" * 100_000 + b"\n", "checksum"),
        (b"\xff\xfe\n\x00", "checksum"),
        (b"", "empty"),
    ],
)
def test_a_part_that_is_no_part_at_all_is_refused(small, content, word):
    with pytest.raises(ValueError, match=word):
        parts.decode_part(content, small[1])


def forged(path, change):
    """The part at `path`, changed by whoever knows how to make its checksum agree."""
    about = json.loads(path.read_bytes().partition(b"\n")[2])
    change(about)
    body = json.dumps(about).encode()
    return records.digest(body).encode() + b"\n" + body


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "data_dictionary", "a/b", ""])
def test_a_part_cannot_make_a_table_leave_its_folder(toy, small, tmp_path, name, capsys):
    path, _, expected = small
    path.write_bytes(
        forged(path, lambda about: about["tables"].update({name: about["tables"].pop("decay")}))
    )
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    run(toy, tmp_path, executor=Here())
    assert "is not allowed" in capsys.readouterr().err
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    assert tables(tmp_path) == expected


def test_a_part_of_another_configuration_version_or_format_is_computed_again(
    toy, small, tmp_path, capsys
):
    path, _, expected = small
    data = path.read_bytes()
    for change, word in (
        (lambda about: about["configuration"]["cell"].update(scale=0.7), "stale configuration"),
        (lambda about: about["configuration"].update(numerics=[0, 0]), "stale configuration"),
        (lambda about: about.update(format=99), "format 99, not 2"),
        (lambda about: about.pop("format"), "format None, not 2"),
    ):
        path.write_bytes(forged(path, change))
        run(toy, tmp_path, executor=Here())
        assert f"is damaged ({word}): computed again" in capsys.readouterr().err
        assert path.read_bytes() == data
        assert tables(tmp_path) == expected


def test_a_worker_of_another_study_is_refused(toy):
    part = sweep.parts(Experiment.of(toy), "quick")[0]
    older = part.configuration | {"numerics": [0, 1]}
    data, reason = parts.compute(part.module, older)
    assert data == b""
    assert "this worker has numerics" in reason


def test_a_dictionary_cannot_point_outside_its_folder(small, tmp_path):
    path = tmp_path / "toy" / "data_dictionary.csv"
    frame = records.read_table(path)
    frame["table"] = "../toy/decay"
    records.write_table(path, frame, {"configuration": {}})
    with pytest.raises(ValueError, match=r"table name '\.\./toy/decay' is not allowed"):
        sweep.read_results(tmp_path, "toy")


def test_a_hundred_thousand_hostile_rows_come_back_bit_for_bit(tmp_path):
    rng, n = np.random.default_rng(8), 100_000
    marks = list('",\n\r\t \\;\x00\x1f\x85\u2028é∂ℒ漢\U0001f600=@+-nafiE0')
    texts = ["".join(rng.choice(marks, size=rng.integers(0, 9))) for _ in range(5000)]
    texts += ["nan", "NaN", "inf", "-inf", "None", "", '""', "True", "0", " x ", "\ufeff", "#"]
    special = [-np.inf, np.inf, np.nan, 0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308,
               1.7976931348623157e308]  # fmt: skip
    bits = rng.integers(-(2**63), 2**63, n).view(np.float64)
    bits[rng.random(n) < 0.3] = rng.choice(special)
    frame = pd.DataFrame(
        {
            'a "column", with\nall': rng.choice(texts, n),
            "any, bits": bits,
            "subnormal": rng.integers(0, 2**52, n).view(np.float64) * rng.choice([1.0, -1.0], n),
            "ℓ²": rng.choice(special, n),
            "grad_norm_exponent": rng.integers(-(2**63), 2**63, n),
            "log10_weight_norm": rng.choice([*special, -4542.5], n),
            "flag": rng.random(n) < 0.5,
        }
    )
    frame.iloc[:, 0] = frame.iloc[:, 0].astype(records._TEXT)
    path = tmp_path / "hostile.csv"
    records.write_table(path, frame, {})
    again = records.read_table(path)
    assert list(again.columns) == list(frame.columns)
    for name in frame.columns:
        one, two = frame[name], again[name]
        if one.dtype == np.float64:
            known = ~np.isnan(one.to_numpy())
            assert (known == ~np.isnan(two.to_numpy())).all()
            one, two = (x.to_numpy()[known].view(np.int64) for x in (one, two))
            assert np.array_equal(one, two), name
        else:
            assert one.tolist() == two.tolist()
    assert records.Table.of(again).csv == path.read_bytes()


def test_a_number_that_fits_no_integer_is_damage_not_a_crash():
    with pytest.raises(ValueError, match="not an int64"):
        records.Table(b"n\n" + b"9" * 30 + b"\n", {"n": "int64"}, 1).frame()


# --- Power loss ----------------------------------------------------------------------------------


GONE = object()


class Disk:
    """Notes what is asked of the disk, and says what may be found on it after the power failed.

    A file's data is certain once fsync of the file returned; a name (created, replaced, removed),
    a folder's too, is certain once fsync of the folder it stands in returned. Before, anything
    goes: data absent, cut short or zeros; names as they were or as they were to be, each on its
    own. A folder that is lost takes what it holds.
    """

    def __init__(self, monkeypatch):
        self.log = []
        real_open, real_os = builtins.open, os
        log = self.log

        class File:
            def __init__(self, path, mode):
                self.file, self.path = real_open(path, mode), Path(path)
                log.append(("create", self.path))

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, data):
                self.file.write(data)
                log.append(("write", self.path, bytes(data)))

            def flush(self):
                self.file.flush()

            def fileno(self):
                return self

        class System:
            folders = {}  # noqa: RUF012

            def __getattr__(self, name):
                return getattr(real_os, name)

            def makedirs(self, folder, exist_ok):
                missing = [f for f in (folder, *folder.parents) if not f.exists()]
                real_os.makedirs(folder, exist_ok=exist_ok)
                log.extend(("mkdir", f) for f in reversed(missing))

            def open(self, path, flags):
                handle = real_os.open(path, flags)
                self.folders[handle] = Path(path)
                return handle

            def fsync(self, what):
                if isinstance(what, File):
                    log.append(("fsync", what.path))
                else:
                    log.append(("fsync folder", self.folders[what]))

            def replace(self, source, target):
                real_os.replace(source, target)
                log.append(("rename", Path(source), Path(target)))

        monkeypatch.setattr(disk, "os", System())
        monkeypatch.setattr(disk, "open", File, raising=False)

    def after(self, steps, before, rng):
        """Yield the name -> bytes, of a folder None, of what it may hold after that many steps."""
        files, sure = {}, set()  # data by inode, an inode being the name it was created under
        made = {step[1] for step in self.log if step[0] == "mkdir"}
        names = dict(before)  # certain: name -> data, or the inode it points to
        pending = []  # changes of names that may or may not have happened; GONE: no such name
        for step in self.log[:steps]:
            if step[0] == "create":
                files[step[1]] = b""
                pending.append({step[1]: step[1]})
            elif step[0] == "mkdir":
                pending.append({step[1]: None})
            elif step[0] == "write":
                files[step[1]] += step[2]
            elif step[0] == "fsync":
                sure.add(step[1])
            elif step[0] == "rename":
                pending.append({step[1]: GONE, step[2]: step[1]})
            else:
                here = [c for c in pending if next(iter(c)).parent == step[1]]
                pending = [c for c in pending if c not in here]
                for change in here:
                    names |= change
        choices = [[], pending, *(pending[:k] for k in range(1, len(pending)))]
        choices += [[c for c in pending if rng.random() < 0.5] for _ in range(9)]
        for chosen in choices:
            found = dict(names)
            for change in chosen:
                found |= change
            lost = {f for f in made if found.get(f, GONE) is GONE}
            found = {
                name: what for name, what in found.items()
                if what is not GONE and not lost & {name, *name.parents}
            }  # fmt: skip
            for tear in (lambda d: b"", lambda d: d, lambda d: d[: rng.randrange(len(d) + 1)],
                         lambda d: bytes(len(d))):  # fmt: skip
                yield {
                    name: what if what is None or isinstance(what, bytes)
                    else files[what] if what in sure else tear(files[what])
                    for name, what in found.items()
                }  # fmt: skip


def replay(disk, toy, results, before, steps, intact, rng):
    """Put each disk back after the power failed, check it, resume on it; return the torn files."""
    torn, seen, after = set(), set(), tables(results) | {p.name: p.read_bytes() for p in
                                                         stored(results)}  # fmt: skip
    for step in steps:
        for state in disk.after(step, before, rng):
            mark = hash(frozenset(state.items()))
            if mark in seen:
                continue
            seen.add(mark)
            for path in [*results.rglob("*")]:
                if path.is_file():
                    path.unlink()
            for path, data in state.items():
                if data is None:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.write_bytes(data)
                if path.suffix != ".tmp" and data not in intact[path.name]:
                    torn.add(path.name)
            for part in sweep.parts(Experiment.of(toy), "quick"):
                if sweep._stored(results / "toy" / ".parts", part):
                    path = results / "toy" / ".parts" / f"{part.key}.part"
                    assert path.read_bytes() == after[path.name]
            for path in (results / "toy").glob("*.csv"):
                try:
                    frame = records.read_table(path)
                except (ValueError, FileNotFoundError):
                    continue
                assert records.Table.of(frame).csv in intact[path.name]
            assert run(toy, results, executor=Here()) == []
            assert tables(results) == {n: d for n, d in after.items() if not n.endswith(".part")}
            assert not list(results.rglob("*.tmp"))
    assert len(seen) > 100
    return torn


@pytest.mark.parametrize("writer", ["ours", "without fsync"])
def test_no_wrong_file_is_used_after_power_was_lost_at_any_step(toy, tmp_path, monkeypatch, writer):
    """From older tables of a smaller grid to newer: every file is an old or a new one, whole."""
    toy.GRID["quick"], results = toy.cells(2), tmp_path / "results"
    run(toy, results, executor=Here())
    before = {p: p.read_bytes() for p in (results / "toy").rglob("*") if p.is_file()}
    toy.GRID["quick"] = toy.cells(3)
    with monkeypatch.context() as patch:
        watched = Disk(patch)
        if writer == "without fsync":  # the control: a replay that finds nothing proves nothing
            patch.setattr(type(disk.os), "fsync", lambda self, what: None)
        run(toy, results, executor=Here())
    kinds = {step[0] for step in watched.log}
    intact = {}
    for path in (results / "toy").rglob("*"):
        if path.is_file():
            intact[path.name] = {path.read_bytes(), before.get(path, path.read_bytes())}
    steps = range(0, len(watched.log) + 1, 1 if writer == "ours" else 6)
    torn = replay(watched, toy, results, before, steps, intact, random.Random(3))
    if writer == "ours":
        assert kinds == {"create", "write", "fsync", "rename", "fsync folder"}
        assert torn == set()
    else:
        assert len(torn) >= 3


@pytest.mark.parametrize("folders", ["ours", "never synced"])
def test_what_was_written_into_new_folders_is_there_after_power_was_lost(
    toy, tmp_path, monkeypatch, folders
):
    """Once the folder of a renamed file is synced, no loss of power takes the file."""
    results = tmp_path / "new" / "results"
    with monkeypatch.context() as patch:
        watched = Disk(patch)
        if folders == "never synced":  # the control: as a plain mkdir would leave them
            patch.setattr(disk, "make_folder", lambda f: disk.os.makedirs(f, exist_ok=True))
        run(toy, results, executor=Here())
    written = {p: p.read_bytes() for p in results.rglob("*") if p.is_file() and p.name != "lock"}
    assert len(written) == 9  # three parts, three tables and what stands beside each
    made = [step[1] for step in watched.log if step[0] == "mkdir"]
    assert made == [tmp_path / "new", results, results / "toy", results / "toy" / ".parts"]
    ends = [i for i, step in enumerate(watched.log) if step[0] == "fsync folder"]
    lost = set()
    for end in ends:
        done = {step[2] for step in watched.log[:end] if step[0] == "rename"}
        for state in watched.after(end + 1, {}, random.Random(end)):
            lost |= {path.name for path in done if state.get(path) != written[path]}
    assert len(lost) == (0 if folders == "ours" else 9)
