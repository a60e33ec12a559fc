"""``python -m study``."""

import gc
import sys

from study.cli.main import main

# What is imported lives to the end: to look for garbage in it took a seventh of a short command.
gc.set_threshold(100_000)

if __name__ == "__main__":  # workers import this module too
    sys.exit(main())
