"""The tutorials do what they say: every block is run, from top to bottom, in a copy of the project.

A page's fenced blocks are

- ``python`` with ``>>>``: a doctest; blocks with no other block between are one session;
- ``python`` whose first line is ``# a/file.py``: that file is written;
- ``diff``: the files are changed as it says, or the page is out of date;
- ``console``: each ``$ command`` has to succeed and show what stands under it; ``...`` is anything.
"""

import doctest
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toyhouse import EXTRA, ROOT, SECONDS

PAGES = ROOT / "docs" / "tutorials"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def lacks(module):
    """Whether an extra is missing; where nothing may be skipped, none is."""
    missing = importlib.util.find_spec(module) is None
    return missing and os.environ.get("STUDY_WITNESSES") != "all"


class Reader:
    """Follows pages in a folder, in one shell, as a person would."""

    def __init__(self, folder):
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        environment = os.environ | one | {"PATH": path, "TMPDIR": str(folder)}
        environment |= {"PYTHONPATH": os.pathsep.join(EXTRA), "PYTHONUNBUFFERED": "1"}
        self.shell = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.timer = threading.Timer(SECONDS, self.kill)
        self.timer.start()

    def kill(self):
        os.killpg(self.shell.pid, signal.SIGKILL)  # whatever runs in the background as well

    def close(self):
        self.timer.cancel()
        self.kill()
        self.shell.communicate()

    def run(self, command, expected):
        text = f"{{ {command}\n}} </dev/null 2>&1; printf '\\n\\1%d\\n' $?\n"
        self.shell.stdin.write(text.encode())
        self.shell.stdin.flush()
        shown = b""
        while not (end := re.search(rb"\n\x01(\d+)\n$", shown)):
            line = self.shell.stdout.readline()
            assert line, f"$ {command}\n{shown.decode()}\ngiven up after {SECONDS} s"
            shown += line
        shown = shown[: end.start()].decode()
        shown = re.sub("study: compiling kernels.*\n?", "", shown)  # where the cache is cold
        assert int(end[1]) == 0, f"$ {command}\n{shown}"
        same = doctest.OutputChecker().check_output(expected, shown, doctest.ELLIPSIS)
        assert same, f"$ {command}\n{shown}\nthe page has:\n{expected}"

    def console(self, text):
        for command, _, expected in (
            part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.M)[1:]
        ):
            self.run(command, expected)

    def write(self, text):
        """Write the file that the first line names, and say if there was one."""
        if not (named := re.match(r"# (\S+/\S+\.py)\n", text)):
            return False
        (self.folder / named[1]).write_text(text, encoding="utf-8")
        return True

    def patch(self, text):
        for change in re.split(r"^--- .*\n", text, flags=re.M)[1:]:
            name, *hunks = re.split(r"^@@.*\n", change, flags=re.M)
            path = self.folder / name.strip().removeprefix("+++ b/")
            for hunk in hunks:
                lines = hunk.splitlines(keepends=True)
                old, new = (
                    "".join(x[1:] for x in lines if x[0] in sides) for sides in (" -", " +")
                )
                source = path.read_text(encoding="utf-8")
                assert source.count(old) == 1, f"{path.name} has this {source.count(old)}x:\n{old}"
                path.write_text(source.replace(old, new), encoding="utf-8")

    def session(self, page, blocks):
        """Run blocks as one doctest, each on the lines it has on its page."""
        text, kept = "", re.sub(r"[^\n]", "", page)
        for block in blocks:
            before = page[: block.start(2)]
            text += kept[: before.count("\n") - text.count("\n")] + block[2]
        (self.folder / "page.md").write_text(text, encoding="utf-8")
        self.run("python -W error -m doctest page.md", "")

    def follow(self, page):
        waiting = []
        for block in [*BLOCK.finditer(page), None]:
            if block and block[1] == "python" and block[2].startswith(">>> "):
                waiting.append(block)
                continue
            if waiting:
                self.session(page, waiting)
                waiting = []
            if block is None:
                return
            done = {"console": self.console, "diff": self.patch, "python": self.write}[block[1]]
            assert done(block[2]) is not False, f"neither a doctest nor a file:\n{block[2]}"


@pytest.fixture
def reader(tmp_path):
    found = Reader(tmp_path)
    yield found
    found.close()


@pytest.fixture
def project(reader):
    """A reader in a copy of the project, with the compiled kernels but without results."""
    passing = shutil.ignore_patterns("*.pyc.*", "*.tmp.*")  # what another process is writing
    for name in ("study", "experiments", "tests"):
        shutil.copytree(ROOT / name, reader.folder / name, ignore=passing)
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy2(ROOT / name, reader.folder)
    return reader


def text_of(page):
    return (PAGES / f"{page}.md").read_text(encoding="utf-8")


def test_every_page_is_followed_below():
    assert {path.stem for path in PAGES.glob("*.md")} == {
        *("profile_your_network", "plot_a_network", "add_an_activation", "add_an_experiment"),
        "run_on_a_cluster",
    }


@pytest.mark.skipif(lacks("torch"), reason="torch is missing")
def test_profile_your_network(project):
    project.follow(text_of("profile_your_network"))
    assert (project.folder / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_plot_a_network(project):
    project.follow(text_of("plot_a_network"))
    for name in ("profile", "phase", "norms"):
        assert (project.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_add_an_activation(project):
    project.follow(text_of("add_an_activation"))


def test_add_an_activation_whose_derivative_is_wrong(project):
    """Complex steps notice it, among the tests that the page runs; what is before is left out."""
    page = BLOCK.sub(lambda m: m[0] if m[1] != "python" else "", text_of("add_an_activation"))
    for old, new in (
        ("kink: 2 / (1 + e * (2 + e))", "kink: 1 / (1 + e * (2 + e))"),
        ("tests/core tests/arithmetic", "tests/core"),
    ):
        assert page.count(old) == 1
        page = page.replace(old, new)
    with pytest.raises(AssertionError, match=r"FAILED .*test_activations\.py.*bipolar_sigmoid"):
        project.follow(page)


def test_add_an_experiment_and_run_it_on_a_cluster(project):
    project.follow(text_of("add_an_experiment"))
    if lacks("distributed"):
        pytest.skip("distributed is missing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    page = text_of("run_on_a_cluster")
    assert "8786" in page
    project.follow(page.replace("8786", port))


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```console\n$ echo right\nright\n```\n", ""),
        ("```console\n$ echo wrong\nright\n```\n", r"the page has:\s+right"),
        ("```console\n$ false\n```\n", r"\$ false"),
        ("```python\n>>> 1 + 1\n2\n\n```\n", ""),
        ("\n\n```python\n>>> 1 + 1\n3\n\n```\n", 'File "page.md", line 4, in'),
        ("```python\n>>> a = 1\n\n```\n\n```python\n>>> a\n1\n\n```\n", ""),
        ("```python\n# a/b.py\na = 1\n```\n\n```python\n>>> from a.b import a\n\n```\n", ""),
        ("```python\nprint(1)\n```\n", "neither a doctest nor a file"),
        ("```diff\n--- a/a/c.py\n+++ b/a/c.py\n@@\n a\n-b\n+c\n```\n", ""),
        ("```diff\n--- a/a/c.py\n+++ b/a/c.py\n@@\n b\n+a\n c\n```\n", "has this 0x"),
    ],
)
def test_the_reader_notices_what_is_wrong(reader, page, complaint):
    (reader.folder / "a").mkdir()
    (reader.folder / "a" / "c.py").write_text("a\nb\n")
    if not complaint:
        reader.follow(page)
        return
    with pytest.raises(AssertionError, match=complaint):
        reader.follow(page)
