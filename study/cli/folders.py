"""Which folder is whose, and whether it can be written to."""

import tempfile
from pathlib import Path

from study.records.disk import make_folder
from study.tools.checks import RESULTS


def beside(results: Path, name: str) -> Path:
    """Return the folder of that name: the project's own for its own results, else within theirs."""
    return Path(name) if results == RESULTS["paper"] else results / name


def writable(field: str, folder: Path) -> Path:
    """Make sure, before any work, that files can be written to `folder`."""
    try:
        make_folder(folder)
        # Permission bits do not tell what root, a quota or a read-only mount allow: try it.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{field} '{folder}' cannot be written ({error.strerror}); "
            "allowed: a folder that exists or can be made, and be written to"
        ) from None
    return folder
