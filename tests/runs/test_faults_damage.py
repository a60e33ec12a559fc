"""Files that were damaged, are of another study, or were written while the power failed."""

import json
import os
import random

import pytest
from toyhouse import Here, flips, run, stored, tables

from study.records import disk
from study.records import tables as records
from study.runs import parts, sweep
from study.runs.experiment import Experiment

pytestmark = pytest.mark.faults


@pytest.fixture
def small(toy, tmp_path):
    """One part on disk, the cell that it is of, and the tables that follow from it."""
    toy.GRID["quick"] = toy.cells(1)
    run(toy, tmp_path, executor=Here())
    (path,) = stored(tmp_path)
    return path, sweep.parts(Experiment.of(toy), "quick")[0], tables(tmp_path)


def test_every_prefix_and_a_thousand_flipped_bits_are_computed_again(toy, small, tmp_path, capsys):
    path, part, expected = small
    data = path.read_bytes()
    broken = [data[:n] for n in range(len(data))]
    broken += flips(data, random.Random(8).sample(range(8 * len(data)), 1000))
    for place, content in enumerate(broken):
        capsys.readouterr()
        path.write_bytes(content)
        assert not sweep._stored(path.parent, part)
        (line,) = capsys.readouterr().err.splitlines()
        reason = "checksum does not agree" if content else "empty"
        assert line == f"study: part {path.stem[:12]} is damaged ({reason}): computed again"
        if place % 50 == 0:
            run(toy, tmp_path, executor=Here())
            assert path.read_bytes() == data
    path.write_bytes(data)
    assert sweep._stored(path.parent, part)
    assert tables(tmp_path) == expected


@pytest.mark.parametrize("content", [b"[" * 100_000, b"null\n", b"9" * 100_000, b"\xff\xfe\n\x00"])
def test_a_part_that_is_no_part_at_all_is_refused(content):
    with pytest.raises(ValueError, match="checksum"):
        parts.read_part(content)


def forged(data, change):
    """A part changed by whoever knows how to make its checksum agree."""
    content = json.loads(data.partition(b"\n")[2])
    change(content)
    body = json.dumps(content).encode()
    return records.digest(body).encode() + b"\n" + body


def renamed(name):
    return lambda content: content["tables"].update({name: content["tables"].pop("decay")})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *((renamed(n), "is not allowed") for n in ("../../out", "/tmp/out", "data_dictionary", "")),
        (lambda c: c["configuration"]["cell"].update(scale=0.7), "(stale configuration)"),
        (lambda c: c["configuration"].update(numerics=[0, 0]), "(stale configuration)"),
        (lambda c: c.update(format=99), "(format 99, not 2)"),
        (lambda c: c.pop("format"), "(format None, not 2)"),
    ],
)
def test_a_part_of_another_study_is_computed_again_and_writes_nowhere_else(
    toy, small, tmp_path, capsys, change, word
):
    path, _, expected = small
    data = path.read_bytes()
    path.write_bytes(forged(data, change))
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    run(toy, tmp_path, executor=Here())
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert word in line
    assert path.read_bytes() == data
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    assert tables(tmp_path) == expected


def test_a_worker_of_another_study_is_refused(small):
    _, part, _ = small
    data, reason = parts.compute(part.module, part.configuration | {"numerics": [0, 1]})
    assert data == b""
    assert "this worker has numerics" in reason


def test_a_dictionary_cannot_point_outside_its_folder(small, tmp_path):
    path = tmp_path / "toy" / "data_dictionary.csv"
    frame = records.read_table(path)
    records.write_table(path, frame.assign(table="../toy/decay"), {"configuration": {}})
    with pytest.raises(ValueError, match=r"table name '\.\./toy/decay' is not allowed"):
        sweep.read_results(tmp_path, "toy")


# --- Power loss ----------------------------------------------------------------------------------


GONE = object()


class Disk:
    """Stands for the module os, notes what is asked of the disk, and says what may be found on it
    after the power failed.

    A file's data is certain once fsync of the file returned; a name (created, replaced, removed),
    a folder's too, is certain once fsync of the folder it stands in returned. Before, anything
    goes: data absent, cut short or zeros; names as they were or as they were to be, each on its
    own. A folder that is lost takes what it holds.
    """

    def __init__(self, monkeypatch, syncs=True):
        self.log, self.paths, self.syncs = [], {}, syncs
        monkeypatch.setattr(disk, "os", self)
        monkeypatch.setattr(disk, "open", self.create, raising=False)

    def __getattr__(self, name):
        return getattr(os, name)

    def create(self, path, mode):
        file = open(path, mode)  # noqa: SIM115 - whoever asked closes it
        self.paths[file.fileno()] = path
        if mode == "xb":
            self.log.append(("create", path))
        return file

    def open(self, path, flags):
        handle = os.open(path, flags)
        self.paths[handle] = path
        return handle

    def fsync(self, handle):
        path = self.paths[handle]
        if path.is_file():
            self.log.append(("write", path, path.read_bytes()))
        if self.syncs:
            self.log.append(("fsync" if path.is_file() else "fsync folder", path))

    def makedirs(self, folder, exist_ok):
        missing = [f for f in (folder, *folder.parents) if not f.exists()]
        os.makedirs(folder, exist_ok=exist_ok)
        self.log.extend(("mkdir", f) for f in reversed(missing))

    def replace(self, source, target):
        os.replace(source, target)
        self.log.append(("rename", source, target))

    def after(self, steps, before, rng):
        """Yield the name -> bytes, of a folder None, of what it may hold after that many steps."""
        files, sure = {}, set()  # data by inode, an inode being the name it was created under
        made = {step[1] for step in self.log if step[0] == "mkdir"}
        names = dict(before)  # certain: name -> data, or the inode it points to
        pending = []  # changes of names that may or may not have happened; GONE: no such name
        for what, path, *rest in self.log[:steps]:
            if what == "create":
                files[path] = b""
                pending.append({path: path})
            elif what == "mkdir":
                pending.append({path: None})
            elif what == "write":
                files[path] = rest[0]
            elif what == "fsync":
                sure.add(path)
            elif what == "rename":
                pending.append({path: GONE, rest[0]: path})
            else:
                here = [c for c in pending if next(iter(c)).parent == path]
                pending = [c for c in pending if c not in here]
                for change in here:
                    names |= change
        choices = [[], pending, *(pending[:k] for k in range(1, len(pending)))]
        choices += [[c for c in pending if rng.random() < 0.5] for _ in range(9)]
        for chosen in choices:
            there = dict(names)
            for change in chosen:
                there |= change
            lost = {f for f in made if there.get(f, GONE) is GONE}
            there = {
                name: what for name, what in there.items()
                if what is not GONE and not lost & {name, *name.parents}
            }  # fmt: skip
            for tear in (lambda d: b"", lambda d: d, lambda d: d[: rng.randrange(len(d) + 1)],
                         lambda d: bytes(len(d))):  # fmt: skip
                yield {
                    name: what if what is None or isinstance(what, bytes)
                    else files[what] if what in sure else tear(files[what])
                    for name, what in there.items()
                }  # fmt: skip


def on_disk(results):
    return {p: p.read_bytes() for p in results.rglob("*") if p.is_file() and p.name != "lock"}


def check_resumes(toy, results, intact, after):
    """No wrong part or table is read, and the same run ends with the same tables."""
    for part in sweep.parts(Experiment.of(toy), "quick"):
        path = results / "toy" / ".parts" / f"{part.key}.part"
        if sweep._stored(path.parent, part):
            assert path.read_bytes() == after[path]
    for path in (results / "toy").glob("*.csv"):
        try:
            frame = records.read_table(path)
        except (ValueError, FileNotFoundError):
            continue
        assert records.Table.of(frame).csv in intact[path]
    assert run(toy, results, executor=Here()) == []
    assert on_disk(results) == after


@pytest.mark.parametrize("syncs", [True, False])
def test_no_wrong_file_is_used_after_power_was_lost_at_any_step(toy, tmp_path, monkeypatch, syncs):
    """From older tables of a smaller grid to newer: every file is an old or a new one, whole."""
    toy.GRID["quick"], results = toy.cells(2), tmp_path / "results"
    run(toy, results, executor=Here())
    before = on_disk(results)
    toy.GRID["quick"] = toy.cells(3)
    with monkeypatch.context() as patch:
        watched = Disk(patch, syncs)
        run(toy, results, executor=Here())
    after, rng = on_disk(results), random.Random(3)
    intact = {path: {data, before.get(path, data)} for path, data in after.items()}
    torn, seen = set(), set()
    for step in range(0, len(watched.log) + 1, 1 if syncs else 6):
        for state in watched.after(step, before, rng):
            mark = hash(frozenset(state.items()))
            if mark in seen:
                continue
            seen.add(mark)
            for path in on_disk(results):
                path.unlink()
            for path, data in state.items():
                path.write_bytes(data)
                if path.suffix != ".tmp" and data not in intact[path]:
                    torn.add(path.name)
            check_resumes(toy, results, intact, after)
    assert len(seen) > 100
    if syncs:
        kinds = {"create", "write", "fsync", "rename", "fsync folder"}
        assert ({step[0] for step in watched.log}, torn) == (kinds, set())
    else:  # the control: a replay that finds nothing proves nothing
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
    written = on_disk(results)
    assert len(written) == 9  # three parts, three tables and what stands beside each
    made = [step[1] for step in watched.log if step[0] == "mkdir"]
    assert made == [tmp_path / "new", results, results / "toy", results / "toy" / ".parts"]
    lost = set()
    for end, step in enumerate(watched.log):
        if step[0] == "fsync folder":
            done = {earlier[2] for earlier in watched.log[:end] if earlier[0] == "rename"}
            for state in watched.after(end + 1, {}, random.Random(end)):
                lost |= {path.name for path in done if state.get(path) != written[path]}
    assert len(lost) == (0 if folders == "ours" else 9)
