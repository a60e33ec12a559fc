"""The house: rooms import only from those above them, and the equations stand in one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path for folder in ("study", "experiments") for path in (ROOT / folder).rglob("*.py")
)
# In order: each may import from those before it.
ROOMS = [
    *("tools", "core", "arithmetic", "sampling", "theory", "statistics", "records"),
    *("engines", "runs", "plot", "report", "torch", "cli"),
]
# Modules with a backward pass of their own, compiled for speed.
SPEED_ENGINES = {"study.engines.walk"}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {name_of(path) for path in MODULES}


def imports(path):
    """Modules of the project that this one imports, at once or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in KNOWN and name not in ("study", "experiments")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_from_rooms_above_it(path):
    name = name_of(path)
    if name in ("study", "study.__main__", "experiments"):
        return
    if name.startswith("experiments"):
        own = ".".join(name.split(".")[:2])
        assert all(n.startswith("study.") or n.startswith(own) for n in imports(path))
        return
    place = ROOMS.index(name.split(".")[1])
    for other in imports(path):
        assert other.startswith("study."), f"{name} imports {other}"
        assert ROOMS.index(other.split(".")[1]) <= place, f"{name} imports {other}"


def test_modules_import_one_another_in_no_circle():
    graph = {name_of(path): imports(path) - {name_of(path)} for path in MODULES}
    # A package stands for what its __init__ imports, which may be its own modules.
    graph = {n: {m for m in found if not n.startswith(f"{m}.")} for n, found in graph.items()}
    done = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
    assert done == set(graph), sorted(set(graph) - done)


def test_every_room_is_in_the_order():
    rooms = {path.name if path.is_dir() else path.stem for path in (ROOT / "study").iterdir()}
    assert rooms - {"__init__", "__main__", "__pycache__", "py"} <= set(ROOMS)


def has_a_backward_pass(function) -> bool:
    """Whether it multiplies by a derivative, and by the transpose of a matrix."""
    nodes = list(ast.walk(function))
    products = [n for n in nodes if isinstance(n, ast.BinOp)]
    slopes = [
        n
        for n in products
        if isinstance(n.op, ast.Mult)
        and any(word in ast.unparse(n) for word in ("slope", "derivative", "phi_prime"))
    ]
    transposed = [
        n
        for n in products
        if isinstance(n.op, ast.MatMult)
        and ast.unparse(n.right).endswith((".T", ".mT", "swapaxes(-1, -2)", ".transpose()"))
    ]
    return bool(slopes and transposed)


def functions(source):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_equations_stand_in_the_core_alone(path):
    if name_of(path).startswith("study.core") or name_of(path) in SPEED_ENGINES:
        return
    source = path.read_text(encoding="utf-8")
    assert not [f for f in functions(source) if has_a_backward_pass(f)]


def test_a_backward_pass_of_ones_own_would_be_seen():
    """The negative control: the loop that everybody writes."""
    loop = """
def backward(weights, zs, dr):
    for W, z in zip(weights, zs):
        delta = dr * slope(z)
        dr = delta @ W.T
"""
    assert [f for f in functions(loop) if has_a_backward_pass(f)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_and_can_be_read_in_a_sitting(path):
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= 480


def test_the_three_equations_are_seen_at_a_glance():
    lines = (ROOT / "study" / "core" / "backprop.py").read_text(encoding="utf-8").splitlines()
    code = {mark: i for i, line in enumerate(lines) for mark in ("# (1)", "# (2)", "# (3)")
            if line.endswith(mark)}  # fmt: skip
    assert set(code) == {"# (1)", "# (2)", "# (3)"}
    assert max(code.values()) - min(code.values()) <= 15


@pytest.mark.parametrize("command", ["import study", "main(['list'])", "main(['run', '--help'])"])
def test_the_front_door_opens_quickly(command):
    slow = {"pandas", "matplotlib", "numba", "scipy", "seaborn", "torch"}
    code = f"import atexit, sys; atexit.register(lambda: print(sorted({slow} & set(sys.modules))))"
    code += f"; from study.cli.main import main; {command}"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.splitlines()[-1] == "[]"
