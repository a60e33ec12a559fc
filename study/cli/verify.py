"""``verify``: are these results sound?"""

from __future__ import annotations

import argparse

from study.cli.shared import add_results, amount

HELP = "Check results: files, provenance, identities, a sample again."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add which results, and how much of them is computed again."""
    add_results(parser)
    parser.add_argument(
        "--recompute", type=amount, default=2, metavar="N",
        help="cells of each experiment that are computed again; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=amount, default=0, metavar="S", help="chooses them; default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Print every check, and how many are wrong."""
    from study.runs.verify import verify

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
