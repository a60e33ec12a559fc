"""The commands on results: from the sweep to the tables, from these to what people read."""

from collections.abc import Mapping
from pathlib import Path

from study.cli.folders import beside, writable
from study.cli.main import cpus
from study.records.disk import write_atomic
from study.records.tables import check_format
from study.report import pages, publish
from study.report.publish import MORE, Publication
from study.runs import cluster, sweep
from study.runs.experiment import discover, load, question
from study.runs.verify import verify
from study.runs.workers import crew
from study.tools.checks import RESULTS, none_there


def run(
    names: list[str],
    preset: str,
    results: Path | None,
    workers: int | None,
    scheduler: str | None,
    progress: bool,
    format: str,
    figures: Path | None,
) -> int:
    """Sweep what is not there yet; draw and judge each experiment while the next is swept."""
    check_format(format, "--format parquet")
    results = results or RESULTS[preset]  # a quick run must never replace those of a paper run
    folder = figures or beside(results, "figures")
    experiments = [load(name) for name in dict.fromkeys(names or discover())]
    # Whatever can be refused is refused before the first cell is computed.
    for experiment in experiments:
        experiment.cells(preset)
    writable("--results", results)
    writable("--figures", folder)
    writable("docs", beside(results, "docs"))
    drawn = {}
    parts = sum(len(experiment.cells(preset)) for experiment in experiments)
    with (
        sweep.bar("all experiments", parts, len(experiments) > 1 and (progress or None)) as overall,
        publish.background(results, folder, len(experiments)) as begin,
        cluster.connect(scheduler) if scheduler else crew(workers or cpus()) as (executor, most),
    ):
        for experiment in experiments:
            how = (results, workers or most, executor, progress or None, format, overall)
            if not sweep.run(experiment, preset, *how):
                drawn[experiment.name] = begin(experiment.name)
        published = {name: finished() for name, finished in drawn.items()}
    _report(published, results, folder)
    return 0 if len(published) == len(experiments) else 3


def draw(names: list[str], results: Path, figures: Path | None) -> None:
    """Draw and judge from the tables alone."""
    there = [name for name in [*discover(), *MORE] if (results / name).is_dir()]
    names = list(dict.fromkeys(names)) or there
    if not names:
        raise ValueError(none_there(results))
    for name in names:
        if name not in MORE:
            question(name)  # complains of a name that is no experiment's
    folder = writable("--figures", figures or beside(results, "figures"))
    with publish.background(results, folder, len(names)) as begin:
        drawn = {name: begin(name) for name in names}
        published = {name: finished() for name, finished in drawn.items()}
    _report(published, results, folder)


def _report(published: Mapping[str, Publication], results: Path, folder: Path) -> None:
    """Write verdicts and pages, and say where all is."""
    if not published:
        return
    judged = {name: publication.claims for name, publication in published.items()}
    claims = publish.write_claims(judged, results)
    docs = beside(results, "docs")
    if len(claims) and any(map(len, judged.values())):
        page = writable("docs", docs) / "findings.md"
        pages.write_findings(claims, results, folder, page)
        print(pages.fill("claims.txt", claims=claims[claims["experiment"].isin(judged)]))
        print(f"verdicts  {results / 'claims.csv'}\nfindings  {page}")
    for name, publication in published.items():
        if publication.page:
            page = writable("docs", docs) / f"{name}.md"
            pages.write(page, publication.page.text)
            print(f"{publication.page.summary}\npage      {page}")
    for name in published:
        print(f"tables    {results / name}")
    count = sum(len(publication.files) for publication in published.values())
    print(f"figures   {folder} ({count} files)")


def press(results: Path, figures: Path | None) -> None:
    """Gather the numbers, press the PDF, and say where both are."""
    from study.report import paper

    paper.printer()
    if not results.is_dir():
        raise ValueError(none_there(results))
    folder = writable("paper", beside(results, "paper"))
    numbers, pdf = paper.write(results, figures or beside(results, "figures"), folder)
    print(f"numbers   {numbers}\npaper     {pdf}")


def explore(results: Path, figures: Path | None) -> None:
    """Write the page, and say where it is."""
    from study.report import explorer

    folder = figures or beside(results, "figures")
    text = explorer.build(results, folder).encode()
    path = writable("--figures", folder) / "explorer.html"
    write_atomic(path, text)
    print(f"explorer  {path} ({len(text) / 1e6:.1f} MB)")


def show(results: Path) -> None:
    """Write the page of all figures beside the others."""
    page = beside(results, "docs") / "gallery.md"
    if results.is_dir():  # else there is nothing to show, and nowhere to make a folder
        writable("docs", page.parent)
    count = pages.write_gallery(results, beside(results, "figures"), page)
    print(f"gallery   {page} ({count} figure{'s' * (count != 1)})")


def check(results: Path, recompute: int, seed: int) -> int:
    """Print every check, and how many are wrong."""
    count = wrong = 0
    for check in verify(results, recompute, seed):
        count += 1
        wrong += bool(check.wrong)
        mark, colon = ("WRONG", ": ") if check.wrong else ("ok   ", "")
        print(f"{mark}  {check.where}: {check.what}{colon}{check.wrong}", flush=True)
    print(f"\n{count} checks, {f'{wrong} wrong' if wrong else 'all well'}")
    return 3 if wrong else 0
