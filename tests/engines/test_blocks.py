"""Blocks against torch's autograd, in float64."""

import math

import numpy as np
import pytest

from study.engines import blocks
from study.engines.blocks import BATCH, UNITS, Block

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(3)

KINDS = [
    Block("tanh", sigma_w=1.3),
    Block("tanh", BATCH),
    Block("sigmoid", UNITS),
    Block("relu", residual=True, sigma_w=1.4, sigma_v=0.7),
    Block("relu", BATCH, residual=True, sigma_v=1.4),
    Block("tanh", UNITS, residual=True),
]


def log_square(gradient):
    return np.log((gradient.numpy() ** 2).sum())


def normalised(z, axis, detach=False):
    mean, std = z.mean(axis, keepdim=True), z.std(axis, keepdim=True, correction=0)
    return (z - mean.detach()) / std.detach() if detach else (z - mean) / std


def by_torch(block, weights, depth, inputs, cotangent, scales):
    """dC/dr^(0) by autograd, written out apart from the blocks."""
    start = torch.tensor(inputs, requires_grad=True)
    r = start
    for k in range(depth):
        W = torch.tensor(weights[2 * k if block.residual else k])
        z = block.sigma_w * r @ W
        if block.axis is not None:
            z = normalised(z, block.axis, block.frozen)
        h = getattr(torch, block.activation)(z)
        if block.residual:
            h = r + scales[k] * block.sigma_v * h @ torch.tensor(weights[2 * k + 1])
        r = h
    r.backward(torch.tensor(cotangent))
    return start.grad.numpy()


@pytest.mark.parametrize("block", [*KINDS, Block("tanh", BATCH, residual=True, frozen=True)])
def test_input_gradients_are_those_of_torch(block):
    x, cotangent = RNG.normal(size=(2, 5, 7))
    weights = RNG.normal(size=(8, 7, 7)) / math.sqrt(7)
    depths, scales = [4, 4, 2, 1], RNG.uniform(0.2, 2.0, size=(4, 4))
    found = blocks.input_gradients(block, weights.__getitem__, depths, x, cotangent, scales)
    for j, depth in enumerate(depths):
        exact = by_torch(block, weights, depth, x, cotangent, scales[j])
        gradient = np.ldexp(found.mantissa[j], found.exponent[j])
        np.testing.assert_allclose(gradient, exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())
        norm = np.log10(np.linalg.norm(exact))
        assert found.log10_norms()[j] == pytest.approx(norm, abs=1e-12)


def test_decays_stand_in_the_order_asked_for():
    x, cotangent = RNG.normal(size=(2, 5, 7))
    weights = RNG.normal(size=(8, 7, 7)) / math.sqrt(7)
    scales = [RNG.uniform(0.2, 2.0, size=depth) for depth in (2, 4, 1)]
    block = Block("relu", residual=True)
    found = blocks.log10_decays(block, weights.__getitem__, scales, x, cotangent)
    for own, value in zip(scales, found, strict=True):
        exact = by_torch(block, weights, len(own), x, cotangent, own)
        ratio = np.linalg.norm(exact) / np.linalg.norm(cotangent)
        assert value == pytest.approx(np.log10(ratio), abs=1e-12)


def test_frozen_statistics_are_another_gradient():
    """The control: the test above sees whether statistics are differentiated."""
    x, cotangent = RNG.normal(size=(2, 5, 7))
    weights = RNG.normal(size=(3, 7, 7))
    live, frozen = (
        blocks.input_gradients(
            Block("tanh", BATCH, frozen=f), weights.__getitem__, [3], x, cotangent
        )
        for f in (False, True)
    )
    assert abs(live.log10_norms() - frozen.log10_norms()) > 1e-3
    # Whatever is common to the batch does not get through a batch normalisation.
    np.testing.assert_allclose(live.mantissa.sum(axis=1), 0, atol=1e-14)
    assert np.abs(frozen.mantissa.sum(axis=1)).max() > 1e-2


def test_gradients_go_on_where_floats_end():
    n, depth = 4, 2000
    W = np.eye(n) * 1e-3
    r, dr = np.full((1, n), 1e-300), np.ones((1, n))
    found = blocks.input_gradients(Block("linear"), lambda _: W, [depth, 5], r * 0, dr)
    np.testing.assert_allclose(found.log10_norms(), np.array([-3.0 * depth, -15.0]) + np.log10(2))


def test_a_true_zero_stays_one():
    x, dr = RNG.normal(size=(2, 1, 3))
    found = blocks.input_gradients(Block("relu"), lambda _: np.zeros((3, 3)), [2], x, dr)
    assert found.log10_norms().tolist() == [-math.inf]


def test_slopes_stand_in_for_the_derivative():
    x, dr = RNG.normal(size=(2, 2, 3))
    W = RNG.normal(size=(2, 3, 3))
    masks = RNG.integers(2, size=(2, 2, 3)).astype(float)
    found = blocks.input_gradients(
        Block("relu"), W.__getitem__, [2], x, dr, slopes=masks.__getitem__
    )
    exact = ((dr * masks[1]) @ W[1].T * masks[0]) @ W[0].T
    np.testing.assert_allclose(np.ldexp(found.mantissa[0], found.exponent[0]), exact, atol=1e-14)


@pytest.mark.parametrize("block", KINDS[:3])
def test_all_gradients_are_those_of_torch(block):
    x, cotangent = RNG.normal(size=(2, 5, 6))
    weights = list(RNG.normal(size=(3, 6, 6)))
    found = blocks.all_gradients(block, weights, x, cotangent)
    held = [torch.tensor(a, requires_grad=True) for a in (x, *weights)]
    r = held[0]
    for W in held[1:]:
        z = block.sigma_w * r @ W
        z = z if block.axis is None else normalised(z, block.axis)
        r = getattr(torch, block.activation)(z)
    r.backward(torch.tensor(cotangent))
    for own, exact in zip(found, [*(a.grad.numpy() for a in held), cotangent], strict=True):
        np.testing.assert_allclose(own, exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())


def test_overlaps_are_those_of_each_pair():
    x, u = RNG.normal(size=(3, 6)), RNG.normal(size=(2, 6))
    W = RNG.normal(size=(4, 6, 6))
    covariance, variance = blocks.gradient_overlaps(Block("tanh"), W.__getitem__, [4, 2], x, u)
    for j, depth in enumerate([4, 2]):
        g = np.array([[by_torch(KINDS[0], W * (1 / 1.3), depth, x[[i]], v[None], None)[0]
                       for i in range(3)] for v in u])  # fmt: skip
        gram = np.mean(g @ g.transpose(0, 2, 1), axis=0)
        assert variance[j] == pytest.approx(np.trace(gram) / 3, rel=1e-12)
        pairs = gram[np.triu_indices(3, 1)].mean()
        assert covariance[j] == pytest.approx(pairs, rel=1e-9, abs=1e-12 * variance[j])


@pytest.mark.parametrize("depths", [[1, 2], [2, 0]])
def test_depths_out_of_order_are_named(depths):
    with pytest.raises(ValueError, match=r"depths = .*allowed"):
        blocks.input_gradients(
            Block(), lambda _: np.eye(2), depths, np.ones((1, 2)), np.ones((1, 2))
        )


@pytest.mark.parametrize("axis", [BATCH, UNITS])
def test_normalised_chain(axis):
    x, cotangent = RNG.normal(size=(2, 7, 11))
    weights = list(RNG.normal(size=(4, 11, 11)))
    start = torch.tensor(x, requires_grad=True)
    r = start
    for W in weights:
        z = r @ torch.tensor(W)
        if axis == BATCH:
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


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_is_torchs(limit):
    gradients = [RNG.normal(size=shape) for shape in ((3, 4), (4, 2))]
    parameters = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    for p, g in zip(parameters, blocks.clipped(gradients, limit), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-5)  # torch adds 1e-6 to the norm


def test_a_unit_that_does_not_vary_is_refused():
    with pytest.raises(ValueError, match="along axis"):
        blocks.normalise(np.ones((3, 2)), BATCH)
