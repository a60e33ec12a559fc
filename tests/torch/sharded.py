"""A process of two, with gloo: what a watch sees of a sharded module. Writes a CSV of its own.

python sharded.py RANK FOLDER KIND
"""

import sys
from datetime import timedelta

import pytest
import torch
from nets import squares
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import study.torch

OPTIONS = {"quantiles": [0.5, 1], "updates": True}


def network(kind):
    torch.manual_seed(0)
    # 5 rows on two processes: shards of unequal size, and of one row: an empty one.
    width = 4 if kind == "tensor" else 5
    shapes = [(6, width), (width, 4), (4, 1)]
    return nn.Sequential(*[m for shape in shapes for m in (nn.Linear(*shape), nn.Tanh())])


def shard(net, kind):
    if kind == "fsdp":
        for layer in net:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(net)
    elif kind == "ddp":
        net = nn.parallel.DistributedDataParallel(net)
    else:
        mesh = init_device_mesh("cpu", (2,))
        parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return net


def train(net, kind):
    """Three steps, with clipping where torch can; what the watch saw."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    with study.torch.watch(net, optimizer, **OPTIONS) as watched:
        for _ in range(3):
            optimizer.zero_grad()
            squares(net(torch.ones(4, 6))).backward()
            if kind != "tensor":  # of which some parameters are sharded, some not
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
    assert not watched.faults, watched.faults
    return watched.frame()


def main(rank, folder, kind):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=int(rank),
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        net = shard(network(kind), kind)
        if kind != "ddp":
            with pytest.raises(ValueError, match=r"sharded: .* is a DTensor"):
                study.torch.profile(net, torch.ones(2, 6), squares)
        train(net, kind).to_csv(f"{folder}/{rank}.csv", index=False)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
