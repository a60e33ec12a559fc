"""What `study.torch.watch` costs, as a share of a training step: ``watching.csv``, docs/bridge.md.

Watched and unwatched runs take turns; a turn has one ratio of processor times, and of the turns the
median counts, with its 95 % interval.

    python -m benchmarks.watching
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

import study.torch
from benchmarks import insert
from study.statistics.claims import median_interval

TABLE = Path(__file__).with_suffix(".csv")
TURNS = 15
STEPS = 50
EVERY = (1, 10, 50)


def chain(width: int, depth: int, phi: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A fully connected network."""
    return nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), phi())])


def transformer() -> nn.Module:
    """Two layers as GPT has them, 128 wide."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "20 sigmoid layers of 32, batch 16": (
        lambda: chain(32, 20, nn.Sigmoid),
        (16, 32),
    ),
    "100 ReLU layers of 32, batch 64": (lambda: chain(32, 100), (64, 32)),
    "3 ReLU layers of 512, batch 64": (lambda: chain(512, 3), (64, 512)),
    "transformer, 2 layers of 128, 8 x 32 words": (transformer, (8, 32, 128)),
}


def seconds(make: Callable[[], nn.Module], shape: tuple[int, ...], every: int) -> float:
    """Of `STEPS` steps; ``every`` 0: not watched."""
    torch.manual_seed(0)
    net = make()
    x = torch.randn(shape)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    watched = study.torch.watch(net, optimizer if every else None, every=every or 1)
    start = time.process_time()
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    taken = time.process_time() - start
    watched.close()
    return taken


def shares(name: str) -> list[dict[str, object]]:
    """What watching adds to a step of a network, a row an ``every``."""
    turns = [[seconds(*CASES[name], every) for every in (0, *EVERY)] for _ in range(TURNS)]
    plain, *watched = np.transpose(turns)
    rows = []
    for every, taken in zip(EVERY, watched, strict=True):
        at = median_interval(taken / plain - 1)
        rows.append({"network": name, "every": every, "added": at.value, "turns": TURNS})
        rows[-1] |= {"low": at.low, "high": at.high}
    return rows


def cell(row: pd.Series) -> str:
    """The median and its interval, in percent."""
    return f"{row.added:+.0%} [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def main() -> None:
    """Measure, and write the table and the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of gradients that vanish
    df = pd.DataFrame([row for name in CASES for row in shares(name)])
    df.round(4).to_csv(TABLE, index=False)
    lines = ["| network | " + " | ".join(f"every={n}" for n in EVERY) + " |", "|---" * 4 + "|"]
    for name, rows in df.groupby("network", sort=False):
        lines.append(f"| {name} | " + " | ".join(cell(row) for _, row in rows.iterrows()) + " |")
    insert("bridge.md", "costs", lines)


if __name__ == "__main__":
    main()
