"""`study.torch.initialise` beside anyinit, and what training makes of it: ``docs/initialise.md``.

    pip install anyinit torchvision transformers
    python -m benchmarks.initialise [NAMES]

A row a network: the spread of log10 ‖dC/dW‖ over its weight matrices as PyTorch makes it, after
anyinit (the better of its two modes) and after `initialise`; then the loss after `STEPS` steps of
Adam on one batch, at the rate of `RATES` that is best on seed 0; medians over the seeds. Rows of
``initialise.csv`` that are there are not computed again.
"""

from __future__ import annotations

import copy
import itertools
import re
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import anyinit
import numpy as np
import pandas as pd
import torch
import torchvision
import transformers
from torch import Tensor, nn

from study.torch import initialise, profile

STEPS = 30
RATES = (3e-4, 1e-3, 3e-3)
SEEDS = range(6)
TABLE = Path(__file__).with_suffix(".csv")
PAGE = Path(__file__).parents[1] / "docs" / "initialise.md"
Case = tuple[nn.Module, Tensor, Callable]


def chain(phi: type, depth: int, width: int = 64) -> Callable[[], Case]:
    def make() -> Case:
        layers = [m for _ in range(depth) for m in (nn.Linear(width, width), phi())]
        return nn.Sequential(*layers[:-2], nn.Linear(width, 10)), torch.randn(64, width), entropy

    return make


def kernels() -> Case:
    layers = [m for _ in range(38) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), *layers, *head)
    return net, torch.randn(16, 3, 12, 12), entropy


class Encoder(nn.Module):
    def __init__(self, norm_first: bool):
        super().__init__()
        shape = {"dim_feedforward": 128, "dropout": 0.0, "batch_first": True}
        block = (
            nn.TransformerEncoderLayer(32, 4, norm_first=norm_first, **shape) for _ in "x" * 24
        )
        self.blocks = nn.Sequential(nn.Linear(32, 32), *block)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(1))


def encoder(norm_first: bool) -> Callable[[], Case]:
    return lambda: (Encoder(norm_first), torch.randn(16, 8, 32), entropy)


def vision(make: Callable[..., nn.Module], *args: object, **options: object) -> Callable[[], Case]:
    return lambda: (make(*args, num_classes=10, **options), torch.randn(8, 3, 32, 32), entropy)


def language(name: str, **options: object) -> Callable[[], Case]:
    def make() -> Case:
        config = getattr(
            transformers, name.partition("For")[0].removesuffix("LMHeadModel") + "Config"
        )
        options.setdefault("vocab_size", 100)
        net = getattr(transformers, name)(config(**options, attn_implementation="eager")).eval()
        return net, torch.randint(100, (8, 16)), next_token

    return make


def entropy(output: object) -> Tensor:
    logits = getattr(output, "logits", output)
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 10)


def next_token(output: object, tokens: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.logits.flatten(0, 1), tokens.roll(-1, 1).flatten())


small = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}
models = torchvision.models
blocks = [models.convnext.CNBlockConfig(n, m, 2) for n, m in ((32, 64), (64, 128), (128, None))]
PLAIN = {
    "sigmoid, 50 layers": chain(nn.Sigmoid, 50),
    "ReLU, 100 layers": chain(nn.ReLU, 100),
    "tanh, 100 layers": chain(nn.Tanh, 100),
    "GELU, 100 layers": chain(nn.GELU, 100),
    "CNN, ReLU, 40 layers": kernels,
    "post-LN transformer, 24 blocks": encoder(norm_first=False),
    "pre-LN transformer, 24 blocks": encoder(norm_first=True),
}
PUBLIC = {
    "ResNet-10": vision(models.ResNet, models.resnet.BasicBlock, [1, 1, 1, 1]),
    "DenseNet": vision(models.DenseNet, 12, (4, 4, 4), 24),
    "SqueezeNet": vision(models.squeezenet1_1, dropout=0.0),
    "MobileNetV2": vision(models.mobilenet_v2, width_mult=0.5, dropout=0.0),
    "ShuffleNetV2": vision(models.shufflenet_v2_x0_5),
    "MNASNet": vision(models.mnasnet0_5, dropout=0.0),
    "ConvNeXt": vision(models.ConvNeXt, blocks),
    "GPT-2": language("GPT2LMHeadModel", n_embd=64, n_layer=6, n_head=4, n_positions=16),
    "Llama": language("LlamaForCausalLM", intermediate_size=172, **small),
    "BERT": language("BertForMaskedLM", intermediate_size=256, **small),
}
CASES = PLAIN | PUBLIC


def spread(case: Case) -> float:
    matrices = [name for name, p in case[0].named_parameters() if p.dim() > 1]
    norms = profile(*case).set_index("name").log10_grad_norm[matrices].replace(-np.inf, np.nan)
    return float(norms.max() - norms.min())


def others(case: Case, seed: int) -> float:
    """The spread after anyinit, in its better mode; nan where both fail."""
    found = [np.nan]
    for mode in ("analytic", "empirical"):
        net, *rest = copy.deepcopy(case)
        try:
            anyinit.initialize(net, mode, case[1], seed=seed)
            found.append(spread((net, *rest)))
        except Exception as error:
            print(f"anyinit, {mode}: {error!r}"[:100], file=sys.stderr)
    return float(np.nanmin(found)) if len(found) > 1 else np.nan


def trained(case: Case, rate: float) -> float:
    """The mean loss over the last five steps; infinite if it is lost on the way."""
    net, inputs, loss = copy.deepcopy(case)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    losses = []
    for _ in range(STEPS):
        output = net(inputs)
        cost = loss(output, inputs) if loss is next_token else loss(output)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(float(cost.detach()))
    last = float(np.mean(losses[-5:]))
    return last if np.isfinite(last) else np.inf


def compared(name: str, seed: int, tuned: pd.DataFrame) -> dict[str, object]:
    """One seed of a network: spreads, and losses at the rates that seed 0 found best."""
    torch.manual_seed(seed)
    default = CASES[name]()
    mended = copy.deepcopy(default)
    initialise(*mended)
    row = {"network": name, "seed": seed, "spread_anyinit": others(default, seed)}
    for arm, case in {"default": default, "initialise": mended}.items():
        rates = RATES if seed == 0 else tuned[f"rate_{arm}"]
        losses = {rate: trained(case, rate) for rate in rates}
        best = min(losses, key=losses.get)
        row |= {f"spread_{arm}": spread(case), f"rate_{arm}": best, f"loss_{arm}": losses[best]}
    return row


def main(names: list[str]) -> None:
    """Add the rows that are missing, then write the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed, name in itertools.product(SEEDS, names or CASES):
        df = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"network": [], "seed": []})
        if ((df.network == name) & (df.seed == seed)).any():
            continue
        row = compared(name, seed, df[(df.network == name) & (df.seed == 0)])
        df = pd.read_csv(TABLE) if TABLE.exists() else None
        pd.concat([df, pd.DataFrame([row]).round(4)]).to_csv(TABLE, index=False)
    PAGE.write_text(_page(PAGE.read_text(), pd.read_csv(TABLE)))


def _page(text: str, df: pd.DataFrame) -> str:
    """The page with its table made anew."""
    lines = [
        "| network | default | anyinit | initialise | loss, default | loss, then | not higher in |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [x for x in CASES if x in set(df.network)]:
        rows = df[df.network == name]
        row = rows.median(numeric_only=True)
        lower = (rows.loss_initialise <= rows.loss_default).sum()
        other = "fails" if np.isnan(row.spread_anyinit) else f"{row.spread_anyinit:.2f}"
        lines.append(
            f"| {name} | {row.spread_default:.2f} | {other} | {row.spread_initialise:.2f} | "
            f"{row.loss_default:.3f} | {row.loss_initialise:.3f} | {lower} of {len(rows)} |"
        )
    made = ", ".join(
        f"{x} {version(x)}" for x in ("torch", "anyinit", "torchvision", "transformers")
    )
    table = "\n".join(["<!-- table -->", *lines, "", f"Made with {made}.", "<!-- end -->"])
    return re.sub(r"<!-- table -->.*<!-- end -->", lambda _: table, text, flags=re.DOTALL)


if __name__ == "__main__":
    main(sys.argv[1:])
