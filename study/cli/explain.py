"""``explain``: a module of PyTorch that a factory of the user's makes."""

import importlib
import os
import sys

from study.tools.checks import bad


def explain(factory: str) -> None:
    """Import a factory, call it, and print why its module's gradient does what it does."""
    from study.torch import explain as explained

    place, _, name = factory.partition(":")
    allowed = "pkg.module:factory, a function that takes nothing and returns module, inputs[, loss]"
    sys.path.insert(0, os.getcwd())  # as python -m has it; a script has its own folder there
    try:
        made = getattr(importlib.import_module(place), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise bad("factory", factory, f"{allowed} ({error})") from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise bad("factory", f"{factory}, which returns {made!r:.80}", allowed)
    print(explained(*made))
