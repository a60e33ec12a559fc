"""The same sweep on a real scheduler and two workers of this machine, one of them killed."""

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import sys

import pytest
import toyhouse
from toyhouse import STARTED

from study.records import tables as records
from study.runs import cluster, sweep

pytestmark = pytest.mark.faults
MISSING = importlib.util.find_spec("distributed") is None
ALL = os.environ.get("STUDY_WITNESSES") == "all"  # where nothing may be skipped, nothing is
needs_dask = pytest.mark.skipif(MISSING and not ALL, reason="Dask is missing (extra cluster)")

INSTALLED = importlib.util.find_spec("study").origin != str(toyhouse.ROOT / "study" / "__init__.py")
RUN = ("run", "--results")


class Cluster:
    """A scheduler on the loopback address, without a dashboard, and its workers."""

    def __init__(self, house, path=toyhouse.ROOT):
        self.house = house
        self.file = house / "scheduler.json"
        self.scheduler = self.start(
            "scheduler", "--port", 0, "--scheduler-file", self.file, path=path
        )
        toyhouse.wait_until(self.ready)

    def ready(self):
        """Whether the scheduler has written all of its file."""
        try:
            self.address = json.loads(self.file.read_text())["address"]
        except (FileNotFoundError, ValueError):
            return False
        return True

    def start(self, what, *args, path):
        # `python -m` puts the house in the path: workers find its experiments there.
        program = ("-m", f"distributed.cli.dask_{what}")
        args = (*args, "--host", "127.0.0.1", "--no-dashboard")
        with open(self.house / f"{what} {len(STARTED)}.log", "wb") as log:
            return toyhouse.start(self.house, *args, program=program, path=path, output=log)

    def worker(self, nanny=True, nthreads=1, path=toyhouse.ROOT):
        return self.start(
            "worker", self.address, "--nthreads", nthreads, "--nworkers", 1,
            "--nanny" if nanny else "--no-nanny", "--local-directory", self.house / "scratch",
            path=path,
        )  # fmt: skip


@pytest.fixture
def dask(house):
    return Cluster(house)


@needs_dask
def test_the_same_bytes_from_a_cluster_one_worker_killed_in_the_middle(house, dask):
    (house / "experiments" / "toy.py").write_text(toyhouse.changed(toyhouse.WAITING))
    first, _ = dask.worker(nanny=False), dask.worker()
    process = toyhouse.start(house, *RUN, "r", "--scheduler", dask.address, "--workers", 2)
    toyhouse.wait_until(lambda: len(toyhouse.stored(house / "r")) >= 2)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    (house / "go").touch()
    out, err = process.communicate(timeout=toyhouse.SECONDS)
    assert process.returncode == 0, err
    assert toyhouse.study(house, *RUN, "calm", "--workers", 2)[0] == 0
    assert toyhouse.files(house / "r") == toyhouse.files(house / "calm")
    assert {p.name: p.read_bytes() for p in toyhouse.stored(house / "r")} == {
        p.name: p.read_bytes() for p in toyhouse.stored(house / "calm")
    }
    assert "tables    r" in out.replace("r/toy", "r")


@needs_dask
@pytest.mark.slow
def test_a_part_that_kills_its_workers_is_quarantined_and_the_others_are_saved(house, dask):
    toy = house / "experiments" / "toy.py"
    toy.write_text(toyhouse.changed("GRID['quick'] = cells(6)\nGRID['quick'][2]['fault'] = 'die'"))
    for _ in range(2):
        dask.worker()
    command = ("run", "--preset", "quick", "--results", "r", "--scheduler", dask.address)
    code, out, err = toyhouse.study(house, *command)
    assert (code, out) == (3, ""), err
    (line,) = [line for line in err.splitlines() if "part failed" in line]
    assert '"fault":"die"' in line
    assert "quarantined: KilledWorker" in line
    assert len(toyhouse.stored(house / "r")) == 5


@needs_dask
def test_an_interrupt_stops_at_once_and_a_lost_scheduler_is_one_line(house, dask):
    """Though the cells that are computed would not end."""
    (house / "experiments" / "toy.py").write_text(toyhouse.changed(toyhouse.WAITING))
    worker = dask.worker()
    command = (*RUN, "r", "--scheduler", dask.address, "--workers", 1)
    process = toyhouse.start(house, *command)
    toyhouse.wait_until(lambda: toyhouse.stored(house / "r"))
    process.terminate()
    _, err = process.communicate(timeout=toyhouse.SECONDS)
    assert process.returncode == 130
    assert "study: interrupted" in err
    assert not toyhouse.alive(process.pid)
    assert toyhouse.children(worker.pid)  # the cluster's worker is not ours to stop

    process = toyhouse.start(house, *command)
    toyhouse.wait_until(lambda: process.stderr.readline().count("to compute"))
    dask.scheduler.kill()
    _, err = process.communicate(timeout=toyhouse.SECONDS)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("study: error: the scheduler is gone")
    assert toyhouse.stored(house / "r")


def one_line(house, address, *words):
    """A run on that cluster is refused in one line, before any work."""
    code, out, err = toyhouse.study(house, *RUN, "r", "--scheduler", address)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("study: error")]
    assert all(word in line for word in words), line
    assert not (house / "r" / "toy").exists()


@needs_dask
def test_workers_that_would_not_compute_the_same_are_refused(house, dask):
    dask.worker(nthreads=2)
    one_line(
        house, dask.address, "2 parts at a time; allowed: 1, so start it as: dask worker --nth"
    )


@needs_dask
def test_a_worker_of_another_study_is_refused(house, dask):
    other = house / "other"
    shutil.copytree(toyhouse.ROOT / "study", other / "study")
    module = other / "study" / "records" / "tables.py"
    text = module.read_text()
    module.write_text(text.replace("NUMERICS_VERSION = ", "NUMERICS_VERSION = 9"))
    dask.worker(path=other)
    one_line(house, dask.address, "allowed: [")


@needs_dask
@pytest.mark.skipif(INSTALLED, reason="the study is installed, so every scheduler has it")
def test_a_scheduler_without_the_study_is_refused(house):
    bare = Cluster(house, path="")
    bare.worker()
    words = "cannot import the study (No module named 'study'); allowed: one that was started"
    one_line(house, bare.address, words)


@needs_dask
def test_where_no_scheduler_is_that_is_said(house, monkeypatch):
    one_line(house, "http://here", "allowed: tcp://")
    monkeypatch.setattr(cluster, "SECONDS", 1)  # to wait for it
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9: no scheduler answers"), \
            cluster.connect("tcp://127.0.0.1:9"):  # fmt: skip
        pass


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed, in a checkout"), \
            cluster.connect("tcp://127.0.0.1:1"):  # fmt: skip
        pass


def test_the_limits_on_the_page_are_those_that_were_measured():
    from benchmarks import parts as limits

    table = records.read_table(toyhouse.ROOT / "results" / "limits" / "limits.csv")
    page = (toyhouse.ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert "\n".join(["<!-- limits -->", *limits.markdown(table), "<!-- end -->"]) in page
    assert page.count("tcp://") >= 3


def test_what_the_page_runs_on_a_cluster_is_python():
    """Slurm is not here to try it; the names in it are those of dask-jobqueue 0.9."""
    page = (toyhouse.ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (call,) = [n for n in ast.walk(ast.parse(script)) if isinstance(n, ast.Call)
               and getattr(n.func, "id", "") == "SLURMCluster"]  # fmt: skip
    known = {"cores", "processes", "memory", "walltime", "interface", "scheduler_options",
             "job_script_prologue"}  # fmt: skip
    assert {argument.arg for argument in call.keywords} == known


def test_a_synthetic_part_is_a_part_like_any_other(tmp_path):
    from benchmarks import parts as limits

    found = limits.with_cells(3)
    assert sweep.run(found, "quick", tmp_path, 1, toyhouse.Here()) == []
    rows = sweep.read_results(tmp_path, "parts")["rows"]
    assert len(rows) == 3 * limits.ROWS
