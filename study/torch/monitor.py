"""Along with a training loop: the norm of every parameter's gradient, step by step."""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from study.tools.checks import bad, integer, real
from study.torch import readings
from study.torch.activity import Activity
from study.torch.alarms import Alarm, Alarms
from study.torch.norms import has_norm, quantiles_of, quick_norms
from study.torch.profiler import check_module
from study.torch.readings import Layout, Record


def watch(
    module: nn.Module,
    optimizer: Optimizer | None = None,
    keep: int = 1000,
    every: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    quantiles: Sequence[float] = (),
    updates: bool = False,
    activations: bool = False,
    log: Callable[[dict[str, float], int], object] | None = None,
) -> Watch:
    """Record the gradient norms of a module as it trains; the training run is not touched.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters that come and go meanwhile are followed; those that are sharded (FSDP2, DTensor)
        have the norm of the whole, for which all processes have to watch.
    optimizer : torch.optim.Optimizer, optional
        Its every ``step()`` is recorded, with the gradients that it uses: after clipping, but for
        ``log10_total_norm``. Without, call ``.step()`` of the watch yourself, after ``backward()``.
    keep : int
        The last ``keep`` records are kept, and of those before them at most ``keep`` more, spread
        evenly over the run: about 40 bytes x keep x parameters at most, however long it lasts.
    every : int
        Record each ``every``-th step.
    scaler : torch.amp.GradScaler, optional
        Its scale is then taken out of norms before clipping, and out of steps that it skips.
        The optimiser of accelerate brings its own.
    quantiles : numbers in (0, 1]
        Of the magnitudes of a gradient's entries; 1 is the largest. They take a selection each.
    updates : bool
        Whether to compare parameters before and after a step, whatever the optimiser does: takes
        a copy of the parameters.
    activations : bool
        Whether to take statistics of what goes out of each module: `Watch.activations`.
    log : callable, ({name: number}, step) -> anything
        Is given each record: ``accelerator.log``, ``run.log``, or one of `study.torch.writers`.

    Returns
    -------
    Watch
        With ``.step()``, ``.frame()``, ``.activations()``, ``.alarms``, ``.faults`` and
        ``.close()``; a context manager.

    Notes
    -----
    Norms are right to 1e-5. What has underflowed before is a zero to it: `study.torch.profile`
    tells the two apart. A step that a `GradScaler` skips, or the loop itself because its gradient
    is not finite, is a row, too, if its backward pass was to be recorded.

    A warning names the layer and the step, once each, where the gradient of a parameter is not
    finite, or grows to 1,000 times its usual norm, or that of a matrix falls under a millionth of
    the largest, or stays zero for three records: `Watch.alarms`. A fault of the watch itself
    is warned of once and kept in ``.faults``; it never ends the training run.

    Examples
    --------
    >>> net = nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    >>> with watch(net, optimizer) as watched:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         net(torch.ones(2, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> watched.frame()[["step", "name", "status"]].tail(2).values.tolist()
    [[2, 'weight', 'ok'], [2, 'bias', 'ok']]
    """
    check_module(module)
    while hasattr(optimizer, "optimizer"):  # accelerate, Lightning and others wrap it
        scaler = scaler or getattr(optimizer, "scaler", None)
        optimizer = optimizer.optimizer
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise bad("optimizer", optimizer, "a torch.optim.Optimizer, or None")
    if log is not None and not callable(log):
        raise bad("log", log, "a callable, ({name: number}, step) -> anything")
    watched = Watch(module, integer("keep", keep, 1), integer("every", every, 1), scaler, log)
    watched.quantiles = tuple(real("quantiles", q, 1e-6, 1) for q in quantiles)
    watched.follow(optimizer, updates, activations)
    return watched


class Reading(NamedTuple):
    """The gradients after a backward pass, before anything is done to them."""

    gradients: list[Tensor | None]
    lengths: np.ndarray
    versions: list[int]
    """How often each gradient was written; -1 where there is none."""
    scale: float

    @property
    def total(self) -> float:
        """Their norm all together, over the scale; not finite where one is not."""
        present = self.lengths[np.array(self.versions) >= 0]
        with np.errstate(all="ignore"):
            top = present.max(initial=0.0)
            return float(top * np.sqrt(np.sum((present / (top or 1)) ** 2)) / self.scale)

    def holds(self, gradients: list[Tensor | None], versions: list[int]) -> bool:
        """Whether nothing has been written to the gradients since, as far as torch knows."""
        return versions == self.versions and all(map(operator.is_, gradients, self.gradients))

    def only_scaled(self, before: Reading) -> bool:
        """Whether all gradients were written equally often since: clipped, but not added to."""
        if self.versions is before.versions:  # not written to at all
            return True
        pairs = zip(before.versions, self.versions, strict=True)
        return len({now - old for old, now in pairs if max(old, now) >= 0}) <= 1

    def goes_on(self, before: Reading) -> bool:
        """Whether these gradients are those of before with others added to them."""
        pairs = zip(before.versions, self.versions, strict=True)
        return any(now == old + 1 for old, now in pairs if old >= 0)


class Watch:
    """What `watch` returns: a context that records at each step of the optimiser, or when asked to.

    >>> net = torch.nn.Linear(4, 1)
    >>> watched = watch(net)
    >>> net(torch.ones(2, 4)).sum().backward()
    >>> watched.step()
    >>> len(watched.frame())                                   # a weight and a bias
    2
    """

    quantiles: tuple[float, ...] = ()

    def __init__(
        self, module: nn.Module, keep: int, every: int, scaler: object, log: Callable | None
    ):
        self.steps = 0
        self.faults: deque[tuple[int, str]] = deque(maxlen=keep)
        self._every = every
        self._scaler = scaler
        self._log = log
        self._layout = Layout(module)
        self._module = module
        self._alarms = Alarms()
        self._recent: deque[Record] = deque(maxlen=keep)
        self._spread: list[Record] = []
        self._stride = 1
        self._count = 0
        self._reading: Reading | None = None
        self._newest: Record | None = None
        self._copies: list[Tensor] | None = None
        self._activity: Activity | None = None
        self._in_backward = False
        self._first: Tensor | None = None
        self._missed = False
        self._handles: list[RemovableHandle] = []
        self._ears: list[RemovableHandle] = []

    def follow(self, optimizer: Optimizer | None, updates: bool, activations: bool) -> None:
        """Take part in the training loop."""
        self._updates = updates
        self._follows = optimizer is not None
        if optimizer:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(optimizer.register_step_post_hook(self._after_step))
        if activations:
            self._activity = Activity(self._module, self._is_due, self._guarded)
            self._handles += self._activity.handles
        with self._guarded():
            self._listen()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alarms(self) -> list[Alarm]:
        """What has happened to gradients, once for each parameter and kind."""
        return list(self._alarms.said.values())

    def close(self) -> None:
        """Let go of the module and the optimiser; what was recorded stays."""
        with self._guarded():
            if self._reading:
                self._keep_skipped()
        self._reading = None
        self._stop_listening()
        while self._handles:
            self._handles.pop().remove()

    def step(self, scale: float = 1.0) -> None:
        """Record the gradients as they are now.

        scale : what the loss was multiplied by, if the gradients still are
        """
        due = self._is_due()
        self.steps += 1
        if due:
            self._record(0, scale)
            self._tell()

    def frame(self) -> pd.DataFrame:
        """One row a parameter and record that is kept; columns `WATCH_COLUMNS`."""
        return readings.frame([*self._spread, *self._recent], self.quantiles)

    def activations(self) -> pd.DataFrame:
        """One row a module and record that is kept; columns `ACTIVITY_COLUMNS`."""
        return readings.activity_frame([*self._spread, *self._recent])

    def _is_due(self) -> bool:
        """Whether the step that comes next is to be recorded."""
        return self.steps % self._every == 0

    def _listen(self) -> None:
        """Hear of the backward pass of the next step, if it is due.

        From one parameter, which costs less than from all, as long as it has been heard of in every
        backward pass.
        """
        if not self._is_due():
            self._stop_listening()
        elif self._follows and not self._ears:
            self._layout.refresh()
            wanted = [p for p in self._layout.parameters if p.requires_grad]
            if self._first is not None and not self._missed:
                wanted = [self._first]
            for p in wanted:
                ear = p.register_post_accumulate_grad_hook(self._after_gradient)
                self._ears.append(ear)

    def _stop_listening(self) -> None:
        while self._ears:
            self._ears.pop().remove()

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> tuple | None:
        self._in_backward = False
        due = self._is_due()
        self.steps += 1
        if not due:
            return None
        # A GradScaler leaves it to a fused optimiser to take its scale out, or to do nothing.
        scale = getattr(optimizer, "grad_scale", None)
        scale = 1.0 if scale is None else scale
        is_skipped = bool(getattr(optimizer, "found_inf", False))
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._record(0, scale, is_skipped)
        self._copy()
        if closure is None:
            return None
        calls = itertools.count()

        def recorded() -> object:
            loss = closure()
            # Only now are there the gradients of the step.
            self._record(next(calls), scale, is_skipped)
            return loss

        if len(args) > 1:
            return (args[0], recorded, *args[2:]), kwargs
        return args, {**kwargs, "closure": recorded}

    def _after_step(self, *_: object) -> None:
        if self._newest:
            self._tell()
        if not self._ears and not self._is_due():  # the least that a step can take
            return
        with self._guarded():
            if self._missed == (len(self._ears) == 1):
                self._stop_listening()
            self._listen()

    def _copy(self) -> None:
        """Keep the parameters as they are before the step."""
        with self._guarded():
            if self._updates:
                self._copies = [p.detach().clone() for p in self._layout.parameters if has_norm(p)]

    def _tell(self) -> None:
        """Fill in what the step changed, and hand the record on."""
        record, self._newest = self._newest, None
        copies, self._copies = self._copies, None
        with self._guarded():
            if record and copies:
                which = [i for i, p in enumerate(self._layout.parameters) if has_norm(p)]
                for i, copy in zip(which, copies, strict=True):
                    copy.sub_(self._layout.parameters[i])
                record.update[which] = quick_norms(copies)
            if record and self._log:
                self._log(record.values(self.quantiles), record.step)

    def _record(self, call: int, scale: float | Tensor, is_skipped: bool = False) -> None:
        reading, self._reading = self._reading, None
        self._missed |= self._follows and reading is None
        with self._guarded():
            record = self._taken(self.steps - 1, call, float(scale), reading)
            self._keep(record)
            if call == 0:  # before the step
                self._newest = record
            if is_skipped:  # a scaler's search is no fault
                return
            for text in self._alarms.look(record, self._layout.matrices):
                self._say(text)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """No fault in here ends or changes a training run."""
        try:
            with torch.no_grad():
                yield
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            self.faults.append((self.steps, fault))
            if len(self.faults) == 1:
                self._say(fault)

    def _say(self, text: str) -> None:
        with contextlib.suppress(Warning):  # where warnings are errors
            warnings.warn(f"study.torch.watch: {text}", stacklevel=5)

    def _read(
        self, scale: float, others: Sequence[Tensor] = (), before: Reading | None = None
    ) -> tuple[Reading, np.ndarray]:
        """The gradients as they are now, and the norms of other tensors.

        before : taken over if it still holds; the largest is read again, as ``.grad.data`` can be
            written to without a trace
        """
        grads = [p.grad for p in self._layout.parameters]
        versions = [-1 if g is None else g._version for g in grads]
        which = [i for i, version in enumerate(versions) if version >= 0]
        if which and before and before.holds(grads, versions):
            top = max(which, key=before.lengths.__getitem__)
            again, *found = quick_norms([grads[top], *others])
            if math.isclose(again, before.lengths[top]):
                return before._replace(scale=scale), np.array(found)
        found = quick_norms([*(grads[i] for i in which), *others])
        lengths = np.full(len(grads), np.nan)
        lengths[which] = found[: len(which)]
        return Reading(grads, lengths, versions, scale), found[len(which) :]

    def _taken(self, step: int, call: int, scale: float, before: Reading | None) -> Record:
        """The norms as they are now, and those before they were clipped."""
        if not 0 < scale < math.inf:
            raise bad("scale", scale, "a finite number above 0")
        if self._layout.refresh():
            before = None
            self._first = None
            self._stop_listening()
        elif before and scale != 1:  # a fused optimiser's: the gradients have it still
            before = before._replace(scale=scale)
        parameters = self._layout.parameters
        numbers, limits = self._layout.formats()
        now, lengths = self._read(scale, [parameters[i] for i in numbers], before)
        if before and not self._missed and not now.only_scaled(before):
            before = None
            self._missed = True  # a backward pass: hear of all from now on
        weight = np.full(len(parameters), np.nan)
        weight[numbers] = lengths
        missing = np.full(len(parameters), "", object)
        for i, version in enumerate(now.versions):
            if version < 0:
                missing[i] = "none" if parameters[i].requires_grad else "frozen"
        return Record(
            number=self._count,
            step=step,
            call=call,
            scale=scale,
            name=self._layout.names,
            gradient=now.lengths,
            plain=np.where(now.lengths > limits, math.inf, now.lengths),
            weight=weight,
            missing=missing,
            total=(before or now).total,
            update=np.full(len(parameters), np.nan),
            quantiles=quantiles_of(now.gradients, self.quantiles),
            activity=self._activity.taken() if self._activity else {},
        )

    def _keep(self, record: Record) -> None:
        """Add the newest; what leaves the recent ones is thinned out to a stride that doubles."""
        recent = self._recent
        if len(recent) == recent.maxlen and recent[0].number % self._stride == 0:
            self._spread.append(recent[0])
            if len(self._spread) > recent.maxlen:
                self._stride *= 2
                self._spread = [old for old in self._spread if old.number % self._stride == 0]
        recent.append(record)
        self._count += 1

    def _after_gradient(self, p: Tensor) -> None:
        if not self._in_backward:
            self._in_backward = True
            self._first = p
            with self._guarded():
                # Behind what others want done at the end: data parallelism adds gradients there.
                queue = torch.autograd.Variable._execution_engine.queue_callback
                queue(lambda: queue(self._after_backward))

    def _after_backward(self) -> None:
        """Read the gradients before they are clipped, and see whether a step was skipped."""
        self._in_backward = False
        with self._guarded():
            now, _ = self._read(self._scaler.get_scale() if self._scaler else 1.0)
            if self._reading and not now.goes_on(self._reading):
                self._keep_skipped()
            self._reading = now

    def _keep_skipped(self) -> None:
        """A reading of which no step was made, if that is because it overflowed."""
        reading = self._reading
        if math.isfinite(reading.total):
            return
        record = self._taken(self.steps, 0, reading.scale, None)
        lengths = reading.lengths
        plain = np.where(np.isnan(record.plain) & ~np.isnan(lengths), np.inf, lengths)
        self._keep(record._replace(gradient=lengths, plain=plain, total=reading.total))
        self.steps += 1
