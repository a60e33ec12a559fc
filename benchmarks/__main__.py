"""Time the study against torch doing the same job in the same run, and the largest jobs alone.

Writes results/bench/ and results/capacity/, each with its figure. Every row of the bench runs the
two in turn, ours, torch, ours, torch, ..., and reports the median of the pairwise ratios, so that a
machine whose speed drifts shifts both. Torch gets the smaller job, the norms of dC/dW alone, and,
where it draws weights, its own generator.

    python -m benchmarks [given weights | sweep | matrix-free | capacity]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import study
from benchmarks import capacity
from benchmarks.networks import networks
from study.records import tables as records
from study.records.disk import make_folder
from study.report import publish
from study.sampling import gaussian

REPEATS = 5
THREADS = 2
WIDTHS = (256, 512, 1024)
PHI = {"relu": torch.relu, "sigmoid": torch.sigmoid}


def pairs(
    ours: Callable[[], object], rival: Callable[[], object], repeats: int = REPEATS
) -> tuple[float, float, float]:
    """Median seconds of each, and the median of rival / ours, after one warm-up of both."""
    ours(), rival()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        rival()
        times.append((middle - start, time.perf_counter() - middle))
    a, b = np.array(times).T
    return float(np.median(a)), float(np.median(b)), float(np.median(b / a))


def given_weights(width: int, depth: int, batch: int, dtype: str) -> tuple[float, float, float]:
    """Per-layer gradient norms of one He-ReLU network whose weights are given.

    One thread each: what is compared is the work, not who has more cores.
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


def torch_norms(width: int, depth: int, batch: int, phi: str, sigma_w: float) -> list[float]:
    """Draw one network and take the norms of its dC/dW by autograd."""
    scale = sigma_w / width**0.5
    weights = [torch.randn(width, width).mul_(scale).requires_grad_(True) for _ in range(depth)]
    r = torch.randn(batch, width)
    for W in weights:
        r = PHI[phi](r @ W)
    r.backward(torch.randn(batch, width))
    return [float(W.grad.norm()) for W in weights]


def torch_batched(width: int, depth: int, batch: int, nets: Sequence[study.Network]) -> list:
    """Torch's best case: all networks at once, one batched product a layer."""
    scale = torch.tensor([net.sigma_w for net in nets])[:, None, None] / width**0.5
    half = len(nets) // 2
    weights = [
        torch.randn(len(nets), width, width).mul_(scale).requires_grad_(True) for _ in range(depth)
    ]
    r = torch.randn(len(nets), batch, width)
    for W in weights:
        z = torch.bmm(r, W)
        r = torch.cat([torch.relu(z[:half]), torch.sigmoid(z[half:])])
    r.backward(torch.randn(len(nets), batch, width))
    return [W.grad.flatten(1).norm(dim=1).tolist() for W in weights]


def sweep(
    width: int, depths: Sequence[int], batch: int, scales: int, share: int, engine: str
) -> tuple[float, float, float]:
    """A sweep against torch one network at a time, weights drawn by both.

    With ``engine`` "auto" and one example it is the matrix-free engine that serves them.

    Torch runs every ``share``-th network and its time is multiplied by ``share``: its networks
    cost the same whatever their scale.
    """
    nets = networks(width, depths, scales)

    def rival() -> None:
        for net in nets[::share]:
            torch_norms(width, net.depth, batch, net.activation, net.sigma_w)

    # Every depth must be in the share alike.
    assert share == 1 or len(depths) == 1
    ours = lambda: study.profile(nets, [0], batch, engine=engine)  # noqa: E731
    seconds, other, ratio = pairs(ours, rival, 3)
    return seconds, other * share, ratio * share


def sweep_against_batched(width: int, depth: int, scales: int) -> tuple[float, float, float]:
    """The same sweep against all networks batched in one torch graph."""
    nets = networks(width, [depth], scales)
    ours = lambda: study.profile(nets, [0], 1, engine="dense")  # noqa: E731
    return pairs(ours, lambda: torch_batched(width, depth, 1, nets), 3)


def share_of_limit(width: int, depth: int, scales: int) -> tuple[float, float, float]:
    """Measured time of a sweep beside the machine's limit for it.

    The limit is the bare matrix products at measured speed plus the bare draws at measured speed,
    spread over both cores: each layer is drawn and multiplied twice.
    """
    nets = networks(width, [depth], scales)
    rows = np.ones((len(nets), width), np.float32)
    G, out = np.empty((width, width), np.float32), np.empty_like(rows)
    key = gaussian.key("bench")

    def bare() -> None:
        for k in range(depth // 10):
            gaussian.fill_normal(key, k, G)
            np.matmul(rows, G, out=out)

    ours = lambda: study.profile(nets, [0], 1, engine="dense")  # noqa: E731
    seconds, other, ratio = pairs(ours, bare, 3)
    limit = 2 * 10 / THREADS
    return seconds, other * limit, ratio * limit


def single(width: int, depth: int, batch: int, engine: str) -> tuple[float, float, float]:
    """One He-ReLU network, weights drawn by both."""
    net = study.Network(width=width, depth=depth, dtype="float32")
    return pairs(
        lambda: study.profile(net, [0], batch, engine=engine),
        lambda: torch_norms(width, depth, batch, "relu", 2**0.5),
    )


def cases() -> dict[str, list[tuple]]:
    """Group -> (job, width, depth, batch, networks, dtype, how to time it)."""
    given = [
        ("given weights", width, depth, batch, 1, dtype, THREAD_EACH, given_weights,
         (width, depth, batch, dtype))
        for dtype in ("float32", "float64")
        for width, depth in ((100, 1000), (256, 1000), (1024, 300))
        for batch in (1, 64)
    ]  # fmt: skip
    depths = np.geomspace(10, 3000, 12).astype(int).tolist()
    f32 = "float32"
    jobs = [("40 networks", width, 300, 1, 40, (width, [300], 1, 20, 10)) for width in WIDTHS] + [
        ("20 networks", 256, 1000, 16, 20, (256, [1000], 16, 10, 5)),
        ("12 depths", 256, 3000, 1, 24, (256, depths, 1, 1, 1)),
    ]
    swept = [
        (f"{job}, {how}", width, depth, batch, count, f32, THREADS, sweep, (*more, engine))
        for how, engine in (("one at a time", "dense"), ("engine auto", "auto"))
        for job, width, depth, batch, count, more in jobs
        if engine == "dense" or batch == 1  # else it is dense, too
    ] + [
        ("40 networks, torch batched", 256, 100, 1, 40, f32, THREADS, sweep_against_batched,
         (256, 100, 20)),
        ("40 networks, the machine's limit", 1024, 300, 1, 40, f32, THREADS, share_of_limit,
         (1024, 300, 20)),
        ("one network, dense", 1024, 300, 1, 1, f32, THREADS, single, (1024, 300, 1, "dense")),
    ]  # fmt: skip
    free = [
        ("one network, matrix-free", 1024, 300, batch, 1, f32, THREADS, single,
         (1024, 300, batch, "matrix_free"))
        for batch in (1, 32)
    ]  # fmt: skip
    return {"given weights": given, "sweep": swept, "matrix-free": free}


THREAD_EACH = 1
COLUMNS = {
    "job": "what is timed [-]",
    "batch": "number of examples [examples]",
    "networks": "how many networks are profiled [-]",
    "threads": "threads that torch may use, and cores there are for the study [-]",
    "study_s": "median wall time of the study [s]",
    "rival_s": "median wall time of torch doing the norms of dC/dW, or of the machine's limit [s]",
    "ratio": "median of the pairwise ratios rival / study [1]",
}


def main(groups: Sequence[str]) -> None:
    rows = []
    for group, jobs in cases().items():
        if groups and group not in groups:
            continue
        for job, width, depth, batch, count, dtype, threads, run, arguments in jobs:
            torch.set_num_threads(threads)
            with threadpool_limits(1):
                seconds, rival, ratio = run(*arguments)
            rows.append((job, width, depth, batch, count, dtype, threads, seconds, rival, ratio))
            print(
                f"{job:32} {dtype}  width {width:5}  depth {depth:5}  batch {batch:3}   study "
                f"{seconds:8.3f} s   rival {rival:8.3f} s   rival / study {ratio:7.2f}",
                flush=True,
            )
    names = ["job", "width", "depth", "batch", "networks", "dtype", "threads"]
    table = pd.DataFrame(rows, columns=[*names, "study_s", "rival_s", "ratio"])
    about = {"versions": [records.versions() | {"torch": torch.__version__}]}
    if not groups:  # all of one run, or none
        path = Path("results") / "bench" / "bench.csv"
        make_folder(path.parent)
        records.write_described(path, table, COLUMNS, about)
        publish.draw_more("bench", Path("results"), Path("figures"))
    if not groups or "capacity" in groups:
        large = capacity.measure()
        path = Path("results") / "capacity" / "capacity.csv"
        make_folder(path.parent)
        records.write_described(path, large, capacity.COLUMNS, about)
        publish.draw_more("capacity", Path("results"), Path("figures"))


if __name__ == "__main__":
    main(sys.argv[1:])
