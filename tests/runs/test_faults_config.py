"""Hostile configurations: refused in one line, before work, and nothing outside the results."""

import ast

import psutil
import pytest
from toyhouse import ROOT, WAITING, changed, children, files, start, stored, wait_until

from study.runs import experiment

pytestmark = pytest.mark.faults
HOUSE = {"experiments/__init__.py", "experiments/toy.py"}
QUICK = ("run", "--preset", "quick", "--results", "r")


def outside(house):
    """Files in the house and beside it, results apart."""
    others = {str(p) for p in house.parent.iterdir()} - {str(house)}
    return others | {name for name in files(house) if not name.startswith("r/")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("GRID['quick'] = [{'scale': float('inf'), 'seed': 1}]", ["cell", "not JSON"]),
        ("GRID['quick'] = [{'scale': 1.0, 'seed': 1, '__class__': 2}]", ["__class__"]),
        ("GRID['quick'] = cells(1) * 2_000_001", ["2,000,001 cells", "at most 2,000,000"]),
        ("GRID['quick'] = range(10**9)", ["grid", "non-empty list of dicts"]),
        ("GRID['quick'] = ({} for _ in iter(int, 1))", ["grid", "non-empty list of dicts"]),
        ("GRID['quick'] = cells(1); GRID['quick'][0]['fault'] = '\\ud800'", ["cell", "surrogates"]),
        ("raise ImportError('no\\nsuch thing')", ["no such thing"]),
    ],
)
def test_a_hostile_grid_is_refused_before_work(house, typed, change, words):
    (house / "experiments" / "toy.py").write_text(changed(change))
    line = typed.fails(*QUICK)
    assert all(word in line for word in words), line
    assert outside(house) == HOUSE
    assert files(house / "r") == {}


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "a/b", "..", "a.b", "x\\ny", "\\0"])
def test_a_figure_cannot_leave_its_folder(house, typed, name):
    change = f'one = figure\ndef figure(tables):\n    return {{"{name}": one(tables)}}\n'
    (house / "experiments" / "toy.py").write_text(changed(change))
    code, _, err = typed(*QUICK)
    assert code == 2
    assert "figure name" in err.splitlines()[-1]
    assert "is not allowed; allowed: a-z, 0-9 and _" in err.splitlines()[-1]
    assert outside(house) == HOUSE


@pytest.mark.parametrize(
    "name", ["../toy", "/etc/passwd", "toy/../toy", "..", ".", "", "toy.py", "toy\0", "os", "-"]
)
def test_a_name_that_is_a_path_is_no_experiment(name):
    with pytest.raises(ValueError, match="is unknown; allowed:"):
        experiment.load(name)


def test_nothing_of_the_study_reads_a_pickle_or_runs_a_text():
    """Files are JSON, CSV and Parquet; nothing that runs what it reads is called anywhere."""
    banned = {"pickle", "marshal", "shelve", "dill", "joblib", "eval", "exec", "read_pickle",
              "to_pickle", "cloudpickle", "allow_pickle"}  # fmt: skip
    # It runs a text that it has written itself, of operations and numbers, and reads none.
    writes_its_own = {("compiled.py", "exec")}
    for path in [*(ROOT / "study").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = set()
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                names = {module.partition(".")[0] for module in modules}
            elif isinstance(node, ast.Call):
                names = {getattr(node.func, "id", ""), *(k.arg for k in node.keywords)}
                names |= {getattr(node.func, "attr", "")} & {"read_pickle", "to_pickle"}
            found = {(path.name, name) for name in names & banned}
            assert found <= writes_its_own, path


def listening(pids):
    """The addresses on which any of the processes listens."""
    sockets = [s for pid in pids for s in psutil.Process(pid).net_connections("inet")]
    return [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN]


def test_a_run_opens_no_port(house):
    (house / "experiments" / "toy.py").write_text(changed(WAITING))
    process = start(house, "run", "--workers", 2, "--results", "r")
    wait_until(lambda: stored(house / "r"))
    pids = {process.pid, *children(process.pid)}
    assert len(pids) >= 3
    assert listening(pids) == []


def test_the_control_a_process_that_listens_is_seen(house):
    code = "import signal, socket; s = socket.create_server(('127.0.0.1', 0)); "
    process = start(house, program=("-c", code + "print(1, flush=True); signal.pause()"))
    process.stdout.readline()
    assert len(listening([process.pid])) == 1
