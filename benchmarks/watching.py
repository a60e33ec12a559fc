"""What `study.torch.watch` costs, as a share of a training step: the table of docs/bridge.md.

Watched and unwatched runs take turns, and the least time of each counts: what else the machine does
can only add to it.

    python -m benchmarks.watching
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import study.torch

PAGE = Path("docs/bridge.md")
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


def main() -> None:
    """Measure, print, and write the table into the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of gradients that vanish
    lines = ["| network | " + " | ".join(f"every={n}" for n in EVERY) + " |", "|---" * 4 + "|"]
    for name, case in CASES.items():
        turns = [[seconds(*case, every) for every in (0, *EVERY)] for _ in range(TURNS)]
        plain, *watched = np.min(turns, axis=0)
        shares = [taken / plain - 1 for taken in watched]
        lines.append(f"| {name} | " + " | ".join(f"{share:+.0%}" for share in shares) + " |")
        print(lines[-1], flush=True)
    table = "<!-- costs -->\n" + "\n".join(lines) + "\n<!-- end -->"
    page = PAGE.read_text(encoding="utf-8")
    page = re.sub(r"<!-- costs -->.*?<!-- end -->", table, page, flags=re.S)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
