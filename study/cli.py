"""The commands: ``python -m study list | run | figures | laws | verify | profile``.

Exit status: 0 done, 2 a request that cannot be met (one line on stderr says which field, which
value and what is allowed; nothing is half written), 3 some part failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# Whatever is slow to import is imported by the command that needs it: --help and list need nothing.
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from study.experiment import Experiment

_EXAMPLES = """examples:
  python -m study list
  python -m study run depth_decay --preset quick
  python -m study figures
  python -m study laws --preset quick
  python -m study verify --results results --recompute 3
  python -m study profile --activation sigmoid --depth 1000 --width 256 --sigma-w critical
"""


SHARED = Path("results")
"""The results that are under version control."""


class _Parser(argparse.ArgumentParser):
    """Reports an error as every other error of the study: one line, status 2."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument ", "", message)
        message = re.sub(r"invalid choice: (.*) \(choose from (.*)\)", r"\1; allowed: \2", message)
        if message.startswith("unrecognized"):
            message += f"; allowed: what {self.prog} --help lists"
        _complain(message)
        raise SystemExit(2)


def _complain(message: object) -> None:
    print("study: error:", " ".join(str(message).split()), file=sys.stderr)


def _number(
    convert: Callable[[str], Any], allowed: str, is_allowed: Callable[[Any], bool] = lambda _: True
) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if is_allowed(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {allowed}")

    return parse


_count = _number(int, "a whole number, at least 1", lambda value: value >= 1)
_amount = _number(int, "a whole number, at least 0", lambda value: value >= 0)
_whole = _number(int, "a whole number")
_real = _number(float, "a number")


def _sigma(text: str) -> float | str:
    return text if text == "critical" else _number(float, "a number or critical")(text)


def _cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m study",
        description="Why gradients vanish or explode: run the experiments, or profile a network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    command("list", "List the experiments and the question each asks.")

    run = command("run", "Run experiments: sweeps, tables, figures, verdicts. Resumes by itself.")
    run.add_argument("names", nargs="*", metavar="NAME", help="experiments; default: all")
    run.add_argument(
        "--preset", choices=("quick", "paper"), default="paper", help="default: %(default)s"
    )
    run.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help=f"default: the CPUs, {_cpus()}; with --scheduler its workers",
    )
    run.add_argument(
        "--scheduler",
        metavar="URL",
        help="compute on the workers of a Dask scheduler, tcp://host:port or tls://host:port",
    )
    run.add_argument(
        "--results", type=Path, metavar="DIR", help="default: results (paper), build/quick (quick)"
    )
    run.add_argument("--progress", action="store_true", help="show it also where no terminal is")

    figures = command("figures", "Draw the figures and judge the claims from the CSVs alone.")
    figures.add_argument(
        "names", nargs="*", metavar="NAME", help="experiments; default: all that have results"
    )
    figures.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default: %(default)s"
    )
    for each in (run, figures):
        each.add_argument(
            "--figures", type=Path, metavar="DIR", help="default: figures, or DIR/figures"
        )

    laws = command("laws", "Hold the laws of the field against networks: table, figure, page.")
    laws.add_argument(
        "--preset", choices=("quick", "paper"), default="paper", help="default: %(default)s"
    )
    laws.add_argument(
        "--results", type=Path, metavar="DIR", help="default: results (paper), build/quick (quick)"
    )
    laws.add_argument(
        "--figures", type=Path, metavar="DIR", help="default: figures, or DIR/figures"
    )

    verify = command("verify", "Check results: files, provenance, identities, a sample again.")
    verify.add_argument(
        "--results", type=Path, default=SHARED, metavar="DIR", help="default: %(default)s"
    )
    verify.add_argument(
        "--recompute", type=_amount, default=2, metavar="N",
        help="cells of each experiment that are computed again; default: %(default)s",
    )  # fmt: skip
    verify.add_argument(
        "--seed", type=_amount, default=0, metavar="S", help="chooses them; default: %(default)s"
    )

    profile = command("profile", "Profile one network: what its gradients do, layer by layer.")
    profile.add_argument("--activation", required=True, metavar="PHI", help="for example relu")
    profile.add_argument("--depth", type=_whole, required=True, metavar="N", help="weight matrices")
    profile.add_argument(
        "--width", type=_whole, default=256, metavar="N", help="units a layer; default: %(default)s"
    )
    profile.add_argument(
        "--sigma-w", type=_sigma, required=True, metavar="S",
        help="Var W = S^2 / fan_in; critical: where gradients neither vanish nor explode",
    )  # fmt: skip
    profile.add_argument(
        "--sigma-b", type=_real, default=0.0, metavar="S", help="Var b = S^2; default: %(default)s"
    )
    profile.add_argument(
        "--weights", default="gaussian", metavar="LAW",
        help="gaussian, uniform or orthogonal; default: %(default)s",
    )  # fmt: skip
    profile.add_argument(
        "--dtype",
        default="float64",
        metavar="TYPE",
        help="float32 or float64; default: %(default)s",
    )
    profile.add_argument(
        "--kink", type=_real, default=1.0, metavar="K", help="phi' at a kink; default: %(default)s"
    )
    profile.add_argument(
        "--seeds", type=_count, default=10, metavar="N", help="networks drawn; default: %(default)s"
    )
    profile.add_argument(
        "--batch", type=_count, default=1, metavar="B", help="examples; default: %(default)s"
    )
    profile.add_argument(
        "--engine", default="auto", metavar="NAME",
        help="auto, dense or matrix_free; default: %(default)s",
    )  # fmt: skip
    profile.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write the rows to FILE (.csv), and what they are to the .json beside it",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(argv)

    def interrupt(*_: object) -> NoReturn:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not stop the clean-up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        commands = {
            "list": _list,
            "run": _run,
            "figures": _figures,
            "laws": _laws,
            "verify": _verify,
            "profile": _profile,
        }
        return commands[args.command](args)
    except (ValueError, OSError, ImportError) as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; what is finished is kept", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _list(args: argparse.Namespace) -> int:
    from study.experiment import discover, question

    for name in discover():
        print(f"{name}\n    {question(name)}")
    return 0


def _writable(field: str, folder: Path) -> Path:
    """Make sure, before any work, that files can be written to `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{field} '{folder}' cannot be written ({error.strerror}); "
            "allowed: a folder that exists or can be made, and be written to"
        ) from None
    return folder


def _choose_results(args: argparse.Namespace) -> None:
    if args.results is None:  # a quick run must never replace the results of a paper run
        args.results = SHARED if args.preset == "paper" else Path("build/quick")


def _beside(results: Path, name: str) -> Path:
    """The folder of that name: the project's own for its own results, else within theirs."""
    return Path(name) if results == SHARED else results / name


def _figures_folder(args: argparse.Namespace) -> Path:
    return args.figures or _beside(args.results, "figures")


def _run(args: argparse.Namespace) -> int:
    from study import sweep
    from study.experiment import discover, load

    _choose_results(args)
    experiments = [load(name) for name in dict.fromkeys(args.names or discover())]
    for experiment in experiments:
        experiment.cells(args.preset)
    _writable("--results", args.results)
    _writable("--figures", _figures_folder(args))
    _writable("docs", _beside(args.results, "docs"))
    complete, progress = [], True if args.progress else None
    with _executor(args) as executor:
        _plan(experiments, args)
        for experiment in experiments:
            more = (args.results, args.workers, executor, progress)
            if not sweep.run(experiment, args.preset, *more):
                complete.append(experiment)
    _report(complete, args)
    return 0 if len(complete) == len(experiments) else 3


@contextlib.contextmanager
def _executor(args: argparse.Namespace) -> Iterator[Executor | None]:
    """Lend what computes, and settle the number of workers."""
    if args.scheduler is None:
        args.workers = args.workers or _cpus()
        yield None
        return
    from study import cluster

    with cluster.connect(args.scheduler) as (executor, workers):
        args.workers = args.workers or workers
        yield executor


def _plan(experiments: list[Experiment], args: argparse.Namespace) -> None:
    """Say what each run will take, before any work, and refuse what does not fit the memory."""
    from study import plan, sweep
    from study.network import check_memory

    importlib.import_module("study.engines")  # workers load it: now this process weighs the same
    interpreter, plans = plan.peak_memory(), []
    for experiment in experiments:
        grid = sweep.parts(experiment, args.preset)
        store = args.results / experiment.name / ".parts"
        there = {path.stem for path in store.glob("*.part")}  # the run will see if they are sound
        left = [part.configuration["cell"] for part in grid if part.key not in there]
        costs = [(s, bytes_ + plan.KERNELS) for s, bytes_ in map(experiment.expected, left)]
        usage = plan.expected(costs, args.workers, interpreter)
        plans.append((experiment.name, len(grid), len(grid) - len(left), usage))
    if len(plans) > 1:
        _, counts, done, usages = zip(*plans, strict=True)
        plans.append(("all", sum(counts), sum(done), plan.together(usages)))
    for name, count, done, usage in plans:
        about = f"{name} ({args.preset})"
        sweep.say(plan.line(about, count, done, "about", usage, args.workers))
    for name, count, done, usage in plans:
        if done < count and args.scheduler is None:  # a cluster's memory is not ours to count
            check_memory(usage.memory, experiment=name, workers=args.workers)


def _figures(args: argparse.Namespace) -> int:
    from study.experiment import discover, load

    names = args.names or [n for n in discover() if (args.results / n).is_dir()]
    if not names:
        raise ValueError(
            f"--results '{args.results}' has no results; allowed: a folder written by "
            "python -m study run"
        )
    experiments = [load(name) for name in dict.fromkeys(names)]
    _writable("--figures", _figures_folder(args))
    _report(experiments, args)
    return 0


def _report(experiments: list[Experiment], args: argparse.Namespace) -> None:
    from study import report

    if not experiments:
        return
    folder = _figures_folder(args)
    paths = report.draw(experiments, args.results, folder)
    claims = report.write_claims(experiments, args.results)
    if len(claims):
        page = _writable("docs", _beside(args.results, "docs")) / "findings.md"
        report.write_findings(claims, folder, page)
        print(report.claims_text(claims), end="\n\n")
        print(f"verdicts  {args.results / 'claims.csv'}")
        print(f"findings  {page}")
    for experiment in experiments:
        print(f"tables    {args.results / experiment.name}")
    print(f"figures   {folder} ({sum(map(len, paths.values()))} files)")


def _laws(args: argparse.Namespace) -> int:
    _choose_results(args)
    folder = _writable("--figures", _figures_folder(args))
    _writable("--results", args.results)
    page = _writable("docs", _beside(args.results, "docs")) / "laws.md"

    from study import records, report
    from study.laws import table as laws
    from study.plotting.laws import theory_against_measurement

    table = laws.measure(laws.PRESETS[args.preset], show=print)
    path = laws.write(table, args.results / "laws", args.preset)
    records.write_atomic(page, laws.markdown(table).encode())
    report.save_figure(theory_against_measurement(table, laws.summary(table)), folder, "laws")
    print(f"\n{laws.summary(table)}")
    print(f"table     {path}\npage      {page}\nfigure    {folder / 'laws.svg'}")
    sound = (table["verdict"] == "agrees").all() and (table["control_verdict"] == "flagged").all()
    return 0 if sound else 3


def _verify(args: argparse.Namespace) -> int:
    from study.verify import verify

    checks = []
    for check in verify(args.results, args.recompute, args.seed):
        checks.append(check)
        mark, colon = ("WRONG", ": ") if check.wrong else ("ok   ", "")
        print(f"{mark}  {check.where}: {check.what}{colon}{check.wrong}", flush=True)
    wrong = sum(bool(check.wrong) for check in checks)
    print(
        f"\n{len(checks)} checks, {wrong} wrong" if wrong else f"\n{len(checks)} checks, all well"
    )
    return 3 if wrong else 0


def _profile(args: argparse.Namespace) -> int:
    import study
    import study.theory
    from study import records
    from study.summary import in_words

    if args.csv is not None:
        if args.csv.suffix != ".csv":
            raise ValueError(
                f"--csv '{args.csv}' is not allowed; allowed: a name that ends in .csv"
            )
        _writable("--csv", args.csv.parent)
    critical = study.theory.critical_sigma_w(args.activation, args.sigma_b)
    sigma_w = critical if args.sigma_w == "critical" else args.sigma_w
    net = study.Network(
        activation=args.activation, depth=args.depth, width=args.width, sigma_w=sigma_w,
        sigma_b=args.sigma_b, weights=args.weights, dtype=args.dtype, kink=args.kink,
    )  # fmt: skip
    frame = study.profile(net, seeds=range(args.seeds), batch=args.batch, engine=args.engine)
    chi = study.theory.mean_field(args.activation, sigma_w, args.sigma_b).chi
    print(in_words(frame))
    print(f"\ntheory, infinite width: chi = {chi:.6g}, the factor of the squared norm per layer;")
    print(f"chi = 1 at sigma_w = {critical:.10g} (here {sigma_w:.10g}).")
    if args.csv is not None:
        configuration = {k: v for k, v in vars(args).items() if k not in ("csv", "command")}
        about = {"configuration": {**configuration, "sigma_w": sigma_w}}
        records.write_table(args.csv, frame, about | {"versions": [records.versions()]})
        print(f"rows      {args.csv}")
    return 0
