"""The recipes of docs/bridge.md, run with the libraries themselves.

`make test-bridges` installs them; without one its recipes are skipped.
"""

import importlib
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import study.torch

PAGE = Path(__file__).parents[2] / "docs" / "bridge.md"
SECTIONS = [part.partition("\n") for part in PAGE.read_text("utf-8").split("\n## ")[1:]]
RECIPES = {title: re.findall(r"```python\n(.*?)```", text, re.S) for title, _, text in SECTIONS}
heavy = pytest.mark.bridges
pytestmark = pytest.mark.filterwarnings("ignore")


def library(name):
    if os.environ.get("STUDY_WITNESSES") == "all":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def run(title, **names):
    """Run a recipe, of ten lines at most, with what it stands on; what it leaves behind."""
    (recipe,) = RECIPES[title]
    assert len(recipe.strip().splitlines()) <= 10
    names |= {"torch": torch, "study": study}
    exec(compile(recipe, f"{PAGE}: {title}", "exec"), names)
    return names


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A network in training, and the total norms before clipping as torch counts them."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    inputs, targets = torch.randn(64, 8), torch.randn(64, 1)
    totals = []

    def train():
        for _ in range(20):
            optimizer.zero_grad()
            functional.mse_loss(net(inputs), targets).backward()
            totals.append(float(nn.utils.clip_grad_norm_(net.parameters(), 0.1)))
            optimizer.step()

    loader = torch.utils.data.DataLoader(list(zip(inputs, targets, strict=True)), batch_size=4)
    found = {"net": net, "optimizer": optimizer, "train": train, "totals": totals}
    return found | {"inputs": inputs, "loader": loader}


def test_a_loop_of_ones_own(parts, capsys):
    one_by_one = torch.utils.data.DataLoader(parts["loader"].dataset)
    names = run("In a loop of your own", **{**parts, "loader": one_by_one})
    assert names["df"].step.unique().tolist() == [0, 50]
    assert not names["watched"].faults


@pytest.mark.parametrize("title", ["Width: a coordinate check", "Time: recurrent networks"])
def test_width_and_time(title, parts, capsys):
    assert len(run(title, **parts)["df"]) > 9


def scalars(folder):
    """name -> values, of all event files of TensorBoard."""
    events = library("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    for file in sorted(Path(folder).rglob("events.*")):
        reader = events.EventAccumulator(str(file)).Reload()
        found |= {name: reader.Scalars(name) for name in reader.Tags()["scalars"]}
    return found


@heavy
def test_tensorboard(parts):
    library("tensorboard")
    run("TensorBoard", **parts)
    found = scalars("runs/demo")
    assert {"grad_norm/total", "grad_norm/0.weight"} <= set(found)
    rows = [(row.step, row.value) for row in found["grad_norm/total"]]
    expected = [(step, parts["totals"][step]) for step in (0, 10)]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


@heavy
def test_wandb(parts, monkeypatch):
    wandb = library("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    summary = {}

    def train():
        parts["train"]()
        summary.update(wandb.run.summary)

    run("Weights & Biases", **{**parts, "train": train})
    assert summary["grad_norm/total"] == pytest.approx(parts["totals"][10], rel=1e-5)
    assert summary["watch/step"] == 10
    assert list(Path("wandb").rglob("*.wandb"))


@heavy
def test_accelerate(parts):
    library("accelerate")
    library("tensorboard")
    run("accelerate", **parts)
    rows = [row.value for row in scalars("runs")["grad_norm/total"]]
    np.testing.assert_allclose(rows, [parts["totals"][0], parts["totals"][10]], rtol=1e-5)


class Model(nn.Module):
    """As Hugging Face's: the loss is in its output."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, labels):
        output = self.net(x)
        return {"loss": functional.mse_loss(output, labels), "logits": output}


@heavy
def test_transformers(parts, capsys):
    library("transformers")
    library("accelerate")
    data = [{"x": x, "labels": y} for x, y in parts["loader"].dataset]
    names = run("The Trainer of Hugging Face", model=Model(parts["net"]), data=data)
    df = names["watch"].watched.frame()
    assert df.step.unique().tolist() == [0, 10]
    assert not names["watch"].watched.faults
    again = {"max_steps": 6, "logging_steps": 1, "max_grad_norm": 0.01, "report_to": []}
    arguments = names["TrainingArguments"]("runs", **again)
    sent = []
    watch = names["GradientWatch"](log=lambda *row: sent.append(row))
    trainer = names["Trainer"](
        Model(parts["net"]), arguments, train_dataset=data, callbacks=[watch]
    )
    trainer.train()
    # Its own total, taken before it clips, is the witness.
    logs = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert len(logs) == 6
    for row in logs:
        assert row["grad_norm/total"] == pytest.approx(float(row["grad_norm"]), rel=1e-4)
    assert [values["grad_norm/total"] for values, _ in sent] == [r["grad_norm/total"] for r in logs]


@heavy
def test_lightning(parts, capsys):
    lightning = library("lightning")
    loggers = importlib.import_module("lightning.pytorch.loggers")
    totals = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = parts["net"]

        def training_step(self, batch):
            return functional.mse_loss(self.net(batch[0]), batch[1])

        def on_after_backward(self):
            grads = [p.grad for p in self.parameters()]
            totals.append(float(nn.utils.get_total_norm(grads)))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    names = run("Lightning", module=Module(), loader=parts["loader"])
    (watched,) = names["watch"].watches
    df = watched.frame()
    assert df.step.unique().tolist() == [0, 10]
    assert not watched.faults
    seen = 10 ** df.groupby("step").log10_total_norm.first()
    np.testing.assert_allclose(seen, [totals[0], totals[10]], rtol=1e-5)
    totals.clear()
    logger = loggers.CSVLogger("logs")
    options = {"enable_progress_bar": False, "gradient_clip_val": 0.01}
    trainer = lightning.Trainer(
        max_steps=5, logger=logger, callbacks=[names["GradientWatch"]()], **options
    )
    trainer.fit(Module(), parts["loader"])
    logged = pd.read_csv(Path(logger.log_dir) / "metrics.csv")["grad_norm/total"].dropna()
    np.testing.assert_allclose(logged, totals, rtol=1e-5)


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_without_the_library_the_error_says_what_installs_it(name, monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, name, None)
    monkeypatch.delitem(importlib.sys.modules, f"study.torch.{name}", raising=False)
    if name == "lightning":
        monkeypatch.setitem(importlib.sys.modules, "lightning.pytorch", None)
    words = rf'study\.torch\.{name} needs {name}.*in a checkout: pip install "\.\[{name}\]"'
    with pytest.raises(ImportError, match=words):
        importlib.import_module(f"study.torch.{name}")
