"""The command line: ``python -m study COMMAND``, the commands of `study.cli`.

Exit status: 0 done, 2 a request that cannot be met (one line on stderr says which field, which
value and what is allowed; nothing is half written), 3 some part failed, 130 interrupted,
141 nobody reads what is printed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from study.cli import NAMES

_EXAMPLES = """examples:
  python -m study list
  python -m study run depth_decay --preset quick
  python -m study figures
  python -m study run laws --preset quick
  python -m study verify --results results --recompute 3
  python -m study profile --activation sigmoid --depth 1000 --width 256 --sigma-w critical
"""


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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m study",
        description="Why gradients vanish or explode: run the experiments, or profile a network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in NAMES:
        module = importlib.import_module(f"study.cli.{name}")
        own = commands.add_parser(
            name, help=module.HELP, description=module.HELP, allow_abbrev=False
        )
        module.arguments(own)
        own.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(argv)

    def interrupt(*_: object) -> NoReturn:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one must not stop the clean-up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # SIGTERM ends a run as Ctrl-C does: workers stopped, no file half written.
    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return args.run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's exit complains
        return 141
    except (ValueError, OSError, ImportError) as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        print("study: interrupted; what is finished is kept", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
