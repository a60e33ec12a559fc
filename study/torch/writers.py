"""Where the numbers of a watch may go: ``watch(..., log=tensorboard(writer))``.

Loggers that take (numbers, step) need none of these: ``log=accelerator.log``.
"""

from collections.abc import Callable
from typing import Any

Log = Callable[[dict[str, float], int], object]


def tensorboard(writer: Any) -> Log:
    """A scalar of ``torch.utils.tensorboard.SummaryWriter`` for each number and step watched."""

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log


def wandb(run: Any) -> Log:
    """A row of the run of ``wandb.init`` for each record, against a step of its own."""
    defined: set[str] = set()

    def log(values: dict[str, float], step: int) -> None:
        for kind in {name.partition("/")[0] for name in values} - defined:
            run.define_metric(f"{kind}/*", step_metric="watch/step")
            defined.add(kind)
        run.log({**values, "watch/step": step})

    return log
