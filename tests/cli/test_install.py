"""The wheel, installed where nothing of the checkout is: each message says what really installs."""

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
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A Python with the wheel in it, and beyond it the libraries of the tests' own."""
    folder = tmp_path_factory.mktemp("empty")
    checkout = folder / "checkout"
    for name in ("study", "experiments"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    assert not (made := done(*build, "-w", folder, checkout, cwd=folder)).returncode, made.stderr
    (wheel,) = folder.glob("*.whl")
    assert not wheel.name.startswith("study-")
    done(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    install = [python, "-m", "pip", "install", "--no-deps", wheel]
    assert not (made := done(*install, cwd=folder)).returncode, made.stderr
    return python, folder


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
