"""Full disks, quotas, read-only folders, odd paths: one line, status 2, the old files intact."""

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import toyhouse

pytestmark = pytest.mark.faults
RUN = ("run", "--workers", 2, "--results")
QUICK = ("run", "--preset", "quick", "--workers", 2, "--results")


@pytest.fixture
def mounted(tmp_path):
    """Mount in a namespace of our own: its disks are found under /proc and vanish with it."""
    holders = []

    def mount(folder, commands):
        folder.mkdir(exist_ok=True)
        script = f"set -e; {commands}; echo ready; exec cat"
        unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(folder)]
        if shutil.which("unshare") is None:
            pytest.skip("a disk of its own cannot be mounted: there is no unshare")
        holder = subprocess.Popen(unshare, stdin=-1, stdout=-1, stderr=-1, text=True)
        holders.append(holder)
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"a disk of its own cannot be mounted: {holder.stderr.read().strip()}")
        return Path(f"/proc/{holder.pid}/root{folder}")

    yield mount
    for holder in holders:
        holder.kill()
        holder.communicate()


def is_one_line(code, out, err, *words):
    errors = [line for line in err.splitlines() if line.startswith("study: error: ")]
    assert code == 2, err
    assert len(errors) == 1
    assert err.splitlines()[-1] == errors[0]
    assert "Traceback" not in err
    assert out == ""
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize("left", [0, 16384, 81920])
def test_a_full_disk_is_one_line_and_the_old_files_are_intact(house, typed, mounted, left):
    assert typed(*RUN, "calm")[0] == 0
    calm = toyhouse.files(house / "calm")
    disk = mounted(house / "small disk", 'mount -t tmpfs -o size=1m none "$1"')
    assert typed(*QUICK, disk)[0] == 0
    before = toyhouse.files(disk)
    with open(disk / "filler", "wb") as filler:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write(bytes(free - left))
    is_one_line(*typed(*RUN, disk), "No space left on device")
    after = toyhouse.files(disk)
    del after["filler"]
    # Tables are replaced together, figures after them: each is the old or the new, never a piece.
    assert set(after) == set(before)
    assert all(data in (before[name], calm[name]) for name, data in after.items())
    assert (after == before) == (left < 40960)
    assert not list(disk.rglob("*.tmp"))
    (disk / "filler").unlink()
    assert typed(*RUN, disk)[0] == 0
    assert toyhouse.files(disk) == calm


def test_a_quota_on_the_size_of_files_is_one_line_too(house, typed):
    """What a quota refuses arrives as an error of write, half of the data being written."""
    assert typed(*QUICK, "r")[0] == 0
    before = toyhouse.files(house / "r")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    try:
        shown = typed(*RUN, "r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    is_one_line(*shown, "File too large")
    assert toyhouse.files(house / "r") == before
    assert not list((house / "r").rglob("*.tmp"))
    assert typed(*RUN, "r")[0] == 0


def test_a_read_only_folder_is_one_line_and_stays_as_it_was(house, typed, mounted):
    assert typed(*QUICK, "locked")[0] == 0
    before = toyhouse.files(house / "locked")
    locked = mounted(house / "locked", 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"')
    for folder in (locked, locked / "new"):
        is_one_line(*typed(*RUN, folder), "--results", "Read-only", "allowed: a folder")
    command = ("figures", "toy", "--results", "locked", "--figures", locked / "figures")
    is_one_line(*typed(*command), "--figures", "Read-only", "allowed: a folder")
    assert toyhouse.files(house / "locked") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="to root every folder is writable")
def test_a_folder_of_somebody_else_is_one_line(house, typed):
    (house / "locked").mkdir(mode=0o500)
    is_one_line(*typed(*RUN, "locked"), "--results 'locked'", "Permission denied")


def test_a_disk_that_fills_up_in_the_middle_of_a_run(house, mounted):
    disk = mounted(house / "small disk", 'mount -t tmpfs -o size=1m none "$1"')
    (house / "experiments" / "toy.py").write_text(toyhouse.changed(toyhouse.WAITING))
    process = toyhouse.start(house, *RUN, disk)
    toyhouse.wait_until(lambda: len(toyhouse.stored(disk)) >= 2)
    workers = toyhouse.children(process.pid)
    with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    (house / "go").touch()
    out, err = process.communicate(timeout=toyhouse.SECONDS)
    is_one_line(process.returncode, out, err, "No space left on device")
    toyhouse.wait_until(lambda: not any(map(toyhouse.alive, workers)))
    kept = toyhouse.stored(disk)
    assert len(kept) >= 2
    (disk / "filler").unlink()
    code, _, err = toyhouse.study(house, *RUN, disk)
    assert code == 0
    assert f"8 parts, {len(kept)} done" in err
    assert toyhouse.study(house, *RUN, "calm")[0] == 0
    assert toyhouse.files(disk) == toyhouse.files(house / "calm")


@pytest.mark.parametrize("name", ["naïve ∂ℒ  漢字 \U0001f600", "-x'y\"z %s {0} $HOME *"])
def test_any_path_will_do(house, typed, name):
    assert typed(*QUICK[:-1], f"--results=./{name}/below")[0] == 0
    assert typed(*QUICK, "plain")[0] == 0
    assert toyhouse.files(house / name / "below") == toyhouse.files(house / "plain")


def test_the_package_runs_from_and_into_folders_with_letters_of_any_kind(house, typed):
    copy = house / "the study ∂"
    shutil.copytree(
        toyhouse.ROOT / "study", copy / "study", ignore=shutil.ignore_patterns("__pycache__")
    )
    assert toyhouse.study(house, *QUICK, "not UTF-8: \udcff", path=copy)[0] == 0
    assert typed(*QUICK, "plain")[0] == 0
    assert toyhouse.files(house / "not UTF-8: \udcff") == toyhouse.files(house / "plain")
