"""`study.torch.initialise` beside anyinit, and what training makes of it: ``docs/initialise.md``.

    pip install anyinit torchvision transformers
    python -m benchmarks.initialise [NAMES]

A row of ``initialise.csv`` is a network, a seed and an arm: the spread of log10 ‖dC/dW‖ over its
weight matrices, as PyTorch makes it, after anyinit (the better of its two modes) and after
`initialise`; and the mean loss of a course of Adam, each batch counted before it is learnt from.
A task is ten classes, each a random centre with noise, or a language in which nine words in ten
follow from the one before. Arms share weights, batches and seeds; each has the rate that was best
on the seed `TUNING`, which judges nothing: from 1e-3 on, until those beside it are worse. There the
first of `STEPS` at whose end the better arm has learnt is chosen. Rows that are there stay.
"""

from __future__ import annotations

import copy
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import anyinit
import numpy as np
import pandas as pd
import torch
import torchvision
import transformers
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import insert
from study.engines.tuning import enclosed, rate_of
from study.statistics.claims import Estimate, median_interval
from study.torch import initialise, profile

STEPS = {True: (200, 400, 800), False: (60,)}
"""Of a course: of plain networks, which have to learn from where nothing is learnt, and others."""
LEARNT = 0.5 * np.log(10)
"""So low, half of chance's, is the loss over the last fifth of the first course that is enough."""
TUNING = 100
SEEDS = range(5)
ARMS = ("anyinit", "default", "initialise")
MATTERS = 0.05
"""Nats of the mean loss: less is what waiting at chance for a fiftieth of the course costs."""
TABLE = Path(__file__).with_suffix(".csv")
Batch = tuple[Tensor, Callable[[object], Tensor]]
Case = tuple[nn.Module, tuple[int, ...]]
"""A network, and the shape of a batch of its inputs."""


def chain(phi: type, depth: int, width: int = 64) -> Callable[[], Case]:
    def make() -> Case:
        layers = [m for _ in range(depth) for m in (nn.Linear(width, width), phi())]
        return nn.Sequential(*layers[:-2], nn.Linear(width, 10)), (64, width)

    return make


def kernels() -> Case:
    layers = [m for _ in range(38) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), *layers, *head)
    return net, (16, 3, 12, 12)


class Encoder(nn.Module):
    def __init__(self, norm_first: bool):
        super().__init__()
        options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
        layers = (nn.TransformerEncoderLayer(32, 4, 128, **options) for _ in range(24))
        self.blocks = nn.Sequential(nn.Linear(32, 32), *layers)  # drawn in this order
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(1))


def vision(make: Callable[..., nn.Module], *args: object, **options: object) -> Callable[[], Case]:
    return lambda: (make(*args, num_classes=10, **options), (16, 3, 32, 32))


def language(family: str, head: str, **options: object) -> Callable[[], Case]:
    def make() -> Case:
        config = getattr(transformers, f"{family}Config")
        found = config(vocab_size=100, attn_implementation="eager", **options)
        return getattr(transformers, family + head)(found).eval(), (8, 16)

    return make


def classes(shape: tuple[int, ...], seed: int) -> Iterator[Batch]:
    """Batches of ten classes: the same centre for all words, smooth ones for images."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, *shape[1:], generator=generator)
    if len(shape) == 4:
        centres = functional.interpolate(centres[..., :4, :4], shape[2:], mode="bilinear")
    if len(shape) == 3:
        centres = centres[:, :1]
    while True:
        labels = torch.randint(10, shape[:1], generator=generator)
        inputs = centres[labels] + torch.randn(shape, generator=generator)
        yield inputs, partial(entropy, labels=labels)


def words(shape: tuple[int, ...], seed: int) -> Iterator[Batch]:
    """Batches of sentences: nine words in ten follow from the one before."""
    generator = torch.Generator().manual_seed(seed)
    follower = torch.randperm(100, generator=generator)
    while True:
        tokens = torch.randint(100, shape, generator=generator)
        follows = torch.rand(shape, generator=generator) < 0.9
        for i in range(1, shape[1]):
            tokens[:, i] = torch.where(follows[:, i], follower[tokens[:, i - 1]], tokens[:, i])
        yield tokens, partial(next_token, tokens=tokens)


def entropy(output: object, labels: Tensor) -> Tensor:
    return functional.cross_entropy(output, labels)


def next_token(output: object, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


small = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}
models = torchvision.models
blocks = [models.convnext.CNBlockConfig(n, m, 2) for n, m in ((32, 64), (64, 128), (128, None))]
PLAIN = {
    "sigmoid, 50 layers": chain(nn.Sigmoid, 50),
    "ReLU, 100 layers": chain(nn.ReLU, 100),
    "tanh, 100 layers": chain(nn.Tanh, 100),
    "GELU, 100 layers": chain(nn.GELU, 100),
    "CNN, ReLU, 40 layers": kernels,
    "post-LN transformer, 24 blocks": lambda: (Encoder(norm_first=False), (16, 8, 32)),
    "pre-LN transformer, 24 blocks": lambda: (Encoder(norm_first=True), (16, 8, 32)),
}
PUBLIC = {
    "ResNet-10": vision(models.ResNet, models.resnet.BasicBlock, [1, 1, 1, 1]),
    "DenseNet": vision(models.DenseNet, 12, (4, 4, 4), 24),
    "SqueezeNet": vision(models.squeezenet1_1, dropout=0.0),
    "MobileNetV2": vision(models.mobilenet_v2, width_mult=0.5, dropout=0.0),
    "ShuffleNetV2": vision(models.shufflenet_v2_x0_5),
    "MNASNet": vision(models.mnasnet0_5, dropout=0.0),
    "ConvNeXt": vision(models.ConvNeXt, blocks),
}
LANGUAGE = {
    "GPT-2": language("GPT2", "LMHeadModel", n_embd=64, n_layer=6, n_head=4, n_positions=16),
    "Llama": language("Llama", "ForCausalLM", intermediate_size=172, **small),
    "BERT": language("Bert", "ForMaskedLM", intermediate_size=256, **small),
}
CASES = PLAIN | PUBLIC | LANGUAGE


def made(name: str, seed: int) -> tuple[nn.Module, Iterator[Batch]]:
    """A network as PyTorch makes it, and its batches."""
    torch.manual_seed(seed)
    net, shape = CASES[name]()
    return net, (words if name in LANGUAGE else classes)(shape, seed)


def spread(net: nn.Module, batch: Batch) -> float:
    matrices = [name for name, p in net.named_parameters() if p.dim() > 1]
    norms = profile(net, *batch).set_index("name").log10_grad_norm[matrices]
    return float(np.ptp(norms[norms > -np.inf]))


def others(net: nn.Module, batch: Batch, seed: int) -> float:
    """The spread after anyinit, in its better mode; nan where both fail."""
    found = [np.nan]
    for mode in ("analytic", "empirical"):
        theirs = copy.deepcopy(net)
        try:
            anyinit.initialize(theirs, mode, batch[0], seed=seed)
            found.append(spread(theirs, batch))
        except Exception as error:
            print(f"anyinit, {mode}: {error!r}"[:100], file=sys.stderr)
    return float(np.nanmin(found)) if len(found) > 1 else np.nan


def trained(name: str, net: nn.Module, seed: int, rate: float, steps: int) -> np.ndarray:
    """The losses of a course; infinite from where it is lost."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), rate, fused=True)
    losses = []
    for inputs, loss in itertools.islice(made(name, seed)[1], 1, 1 + steps):
        cost = loss(net(inputs))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(float(cost.detach()))
    return np.nan_to_num(losses, nan=np.inf)


def best(name: str, net: nn.Module, steps: int) -> tuple[float, float]:
    """The best rate, between two that are no better, and the loss at the end of its course."""
    course = cache(lambda place: trained(name, net, TUNING, rate_of(place), steps))
    place = enclosed({-6: course(-6).mean()}, lambda place: course(place).mean())
    return rate_of(place), course(place)[-steps // 5 :].mean()


def tuned(
    name: str, nets: dict[str, nn.Module], lengths: Sequence[int]
) -> tuple[int, dict[str, float]]:
    """The length of the course, one of a few, and the best rate of each arm."""
    for steps in lengths:
        found = [best(name, net, steps) for net in nets.values()]
        if min(end for _, end in found) < LEARNT:
            break
    return steps, {arm: rate for arm, (rate, _) in zip(nets, found, strict=True)}


def compared(name: str, seed: int, own: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a seed that are not among the network's own."""
    there = set(own.arm[own.seed == seed])
    courses = own.dropna(subset="steps")
    rates = courses[courses.seed == TUNING].set_index("arm").rate.to_dict()
    steps = courses.steps.max()
    default, batches = made(name, seed)
    batch = next(batches)
    rows: list[dict[str, object]] = []
    if "anyinit" not in there:
        rows.append({"arm": "anyinit", "spread": others(default, batch, seed)})
    nets = {"default": default, "initialise": copy.deepcopy(default)}
    if "initialise" not in there:
        initialise(nets["initialise"], *batch)
    pairs = zip(default.parameters(), nets["initialise"].parameters(), strict=True)
    is_changed = any(not torch.equal(before, after) for before, after in pairs)
    nets = {arm: net for arm, net in nets.items() if arm not in there}
    if seed == TUNING and nets:
        lengths = STEPS[name in PLAIN] if courses.empty else (int(steps),)
        steps, found = tuned(name, nets, lengths)
        rates |= found
    if not is_changed:  # it has no rate of its own
        rates["initialise"] = rates["default"]
    for arm, net in nets.items():
        loss = trained(name, net, seed, rates[arm], int(steps)).mean()
        course = {"rate": rates[arm], "steps": steps, "loss": loss}
        rows.append({"arm": arm, "spread": spread(net, batch), **course})
    return [{"network": name, "seed": seed, **row} for row in rows]


def main(names: list[str]) -> None:
    """Add the rows that are missing, then write the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    columns = ["network", "seed", "arm", "spread", "rate", "steps", "loss"]
    df = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=columns)
    for seed, name in itertools.product((TUNING, *SEEDS), names or CASES):
        own = df[df.network == name]
        if (own.seed == seed).sum() == len(ARMS):
            continue
        rows = compared(name, seed, own)
        df = pd.concat([df, pd.DataFrame(rows).round(6)], ignore_index=True)
        df.astype({"steps": "Int64"}).to_csv(TABLE, index=False)
    insert("initialise.md", "table", lines(df[df.seed != TUNING]))


def lines(df: pd.DataFrame) -> list[str]:
    """The table of the page."""
    head = ("network", "default", "anyinit", "initialise", "steps", "loss, default", "loss, then")
    head = *head, "change", "training"
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    judged = set(df.network[df.arm == "initialise"])
    for name in [x for x in CASES if x in judged]:
        steps = df[df.network == name].steps.max()
        wide = df[df.network == name].pivot(index="seed", columns="arm", values=["spread", "loss"])
        wide = wide[wide.loss.initialise.notna()]
        spreads = wide.spread[["default", "anyinit", "initialise"]].median()
        losses = wide.loss[["default", "initialise"]].median()
        at = median_interval((wide.loss.initialise - wide.loss.default).to_numpy())
        cells = [*(f"{x:.2f}" for x in spreads), f"{steps:.0f}", *(f"{x:.3f}" for x in losses)]
        cells.append(f"{at.value:+.3f} [{at.low:+.3f}, {at.high:+.3f}]")
        cells.append(f"{verdict(at)} ({at.n} seeds)")
        rows.append(f"| {name} | " + " | ".join(cells).replace("nan", "fails") + " |")
    packages = ("torch", "anyinit", "torchvision", "transformers")
    return [*rows, "", "Made with " + ", ".join(f"{x} {version(x)}" for x in packages) + "."]


def verdict(at: Estimate) -> str:
    """What the interval allows, one-sided 97 % with five seeds."""
    if at.n < len(SEEDS):
        return "open"
    if at.high < -MATTERS:
        return "faster"
    if at.high < MATTERS:
        return "not worse"
    return "worse" if at.low > MATTERS else "undecided"


if __name__ == "__main__":
    main(sys.argv[1:])
