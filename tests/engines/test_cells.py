"""Recurrent cells and circular convolutions against torch's own, on shared weights, in float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from study.core.backprop import backward, forward
from study.core.blocks import Dense, Linear
from study.engines.cells import GRU, LSTM, Minimal
from study.engines.convolution import Circular

torch = pytest.importorskip("torch")
N, BATCH, STEPS = 5, 3, 4


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def both_passes(layers, r, dr):
    """The output, and dC/dr of the input."""
    trace, top = forward(layers, r)
    *_, last = backward(trace, dr)
    return top, last.dr


def witness(function, r, dr):
    start = torch.tensor(r, requires_grad=True)
    top = function(start)
    (below,) = torch.autograd.grad(top, start, torch.tensor(dr))
    return top.detach().numpy(), below.numpy()


def gates(module, x, kinds):
    """Layers of the state with torch's weights, what x and both biases add, gate by gate."""
    W = module.weight_hh.detach().numpy().T
    added = torch.nn.functional.linear(x, module.weight_ih, module.bias_ih + module.bias_hh)
    parts = zip(
        kinds, np.split(W, len(kinds), 1), np.split(added.detach().numpy(), len(kinds), 1),
        strict=True,
    )  # fmt: skip
    return [Dense(part, kind, b=b) for kind, part, b in parts]


def test_lstm_is_that_of_torch(rng):
    module = torch.nn.LSTMCell(2, N).double()
    xs = torch.tensor(rng.normal(size=(STEPS, BATCH, 2)))
    r, dr = rng.normal(size=(2, BATCH, 2 * N))

    def run(state):
        h, c = state.split(N, 1)
        for x in xs:
            h, c = module(x, (h, c))
        return torch.cat([h, c], 1)

    layers = [LSTM(gates(module, x, ["sigmoid", "sigmoid", "tanh", "sigmoid"])) for x in xs]
    assert_allclose(both_passes(layers, r, dr), witness(run, r, dr), rtol=1e-12, atol=1e-15)


def test_gru_is_that_of_torch(rng):
    module = torch.nn.GRUCell(2, N).double()
    with torch.no_grad():
        module.bias_hh[2 * N :] = 0  # that of y, which `GRU` has not
    xs = torch.tensor(rng.normal(size=(STEPS, BATCH, 2)))
    r, dr = rng.normal(size=(2, BATCH, N))

    def run(h):
        for x in xs:
            h = module(x, h)
        return h

    layers = []
    for x in xs:
        reset, update, candidate = gates(module, x, ["sigmoid", "sigmoid", "linear"])
        layers.append(GRU([update, reset, Linear(candidate.W)], candidate.b))
    assert_allclose(both_passes(layers, r, dr), witness(run, r, dr), rtol=1e-12, atol=1e-15)


def test_minimal_rnn_is_its_formula(rng):
    W = rng.normal(size=(N, N))
    xs, bs = rng.normal(size=(2, STEPS, BATCH, N))
    r, dr = rng.normal(size=(2, BATCH, N))

    def run(h):
        for x, b in zip(torch.tensor(xs), torch.tensor(bs), strict=True):
            u = torch.sigmoid(h @ torch.tensor(W) + b)
            h = u * h + (1 - u) * x
        return h

    layers = [Minimal(Dense(W, "sigmoid", b=b), x) for x, b in zip(xs, bs, strict=True)]
    assert_allclose(both_passes(layers, r, dr), witness(run, r, dr), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("taps", [1, 2, 3, 5])
def test_convolution_is_that_of_torch(rng, taps):
    kernels = rng.normal(size=(2, N, N, taps))  # torch's (out, in, taps)
    r, dr = rng.normal(size=(2, 7, N))

    def run(r):
        left, right = taps // 2, (taps - 1) // 2
        x = r.T[None]
        for kernel in torch.tensor(kernels):
            around = torch.nn.functional.pad(x, (left, right), mode="circular")
            x = torch.tanh(torch.nn.functional.conv1d(around, kernel))
        return x[0].T

    layers = [
        Circular(kernel.transpose(2, 1, 0).reshape(taps * N, N), "tanh", taps) for kernel in kernels
    ]
    assert_allclose(both_passes(layers, r, dr), witness(run, r, dr), rtol=1e-12, atol=1e-15)


def test_delta_orthogonal_kernels_keep_norms(rng):
    """Xiao et al. 2018: only the middle tap, and orthogonal; other orthogonal taps do not."""
    r, dr = rng.normal(size=(2, 9, N))
    Q = np.linalg.qr(rng.normal(size=(3, N, N))).Q
    zero = np.zeros((N, N))
    kept = [Circular(np.vstack([zero, W, zero]), "linear", 3) for W in Q]
    for before, after in zip((r, dr), both_passes(kept, r, dr), strict=True):
        assert_allclose(np.linalg.norm(after), np.linalg.norm(before), rtol=1e-13)
    spread = [Circular(np.vstack(Q) / np.sqrt(3), "linear", 3)] * 3
    top, _ = both_passes(spread, r, dr)
    assert abs(np.linalg.norm(top) / np.linalg.norm(r) - 1) > 1e-2
