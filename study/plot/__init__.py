"""Frames to figures, on seaborn: one vocabulary for the study's figures and for its users.

- `profile`: gradient norm against layer
- `depth`: what reaches the input against depth
- `factors`: what the derivative did and what the weights did
- `phase`: a map over weight scale and depth, or any other two columns
- `spectrum`: singular values by rank
- `training`: loss, accuracy or norms against step
- `curves`, `dots`: what these are made of

Each takes any frame that has the columns, or the path of a CSV, maps columns to ``hue``, ``style``,
``col`` and ``row`` as seaborn does, reduces seeds to their median and its 95 % interval, and
returns matplotlib axes, or a seaborn grid where ``col`` or ``row`` is given.
"""

from __future__ import annotations

import importlib

_HOME = {
    "curves": "study.plot.lines",
    "depth": "study.plot.words",
    "dots": "study.plot.rows",
    "factors": "study.plot.words",
    "panels": "study.plot.style",
    "phase": "study.plot.maps",
    "profile": "study.plot.words",
    "spectrum": "study.plot.words",
    "table": "study.plot.rows",
    "training": "study.plot.words",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    # seaborn takes 1.6 s to import, which those who want the float ranges need not wait for.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'study.plot' has no attribute {name!r}")
