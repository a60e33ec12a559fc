"""Tensors that several processes share: what this one holds, and norms of the whole."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed


def is_shared(x: Tensor) -> bool:
    """Whether it is a DTensor, whose module costs too much to import for a question."""
    return type(x).__name__ == "DTensor"


def local(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    if not is_shared(x):
        return x
    from torch.distributed.tensor import Replicate  # a second, which most never need

    summed = [Replicate() if kind.is_partial() else kind for kind in x.placements]
    return x.redistribute(placements=summed).to_local()


def of_wholes(tensors: Sequence[Tensor], lengths: np.ndarray) -> np.ndarray:
    """Norms of the whole tensors, from those of what each process holds; float64 has to hold
    their squares. One sum over the processes for each way of sharding."""
    sharded = defaultdict(list)
    for i, x in enumerate(tensors):
        for dim, kind in enumerate(x.placements if is_shared(x) else ()):
            if kind.is_shard():
                sharded[x.device_mesh, dim].append(i)
    for (mesh, dim), which in sharded.items():
        squares = torch.tensor(lengths[which] ** 2, device=mesh.device_type)
        distributed.all_reduce(squares, group=mesh.get_group(dim))
        lengths[which] = np.sqrt(squares.cpu().numpy())
    return lengths
