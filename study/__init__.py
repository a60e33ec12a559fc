"""Why gradients vanish or explode: exact gradient norms, layer by layer, at any depth.

`Network` says what a network is, `profile` measures networks at initialisation, `backpropagate` a
network whose weights you have; `theory` knows what to expect, `plot` draws any of their frames, and
`study.torch` does the same for a module of PyTorch. `activation` makes a row of any function.

>>> import study
>>> df = study.profile(study.Network(activation="relu", depth=50, width=100), seeds=range(3))
>>> len(df)
150
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from study import plot, theory
    from study.core.activations import activation
    from study.core.network import Network
    from study.engines.explicit import backpropagate
    from study.engines.profile import profile

__all__ = ["Network", "activation", "backpropagate", "plot", "profile", "theory"]

_HOME = {
    "Network": "study.core.network",
    "activation": "study.core.activations",
    "backpropagate": "study.engines.explicit",
    "profile": "study.engines.profile",
}


def __getattr__(name: str):
    # Imported at first use: `python -m study --help` needs neither pandas nor numba.
    if name in ("plot", "theory", "torch"):
        return importlib.import_module(f"study.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'study' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
