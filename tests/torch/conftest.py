"""Without torch the tests of the bridge are left out, unless every witness is asked for."""

import importlib.util
import os

if os.environ.get("STUDY_WITNESSES") != "all" and not importlib.util.find_spec("torch"):
    collect_ignore_glob = ["test_*.py"]
