"""How a file gets on the disk: whole or not at all, there to stay, and from one run at a time."""

import contextlib
import errno
import fcntl
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

TEMPORARY = f".*.{'[0-9a-f]' * 16}.tmp"  # what a file is called while it is written, as a pattern


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that no loss of power takes them and what they hold."""
    folder = Path(folder).absolute()
    os.makedirs(folder, exist_ok=True)
    # A name lasts once the folder that it stands in is on disk; whoever made those that are there
    # may have been killed before he synced them.
    for above in folder.parents:
        try:
            _sync(above)
        except OSError as error:  # one that we may not read, or no folder of a disk, as in /proc
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):
                raise


def write_together(files: Mapping[Path, bytes]) -> None:
    """Replace several files of one folder: every old file is intact until all the new are on disk.

    OSError where the folder cannot be written or the disk is full; nothing is then left behind.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            staged[path] = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
            with open(staged[path], "xb") as file:
                file.write(data)  # beside the old file, which stays until this one is on disk
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in staged.items():
            os.replace(temporary, path)  # at once: a reader finds one of the two
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where
        raise
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:  # a rename lasts once its folder is on disk
        _sync(folder)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader finds the old file or the new one, never a part."""
    write_together({Path(path): data})


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against another run by its ``.parts``, `folder`; a dead process lets go."""
    make_folder(folder)
    with open(folder / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"study: waiting for another run in {folder.parent}", file=sys.stderr, flush=True)
            # The kernel wakes us when the other ends, however it does.
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in (*folder.glob(TEMPORARY), *folder.parent.glob(TEMPORARY)):
            left.unlink()  # from a run that was killed while it wrote
        try:
            yield
        finally:  # a process that was forked meanwhile has the file open, and would keep the lock
            fcntl.flock(file, fcntl.LOCK_UN)
