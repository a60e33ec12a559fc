"""Time the study against torch doing the same job in the same run; write results/bench.csv.

Every row runs the two in turn, ours, torch, ours, torch, ..., one thread each, and reports the
median of the pairwise ratios, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import study
from study import records

REPEATS = 5


def pairs(ours: Callable[[], object], rival: Callable[[], object]) -> tuple[float, float, float]:
    """Median seconds of each, and the median of rival / ours, after one warm-up of both."""
    ours(), rival()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        rival()
        times.append((middle - start, time.perf_counter() - middle))
    a, b = np.array(times).T
    return float(np.median(a)), float(np.median(b)), float(np.median(b / a))


def given_weights(width: int, depth: int, batch: int, dtype: str) -> tuple[float, float, float]:
    """Per-layer gradient norms of one He-ReLU network whose weights are given.

    Torch gets the smaller job: the norms of dC/dW alone, from autograd, no signal, weight or delta
    norms.
    """
    rng = np.random.default_rng(0)
    scale = np.sqrt(2 / width)
    weights = [
        (scale * rng.standard_normal((width, width), np.float32)).astype(dtype)
        for _ in range(depth)
    ]
    x = rng.standard_normal((batch, width)).astype(dtype)
    c = rng.standard_normal((batch, width)).astype(dtype)
    c /= np.linalg.norm(c)
    parameters = [torch.from_numpy(W).requires_grad_(True) for W in weights]
    tx, tc = torch.from_numpy(x), torch.from_numpy(c)

    def autograd() -> list[float]:
        r = tx
        for W in parameters:
            W.grad = None
            r = torch.relu(r @ W)
        r.backward(tc)
        return [float(W.grad.norm()) for W in parameters]

    def ours() -> pd.DataFrame:
        return study.backpropagate(weights, x, cotangent=c)

    if dtype == "float64":
        np.testing.assert_allclose(10 ** ours().log10_grad_norm, autograd(), rtol=1e-9)
    return pairs(ours, autograd)


def main() -> None:
    rows = []
    cases = [
        (width, depth, batch, dtype)
        for dtype in ("float32", "float64")
        for width, depth in ((100, 1000), (256, 1000), (1024, 300))
        for batch in (1, 64)
    ]
    for width, depth, batch, dtype in cases:
        seconds, rival, ratio = given_weights(width, depth, batch, dtype)
        rows.append(("given weights", width, depth, batch, dtype, seconds, rival, ratio))
        print(
            f"given weights  {dtype}  width {width:5}  depth {depth:5}  batch {batch:3}   "
            f"study {seconds:.3f} s   torch {rival:.3f} s   torch / study {ratio:.2f}",
            flush=True,
        )
    columns = {
        "job": "what is timed [-]",
        "batch": "number of examples [examples]",
        "study_s": "median wall time of the study [s]",
        "torch_s": "median wall time of torch autograd, one thread, the norms of dC/dW alone [s]",
        "ratio": "median of the pairwise ratios torch / study [1]",
    }
    names = ["job", "width", "depth", "batch", "dtype", "study_s", "torch_s", "ratio"]
    table = pd.DataFrame(rows, columns=names)
    folder = Path("results") / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"versions": [records.versions() | {"torch": torch.__version__}]}
    records.write_table(folder / "bench.csv", table, about)
    dictionary = records.data_dictionary({"bench": records.schema(table)}, columns)
    records.write_table(folder / "data_dictionary.csv", dictionary, about)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
