"""The ten-second answer: its words, its table and its advice against the rows that it writes."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numba.core import event

import study
from study.arithmetic.kernels import _Announcement
from study.cli import main
from study.records import tables as records
from study.report.summary import Summary, advice, chosen, in_words, summarise, table

SIGMOID = ["--activation", "sigmoid", "--depth", "120", "--width", "32", "--sigma-w", "1"]
NET = study.Network(activation="sigmoid", depth=120, width=32, sigma_w=1.0)
CRITICAL = study.theory.critical_sigma_w("sigmoid")
NONE = pd.Series(dtype=float)


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder: status, what it prints, and the rows that it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*args):
        status = main.main(["profile", *map(str, args)])
        out, err = capsys.readouterr()
        written = re.findall(r"^rows +(.+)$", out, re.M)
        return status, out if status == 0 else err, written[0] if written else None

    return run


def test_the_answer_comes_first_and_its_numbers_are_those_of_the_rows(ask):
    status, out, path = ask(*SIGMOID, "--seeds", 3)
    assert status == 0
    frame = records.read_table(path)
    pd.testing.assert_frame_equal(frame, study.profile(NET, seeds=range(3)))
    factors = frame.log10_derivative_factor + frame.log10_weight_factor
    down = factors.groupby(frame.seed).sum()
    words = " ".join(out.partition("\n\n")[0].split())
    lost, rate = re.match(
        r"The gradient vanishes: it loses (\S+) decades .*?, (\S+) a", words
    ).groups()
    assert float(lost) == pytest.approx(-down.median(), rel=1e-3)
    assert float(rate) == pytest.approx(-down.median() / 120, rel=1e-2)
    assert f"median of 3 seeds; lowest {down.min():+.4g}, highest {down.max():+.4g}" in words
    below = int((frame.groupby("layer").log10_grad_norm.median() < np.log10(2.0**-126)).sum())
    assert f"In plain float32, dC/dW underflows from layer {below - 1} down" in words
    assert f"down, {120 - below} layers below the output" in words
    assert "float64" not in words
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert f"chi = 1 at sigma_w = {CRITICAL:.10g} (here 1)" in out


def test_the_command_of_the_readme_is_answered(ask):
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [arguments] = re.findall(r"-m study profile (.*?)`", text)
    status, out, _ = ask(*arguments.split())
    assert status == 0
    assert "vanish" in out


def test_the_table_is_that_of_the_rows(ask):
    _, out, path = ask(*SIGMOID, "--seeds", 4)
    frame = records.read_table(path)
    by = frame.groupby("layer").log10_grad_norm.agg(["median", "min", "max"]).round(2)
    rows = [line.split() for line in out.split("\n\n")[1].splitlines()[2:]]
    assert [int(row[0]) for row in rows] == chosen(120, 11)
    for row in rows:
        assert [float(x) for x in row[2:5]] == pytest.approx(by.loc[int(row[0])], abs=0.0051)
        assert float(row[5]) == pytest.approx(float(row[2]), abs=1.5)  # theory
        assert row[6] == ("ok" if float(row[2]) > -37.93 else "underflow")
        assert row[7] == "ok"


def test_the_rows_go_to_a_file_of_their_own(ask):
    paths = {
        ask(*SIGMOID, "--depth", 9, *more)[2]
        for more in ([], ["--seeds", 2], ["--sigma-w", "critical"], ["--sigma-b", 0.1],
                     ["--weights", "orthogonal"], ["--dtype", "float32"], ["--batch", 2],
                     ["--engine", "dense"], ["--kink", 0], ["--sigma-w", 1 + 1e-9])
    }  # fmt: skip
    assert len(paths) == 10
    assert {str(p) for p in Path("build/profile").glob("*.csv")} == paths
    assert all(path.startswith("build/profile/sigmoid_depth9_width32_sigma_w1") for path in paths)
    assert all(records.read_about(path)["configuration"]["depth"] == 9 for path in paths)
    assert ask(*SIGMOID, "--depth", 9)[2] in paths


def test_a_file_of_something_else_is_not_overwritten(ask, tmp_path):
    assert ask(*SIGMOID, "--depth", 9, "--csv", "mine.csv")[0] == 0
    assert ask(*SIGMOID, "--depth", 9, "--csv", "mine.csv")[0] == 0
    kept = (tmp_path / "mine.csv").read_bytes()
    (tmp_path / "notes.csv").write_text("kept")
    for name in ("mine.csv", "notes.csv"):
        status, err, _ = ask(*SIGMOID, "--depth", 10, "--csv", name)
        assert status == 2
        assert f"--csv '{name}' holds something else; allowed: a new name" in err
        assert err.rstrip().endswith(f"rm {name}")
    assert (tmp_path / "mine.csv").read_bytes() == kept
    assert (tmp_path / "notes.csv").read_text() == "kept"
    (tmp_path / "mine.csv").unlink()  # as the message says
    assert ask(*SIGMOID, "--depth", 10, "--csv", "mine.csv")[0] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--activation", "relu"], "The gradient vanishes: "),
        (["--activation", "relu", "--sigma-w", 2], "The gradient explodes: it gains "),
        (["--activation", "tanh", "--depth", 20], "The gradient keeps its size within a factor "),
        (["--activation", "relu", "--width", 3], "The gradient is dead: exactly zero"),
        (["--activation", "relu", "--sigma-w", 0], "dead: exactly zero at the first weights, and"),
        (["--depth", 1, "--seeds", 1], " a layer (one seed). Plain float32 holds"),
        (["--sigma-b", 0.5, "--weights", "orthogonal", "--batch", 3], "infinite width"),
        (["--weights", "uniform", "--dtype", "float32"], "theory, width 32"),
        (["--activation", "softplus", "--sigma-w", 1e6], "explodes"),
        (["--sigma-w", 1e-9], "vanishes"),
        (["--activation", "tanh", "--sigma-w", 1e-9, "--sigma-b", 1e-9], "theory, infinite width"),
    ],
)
def test_any_network_has_an_answer(ask, args, words):
    status, out, _ = ask(*SIGMOID, "--seeds", 3, *args)
    assert status == 0, out
    assert words in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_the_advice_mends_it(ask):
    """What the command says is done, and then the gradient is kept."""
    relu = ["--activation", "relu", "--depth", 400, "--width", 64]
    _, out, _ = ask(*relu, "--sigma-w", 1)
    told = " ".join(out.partition("to do")[2].split())
    assert told.startswith("--sigma-w critical, which leaves -")
    (width,) = re.findall(r"--width (\d+) or more", told)
    assert 64 < int(width) < 400
    _, out, _ = ask(*relu, "--sigma-w", "critical")
    assert "The gradient vanishes" in out
    assert " ".join(out.partition("to do")[2].split()).startswith("--width ")
    _, out, _ = ask(*relu, "--sigma-w", "critical", "--width", width)
    assert "The gradient keeps" in out
    assert "to do     nothing" in out
    _, out, _ = ask("--activation", "tanh", "--depth", 300, "--sigma-w", 2)
    told = " ".join(out.partition("to do")[2].split())
    assert told.startswith("--sigma-w critical: the gradient of the same networks is then kept")
    _, out, _ = ask("--activation", "tanh", "--depth", 300, "--sigma-w", "critical")
    (there,) = re.findall(r"loses (\S+) decades", out)
    assert f"(-{float(there):.3g} decades)" in told


def test_a_plot_for_a_dumb_terminal_is_ascii_and_width_is_that_of_the_terminal(ask, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = ask(*SIGMOID)
    assert out.isascii()
    assert max(len(line) for line in out.splitlines() if not line.startswith("rows ")) <= 60
    monkeypatch.delenv("TERM")
    _, out, _ = ask(*SIGMOID)
    assert re.search("[⠀-⣿]", out)


def rows(derivative, weight, norm, status):
    """The frame of seeds x layers, as far as a summary looks at it."""
    norm = np.asarray(norm, float)
    return pd.DataFrame(
        {
            "layer": np.tile(np.arange(norm.shape[1]), len(norm)),
            "depth": norm.shape[1],
            "log10_derivative_factor": np.broadcast_to(derivative, norm.shape).ravel(),
            "log10_weight_factor": np.broadcast_to(weight, norm.shape).ravel(),
            "log10_grad_norm": norm.ravel(),
            "status": np.broadcast_to(np.asarray(status, object), norm.shape).ravel(),
        }
    )


def test_a_gradient_that_grows_and_falls_is_told_layer_by_layer():
    status = ["float64_overflow", "float32_overflow", "ok", "float32_underflow", "ok"]
    found = summarise(rows(-0.5, 1.5, [[400.0, 50.0, 0.0, -50.0, 0.0]], status))
    assert list(found.layers["change"]) == [5, 4, 3, 2, 1]
    assert list(found.layers["float32"]) == ["overflow", "overflow", "ok", "underflow", "ok"]
    assert list(found.layers["float64"]) == ["overflow", "ok", "ok", "ok", "ok"]
    words = in_words(found)
    assert (
        "In plain float32, dC/dW underflows in 1 of 5 layers and overflows from layer 1 down"
        in words
    )
    assert (
        "In plain float64, dC/dW overflows from layer 0 down, 4 layers below the output." in words
    )


def test_zeros_of_some_seeds_are_told_from_zeros_of_most():
    norm = np.array([[0.0, 0.0], [-np.inf, 0.0], [-np.inf, 0.0]])
    status = np.where(np.isfinite(norm), "ok", "dead")
    lost = np.where(np.isfinite(norm), 0.0, -np.inf)
    weight = np.where(np.isfinite(norm), -1.0, np.nan)  # 0 / 0 in a layer that is dead
    found = summarise(rows(lost, weight, norm, status))
    assert found.verdict == "is dead"
    assert found.change == (-np.inf, -np.inf, -2.0)
    assert list(found.layers["float32"]) == ["dead", "ok"]
    assert "and in 1 of 2 layers (half of 3 seeds, or more)" in in_words(found)
    assert "holds dC/dW in every layer that is not zero" in in_words(found)
    found = summarise(rows(lost[[0, 1]], weight[[0, 1]], norm[[0, 1]], status[[0, 1]]))
    assert found.verdict == "is dead"  # half of two
    assert list(found.layers["float32"]) == ["dead", "ok"]
    found = summarise(rows(lost[[0, 0, 1]], weight[[0, 0, 1]], norm[[0, 0, 1]], status[[0, 0, 1]]))
    assert found.verdict == "keeps"
    assert found.layers["low"][0] == -np.inf


@pytest.mark.parametrize(("change", "verdict"), [(-3.01, "vanishes"), (-3, "keeps"), (3, "keeps"),
                                                 (3.01, "explodes")])  # fmt: skip
def test_a_factor_of_1000_decides(change, verdict):
    found = summarise(rows(0.0, change, [[0.0]], "ok"))
    assert found.verdict == verdict


def test_advice_where_no_weight_scale_and_no_width_would_keep_it():
    softplus = study.Network(activation="softplus", depth=1000, width=64, sigma_w=2**0.5)
    found = summarise(rows(0.0, -20.0, [[0.0]], "ok"))
    said = advice(found, found, softplus, softplus.sigma_w)
    assert said == "fewer layers or residual connections: no width would keep it"
    narrow = study.Network(depth=1000, width=3, sigma_w=2**0.5)
    dead = found._replace(change=(-np.inf,) * 3)
    assert advice(dead, dead, narrow, narrow.sigma_w).startswith("a larger --width")


def test_a_narrow_table_leaves_the_seeds_out():
    found = Summary(*summarise(rows(0.0, -1.0, [[0.0, 1.0]], "ok")))
    assert "lowest" in table(found, NONE, 79)
    assert "lowest" not in table(found, NONE, 78)
    assert max(map(len, table(found, NONE, 78).splitlines())) <= 60
    assert max(map(len, table(found, NONE, 79).splitlines())) <= 79


def test_a_cold_cache_says_what_takes_so_long(capsys):
    kernel = SimpleNamespace(py_func=study.profile)
    started = event.Event("numba:compile", event.EventStatus.START, {"dispatcher": kernel})
    listener = _Announcement()
    for _ in range(2):
        listener.on_start(started)
    assert capsys.readouterr().err.count("study: compiling") == 1
