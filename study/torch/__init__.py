"""The bridge to PyTorch: the study's tidy frame for any ``torch.nn.Module``, one row a parameter.

`profile` looks at one forward and backward pass and leaves everything as it was, `over_time` at the
steps of recurrent modules; `watch` goes along with a training loop.

>>> net = torch.nn.Sequential(*[torch.nn.Linear(8, 8), torch.nn.Sigmoid()] * 100)
>>> df = profile(net, torch.ones(4, 8), loss=lambda output: output.square().mean())
>>> df[["name", "uses", "plain_status"]]        # one layer, used 100 times: one row a parameter
       name  uses plain_status
0  0.weight   100           ok
1    0.bias   100           ok
"""

from study.tools.checks import missing_extra

try:
    import torch  # noqa: F401 - the error, if there is none
except ImportError as error:
    raise missing_extra("study.torch", "torch") from error

from study.torch.activity import ACTIVITY_COLUMNS
from study.torch.coordinates import coordinate_check
from study.torch.explain import EXPLAIN_COLUMNS, Explanation, explain
from study.torch.initialise import INITIALISE_COLUMNS, initialise
from study.torch.monitor import Watch, watch
from study.torch.parameters import COLUMNS
from study.torch.profiler import profile
from study.torch.readings import WATCH_COLUMNS
from study.torch.recurrence import TIME_COLUMNS, over_time

__all__ = [
    "ACTIVITY_COLUMNS",
    "COLUMNS",
    "EXPLAIN_COLUMNS",
    "INITIALISE_COLUMNS",
    "TIME_COLUMNS",
    "WATCH_COLUMNS",
    "Explanation",
    "Watch",
    "coordinate_check",
    "explain",
    "initialise",
    "over_time",
    "profile",
    "watch",
]
