"""Where the numbers of a watch may go: ``watch(..., log=tensorboard(writer))``.

Loggers that take (numbers, step) need none of these: ``log=accelerator.log``.
"""

from collections.abc import Callable
from typing import Protocol

Log = Callable[[dict[str, float], int], object]


class ScalarWriter(Protocol):
    """`torch.utils.tensorboard.SummaryWriter`, as far as it is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...


class Run(Protocol):
    """What ``wandb.init`` returns, as far as it is used."""

    def define_metric(self, name: str, step_metric: str) -> object: ...

    def log(self, data: dict[str, float]) -> None: ...


def tensorboard(writer: ScalarWriter) -> Log:
    """A scalar for each number, under the step of the watch."""

    def log(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log


def wandb(run: Run) -> Log:
    """A row of the run for each record, drawn against a step of its own: the run's goes on."""
    defined: set[str] = set()

    def log(values: dict[str, float], step: int) -> None:
        for kind in {name.partition("/")[0] for name in values} - defined:
            run.define_metric(f"{kind}/*", step_metric="watch/step")
            defined.add(kind)
        run.log({**values, "watch/step": step})

    return log
