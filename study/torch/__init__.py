"""The bridge to PyTorch: the study's tidy frame for any ``torch.nn.Module``, one row a parameter.

`profile` looks at one forward and backward pass and leaves everything as it was; `watch` goes along
with a training loop.

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

from study.torch.initialise import INITIALISE_COLUMNS, initialise
from study.torch.monitor import WATCH_COLUMNS, Watch, watch
from study.torch.parameters import COLUMNS
from study.torch.profiler import profile

__all__ = [
    "COLUMNS",
    "INITIALISE_COLUMNS",
    "WATCH_COLUMNS",
    "Watch",
    "initialise",
    "profile",
    "watch",
]
