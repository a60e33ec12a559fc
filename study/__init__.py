"""Why gradients vanish or explode: exact gradient norms, layer by layer, at any depth.

A tour, in the order in which the modules build on one another:

- ``mending``: the command that an error message ends with
- ``activations``: the table: phi and phi', one row an activation
- ``scaled``: numbers outside the float range
- ``gaussian``: random weights by counter
- ``network``: `Network`, the specification of a network
- ``measures``: the norms recorded along a pass
- ``nonlinearity``, ``backprop``: the three equations of backpropagation; `backpropagate`
- ``weights``: unit-variance weights, drawn on demand
- ``march``: many networks in step through the same weights
- ``matrixfree``: the same law without a weight matrix
- ``disk``, ``records``: files that survive; the columns, and tables of them
- ``blocks``: residual blocks, BatchNorm and LayerNorm, forwards and backwards
- ``formats``: number formats, their range and rounding
- ``plain``, ``kinks``: backpropagation in a format, unscaled; the choice of ReLU'(0)
- ``jacobian``: all singular values of the input-output Jacobian
- ``witness``: the gradient entry by entry, without phi': complex steps, finite differences
- ``examination``: the equations against those witnesses, and with phi' exchanged
- ``engines``: `profile`
- ``bridge``, ``torch``: the same frame for a module of PyTorch
- ``theory``: what random networks must obey; never imports an engine
- ``images``: real images; ``plotting``: frames to figures, drawing only
- ``descent``, ``training``: gradient descent on the same equations
- ``claims``, ``estimators``: verdicts, and what they rest on
- ``gains``: what a gradient gains on its way down, factor by factor
- ``draws``: the weights and images that networks of one seed share
- ``atlas``: profiles of many networks in few rows
- ``depths``, ``remedies``: where a gradient is lost; the table of remedies, with their theory
- ``phase``, ``trainability``: growth against weight scale; what training does, at which rate
- ``plan``, ``parts``, ``cluster``, ``sweep``, ``experiment``: from a question to its CSVs
- ``findings``, ``report``, ``gallery``, ``paper``, ``explorer``: from the CSVs to what people read
- ``identities``, ``nudge``, ``verify``: whether results are sound, here or from another machine
- ``summary``, ``advice``: a network in words
- ``commands``, ``cli``: the command line

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
    from study.core.network import Network
    from study.engines.explicit import backpropagate
    from study.engines.profile import profile

__all__ = ["Network", "backpropagate", "plot", "profile", "theory"]

_HOME = {
    "Network": "study.core.network",
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
