"""A callback for Lightning: gradients in whatever logger the trainer has."""

from study.tools.checks import missing_extra
from study.torch.monitor import Watch, watch

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise missing_extra("study.torch.lightning", "lightning") from error


class GradientWatch(Callback):
    """Watches a LightningModule with each of its optimisers; numbers go to the trainer's loggers.

    options : of `study.torch.watch`: every, quantiles, updates, activations, keep
    """

    def __init__(self, **options: object):
        self.watches: list[Watch] = []
        self._options = options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def log(values: dict[str, float], step: int) -> None:
            for logger in trainer.loggers:
                logger.log_metrics(values, trainer.global_step)

        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.watches = [
            watch(pl_module, optimizer, scaler=scaler, log=log, **self._options)
            for optimizer in trainer.optimizers
        ]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for watched in self.watches:
            watched.close()
