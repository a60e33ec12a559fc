"""The bridge to PyTorch, on modules as a user would write them."""

import copy
import gc
import itertools
import math
import os
import random
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import study
from study.core.activations import activation as row_of
from study.records import tables as records

if os.environ.get("STUDY_WITNESSES") == "all":
    import torch
else:
    torch = pytest.importorskip("torch")
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from study.torch import autograd, norms

torch.set_num_threads(1)
bridge = study.torch
DOUBLE = torch.float64


def squares(output):
    return output.square().sum()


# --- Modules ------------------------------------------------------------------------------------


def mlp(dtype=DOUBLE, depth=4, width=12, phi=nn.Tanh):
    torch.manual_seed(1)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), phi())]
    return nn.Sequential(*layers).to(dtype), torch.randn(5, width).to(dtype)


class Residual(nn.Module):
    """A ResNet block with its in-place ReLUs."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        h = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu_(x + self.bn2(self.conv2(h)))


class ResNet(nn.Module):
    def __init__(self, blocks=2, channels=6):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(*[Residual(channels) for _ in range(blocks)])
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        return self.head(self.drop(self.blocks(self.stem(x)).mean((2, 3))))


class Attention(nn.Module):
    """Causal self-attention as nanoGPT has it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        parts = self.c_attn(x).split(c, dim=2)
        q, k, v = (p.view(b, t, self.heads, c // self.heads).transpose(1, 2) for p in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(b, t, c))


class GPTBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A small GPT with the embedding tied to the output, as nanoGPT has it."""

    def __init__(self, vocabulary=17, context=8, width=16, heads=2, layers=2, tied=True):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList([GPTBlock(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.wte.weight = self.lm_head.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def next_token(tokens):
    def loss(logits):
        logits = logits[:, :-1].flatten(0, 1).float() if logits.dtype != DOUBLE else (
            logits[:, :-1].flatten(0, 1))  # fmt: skip
        return functional.cross_entropy(logits, tokens[:, 1:].flatten())

    return loss


def cases():
    """name -> module, inputs, loss; all in float64."""
    torch.manual_seed(2)
    tokens = torch.randint(17, (3, 8))
    images, labels = torch.randn(4, 1, 8, 8, dtype=DOUBLE), torch.tensor([0, 1, 2, 1])

    def entropy(output):
        return functional.cross_entropy(output, labels)

    cnn = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(144, 3),
    )  # fmt: skip
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return {
        "mlp": (*mlp(), squares),
        "cnn": (cnn.double(), images, entropy),
        "resnet": (ResNet().double(), images, entropy),
        "encoder": (encoder.double(), torch.randn(2, 5, 8, dtype=DOUBLE), squares),
        "gpt": (GPT().double(), tokens, next_token(tokens)),
        "lstm": (
            nn.LSTM(4, 5, num_layers=2).double(),
            torch.randn(6, 2, 4, dtype=DOUBLE),
            lambda output: squares(output[0]),
        ),
    }


CASES = ["mlp", "cnn", "resnet", "encoder", "gpt", "lstm"]


def plain(module, inputs, loss):
    """{name: .grad} of a copy that shares nothing with the module, same dropout masks."""
    own = copy.deepcopy(module)
    own.zero_grad()
    with torch.random.fork_rng([]):
        loss(own(inputs.clone())).backward()
    return {name: p.grad for name, p in own.named_parameters()}


def norm(g):
    return float(torch.linalg.vector_norm(g.double()))


def true_norm(df, row):
    return math.ldexp(df.grad_norm_mantissa[row], int(df.grad_norm_exponent[row]))


# --- The numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_norms_are_those_of_plain_gradients(name):
    module, inputs, loss = cases()[name]
    expected = plain(module, inputs, loss)
    df = bridge.profile(module, inputs, loss).set_index("name")
    assert list(df.index) == list(expected)
    largest = max(map(norm, expected.values()))
    for own, g in expected.items():
        found = true_norm(df, own)
        # Biases under a normalisation have no gradient but rounding.
        assert found == pytest.approx(norm(g), rel=1e-12, abs=1e-14 * largest), own
        assert df.plain_grad_norm[own] == pytest.approx(norm(g), rel=1e-12, abs=1e-14 * largest)
        assert df.zero_share[own] == pytest.approx(float((g == 0).double().mean()), abs=1e-15)
        assert (
            df.log10_weight_norm[own]
            == pytest.approx(
                np.log10(norm(module.get_parameter(own).detach()) or np.nan), nan_ok=True
            )
            or norm(module.get_parameter(own).detach()) == 0
        )
    assert (df.plain_status == df.status).all()


def test_a_wrong_factor_would_be_seen():
    """The control: the comparison above notices one scaling by a factor of 1 + 1e-11."""
    module, inputs, loss = cases()["mlp"]
    expected = norm(plain(module, inputs, loss)["0.weight"])
    df = bridge.profile(module, inputs, lambda output: (1 + 1e-11) * squares(output))
    found = true_norm(df, 0)
    assert found != pytest.approx(expected, rel=1e-12)


PHIS = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "elu": functional.elu,
    "leaky_relu": functional.leaky_relu, "selu": functional.selu, "gelu": functional.gelu,
    "silu": functional.silu, "softplus": functional.softplus, "hard_tanh": functional.hardtanh,
}  # fmt: skip


class Chain(nn.Module):
    """The study's own network, as a module."""

    def __init__(self, weights, phi, dtype=DOUBLE):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*W.shape, bias=False, dtype=dtype) for W in weights)
        self.phi = phi
        with torch.no_grad():
            for layer, W in zip(self.layers, weights, strict=True):
                layer.weight.copy_(torch.from_numpy(W.T))

    def forward(self, r):
        for layer in self.layers:
            r = self.phi(layer(r))
        return r


def both(name, weights, x, y, dtype=DOUBLE):
    own = study.backpropagate(
        weights, x, name, targets=y, kink=0.0, dtype=str(dtype).removeprefix("torch.")
    )
    target = torch.from_numpy(y).to(dtype)
    df = bridge.profile(
        Chain(weights, PHIS[name], dtype),
        torch.from_numpy(x).to(dtype),
        lambda output: (output - target).square().sum() / (2 * len(y)),
    )
    return own, df


@pytest.mark.parametrize("name", PHIS)
def test_a_chain_has_the_frame_of_the_study(name):
    rng = np.random.default_rng(4)
    widths = [7, 9, 9, 9, 5]
    weights = [rng.normal(0, 1.5 / a**0.5, (a, b)) for a, b in itertools.pairwise(widths)]
    own, df = both(name, weights, rng.normal(size=(6, 7)), rng.normal(size=(6, 5)))
    for column in ("layer", "status", "active_fraction"):
        assert df[column].tolist() == own[column].tolist(), column
    for column in (
        "log10_grad_norm", "log10_delta_norm", "log10_weight_norm", "log10_derivative_factor",
        "log10_weight_factor",
    ):  # fmt: skip
        np.testing.assert_allclose(df[column], own[column], rtol=0, atol=1e-12, err_msg=column)
    np.testing.assert_allclose(df.log10_input_norm[1:], own.log10_signal_norm[:-1], atol=1e-12)
    assert set(df.activation) == {name}
    assert row_of(name).max_slope > 0
    assert (df.uses == 1).all()


def test_a_vanishing_chain_is_measured_below_the_range_of_float64():
    rng = np.random.default_rng(5)
    weights = [rng.normal(0, 8**-0.5, (8, 8)) for _ in range(700)]
    own, df = both("sigmoid", weights, rng.normal(size=(2, 8)), rng.normal(size=(2, 8)))
    np.testing.assert_allclose(df.log10_grad_norm, own.log10_grad_norm, rtol=0, atol=1e-9)
    assert df.log10_grad_norm[0] < -400
    assert df.status.tolist() == own.status.tolist()
    assert df.plain_grad_norm[0] == 0
    assert df.plain_status[0] == "underflow"


def test_an_exploding_chain_is_measured_above_the_range_of_float64():
    # The signal stays in the first unit, the gradient grows by 4 a layer in the second.
    weights = [np.diag([2.0, 4.0])] * 600
    own, df = both("tanh", weights, np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(df.log10_grad_norm, own.log10_grad_norm, rtol=0, atol=1e-9)
    assert df.log10_grad_norm[0] > 350
    assert df.status[0] == own.status[0] == "float64_overflow"
    assert not math.isfinite(df.plain_grad_norm[0])
    assert df.plain_status[0] == "overflow"


def test_sigmoid_in_single_precision_goes_on_where_the_plain_gradient_is_zero():
    rng = np.random.default_rng(6)
    weights = [rng.normal(0, 16**-0.5, (16, 16)).astype("f4") for _ in range(1000)]
    x, y = rng.normal(size=(3, 16)).astype("f4"), rng.normal(size=(3, 16)).astype("f4")
    own, df = both("sigmoid", weights, x, y, torch.float32)
    np.testing.assert_allclose(df.log10_grad_norm, own.log10_grad_norm, atol=1e-2)
    assert df.log10_grad_norm[0] < -600
    assert df.status.tolist() == own.status.tolist()
    assert df.status[0] == "float64_underflow"
    assert df.plain_grad_norm[0] == 0
    assert df.plain_status[0] == "underflow"
    assert df.plain_status.iloc[-1] == "ok"


# --- Half precision: what the total norm hides ---------------------------------------------------


def test_a_vanished_layer_that_the_total_norm_hides_is_found():
    net, x = mlp(torch.float16, depth=30, phi=nn.Sigmoid)
    df = bridge.profile(net, x, lambda output: output.float().square().sum())
    squares(net(x).float()).backward()
    total = float(nn.utils.clip_grad_norm_(net.parameters(), 1e9))
    assert math.isfinite(total)
    assert total > 1e-2
    first = df.iloc[0]
    assert first.plain_grad_norm == float(net[0].weight.grad.norm()) == 0
    assert (first.plain_status, first.status, first.zero_share) == ("underflow", "ok", 1.0)
    # The same weights in float64 know the size of what has been lost.
    exact = copy.deepcopy(net).double()
    exact.zero_grad()
    squares(exact(x.double())).backward()
    for name, p in exact.named_parameters():
        found = df.log10_grad_norm[df.name == name].item()
        assert found == pytest.approx(math.log10(norm(p.grad)), abs=0.03), name
    assert (df.plain_status.iloc[-6:] == "ok").all()


class Conditioned(nn.Module):
    """One signal goes into every layer, so the graph is nowhere narrow but at the loss."""

    def __init__(self, layers, width, gain):
        super().__init__()
        self.condition = nn.Linear(width, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.gain = gain

    def forward(self, x):
        c = self.condition(x)
        for layer in self.layers:
            x = torch.tanh(layer(x) * self.gain + c)
        return x


def test_where_the_graph_is_nowhere_narrow_the_loss_is_scaled():
    torch.manual_seed(3)
    net = Conditioned(4, 8, 2.0**-6).half()
    x = torch.randn(3, 8).half()
    df = bridge.profile(net, x, squares).set_index("name")
    exact = plain(copy.deepcopy(net).double(), x.double(), squares)
    lost = df[df.plain_status == "underflow"]
    assert "layers.0.weight" in lost.index
    for name, g in exact.items():
        assert df.log10_grad_norm[name] == pytest.approx(math.log10(norm(g)), abs=0.05), name


def test_an_overflow_is_told_from_a_number():
    torch.manual_seed(4)
    net = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(12)]).half()
    with torch.no_grad():
        for layer in net:
            layer.weight *= 10
    x = (torch.randn(4, 16) * 2.0**-20).half()
    df = bridge.profile(net, x, lambda output: output.float().sum())
    exact = plain(copy.deepcopy(net).double(), x.double(), torch.sum)
    assert df.plain_status[0] == "overflow"
    assert not math.isfinite(df.plain_grad_norm[0])
    for name, g in exact.items():
        found = df.log10_grad_norm[df.name == name].item()
        assert found == pytest.approx(math.log10(norm(g)), abs=0.05), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_in_half_precision_show_their_own_norm(dtype):
    net, x = mlp(dtype)
    df = bridge.profile(net, x, squares)
    for name, g in plain(net, x, squares).items():
        row = df[df.name == name].iloc[0]
        assert row.plain_grad_norm == float(g.norm())
        assert row["dtype"] == str(dtype).removeprefix("torch.")
        assert math.ldexp(row.grad_norm_mantissa, int(row.grad_norm_exponent)) == norm(g)


def test_autocast_around_the_call_counts():
    net, x = mlp(torch.float32)

    def run(module, inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return squares(module(inputs).float())

    with torch.autocast("cpu", torch.bfloat16):
        df = bridge.profile(net, x, lambda output: squares(output.float()))
    run(net, x).backward()
    full = bridge.profile(net, x, squares)
    for i, p in enumerate(net.parameters()):
        assert df.plain_grad_norm[i] == float(p.grad.norm())
        assert df.log10_grad_norm[i] == pytest.approx(math.log10(norm(p.grad)), abs=1e-12)
        assert df.grad_norm_mantissa[i] != full.grad_norm_mantissa[i]
    assert set(df.dtype) == {"float32"}


# --- Shared, frozen, unused, dead ----------------------------------------------------------------


def test_a_tied_parameter_has_one_row_and_all_its_uses():
    module, tokens, loss = cases()["gpt"]
    df = bridge.profile(module, tokens, loss).set_index("name")
    assert "lm_head.weight" not in df.index
    assert df.shared_names["wte.weight"] == "lm_head.weight"
    assert df.uses["wte.weight"] == 2
    assert (df.uses.drop("wte.weight") == 1).all()
    apart = GPT(tied=False).double()
    apart.load_state_dict(module.state_dict())
    single = bridge.profile(apart, tokens, loss).set_index("name")
    grads = plain(apart, tokens, loss)
    together = norm(grads["wte.weight"] + grads["lm_head.weight"])
    assert 10 ** df.log10_grad_norm["wte.weight"] == pytest.approx(together, rel=1e-12)
    assert single.log10_grad_norm["wte.weight"] != df.log10_grad_norm["wte.weight"]
    assert df.layer["wte.weight"] == 0
    assert single.layer["lm_head.weight"] == single.layer.max()


def test_a_shared_layer_that_has_vanished_is_summed_at_its_true_size():
    net, x = mlp(torch.float16, depth=24, phi=nn.Sigmoid)
    net[4] = net[0]  # used in the first and in the third layer, on either side of a narrow place
    df = bridge.profile(net, x, squares).set_index("name")
    exact = plain(copy.deepcopy(net).double(), x.double(), squares)["0.weight"]
    assert df.uses["0.weight"] == 2
    assert df.shared_names["0.weight"] == "4.weight"
    assert df.plain_grad_norm["0.weight"] == 0
    assert df.log10_grad_norm["0.weight"] == pytest.approx(math.log10(norm(exact)), abs=0.03)


def test_a_penalty_counts_as_a_use():
    net, x = mlp()
    df = bridge.profile(net, x, lambda out: squares(out) + net[0].weight.square().sum())
    assert df.uses.tolist() == [2, 1] + [1] * 6
    expected = plain(net, x, squares)["0.weight"] + 2 * net[0].weight
    assert 10 ** df.log10_grad_norm[0] == pytest.approx(norm(expected.detach()), rel=1e-12)


def test_frozen_unused_and_dead_are_three_things():
    net, x = mlp(phi=nn.ReLU)
    net[0].requires_grad_(False)
    net.spare = nn.Linear(3, 3)
    net.spare.forward = lambda r: r
    with torch.no_grad():
        net[4].bias.fill_(-1e3)
    df = bridge.profile(net, x, squares).set_index("name")
    assert df.status["0.weight"] == df.plain_status["0.weight"] == "frozen"
    assert df.status["spare.weight"] == df.plain_status["spare.weight"] == "unused"
    assert df.status["4.weight"] == df.plain_status["4.weight"] == "dead"
    assert df.status["6.bias"] == "ok"
    assert (df.layer["0.weight"], df.layer["6.bias"], df.layer["spare.bias"]) == (0, 3, -1)
    assert df.uses[["0.weight", "spare.weight", "4.weight"]].tolist() == [0, 0, 1]
    assert np.isnan(df.log10_grad_norm["0.weight"])
    assert np.isnan(df.plain_grad_norm["spare.bias"])
    assert df.log10_grad_norm["4.weight"] == -np.inf
    assert df.active_fraction["4.weight"] == 0
    assert not df.requires_grad["0.bias"]


def test_a_gradient_that_is_no_number_is_called_nan():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))

        def forward(self, x):
            return (self.a.abs().sqrt() * 0 + self.b) * x

    df = bridge.profile(Root(), torch.ones(2), squares)
    assert df.status.tolist() == ["nan", "ok"]
    assert df.plain_status.tolist() == ["overflow", "ok"]


def test_attention_is_followed_where_it_calls_no_module():
    module, x, loss = cases()["encoder"]
    df = bridge.profile(module.eval(), x, loss).set_index("name")
    assert df.module["self_attn.out_proj.weight"] == "NonDynamicallyQuantizableLinear"
    assert np.isfinite(df.log10_delta_norm).all()
    order = df.layer[[
        "self_attn.in_proj_weight", "self_attn.out_proj.weight", "norm1.weight", "linear1.weight",
        "linear2.weight", "norm2.weight",
    ]]  # fmt: skip
    assert order.tolist() == [0, 1, 2, 3, 4, 5]
    assert df.activation["linear1.weight"] == "relu"
    assert pd.isna(df.activation["linear2.weight"])
    assert np.isnan(df.log10_weight_factor["self_attn.in_proj_weight"])  # the skip takes it too


def test_sparse_gradients_and_complex_parameters():
    torch.manual_seed(5)
    tokens = torch.tensor([[1, 1, 3], [0, 3, 3]])
    for sparse in (True, False):
        net = nn.Sequential(nn.Embedding(6, 4, sparse=sparse), nn.Linear(4, 2))
        torch.manual_seed(6)
        nn.init.normal_(net[0].weight)
        df = bridge.profile(net, tokens, squares)
        expected = plain(net, tokens, squares)["0.weight"].to_dense()
        assert 10 ** df.log10_grad_norm[0] == pytest.approx(norm(expected), rel=1e-6)
        assert df.zero_share[0] == 0.5

    class Wave(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, dtype=torch.complex64))

        def forward(self, x):
            return (self.w * x).abs()

    wave = Wave()
    df = bridge.profile(wave, torch.ones(3), squares)
    squares(wave(torch.ones(3))).backward()
    assert df.plain_grad_norm[0] == pytest.approx(float(wave.w.grad.abs().square().sum().sqrt()))
    assert df.status[0] == "ok"


def test_inputs_in_every_form():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, 3)

        def forward(self, a, b):
            return {"sum": (self.lin(a) + b,), "other": None}

    net, a, b = Two(), torch.ones(2, 3), torch.arange(3)

    def loss(output):
        return squares(output["sum"][0])

    frames = [bridge.profile(net, given, loss) for given in ((a, b), [a, b], {"b": b, "a": a})]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])
    assert a.grad_fn is None
    assert not a.requires_grad


def test_checkpointed_blocks_are_recomputed_without_being_counted_twice():
    class Saving(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            for m in self.net:
                x = checkpoint(m, x, use_reentrant=False)
            return x

    net, x = mlp()
    expected = bridge.profile(net, x, squares)
    df = bridge.profile(Saving(net), x, squares)
    columns = ["log10_grad_norm", "log10_output_norm", "uses", "layer", "status"]
    pd.testing.assert_frame_equal(df[columns], expected[columns])


# --- Everything as it was found ------------------------------------------------------------------


def state(module):
    """All that must not change, as bytes and identities."""
    kept = {k: (id(v), v.clone(), v._version) for k, v in module.state_dict(keep_vars=True).items()}
    grads = [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in module.parameters()]
    hooks = [
        len(h)
        for m in module.modules()
        for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    ]
    hooks += [len(p._backward_hooks or ()) for p in module.parameters()]
    drawn = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())  # noqa: NPY002
    return kept, grads, hooks, drawn, [(m.training, sorted(vars(m))) for m in module.modules()]


def assert_same(before, after):
    for key, (own, value, version) in before[0].items():
        assert own == after[0][key][0], key
        assert torch.equal(value, after[0][key][1]), key
        assert value.requires_grad or value.dtype == torch.int64 or version <= after[0][key][2]
    for (own, value), (new, other) in zip(before[1], after[1], strict=True):
        assert own == new
        assert value is None or torch.equal(value, other)
    assert before[2] == after[2]
    assert torch.equal(before[3][0], after[3][0])
    assert before[3][1:] == after[3][1:]
    assert before[4] == after[4]


class Restless(nn.Module):
    """Draws from every generator, counts in a buffer, and replaces another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("seen", torch.full((2,), float("nan")))
        self.register_buffer("late", None)

    def forward(self, x):
        self.seen[0] = random.random() + np.random.random()  # noqa: NPY002
        self.late = torch.rand(3)
        return self.inner(x)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_changed(name):
    module, inputs, loss = cases()[name]
    module = module if name == "gpt" else Restless(module)
    for i, p in enumerate(module.parameters()):
        p.grad = None if i % 3 == 0 else torch.randn_like(p)
    parts = list(module.modules())
    parts[-1].eval()
    parts[0].register_forward_hook(lambda *_: None)
    given = inputs.clone()
    before = state(module)
    bridge.profile(module, inputs, loss)
    after = state(module)
    seen = before[0].pop("seen", None), after[0].pop("seen", None)
    assert seen[0] is None or torch.isnan(seen[1][1]).all()
    assert_same(before, after)
    assert torch.equal(inputs, given)
    assert inputs.grad is None


def test_the_next_training_step_is_the_same_bit_for_bit():
    results = []
    for look in (False, True):
        torch.manual_seed(7)
        module, images, loss = cases()["resnet"]
        optimizer = torch.optim.Adam(module.parameters())
        for _ in range(3):
            if look:
                bridge.profile(module, images, loss)
            optimizer.zero_grad()
            loss(module(images)).backward()
            optimizer.step()
        results.append(module.state_dict())
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key]), key


class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("on the way back")


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on the way there")


class FailsLater(nn.Module):
    def forward(self, x):
        return Broken.apply(x)


def fails(_):
    raise RuntimeError("at the loss")


@pytest.mark.parametrize(
    ("last", "loss", "where"),
    [(Fails(), squares, "there"), (FailsLater(), squares, "back"), (nn.Identity(), fails, "loss")],
)
def test_nothing_is_changed_by_an_exception(last, loss, where):
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2), last)
    before = state(module)
    with pytest.raises(RuntimeError, match=where):
        bridge.profile(module, torch.randn(3, 4), loss)
    torch.set_rng_state(before[3][0])  # the inputs of this test were drawn in between
    assert_same(before, state(module))


def test_hooks_on_a_graph_that_lives_on_are_removed():
    w = nn.Parameter(torch.ones(3))
    outside = (w * 2).square().sum()
    net, x = mlp(torch.float32)
    bridge.profile(net, x, lambda output: squares(output) + outside)
    calls = []
    outside.grad_fn.register_prehook(lambda grads: calls.append(grads))
    outside.backward()
    assert w.grad.tolist() == [8, 8, 8]
    assert len(calls) == 1


def test_the_graph_is_let_go():
    net, x = mlp()
    seen = []

    def loss(output):
        seen.append(weakref.ref(output))
        return squares(output)

    bridge.profile(net, x, loss)
    gc.collect()
    assert seen[0]() is None


def test_it_works_where_gradients_are_switched_off():
    net, x = mlp()
    expected = bridge.profile(net, x, squares)
    with torch.no_grad():
        pd.testing.assert_frame_equal(bridge.profile(net, x, squares), expected)
    with torch.inference_mode():
        pd.testing.assert_frame_equal(bridge.profile(net, x, squares), expected)


# --- The graph -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_no_square_leaves_the_range(size):
    x = size * torch.linspace(-1, 2, 50, dtype=DOUBLE).reshape(5, 10)
    length, e = norms.norm(x)
    exact = sum(Fraction(v) ** 2 for v in x.flatten().tolist())
    assert float(Fraction(length) ** 2 * Fraction(4) ** e / exact) == pytest.approx(1, rel=1e-15)
    assert norms.norm(x.to(torch.complex128) * (1 + 1j))[0] == pytest.approx(2**0.5 * length)
    assert norms.norm(x * 0) == (0, 0)
    assert norms.norm(x[:0]) == (0, 0)
    x[0, 0] = math.nan
    assert math.isnan(norms.norm(x)[0])


def narrow_places(root):
    return sum(autograd.Graph(root).narrow)


def test_narrow_places_are_where_all_of_the_gradient_passes():
    w = torch.ones(2, requires_grad=True)
    x = w * 1
    assert narrow_places((x * 2).exp().sum()) == 4  # sum, exp, and the two products
    skip = x * 2
    assert narrow_places((skip + skip.exp()).sum()) == 4  # sum, add, and the two products
    assert narrow_places((skip.sin() + x).sum()) == 3  # sum, add, and the first product
    # A parameter, unlike a signal, may be taken on both sides: its uses are added at their size.
    assert narrow_places(((x * w).exp() * w).sum()) == 5


def test_a_graph_built_by_several_threads_is_measured_as_a_whole():
    net, x = mlp(depth=6)

    class Threaded(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            x = self.net[:6](x)
            # Operations are numbered thread by thread, so these come out as the earlier ones.
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(self.net[6:], x).result()

    df = bridge.profile(Threaded(), x, squares)
    expected = bridge.profile(net, x, squares)
    np.testing.assert_allclose(df.log10_grad_norm, expected.log10_grad_norm, rtol=0, atol=1e-12)


# --- The boundary --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": torch.relu}, "module = .*allowed: a torch.nn.Module"),
        ({"module": nn.ReLU()}, "module = ReLU.*allowed: .*at least one parameter"),
        ({"module": nn.LazyLinear(3)}, "module = .*lazy.*weight.*allowed"),
        ({"inputs": 3.0}, "inputs = 3.0; allowed: a tensor, or a tuple or dict"),
        ({"inputs": ()}, r"inputs = \(\); allowed"),
        ({"inputs": (torch.ones(2, 4), 3)}, r"inputs\[1\] = 3; allowed: a tensor"),
        ({"inputs": {"x": None}}, r"inputs\['x'\] = None; allowed: a tensor"),
        ({"loss": "mse"}, "loss = 'mse'; allowed: a callable"),
        ({"loss": lambda output: output}, r"loss\(output\) = 'a tensor of shape \(2, 2\)'; allow"),
        ({"loss": lambda output: 3.0}, r"loss\(output\) = 3.0; allowed: a real scalar tensor"),
        ({"loss": lambda output: output.detach().sum()}, r"loss\(output\) = .*not detached"),
        ({"loss": lambda output: output.sum() / 0}, r"loss\(output\) = .*inf.*; allowed: a finite"),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_allowed(change, words):
    given = {"module": nn.Linear(4, 2), "inputs": torch.ones(2, 4), "loss": torch.Tensor.sum}
    given["loss"] = lambda output: output.sum()
    with pytest.raises(ValueError, match=words):
        bridge.profile(**{**given, **change})


def test_an_infinite_forward_pass_names_where_it_began():
    net, x = mlp(torch.float16, phi=nn.Identity)
    with torch.no_grad():
        net[2].weight.fill_(6e4)
    with pytest.raises(ValueError, match=r"finite number; the first .* is that of 2 \(Linear\)"):
        bridge.profile(net, x, squares)


def test_every_column_has_a_meaning_and_survives_its_csv():
    module, inputs, loss = cases()["gpt"]
    module.h[0].requires_grad_(False)
    df = bridge.profile(module, inputs, loss)
    assert list(df.columns) == list(bridge.COLUMNS)
    types = records.schema(df)
    assert len(records.data_dictionary({"parameters": types}, bridge.COLUMNS)) == len(df.columns)
    again = records.decode(records.encode(df), types)
    pd.testing.assert_frame_equal(again, df, check_dtype=False, check_exact=True)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_library_does_not_import_torch():
    code = "import study, sys; study.profile; study.backpropagate; print('torch' in sys.modules)"
    assert run_python(code).stdout.strip() == "False"


def test_without_torch_the_error_says_what_installs_it():
    for use in ("import study.torch", "study.torch.profile"):
        shown = run_python(f"import sys; sys.modules['torch'] = None; import study; {use}").stderr
        assert "ImportError: study.torch needs torch; it is installed by: pip install" in shown
        assert 'pip install torch, in a checkout: pip install ".[torch]"' in shown


# --- Along with training -------------------------------------------------------------------------


def text(size=64):
    torch.manual_seed(8)
    start = torch.randint(17, (size, 1))
    return (start + 3 * torch.arange(8)) % 17  # a language that can be learnt


def test_a_gpt_is_watched_as_it_learns():
    tokens = text()
    torch.manual_seed(9)
    module = GPT()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    hooks, kept, losses = len(optimizer._optimizer_step_pre_hooks), [], []
    with bridge.watch(module, optimizer) as watched:
        for _ in range(60):
            optimizer.zero_grad()
            loss = next_token(tokens)(module(tokens))
            loss.backward()
            kept.append([(norm(p.grad), norm(p.detach())) for p in module.parameters()])
            nn.utils.clip_grad_norm_(module.parameters(), 1e9)
            optimizer.step()
            losses.append(loss.item())
    assert len(optimizer._optimizer_step_pre_hooks) == hooks
    assert losses[-1] < 0.5 * losses[0]
    df = watched.frame()
    names = [name for name, _ in module.named_parameters()]
    assert df.name.tolist() == names * 60
    assert df.step.tolist() == np.repeat(range(60), len(names)).tolist()
    expected = np.array(kept).reshape(-1, 2)
    found = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(10**df.log10_weight_norm, expected[:, 1], rtol=1e-6)
    np.testing.assert_allclose(df.plain_grad_norm, expected[:, 0], rtol=1e-6)
    assert set(df.status) == {"ok"}
    last = bridge.profile(module, tokens, next_token(tokens))
    assert last.name.tolist() == names


def test_watching_changes_no_bit_of_a_training_run():
    results = []
    for look in (False, True):
        torch.manual_seed(10)
        module, images, loss = cases()["resnet"]
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        watched = bridge.watch(module, optimizer if look else None)
        for _ in range(4):
            optimizer.zero_grad()
            loss(module(images)).backward()
            optimizer.step()
        watched.close()
        watched.close()
        assert watched.steps == (4 if look else 0)
        results.append((module.state_dict(), torch.get_rng_state()))
    assert torch.equal(results[0][1], results[1][1])
    for key, value in results[0][0].items():
        assert torch.equal(value, results[1][0][key]), key


@pytest.mark.parametrize("keep", [1, 2, 7, 50])
def test_memory_is_bounded_and_the_whole_run_is_covered(keep):
    layer = nn.Linear(1, 1, bias=False)
    watched = bridge.watch(layer, keep=keep)
    for step in range(1000):
        layer.weight.grad = torch.full((1, 1), float(step + 1))
        watched.step()
        assert len(watched._spread) <= keep
        assert len(watched._recent) <= keep
    df = watched.frame()
    assert len(df) <= 2 * keep
    assert df.step.is_monotonic_increasing
    assert df.step.is_unique
    assert df.step[0] == 0
    assert df.step.tolist()[-keep:] == list(range(1000 - keep, 1000))
    gaps = np.diff(df.step[: len(df) - keep])
    assert len(set(gaps.tolist())) <= 1
    assert len(df) >= 1.5 * keep
    np.testing.assert_array_equal(
        np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent), df.step + 1
    )


def test_what_watch_says_of_each_gradient():
    names = ["tiny", "zero", "inf", "nan", "frozen", "none", "small", "short", "large"]
    net = nn.ParameterDict({
        name: nn.Parameter(torch.ones(4, dtype=torch.float16 if name == "short" else DOUBLE))
        for name in names
    })  # fmt: skip
    values = {"tiny": 1e-200, "zero": 0.0, "inf": math.inf, "nan": math.nan, "small": 1e-40}
    values |= {"short": 4e4, "large": 1e200}
    for name, value in values.items():
        net[name].grad = torch.full_like(net[name], value)
    net["frozen"].requires_grad_(False)
    watched = bridge.watch(net)
    watched.step()
    df = watched.frame().set_index("name")
    assert df.status[names].tolist() == [
        "float32_underflow", "zero", "overflow", "nan", "frozen", "none", "float32_underflow", "ok",
        "float32_overflow",
    ]  # fmt: skip
    assert df.log10_grad_norm["tiny"] == pytest.approx(-200 + math.log10(2), abs=1e-12)
    assert df.log10_grad_norm["large"] == pytest.approx(200 + math.log10(2), abs=1e-12)
    assert df.plain_grad_norm["short"] == math.inf  # 8e4 in half precision
    assert df.log10_grad_norm["short"] == pytest.approx(math.log10(norm(net["short"].grad)))
    assert df.log10_grad_norm["zero"] == -math.inf
    assert list(bridge.WATCH_COLUMNS) == ["step", "name", *df.columns[1:]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE])
@pytest.mark.parametrize("size", [1e-4, 1e-25, 1e-38, 1.0, 1e25])
def test_watch_has_the_norm_of_gradients_of_any_size(dtype, size, monkeypatch):
    monkeypatch.setattr(norms, "PIECE", 1000)
    torch.manual_seed(11)
    net = nn.ParameterList([nn.Parameter(torch.ones(n, dtype=dtype)) for n in (3, 2999, 1000)])
    for p in net:
        p.grad = (size * torch.randn(p.shape, dtype=DOUBLE)).to(dtype)
    watched = bridge.watch(net)
    watched.step()
    df = watched.frame()
    for i, p in enumerate(net):
        assert true_norm(df, i) == pytest.approx(norm(p.grad), rel=1e-5, abs=0)


def test_the_loss_scale_is_taken_out():
    layer = nn.Linear(3, 1, bias=False)
    watched = bridge.watch(layer)
    (1024 * layer(torch.ones(3)).sum()).backward()
    watched.step(scale=1024.0)
    df = watched.frame()
    assert true_norm(df, 0) == pytest.approx(3**0.5)
    assert df.plain_grad_norm[0] == pytest.approx(1024 * 3**0.5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_is_understood(fused):
    layer = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    with bridge.watch(layer, optimizer) as watched:
        scaler.scale(layer(torch.ones(3)).sum()).backward()
        scaler.step(optimizer)
    assert 10 ** watched.frame().log10_grad_norm[0] == pytest.approx(3**0.5)


def test_sparse_gradients_are_watched():
    layer = nn.Embedding(5, 2, sparse=True)
    layer(torch.tensor([1, 1, 2])).sum().backward()
    watched = bridge.watch(layer)
    watched.step()
    assert 10 ** watched.frame().log10_grad_norm[0] == pytest.approx(10**0.5)


def test_an_empty_watch_has_an_empty_frame():
    assert len(bridge.watch(nn.Linear(2, 2)).frame()) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": nn.ReLU()}, "module = .*at least one parameter"),
        ({"optimizer": "adam"}, "optimizer = 'adam'; allowed: a torch.optim.Optimizer"),
        ({"keep": 0}, "keep = 0; allowed: an integer >= 1"),
    ],
)
def test_errors_of_watch(change, words):
    with pytest.raises(ValueError, match=words):
        bridge.watch(**{"module": nn.Linear(1, 1), **change})


def test_the_scale_is_checked():
    with pytest.raises(ValueError, match=r"scale = 0; allowed: a finite number above 0"):
        bridge.watch(nn.Linear(1, 1)).step(scale=0)
