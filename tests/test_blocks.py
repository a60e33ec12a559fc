"""Blocks against torch's autograd, in float64."""

import numpy as np
import pytest

from study import blocks

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(3)


def log_square(gradient):
    return np.log((gradient.numpy() ** 2).sum())


@pytest.mark.parametrize("axis", [blocks.BATCH, blocks.UNITS])
def test_normalised_chain(axis):
    x, cotangent = RNG.normal(size=(2, 7, 11))
    weights = list(RNG.normal(size=(4, 11, 11)))
    start = torch.tensor(x, requires_grad=True)
    r = start
    for W in weights:
        z = r @ torch.tensor(W)
        if axis == blocks.BATCH:
            z = torch.nn.functional.batch_norm(z, None, None, training=True, eps=1e-30)
        else:
            z = torch.nn.functional.layer_norm(z, (11,), eps=0.0)
        r = torch.tanh(z)
    r.backward(torch.tensor(cotangent))
    found = blocks.normalised_gradients("tanh", weights, x, cotangent, axis)
    assert found[0] == pytest.approx(log_square(start.grad), rel=1e-10)
    assert len(found) == 5


def test_residual_chain():
    x, cotangent = RNG.normal(size=(2, 3, 8))
    branches = [(RNG.normal(size=(8, 5)), RNG.normal(size=(5, 8))) for _ in range(4)]
    scales = [1.0, 0.5, 0.0, 2.0]
    start = torch.tensor(x, requires_grad=True)
    r = start
    for (W, V), alpha in zip(branches, scales, strict=True):
        r = r + alpha * torch.relu(r @ torch.tensor(W)) @ torch.tensor(V)
    r.backward(torch.tensor(cotangent))
    logs, signals = blocks.residual_gradients("relu", branches, scales, x, cotangent)
    assert logs[0] == pytest.approx(log_square(start.grad), rel=1e-10)
    assert signals[-1] == pytest.approx(log_square(r.detach()), rel=1e-10)


def test_a_unit_that_does_not_vary_is_refused():
    with pytest.raises(ValueError, match="axis 0"):
        blocks.normalise(np.ones((3, 2)), blocks.BATCH)
