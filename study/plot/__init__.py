"""Frames to figures, on seaborn: one vocabulary for the study's figures and for its users.

- `profile`: gradient norm against layer
- `depth`: what reaches the input against depth
- `factors`: what the derivative did and what the weights did
- `phase`: a map over weight scale and depth, or any other two columns
- `spectrum`: singular values by rank
- `training`: loss, accuracy or norms against step
- `curves`, `dots`: what these are made of; `panels`, `table`: for a figure of several

Each takes any frame that has the columns, or the path of a CSV, maps columns to ``hue``, ``style``,
``col`` and ``row`` as seaborn does, reduces seeds to their median and its 95 % interval, and
returns matplotlib axes, or a seaborn grid where ``col`` or ``row`` is given.
"""

import importlib
from typing import Any

_HOME = {
    "words": ("depth", "factors", "profile", "spectrum", "training"),
    "lines": ("curves",),
    "rows": ("dots",),
    "maps": ("phase", "table"),
    "style": ("panels",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOME.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    # seaborn takes 1.6 s to import, which those who want the float ranges need not wait for.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
