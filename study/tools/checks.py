"""The words of the boundary: what a value must be, and what mends an error."""

import contextlib
import difflib
import importlib
import json
import math
import operator
import shlex
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil

MAX_SIGMA = 1e6
MIN_SIGMA = 1e-9  # scales below, but for 0 itself, would lose bits to underflow in float32

# Where each preset's results go if nobody says where.
RESULTS = {"paper": Path("results"), "quick": Path("build/quick")}
# The packages of each extra. No message names this project's own distribution, so that nobody
# installs a stranger's package of a like name.
EXTRAS = {
    "cluster": "distributed",
    "data": "mlxtend",
    "explorer": "vl-convert-python",
    "lightning": "lightning",
    "paper": "typst",
    "parquet": "pyarrow",
    "torch": "torch",
    "transformers": "transformers accelerate",
}
_OTHERS = {  # tables that are of no experiment, by folder
    "again": "python -m benchmarks.again",
    "bench": "python -m benchmarks",
    "capacity": "python -m benchmarks capacity",
    "limits": "python -m benchmarks.parts",
    "profile": "python -m study profile",
}


def made_by(table: Path) -> str:
    """Return the command that makes a table, with its options; the table need not exist.

    >>> made_by(Path("results/kink/training.csv"))
    'python -m study run kink'
    >>> made_by(Path("build/quick/kink/training.csv"))
    'python -m study run kink --preset quick'
    >>> made_by(Path("my runs/claims.csv"))
    "python -m study figures --results 'my runs'"
    """
    folder = table.parent
    if folder.name in _OTHERS:
        return _OTHERS[folder.name]
    if table.stem == "claims" or (folder / "claims.csv").exists():
        return f"python -m study figures{_results(folder, 'paper')}"
    preset = _preset(folder)
    more = "" if preset == "paper" else f" --preset {preset}"
    return f"python -m study run {folder.name}{more}{_results(folder.parent, preset)}"


def none_there(results: Path) -> str:
    """Return what to say of a folder that has no results.

    >>> none_there(Path("mine"))
    "--results 'mine' has no results; they are made by: python -m study run --results mine"
    """
    preset = "quick" if results == RESULTS["quick"] else "paper"
    more = "" if preset == "paper" else f" --preset {preset}"
    made = f"python -m study run{more}{_results(results, preset)}"
    return f"--results '{results}' has no results; they are made by: {made}"


def _results(results: Path, preset: str) -> str:
    return "" if results == RESULTS[preset] else f" --results {shlex.quote(str(results))}"


def _preset(folder: Path) -> str:
    """The preset of the tables that are in a folder; of none, that of the place."""
    try:
        about = json.loads((folder / "data_dictionary.json").read_bytes())
        preset = about["configuration"]["preset"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        preset = None
    usual = "quick" if folder.parent == RESULTS["quick"] else "paper"
    return preset if preset in [*RESULTS] else usual


def missing_extra(needed_by: str, extra: str) -> ImportError:
    """Return the error of a package that is not installed, and what installs it.

    >>> print(missing_extra("study.torch", "torch"))  # doctest: +ELLIPSIS
    study.torch needs torch; it is installed by: pip install torch, in a checkout: pip install ...
    """
    packages = EXTRAS[extra]
    return ImportError(
        f"{needed_by} needs {packages.replace(' ', ' and ')}; it is installed by: "
        f'pip install {packages}, in a checkout: pip install ".[{extra}]"'
    )


def library(module: str, needed_by: str, extra: str) -> ModuleType:
    """Import a library of an extra; where it is not installed, the ImportError says what does."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(needed_by, extra) from None


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not known: the one that may be meant.

    >>> nearest("Leaky ReLU", ["relu", "leaky_relu"]), nearest("swish", ["relu", "silu"])
    ("; did you mean 'leaky_relu'?", '')
    """
    typed = str(name).strip().lower().replace(" ", "_").replace("-", "_")
    found = difflib.get_close_matches(typed, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def bad(field: str, value: object, allowed: str) -> ValueError:
    """The error of the boundary: names the field, the value and what is allowed."""
    return ValueError(f"{field} = {value!r}; allowed: {allowed}")


def integer(field: str, value: Any, low: int, high: int | None = None) -> int:
    """``value`` as an int within [low, high]; booleans and fractions are refused."""
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        raise bad(field, value, allowed) from None
    if isinstance(value, (bool, np.bool_)) or number < low or (high is not None and number > high):
        raise bad(field, value, allowed)
    return number


def real(field: str, value: Any, low: float, high: float) -> float:
    """``value`` as a finite float within [low, high]."""
    allowed = f"a finite number from {low:g} to {high:g}"
    if isinstance(value, (bool, np.bool_, str)):
        raise bad(field, value, allowed)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise bad(field, value, allowed) from None
    if not (math.isfinite(number) and low <= number <= high):
        raise bad(field, value, allowed)
    return number


def sigma(field: str, value: object) -> float:
    """``value`` as a standard deviation: 0, or within [MIN_SIGMA, MAX_SIGMA]."""
    number = real(field, value, 0, MAX_SIGMA)
    if 0 < number < MIN_SIGMA:
        raise bad(field, value, f"0, or a number from {MIN_SIGMA:g} to {MAX_SIGMA:g}")
    return number


def items(field: str, value: Any, allowed: str) -> list:
    """``value`` as a list, if it can be gone through and is no text."""
    if isinstance(value, (str, bytes)):
        raise bad(field, value, allowed)
    try:
        if isinstance(value, range):  # whose length nobody has paid for yet
            check_memory(40 * len(value), **{field: value})
        return list(value)
    except (TypeError, OverflowError):
        raise bad(field, value, allowed) from None


def one_of(field: str, value: object, choices: Iterable[str]) -> str:
    """``value`` if it is one of the names."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise bad(field, value, ", ".join(choices) + nearest(value, choices))
    return value


def array(field: str, value: object, ndim: int, dtype: np.dtype) -> np.ndarray:
    """``value`` as a finite, non-empty, C-contiguous real array of ``ndim`` axes."""
    if isinstance(value, np.ma.MaskedArray):
        raise bad(field, "a masked array", "an array without a mask")
    if hasattr(value, "detach"):  # of PyTorch: NumPy takes none that requires a gradient
        value = value.detach()
    try:
        x = np.asarray(value)
    except ValueError:
        raise bad(field, "a ragged sequence", f"a {ndim}-dimensional array") from None
    if x.ndim != ndim or x.size == 0:
        raise ValueError(
            f"{field} has shape {x.shape}; allowed: {ndim} axes, none of them of length 0"
        )
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{field} has dtype {x.dtype}; allowed: real numbers")
    # A finite sum of squares has finite terms, in one pass; otherwise look.
    with np.errstate(all="ignore"):
        x = np.ascontiguousarray(x, dtype)
        finite = np.isfinite(np.vecdot(x, x)).all()
    if not finite and not np.isfinite(x).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{field}{list(at)} = {x[at]}; allowed: finite numbers of {dtype}")
    return x


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or its container."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # "max", or no container
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def check_memory(needed: int, **fields: object) -> None:
    """ValueError if so many bytes are not to be had, naming the fields that ask for them."""
    free = available_memory()
    if needed > free:
        asked = ", ".join(f"{field} = {value!r}" for field, value in fields.items())
        raise ValueError(
            f"{asked}: {needed / 2**30:.3g} GiB needed; allowed: {free / 2**30:.3g} GiB, the "
            "memory available"
        )
