"""The commands, one module each: what it takes, and what it does.

A module has ``HELP``, a sentence; ``arguments(parser)``, which adds what it takes; and
``run(args)``, which returns the exit status. All are imported to show any help, so that whatever
is slow to import is imported by the function that needs it.
"""

NAMES = (
    "list",
    "run",
    "figures",
    "plot",
    "paper",
    "explorer",
    "gallery",
    "verify",
    "profile",
)
"""In the order in which --help shows them; each is the module of that name."""
