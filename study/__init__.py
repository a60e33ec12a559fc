"""Why gradients vanish or explode: exact gradient norms, layer by layer, at any depth.

`Network` says what a network is, `profile` measures networks at initialisation, `backpropagate` a
network whose weights you have; `theory` knows what to expect, `plot` draws any of their frames, and
`study.torch` does the same for a module of PyTorch. `activation` makes a row of any function.

>>> import study
>>> df = study.profile(study.Network(activation="relu", depth=50, width=100), seeds=range(3))
>>> len(df)
150
"""

import pkgutil
from typing import Any

__version__ = "0.1.0"
_PLACES = {
    "Network": "study.core.network:Network",
    "activation": "study.core.activations:activation",
    "backpropagate": "study.engines.explicit:backpropagate",
    "plot": "study.plot:",
    "profile": "study.engines.profile:profile",
    "theory": "study.theory:",
    "torch": "study.torch:",
}
__all__ = [name for name in _PLACES if name != "torch"]  # an extra, which * must not ask for


def __getattr__(name: str) -> Any:
    # Imported at first use: `python -m study --help` needs neither pandas nor numba.
    if name not in _PLACES:
        raise AttributeError(f"module 'study' has no attribute {name!r}")
    return pkgutil.resolve_name(_PLACES[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
