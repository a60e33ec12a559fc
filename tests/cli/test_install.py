"""Wheel and sdist, where nothing of the checkout is; messages say what really installs."""

import os
import re
import shlex
import shutil
import site
import subprocess
import sys

import pytest
from test_errors import EXTRAS
from toyhouse import ROOT

from study.tools import checks

pytestmark = pytest.mark.slow


def done(*command, cwd):
    environment = {**os.environ, "PIP_NO_INDEX": "1", "MPLBACKEND": "agg"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )


WHEEL = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "..", ".")
SDIST = ("-c", "from setuptools import build_meta; build_meta.build_sdist('..')")


def install(folder, build, ending):
    """A Python with the package in it, and beyond it the libraries of the tests' own."""
    checkout = folder / "checkout"
    for name in ("study", "experiments"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    assert not (made := done(sys.executable, *build, cwd=checkout)).returncode, made.stderr
    (package,) = folder.glob(f"*{ending}")
    assert not package.name.startswith("study-")
    done(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    take = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", package]
    assert not (made := done(*take, cwd=folder)).returncode, made.stderr
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    return install(folder, WHEEL, ".whl"), folder


@pytest.mark.parametrize(("build", "ending"), [(WHEEL, ".whl"), (SDIST, ".tar.gz")])
def test_the_readme_runs_where_nothing_of_the_checkout_is(tmp_path, build, ending):
    python = install(tmp_path, build, ending)
    shutil.rmtree(tmp_path / "checkout")
    shutil.copy(ROOT / "README.md", tmp_path)
    shown = done(python, "-W", "error", "-m", "doctest", "README.md", cwd=tmp_path)
    assert not shown.returncode, shown.stdout + shown.stderr
    code = "import study; from pathlib import Path; print(*Path(study.__file__).parent.iterdir())"
    found = done(python, "-c", code, cwd=tmp_path).stdout
    assert str(tmp_path / "venv") in found
    assert "py.typed" in found


def test_the_command_runs_from_the_wheel(installed):
    python, folder = installed
    shown = done(python, "-m", "study", "list", cwd=folder)
    assert "depth_decay" in shown.stdout, shown.stderr
    where = done(python, "-c", "import study; print(study.__file__)", cwd=folder).stdout
    assert str(folder) in where


@pytest.mark.parametrize("module", EXTRAS)
def test_every_message_about_an_extra_names_what_installs_it(installed, module):
    python, folder = installed
    use, extra = EXTRAS[module]
    code = f"import sys; sys.modules[{module!r}] = None; {use}"
    last = done(python, "-c", code, cwd=folder).stderr.splitlines()[-1]
    commands = re.findall(r"pip install ([^,]+)", last)
    assert commands == [checks.EXTRAS[extra], f'".[{extra}]"']
    for what in commands:  # as all of it is there, pip needs no network
        follow = [python, "-m", "pip", "install", "--dry-run", "--no-build-isolation"]
        shown = done(*follow, *shlex.split(what), cwd=folder / "checkout")
        assert not shown.returncode, shown.stderr
        assert "Would install study-" not in shown.stdout
