"""The gradient over time: dC/dh_t of every recurrent module, whatever goes in."""

import math

import numpy as np
import pytest
import torch
from nets import DOUBLE, Made, norm, squares
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from study.torch import TIME_COLUMNS, over_time, profile, recurrence

T, B, F, H = 7, 3, 4, 5


def sums(output):
    out, end = output
    out = getattr(out, "data", out)
    ends = end if isinstance(end, tuple) else (end,)
    return squares(out) + sum(i * squares(h) for i, h in enumerate(ends, 2))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("form", ["plain", "batch first", "single", "packed", "states"])
def test_a_module_called_step_by_step_has_the_same_gradients(kind, bidirectional, form):
    """Torch's fused modules are the witness: outputs, and all gradients of parameters."""
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": form != "plain"}
    options |= {"proj_size": 3} if kind is nn.LSTM else {"bias": False}
    rnn = kind(F, H, **options).double()
    x = torch.randn(T, B, F, dtype=DOUBLE)
    inputs = x.transpose(0, 1) if options["batch_first"] else x
    if form == "single":
        inputs = x[:, 0]
    if form in ("packed", "states"):
        lengths = torch.tensor([2, 7, 4])
        inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    if form == "states":
        rows = 2 * (1 + bidirectional)
        h = torch.randn(rows, B, 3 if kind is nn.LSTM else H, dtype=DOUBLE)
        c = torch.randn(rows, B, H, dtype=DOUBLE)
        inputs = (inputs, (h, c) if kind is nn.LSTM else h)
    expected = profile(rnn, inputs, sums)
    states = {}
    with recurrence._unrolled(rnn, states):
        df = profile(rnn, inputs, sums)
    np.testing.assert_allclose(df.log10_grad_norm, expected.log10_grad_norm, rtol=0, atol=1e-12)
    df = over_time(rnn, inputs, sums)
    assert list(df.columns) == list(TIME_COLUMNS)
    assert len(df) == T * 2 * (1 + bidirectional)
    assert set(df.status) == {"ok"}


class Loop(nn.Module):
    """A GRU written as a loop over its cell, every state kept."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        h = x.new_zeros(x.shape[1], H)
        self.states = []
        for r in x:
            h = self.cell(r, h)
            h.retain_grad()
            self.states.append(h)
        return torch.stack(self.states), h


def loop():
    torch.manual_seed(1)
    rnn = nn.GRU(F, H).double()
    cell = nn.GRUCell(F, H).double()
    cell.load_state_dict({key.removesuffix("_l0"): w for key, w in rnn.state_dict().items()})
    return rnn, Loop(cell), torch.randn(T, B, F, dtype=DOUBLE)


def test_it_is_what_autograd_gives_to_every_state():
    rnn, module, x = loop()
    sums(module(x)).backward()
    expected = [norm(h.grad) for h in module.states]
    for df in (over_time(rnn, x, sums), over_time(module, x, sums)):
        np.testing.assert_allclose(10**df.log10_grad_norm, expected, rtol=1e-10)
        sizes = [norm(h.detach()) for h in module.states]
        np.testing.assert_allclose(10**df.log10_signal_norm, sizes, rtol=1e-10)
        assert df.time.tolist() == list(range(T))


@pytest.mark.parametrize(("dtype", "end"), [(torch.float32, 1), (DOUBLE, 1), (DOUBLE, 0)])
def test_what_is_lost_over_time_is_measured_below_the_range_of_floats(dtype, end):
    """h_t = w h_(t-1) + x_t: dC/dh_t = w^(T - 1 - t)."""
    rnn = nn.RNN(1, 1, bias=False, nonlinearity="relu").to(dtype)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1.0)
        rnn.weight_hh_l0.fill_(2.0**-8)
    df = over_time(rnn, torch.ones(200, 1, 1, dtype=dtype), lambda output: output[end][-1].sum())
    expected = -8 * math.log10(2) * (199 - np.arange(200))
    np.testing.assert_allclose(df.log10_grad_norm, expected, rtol=0, atol=1e-6)
    assert df.log10_grad_norm[0] < -470
    assert df.status[0] == "float64_underflow"


def test_it_looks_inside_and_leaves_all_as_it_was():
    def tagger(module, tokens, lengths):
        embedded = module.embed(tokens)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        return module.head(pad_packed_sequence(module.rnn(packed)[0], batch_first=True)[0])

    rnn = nn.LSTM(F, H, batch_first=True, num_layers=2, dropout=0.5)
    net = Made(tagger, embed=nn.Embedding(11, F), rnn=rnn, head=nn.Linear(H, 2))
    inputs = (torch.randint(11, (B, T)), torch.tensor([3, 7, 1]))
    state = torch.get_rng_state()
    before = profile(net.eval(), inputs, squares)
    df = over_time(net.train(), inputs, squares)
    assert torch.equal(state, torch.get_rng_state())
    assert profile(net.eval(), inputs, squares).equals(before)
    assert not net.rnn._forward_hooks
    assert df.groupby("level").time.count().tolist() == [T, T]
    assert set(df.name) == {"rnn"}


def test_a_module_without_recurrence_is_refused():
    with pytest.raises(ValueError, match="module = 'Linear'; allowed: one that calls an RNN, LSTM"):
        over_time(nn.Linear(2, 1), torch.ones(1, 2), squares)
