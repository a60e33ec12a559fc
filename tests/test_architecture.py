"""The house: reading order is import order, and rooms that must not meet do not."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOOR = ROOT / "study" / "__init__.py"
MODULES = sorted(
    path for folder in ("study", "experiments") for path in (ROOT / folder).rglob("*.py")
)
ENGINES = {"backprop", "march", "matrixfree", "engines"}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Modules of the project that this one imports when it is imported."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    known = {name_of(path) for path in MODULES}
    return {name for name in found if name in known and name != "study"}


def test_imports_have_no_cycle():
    graph = {name_of(path): imports(path) - {name_of(path)} for path in MODULES}
    graph = {name: {n for n in found if n != "study.theory"} for name, found in graph.items()}
    done = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
        if done == set(graph):
            break
    assert done | {"study.theory"} >= set(graph), sorted(set(graph) - done)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_that_must_not_meet_do_not(path):
    name, found = name_of(path), imports(path)
    if name.startswith("study"):
        assert not {n for n in found if n.startswith("experiments")}
    if name.startswith("study.theory"):
        assert not {n for n in found if n.split(".")[-1] in ENGINES}
    if name.startswith("experiments."):
        assert not {n for n in found if n.startswith("experiments")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("command", ["import study", "import study.cli.main"])
def test_the_front_door_opens_quickly(command):
    slow = "{'pandas', 'matplotlib', 'numba', 'scipy'}"
    code = f"{command}; import sys; print(sorted({slow} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.strip() == "[]"


def test_reading_order_is_import_order():
    """The tour in the front door's docstring: each module imports only what stands before it."""
    tour = re.findall(r"``(\w+)``", ast.get_docstring(ast.parse(DOOR.read_text(encoding="utf-8"))))
    assert len(tour) == len(set(tour)) >= 15
    files = {path.stem for path in DOOR.parent.glob("[a-z]*.py")} - {"_gaussian_kernels"}
    assert files <= set(tour), f"not on the tour: {sorted(files - set(tour))}"
    for place, module in enumerate(tour):
        own = DOOR.parent / module
        paths = own.rglob("*.py") if own.is_dir() else [own.with_suffix(".py")]
        for name in set().union(*(imports(path) for path in paths)):
            room = name.split(".")[1] if name.startswith("study.") else module
            assert room not in tour[place + 1 :], f"{module} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_read_in_a_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def test_experiments_import_nothing_of_the_project_but_study():
    for path in MODULES:
        if name_of(path).startswith("experiments."):
            assert all(name.startswith("study") for name in imports(path))


def test_help_imports_nothing_slow():
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "study", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"pandas", "matplotlib", "numba", "scipy", "seaborn", "torch"}
