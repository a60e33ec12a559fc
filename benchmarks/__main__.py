"""Time the study against torch doing the same job in the same run, and the largest jobs alone.

Writes results/bench/ and results/capacity/, each with its figure. Every row of the bench runs the
two in turn, ours, torch, ours, torch, ..., and reports the median of the pairwise ratios, so that a
machine whose speed drifts shifts both. Torch gets the smaller job, the norms of dC/dW alone, and,
where it draws weights, its own generator.

    python -m benchmarks [given weights | sweep | matrix-free | training | capacity]
"""

import sys
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import study
from benchmarks import capacity
from benchmarks.capacity import networks
from study.engines.training import gaussian_weights, train
from study.records import tables as records
from study.records.disk import make_folder
from study.report import publish
from study.sampling import gaussian

THREADS = 2
STEPS = 20  # of training
SHOWN = ("job", "width", "depth", "batch", "networks", "dtype", "threads")
COLUMNS = {
    "job": "what is timed [-]",
    "batch": "number of examples [examples]",
    "networks": "how many networks are profiled [-]",
    "threads": "threads that torch may use, and cores there are for the study [-]",
    "study_s": "median wall time of the study [s]",
    "rival_s": "median wall time of torch doing the norms of dC/dW, or of the machine's limit [s]",
    "ratio": "median of the pairwise ratios rival / study [1]",
}
Work = Callable[[], object]


class Job(NamedTuple):
    """A row of the bench."""

    job: str
    width: int
    depth: int
    works: Callable[["Job"], tuple[Work, Work]]  # the study's work, and its rival's
    batch: int = 1
    networks: int = 1
    dtype: str = "float32"
    threads: int = THREADS
    repeats: int = 3
    share: float = 1  # how many times the rival's work would be the whole job

    def row(self) -> dict[str, object]:
        """Run the two in turn, after a warm-up of both."""
        torch.set_num_threads(self.threads)
        with threadpool_limits(1):
            works = self.works(self)
            for work in works:
                work()
            turns = range(self.repeats)  # in turn, so that drift shifts both
            seconds = [[timeit.timeit(work, number=1) for work in works] for _ in turns]
        times = np.array(seconds) * [1, self.share]
        row = {name: getattr(self, name) for name in SHOWN}
        row |= dict(zip(("study_s", "rival_s"), np.median(times, axis=0), strict=True))
        return row | {"ratio": np.median(times[:, 1] / times[:, 0])}


def he_network(job: Job) -> tuple[list, np.ndarray, np.ndarray]:
    """Weights of a He-ReLU network, inputs and a cotangent."""
    rng = np.random.default_rng(0)
    scale = (2 / job.width) ** 0.5
    draws = (rng.standard_normal((job.width, job.width), np.float32) for _ in range(job.depth))
    weights = [(scale * draw).astype(job.dtype) for draw in draws]
    return weights, *rng.standard_normal((2, job.batch, job.width)).astype(job.dtype)


def products(job: Job) -> tuple[Work, Work]:
    """The three matrix products of each layer, bare."""
    weights, x, delta = he_network(job)

    def rival() -> None:
        for W in weights:
            x @ W
        for W in reversed(weights):
            delta @ W.T
            x.T @ delta

    return partial(study.backpropagate, weights, x, cotangent=delta), rival


def given_weights(job: Job) -> tuple[Work, Work]:
    """Norms of a He-ReLU network whose weights are given."""
    # One thread each: what is compared is the work, not who has more cores.
    weights, x, cotangent = he_network(job)
    parameters = [torch.from_numpy(W).requires_grad_(True) for W in weights]

    def rival() -> list[float]:
        for W in parameters:
            W.grad = None
        return torch_norms(parameters, torch.from_numpy(x), torch.from_numpy(cotangent))

    ours = partial(study.backpropagate, weights, x, cotangent=cotangent)
    # In float64 neither loses digits: a faster answer that is another one would not count.
    if job.dtype == "float64":
        np.testing.assert_allclose(10 ** ours().log10_grad_norm, rival(), rtol=1e-9)
    return ours, rival


def torch_norms(
    weights: Sequence[torch.Tensor],
    r: torch.Tensor,
    cotangent: torch.Tensor,
    phi: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
) -> list:
    """Norms of dC/dW by autograd, of one network or of many side by side."""
    for W in weights:
        r = phi(r @ W)
    r.backward(cotangent)
    return [W.grad.flatten(-2).norm(dim=-1).tolist() for W in weights]


def torch_drawn(job: Job, net: study.Network) -> list:
    """The same, of a network that is drawn first."""
    scale = net.sigma_w / job.width**0.5
    draws = (torch.randn(job.width, job.width).mul_(scale) for _ in range(net.depth))
    weights = [W.requires_grad_(True) for W in draws]
    ends = torch.randn(2, job.batch, job.width)
    return torch_norms(weights, *ends, getattr(torch, net.activation))


def torch_batched(job: Job, nets: Sequence[study.Network]) -> list:
    """Torch's best case: all networks at once, one batched product a layer."""
    scale = torch.tensor([net.sigma_w for net in nets])[:, None, None] / job.width**0.5
    draws = (torch.randn(len(nets), job.width, job.width).mul_(scale) for _ in range(job.depth))
    weights = [W.requires_grad_(True) for W in draws]
    ends = torch.randn(2, len(nets), job.batch, job.width)
    half = len(nets) // 2  # of relu, then sigmoid, as `networks` has them
    phi = lambda z: torch.cat([torch.relu(z[:half]), torch.sigmoid(z[half:])])  # noqa: E731
    return torch_norms(weights, *ends, phi)


def sweep(job: Job, engine: str = "dense", depths: int = 1) -> tuple[Work, Work]:
    """A sweep against torch one network at a time, weights drawn by both."""
    # Torch runs every ``share``-th network: of one depth they cost the same whatever their scale.
    steps = np.geomspace(10, job.depth, depths).astype(int).tolist() if depths > 1 else [job.depth]
    nets = networks(job.width, steps, job.networks // (2 * depths))

    def rival() -> None:
        for net in nets[:: int(job.share)]:
            torch_drawn(job, net)

    return partial(study.profile, nets, [0], job.batch, engine=engine), rival


def against_batched(job: Job) -> tuple[Work, Work]:
    """The same sweep against all networks batched in one torch graph."""
    nets = networks(job.width, [job.depth], job.networks // 2)
    ours = partial(study.profile, nets, [0], job.batch, engine="dense")
    return ours, partial(torch_batched, job, nets)


def machine_limit(job: Job) -> tuple[Work, Work]:
    """The bare draws and matrix products of a tenth of the layers, on one of the cores."""
    # Each layer is drawn and multiplied twice, and the work could be spread over all cores.
    nets = networks(job.width, [job.depth], job.networks // 2)
    rows = np.ones((len(nets), job.width), np.float32)
    G = np.empty((job.width, job.width), np.float32)
    key = gaussian.key("bench")

    def rival() -> None:
        for k in range(job.depth // 10):
            np.matmul(rows, gaussian.fill_normal(key, k, G))

    return partial(study.profile, nets, [0], job.batch, engine="dense"), rival


def single(job: Job, engine: str) -> tuple[Work, Work]:
    """One He-ReLU network, weights drawn by both."""
    net = study.Network(width=job.width, depth=job.depth, dtype="float32")
    ours = partial(study.profile, net, [0], job.batch, engine=engine)
    return ours, partial(torch_drawn, job, net)


def training(job: Job) -> tuple[Work, Work]:
    """Steps of momentum by He-ReLU networks with 784 inputs and 10 classes."""
    widths = [784, *[job.width] * (job.depth - 1), 10]
    rng = np.random.default_rng(0)
    images = rng.standard_normal((STEPS + 1, job.batch, 784), np.float32)
    classes = rng.integers(10, size=(STEPS + 1, job.batch))
    targets = np.eye(10, dtype=np.float32)[classes]
    keys = [gaussian.key(seed, "bench") for seed in range(job.networks)]
    weights = gaussian_weights(keys, widths, [2**0.5] * job.networks, job.dtype)
    rates = np.full(job.networks, 1e-3)

    def ours() -> object:
        kinds = ["relu"] * (job.depth - 1) + ["linear"]
        batch = lambda step: (images[step], targets[step])  # noqa: E731
        return train(weights, rates, batch, STEPS, kinds, optimiser="momentum")

    def rival() -> None:
        # One after another, as torch's own optimisers have them.
        for i in range(0, job.networks, int(job.share)):
            parameters = [torch.tensor(W[i], requires_grad=True) for W in weights]
            descent = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
            for step in range(STEPS):
                r = torch.from_numpy(images[step])
                for W in parameters[:-1]:
                    r = torch.relu(r @ W)
                descent.zero_grad()
                labels = torch.from_numpy(classes[step])
                torch.nn.functional.cross_entropy(r @ parameters[-1], labels).backward()
                descent.step()

    return ours, rival


# Engine auto is for one example alone: of more it is dense, too.
AUTO = partial(sweep, engine="auto")
ALONE = ", one at a time"
GROUPS = {
    "given weights": [
        Job("given weights", width, depth, given_weights, batch, 1, dtype, 1, 5)
        for dtype in ("float32", "float64")
        for width, depth in ((100, 1000), (256, 1000), (1024, 300))
        for batch in (1, 64)
    ]
    + [
        Job("given weights, the machine's limit", width, 1000, products, 64, 1, dtype, 1, 5)
        for width, dtype in ((100, "float32"), (256, "float32"), (100, "float64"))
    ],
    "sweep": [
        *(Job("40 networks" + ALONE, n, 300, sweep, 1, 40, share=10) for n in (256, 512, 1024)),
        Job("20 networks" + ALONE, 256, 1000, sweep, 16, 20, share=5),
        Job("12 depths" + ALONE, 256, 3000, partial(sweep, depths=12), 1, 24),
        *(Job("40 networks, engine auto", n, 300, AUTO, 1, 40, share=10) for n in (256, 512, 1024)),
        Job("12 depths, engine auto", 256, 3000, partial(AUTO, depths=12), 1, 24),
        Job("40 networks, torch batched", 256, 100, against_batched, 1, 40),
        Job(
            "40 networks, the machine's limit", 1024, 300, machine_limit, 1, 40,
            share=2 * 10 / THREADS,
        ),
        Job("one network, dense", 1024, 300, partial(single, engine="dense"), repeats=5),
    ],
    "matrix-free": [
        Job(
            "one network, matrix-free", 1024, 300, partial(single, engine="matrix_free"), batch,
            repeats=5,
        )
        for batch in (1, 32)
    ],
    "training": [Job("60 networks trained" + ALONE, 64, 20, training, 32, 60, share=10)],
}  # fmt: skip


def write(name: str, table: pd.DataFrame, columns: dict[str, str]) -> None:
    """The table of one benchmark, and its figure."""
    folder = Path("results") / name
    make_folder(folder)
    about = {"versions": [records.versions() | {"torch": torch.__version__}]}
    records.write_described(folder / f"{name}.csv", table, columns, about)
    publish.save(publish.publish(name, Path("results")), Path("figures"))


def main(groups: Sequence[str]) -> None:
    """Run some groups, to look at; or all, to keep."""
    # First: a process begins with the peak memory of the one that starts it.
    if not groups or "capacity" in groups:
        write("capacity", capacity.measure(), capacity.COLUMNS)
    rows = []
    for group in GROUPS:
        for job in GROUPS[group] if group in groups or not groups else ():
            rows.append(job.row())
            print(*(f"{name} {value}" for name, value in rows[-1].items()), sep="  ", flush=True)
    if not groups:
        write("bench", pd.DataFrame(rows), COLUMNS)


if __name__ == "__main__":
    main(sys.argv[1:])
