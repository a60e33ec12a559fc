"""``python -m study``."""

import sys

from study.cli.main import main

if __name__ == "__main__":  # workers import this module too
    sys.exit(main())
