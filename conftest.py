"""Without PyTorch the modules that need it are not collected."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch") else ["study/torch"]
