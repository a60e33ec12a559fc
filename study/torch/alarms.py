"""When a layer vanishes, explodes, dies or first turns NaN: said once for each."""

from typing import NamedTuple

import numpy as np

from study.torch.readings import Record

VANISHED = -6  # decades from the largest gradient: a matrix that gets less has vanished
# Decades above its usual norm, the geometric mean of some ten records, `SETTLED` at the least.
JUMP = 3
SETTLED = 5
DEAD = 3  # so many records of zeros, one after another, and a layer is dead
WORDS = {
    "nan": "is not finite",
    "explodes": f"explodes: it is {JUMP} decades above its usual norm",
    "vanishes": f"vanishes: it is {-VANISHED} decades below the largest",
    "dies": f"is zero in {DEAD} records, one after another",
}


class Alarm(NamedTuple):
    """What happened to the gradient of a parameter, for the first time."""

    step: int
    name: str
    kind: str  # nan, explodes, vanishes or dies


class Alarms:
    """Looks at one record after another."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], Alarm] = {}
        self._reset(())

    def _reset(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._zeros = np.zeros(len(names), int)
        self._counts = np.zeros(len(names), int)
        self._usual = np.zeros(len(names))

    def look(self, record: Record, matrices: np.ndarray) -> list[str]:
        """What is to be said now.

        matrices : which parameters may vanish or die: biases have reasons of their own
        """
        if record.name is not self._names:  # the model has changed: another tuple
            self._reset(record.name)
        lengths = record.gradient
        finite = np.isfinite(lengths)
        ordinary = finite & (lengths > 0)
        logs = np.log10(np.where(ordinary, lengths, 1.0))
        top = logs[ordinary].max(initial=-np.inf)
        # A zero now and then is a batch that met no active unit; only a run of them is a death.
        self._zeros = np.where(lengths == 0, self._zeros + 1, 0)
        symptoms = {
            "nan": ~finite & (record.missing == ""),
            "explodes": ordinary & (logs - self._usual > JUMP) & (self._counts >= SETTLED),
            "vanishes": matrices & ordinary & (logs < top + VANISHED),
            "dies": matrices & (self._zeros >= DEAD),
        }
        weight = ordinary / np.minimum(self._counts + 1, 10)
        self._usual += weight * (logs - self._usual)
        self._counts += ordinary
        texts = [
            self._text(record.step, kind, np.flatnonzero(mask)) for kind, mask in symptoms.items()
        ]
        return [text for text in texts if text]

    def _text(self, step: int, kind: str, which: np.ndarray) -> str:
        new = [name for name in (self._names[i] for i in which) if (name, kind) not in self.said]
        if not new:
            return ""
        self.said |= {(name, kind): Alarm(step, name, kind) for name in new}
        # On the way back from the cost, what is not finite began at the last of them.
        name = new[-1] if kind == "nan" else new[0]
        others = f" and {len(new) - 1} more" if len(new) > 1 else ""
        return f"step {step}: the gradient of {name}{others} {WORDS[kind]}"
