"""Trained accuracies again, by a plain program in torch with draws, batches and code of its own."""

import numpy as np
import pandas as pd
import pytest
from toyhouse import ROOT

from study.sampling.digits import digits

torch = pytest.importorskip("torch")

NETWORKS = ROOT / "results" / "training" / "networks.csv"
ARM = ["activation", "sigma_w", "depth", "rate"]
SEEDS = 5
WINDOW, GOAL = 50, 0.5


def accuracy(activation, sigma_w, depth, rate, seed, budget):
    """Of a network that learns from torch's own draws until its loss is at the goal."""
    torch.manual_seed(seed)
    data = digits()
    x = torch.tensor(data.images, dtype=torch.float32)
    y = torch.tensor(data.classes, dtype=torch.long)
    widths = [784, *[64] * (depth - 1), 10]
    scales = [sigma_w] * (depth - 1) + [1.0]
    weights = []
    for n, m, scale in zip(widths[:-1], widths[1:], scales, strict=True):
        weights.append((torch.randn(n, m) * scale / n**0.5).requires_grad_())
    descent = torch.optim.SGD(weights, lr=rate, momentum=0.9)

    def output(r):
        for W in weights[:-1]:
            r = getattr(torch, activation)(r @ W)
        return r @ weights[-1]

    losses = []
    for _ in range(budget):
        batch = torch.randint(4000, (32,))
        loss = torch.nn.functional.cross_entropy(output(x[batch]), y[batch])
        losses.append(loss.item())
        if len(losses) >= WINDOW and np.mean(losses[-WINDOW:]) <= GOAL:
            break
        descent.zero_grad()
        loss.backward()
        descent.step()
    with torch.no_grad():
        return float((output(x[4000:]).argmax(dim=1) == y[4000:]).float().mean())


@pytest.mark.slow
def test_five_arms_chosen_at_random_are_as_accurate_in_torch():
    rows = pd.read_csv(NETWORKS)
    rows = rows[(rows.remedy == "none") & (rows.depth <= 30)]
    arms = rows.groupby(ARM).filter(lambda arm: (arm.outcome == "learned").all())
    medians = arms.groupby(ARM).accuracy.median().sample(5, random_state=1)
    budget = int(rows.steps.max())
    for arm, median in medians.items():
        again = [accuracy(*arm, seed, budget) for seed in range(SEEDS)]
        assert np.median(again) == pytest.approx(median, abs=0.03), arm
