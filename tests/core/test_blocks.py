"""Layers against torch's autograd, in float64: inputs, weights, statistics and skip connections."""

import numpy as np
import pytest

from study.core.backprop import backward, forward, weight_gradient
from study.core.blocks import BATCH, UNITS, Dense, Linear, Normalised, Residual, normalise

torch = pytest.importorskip("torch")


def normalised(z, axis, frozen):
    mean, std = z.mean(axis, keepdim=True), z.std(axis, keepdim=True, correction=0)
    return (z - mean.detach()) / std.detach() if frozen else (z - mean) / std


KINDS = {
    "dense": (
        lambda W, V: Dense(W, "tanh", scale=1.3),
        lambda r, W, V: torch.tanh(1.3 * r @ W),
    ),
    "biased": (
        lambda W, V: Dense(W, "sigmoid", b=np.arange(7.0)),
        lambda r, W, V: torch.sigmoid(r @ W + torch.arange(7)),
    ),
    "BatchNorm": (
        lambda W, V: Normalised(W, "tanh", BATCH),
        lambda r, W, V: torch.tanh(normalised(r @ W, BATCH, False)),
    ),
    "frozen BatchNorm": (
        lambda W, V: Normalised(W, "tanh", BATCH, frozen=True),
        lambda r, W, V: torch.tanh(normalised(r @ W, BATCH, True)),
    ),
    "LayerNorm": (
        lambda W, V: Normalised(W, "sigmoid", UNITS),
        lambda r, W, V: torch.sigmoid(normalised(r @ W, UNITS, False)),
    ),
    "residual": (
        lambda W, V: Residual([Dense(W, "relu", scale=1.4), Linear(V, 0.7)]),
        lambda r, W, V: r + 0.7 * torch.relu(1.4 * r @ W) @ V,
    ),
    "residual BatchNorm": (
        lambda W, V: Residual([Normalised(W, "relu", BATCH), Linear(V, 0.3)]),
        lambda r, W, V: r + 0.3 * torch.relu(normalised(r @ W, BATCH, False)) @ V,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_every_input_are_those_of_torch(kind):
    ours, theirs = KINDS[kind]
    rng = np.random.default_rng(3)
    x, cotangent = rng.normal(size=(2, 5, 7))
    weights = rng.normal(size=(4, 2, 7, 7)) / 7**0.5
    trace, _ = forward([ours(W, V) for W, V in weights], x)
    steps = list(backward(trace, cotangent))
    rs = [torch.tensor(x, requires_grad=True)]
    first = torch.tensor(weights[0, 0], requires_grad=True)
    for k, (W, V) in enumerate(weights):
        W = first if k == 0 else torch.tensor(W)
        rs.append(theirs(rs[-1], W, torch.tensor(V)))
    exact = torch.autograd.grad(rs[-1], [*rs[:-1], first], torch.tensor(cotangent))
    for step, dr in zip(steps[::-1], exact, strict=False):
        size = float(dr.abs().max())
        np.testing.assert_allclose(step.dr, dr.numpy(), rtol=1e-9, atol=1e-12 * size)
    if kind in ("dense", "biased"):
        scale = 1.3 if kind == "dense" else 1.0
        dW = scale * weight_gradient(steps[-1].r, steps[-1].delta)
        np.testing.assert_allclose(dW, exact[-1].numpy(), rtol=1e-9, atol=1e-12)


def test_frozen_statistics_are_another_gradient():
    """The control: the test above sees whether statistics are differentiated."""
    rng = np.random.default_rng(4)
    x, cotangent = rng.normal(size=(2, 5, 7))
    W = rng.normal(size=(7, 7))
    drs = []
    for frozen in (False, True):
        trace, _ = forward([Normalised(W, "tanh", BATCH, frozen=frozen)], x)
        (step,) = backward(trace, cotangent)
        drs.append(step.dr)
    live, frozen = drs
    # Whatever is common to the batch does not get through a batch normalisation.
    np.testing.assert_allclose(live.sum(axis=0), 0, atol=1e-13)
    assert np.abs(frozen.sum(axis=0)).max() > 1e-2


def test_a_unit_that_does_not_vary_is_refused():
    with pytest.raises(ValueError, match="along axis"):
        normalise(np.ones((3, 2)), BATCH)
