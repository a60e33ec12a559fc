"""A callback for the Trainer of Hugging Face: gradients in its log."""

from study.tools.checks import missing_extra
from study.torch.monitor import Watch, watch

try:
    from transformers import TrainerCallback, TrainerState
except ImportError as error:
    raise missing_extra("study.torch.transformers", "transformers") from error


class GradientWatch(TrainerCallback):
    """Watches the model that is trained; the newest numbers are in ``state.log_history``.

    options : of `study.torch.watch`: every, quantiles, updates, activations, keep, log
    """

    def __init__(self, **options: object):
        self.watched: Watch | None = None
        self._log = options.pop("log", None)
        self._options = options
        self._newest: dict[str, float] = {}

    def on_train_begin(self, _: object, state: TrainerState, *__: object, **parts: object) -> None:
        def log(values: dict[str, float], step: int) -> None:
            self._newest = values
            if self._log:
                self._log(values, state.global_step)

        self.watched = watch(parts["model"], parts["optimizer"], log=log, **self._options)

    def on_log(self, _: object, state: TrainerState, *__: object, **parts: object) -> None:
        state.log_history[-1].update(self._newest)

    def on_train_end(self, *_: object, **parts: object) -> None:
        if self.watched:
            self.watched.close()
