"""The table of laws: measure them all, judge, and write the CSV, the figure's frame and the text.

The negative control of a law is the same measurement held against the wrong number: it must be
flagged, or the law was not tested.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import pandas as pd
from threadpoolctl import threadpool_limits

from experiments.laws import LAWS
from experiments.laws.law import FALSE_ALARM, Law
from study.records import tables as records
from study.records.disk import make_folder

PRESETS = {"quick": 1, "paper": 6}
"""How many times as many networks as in the quick preset."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

COLUMNS = {
    "law": "short name of the law [-]",
    "paper": "where it is from [-]",
    "statement": "the law in a sentence [-]",
    "regime": "the networks it is measured on, what is measured, the tolerance's form [-]",
    "popular_reading": "the reading that the law refutes, if there is one [-]",
    "expected": "what study.theory computes [as the regime says]",
    "measured": "mean, variance, median or share over networks [that of expected]",
    "low": "lower end of its interval; of the networks' range where nothing is left to chance "
    "[that of expected]",
    "high": "upper end [that of expected]",
    "tolerance": "stated beforehand; 0 where the law is exact [that of expected]",
    "networks": "independent networks, one seed each; or dot products [-]",
    "random": "whether the interval is a statistical one [-]",
    "verdict": "agrees, or disagrees: interval and tolerance do or do not hold expected [-]",
    "control": "what the wrong number of the negative control is [-]",
    "control_expected": "the wrong number [that of expected]",
    "control_verdict": "flagged, or missed: the measurement does or does not exclude it [-]",
}
"""The table's columns and their meaning."""


def measure(
    more: int,
    laws: Iterable[Law] = LAWS,
    show: Callable[[str], None] = lambda line: None,
    workers: int | None = None,
) -> pd.DataFrame:
    """Measure laws and judge them.

    Parameters
    ----------
    more : int
        How many times as many networks as in the quick preset.
    laws : iterable of Law
        Some of `LAWS`.
    show : callable
        Is given a line of text when a law is done, in the table's order.
    workers : int, optional
        Processes; 1 is this one. At most 2 and the cores there are, if not given. The numbers do
        not depend on it: each law is measured on its own, with one BLAS thread.

    Returns
    -------
    DataFrame with the columns of `COLUMNS`, one row a law.
    """
    laws = list(laws)
    workers = min(2, len(os.sched_getaffinity(0))) if workers is None else workers
    measured = _alone(laws, more) if workers == 1 else _together(laws, more, workers)
    rows = []
    for row in measured:
        rows.append(row)
        show(line(row))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _alone(laws: list[Law], more: int) -> Iterator[dict]:
    for law in laws:
        yield _measure(law.name, more)


def _together(laws: list[Law], more: int, workers: int) -> Iterator[dict]:
    """Rows in the laws' order, whichever is measured first.

    Neighbours of one paper are often about the same networks: a process takes all of them.
    """
    rows = {law.name: Future() for law in laws}
    groups = [
        [law.name for law in group]
        for _, group in itertools.groupby(laws, lambda law: (law.measure.__module__, law.paper))
    ]
    waiting, stopped = iter(groups), Event()

    def drive(process: ProcessPoolExecutor) -> None:
        for group in waiting:
            for name in group:
                if stopped.is_set():
                    return
                try:
                    rows[name].set_result(process.submit(_measure, name, more).result())
                except BaseException as error:  # the reader's to raise
                    rows[name].set_exception(error)

    with ExitStack() as stack:
        stack.enter_context(_one_thread_each())
        spawn = get_context("spawn")
        processes = [
            stack.enter_context(ProcessPoolExecutor(1, mp_context=spawn)) for _ in range(workers)
        ]
        drivers = stack.enter_context(ThreadPoolExecutor(workers))
        stack.callback(stopped.set)  # once the reader stops, nothing new is begun
        for process in processes:
            drivers.submit(drive, process)
        for future in rows.values():
            yield future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside have one BLAS thread: it is read when they load their libraries."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _measure(name: str, more: int) -> dict:
    law = next(law for law in LAWS if law.name == name)
    with threadpool_limits(limits=1):
        return _row(law, more)


def _row(law: Law, more: int) -> dict:
    found = law.measure(more)
    estimate = found.estimate
    return {
        "law": law.name,
        "paper": law.paper,
        "statement": law.statement,
        "regime": law.regime,
        "popular_reading": law.popular,
        "expected": float(found.expected),
        "measured": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "tolerance": float(found.tolerance),
        "networks": estimate.n,
        "random": found.random,
        "verdict": "agrees" if found.agrees(found.expected) else "disagrees",
        "control": law.control,
        "control_expected": float(found.wrong),
        "control_verdict": "missed" if found.agrees(found.wrong) else "flagged",
    }


def line(row: dict) -> str:
    """One law as a line of text.

    >>> row = {"law": "toy", "verdict": "agrees", "control_verdict": "flagged", "networks": 20}
    >>> line(row | {"expected": 1.0, "measured": 1.02, "low": 0.95, "high": 1.1})
    'agrees     flagged  toy                              1.02 [0.95, 1.1], expected 1, 20 networks'
    """
    return (
        f"{row['verdict']:<10} {row['control_verdict']:<8} {row['law']:<32} "
        f"{row['measured']:.5g} [{row['low']:.5g}, {row['high']:.5g}], "
        f"expected {row['expected']:.5g}, {row['networks']} networks"
    )


def false_alarms(table: pd.DataFrame) -> float:
    """The probability, at most, that any law that holds is said to disagree (Bonferroni)."""
    return FALSE_ALARM * int(table["random"].sum())


def summary(table: pd.DataFrame) -> str:
    """What the table amounts to, in a sentence."""
    agree = int((table["verdict"] == "agrees").sum())
    flagged = int((table["control_verdict"] == "flagged").sum())
    return (
        f"{agree} of {len(table)} laws agree, {flagged} of {len(table)} negative controls are "
        f"flagged; family-wise false-alarm rate at most {false_alarms(table):.2g}."
    )


def write(table: pd.DataFrame, folder: Path, preset: str) -> Path:
    """Write ``<folder>/laws.csv`` and its data dictionary; returns the former's path."""
    path = Path(folder) / "laws.csv"
    make_folder(path.parent)
    about = {"configuration": {"preset": preset}, "versions": [records.versions()]}
    records.write_described(path, table, COLUMNS, about)
    return path


def markdown(table: pd.DataFrame) -> str:
    """The table as a page: popular readings that it refutes, then a section a paper."""
    sound = (table["verdict"] == "agrees") & (table["control_verdict"] == "flagged")
    refuted = table[sound & (table["popular_reading"] != "")]
    lines = [
        "# The laws of the field, side by side",
        "",
        "Generated by `python -m study laws`; do not edit. Expected numbers are computed by",
        "`study.theory`, measured ones by networks at fixed seeds. Squared norms and natural",
        "logarithms, unless a row says otherwise; G is the squared gradient at the input over that",
        "at the output.",
        "",
        f"**{summary(table)}**",
        "",
        "A law agrees if the expected number is within the interval of the measurement (level",
        f"1 - {FALSE_ALARM:g}; the range of all networks, where marked *all*) widened by the",
        "tolerance. The control is a wrong number that must not be.",
        "",
        "## Popular readings that networks refute",
        "",
    ]
    for row in refuted.itertuples():
        lines.append(f"- *{_cell(row.popular_reading)}*? {row.paper}: {_cell(row.statement)}.")
    for paper, rows in table.groupby("paper", sort=False):
        lines += [
            "",
            f"## {paper}",
            "",
            "| law, and where it is measured | expected | measured | verdict | control |",
            "|---|---|---|---|---|",
        ]
        for row in rows.itertuples():
            mark = " *all*" if not row.random else ""
            tolerance = f" ± {row.tolerance:.2g}" if row.tolerance else ""
            cells = (
                f"**{_cell(row.statement)}.** {_cell(row.regime)}. Independent: {row.networks:,}.",
                f"{row.expected:.5g}",
                f"{row.measured:.5g} [{row.low:.5g}, {row.high:.5g}]{tolerance}{mark}",
                row.verdict,
                f"{row.control_expected:.5g} ({_cell(row.control)}): {row.control_verdict}",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that a table of Markdown leaves as it is."""
    for mark in ("\\", "|", "*", "_", "<", ">"):
        text = text.replace(mark, "\\" + mark)
    return text
