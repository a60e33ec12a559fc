"""The commands as a user meets them, and one line for every mistake."""

from toyhouse import TOY, changed, files, stored

from study.cli.main import cpus


def test_experiments_are_listed_and_every_command_has_help(typed):
    assert typed("list") == (0, "toy\n    Does the toy decay?\n", "")
    for command in ((), ("run",), ("profile",)):
        code, out, err = typed(*command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith("usage: python -m study")


def test_a_quick_run_leaves_the_paper_results_alone_and_figures_come_from_the_csvs(house, typed):
    code, out, err = typed("run", "--preset", "quick")
    assert code == 0
    begun, took = err.splitlines()
    assert begun == f"study: toy (quick): 3 parts, 0 done, 3 to compute, {cpus()} workers"
    assert took.startswith("study: toy (quick): 3 of 3 parts done after 00:")
    assert "\x1b" not in out + err
    assert "\r" not in err  # no progress bar without a terminal
    assert max(map(len, out.splitlines())) <= 100
    assert "supported     toy / finite" in out
    assert "refuted       toy / large" in out
    assert not (house / "results").exists()
    made = files(house / "build" / "quick")
    assert set(made) == {
        *(f"toy/{n}.{e}" for n in ("decay", "ends", "data_dictionary") for e in ("csv", "json")),
        *(f"{n}.{e}" for n in ("claims", "data_dictionary") for e in ("csv", "json")),
        *(f"figures/toy.{e}" for e in ("svg", "pdf", "png")),
        "docs/findings.md",
    }
    page = made["docs/findings.md"].decode()
    assert "![toy: Does the toy decay?](../figures/toy.png)" in page
    assert "**2 claims: 1 supported, 1 refuted.**" in page
    for part in stored(house / "build" / "quick"):
        part.unlink()
    for name in ("figures/toy.svg", "docs/findings.md", "claims.csv", "claims.json"):
        (house / "build" / "quick" / name).unlink()
    code, again, err = typed("figures", "--results", "build/quick")
    assert (code, err) == (0, "")
    assert again == out
    assert files(house / "build" / "quick") == made


def test_several_experiments_have_a_bar_each_and_one_together(house, typed):
    other = TOY.replace("for i in range(n)", "for i in range(n + 1)")
    (house / "experiments" / "other.py").write_text(other)
    code, out, err = typed("run", "--preset", "quick", "--progress")
    assert code == 0
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip()]
    assert [line.split()[1] for line in lines if " done after " in line] == ["other", "toy"]
    for name, parts_ in (("other", 4), ("toy", 3), ("all experiments", 7)):
        bars = [line for line in lines if line.startswith(f"{name}: ")]
        assert bars[0].startswith(f"{name}:   0%")
        assert bars[-1].startswith(f"{name}: 100%")
        assert f" {parts_}/{parts_} [" in bars[-1]
    assert "other / finite" in out
    assert "toy / finite" in out
    page = (house / "build" / "quick" / "docs" / "findings.md").read_text()
    assert page.index("### other") < page.index("### toy")


def test_a_figure_for_each_of_several_messages(house, typed):
    toy = house / "experiments" / "toy.py"
    many = "\none = figure\ndef figure(tables):\n"
    many += "    return {'low': one(tables), 'high': one(tables)}\n"
    toy.write_text(changed(many))
    (house / "experiments" / "toy_low.py").write_text(TOY)  # whose name is that of a figure
    assert typed("run", "toy", "--preset", "quick")[0] == 0
    made = {path.name for path in (house / "build" / "quick" / "figures").glob("*.png")}
    assert made == {"toy_low.png", "toy_high.png"}
    page = (house / "build" / "quick" / "docs" / "findings.md").read_text()
    assert "](../figures/toy_high.png)" in page


def test_a_failing_cell_gives_status_3_and_its_own_line(house, typed):
    toy = house / "experiments" / "toy.py"
    toy.write_text(changed("GRID['quick'][1]['fault'] = 'raise'"))
    code, out, err = typed("run", "toy", "--preset", "quick")
    assert code == 3
    (line,) = [line for line in err.splitlines() if "part failed" in line]
    assert line.startswith('study: part failed: toy {"fault":"raise"')
    assert "RuntimeError: the toy broke" in line
    assert out == ""
    assert len(stored(house / "build" / "quick")) == 2


def test_verify_says_what_is_wrong_by_its_status(house, typed):
    assert typed("run", "--preset", "quick", "--results", "r")[0] == 0
    before = files(house)
    code, out, err = typed("verify", "--results", "r", "--recompute", 1)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "12 checks, all well"
    assert files(house) == before
    path = house / "r" / "toy" / "decay.csv"
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = typed("verify", "--results", "r")
    assert (code, err) == (3, "")
    assert "WRONG  r/toy/decay.csv: checksum, rows, versions: table r/toy/decay.csv is" in out
    assert out.splitlines()[-1].endswith("checks, 1 wrong")
