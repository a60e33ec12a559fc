"""The coordinate check: whether activations keep their size as networks get wider."""

import itertools
from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from study.torch.monitor import watch
from study.torch.profiler import arguments


def coordinate_check(
    make: Callable[[int], nn.Module],
    widths: Iterable[int],
    inputs: object,
    loss: Callable[[object], Tensor],
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
    steps: int = 4,
    seeds: Iterable[int] = range(3),
) -> pd.DataFrame:
    """How large activations are in networks of several widths, step by step.

    Where ``activation_size`` grows or falls with width, the parametrisation or the learning rate
    does not carry over from one width to another (Yang et al. 2022, arXiv:2203.03466, appendix D).

    Parameters
    ----------
    make : width -> module
    widths, seeds : iterables of int
        Each network is made after ``torch.manual_seed(seed)``; the random state is left as found.
    inputs, loss
        As for `study.torch.profile`.
    optimizer : parameters -> torch.optim.Optimizer
    steps : int
        Of training, on the same inputs.

    Returns
    -------
    pandas.DataFrame
        `ACTIVITY_COLUMNS`, then width and seed: one row a module, step, width and seed.

    Examples
    --------
    >>> def make(width):
    ...     return nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 1))
    >>> optimizer = torch.optim.SGD
    >>> df = coordinate_check(make, [16, 64], torch.ones(4, 8), torch.mean, optimizer, steps=1)
    >>> sizes = df[df.name == "1"].groupby("width").activation_size.mean()
    >>> bool(sizes[64] < 2 * sizes[16])
    True
    """
    frames = []
    with torch.random.fork_rng():
        for width, seed in itertools.product(widths, seeds):
            torch.manual_seed(seed)
            module = make(width)
            descent = optimizer(module.parameters())
            with watch(module, descent, keep=steps, activations=True) as watched:
                for _ in range(steps):
                    descent.zero_grad()
                    args, kwargs = arguments(inputs)
                    loss(module(*args, **kwargs)).backward()
                    descent.step()
            frames.append(watched.activations().assign(width=width, seed=seed))
    return pd.concat(frames, ignore_index=True)
