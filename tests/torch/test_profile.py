"""The frame of a module: its numbers are torch's, nothing is lost, and nothing is touched."""

import copy
import functools
import gc
import itertools
import math
import random
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from nets import CASES, DOUBLE, GPT, Made, cases, mlp, norm, plain, squares, true_norm
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.checkpoint import checkpoint

import study
from study.core.activations import TABLE
from study.records import tables as records
from study.torch import autograd, norms, profile, watch
from study.torch.parameters import activation_of

# --- The numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_norms_are_those_of_plain_gradients(name):
    module, inputs, loss = cases()[name]
    grads = plain(module, inputs, loss)
    df = profile(module, inputs, loss).set_index("name")
    assert list(df.index) == list(grads)
    largest = max(map(norm, grads.values()))
    for key, g in grads.items():
        # Biases under a normalisation have no gradient but rounding.
        expected = pytest.approx(norm(g), rel=1e-12, abs=1e-14 * largest)
        assert true_norm(df, key) == expected, key
        assert df.plain_grad_norm[key] == expected, key
        assert df.zero_share[key] == pytest.approx(float((g == 0).double().mean()), abs=1e-15)
        weight = norm(module.get_parameter(key).detach())
        assert 10 ** df.log10_weight_norm[key] == pytest.approx(weight, rel=1e-12)
    assert (df.plain_status == df.status).all()


def test_a_wrong_factor_would_be_seen():
    """The control: the comparison above notices one scaling by a factor of 1 + 1e-11."""
    module, inputs, loss = cases()["mlp"]
    df = profile(module, inputs, lambda output: (1 + 1e-11) * loss(output))
    expected = norm(plain(module, inputs, loss)["0.weight"])
    assert true_norm(df, 0) != pytest.approx(expected, rel=1e-12)


def chain(weights, row, dtype):
    """The study's own network, as a module."""
    phi = functools.partial(getattr(functional, row.torch), **dict(row.parameters))
    modules = []
    for W in weights:
        modules += [nn.Linear(*W.shape, bias=False, dtype=dtype), Made(lambda _, z: phi(z))]
        modules[-2].weight.data = torch.from_numpy(W.T).to(dtype)
    return nn.Sequential(*modules)


def both(name, weights, x, y, dtype=DOUBLE):
    own = study.backpropagate(
        weights, x, name, targets=y, kink=0.0, dtype=str(dtype).removeprefix("torch.")
    )
    target = torch.from_numpy(y).to(dtype)
    df = profile(
        chain(weights, TABLE[name], dtype),
        torch.from_numpy(x).to(dtype),
        lambda output: (output - target).square().sum() / (2 * len(y)),
    )
    return own, df


FUSED = [name for name, row in TABLE.items() if row.torch not in (None, "softsign")]


@pytest.mark.parametrize("name", FUSED)
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
    assert (df.uses == 1).all()


@pytest.mark.parametrize(
    ("phi", "name"),
    [
        (nn.ReLU6(), "relu6"), (nn.Hardtanh(-3, 3), None), (nn.LeakyReLU(0.3), "leaky_relu(0.3)"),
        (nn.LeakyReLU(0.3, inplace=True), "leaky_relu(0.3)"), (nn.PReLU(dtype=DOUBLE), None),
        (nn.ELU(2.0), "elu(2)"), (nn.ELU(1.0, inplace=True), "elu"), (nn.CELU(0.5), "celu(0.5)"),
        (nn.SELU(inplace=True), "selu"), (nn.GELU("tanh"), "gelu(tanh)"), (nn.Tanhshrink(), None),
        (nn.SiLU(inplace=True), "silu"), (nn.Softplus(beta=5), "softplus(5)"),
        (nn.Softmax(-1), None), (nn.Threshold(0.1, 0.0), None),
    ],
)  # fmt: skip
def test_the_activation_is_named_with_its_parameter_or_not_at_all(phi, name):
    z = torch.linspace(-4, 4, 50, dtype=DOUBLE, requires_grad=True)
    row = activation_of(phi(z * 1).grad_fn)
    assert (row and row.name) == name
    if row:
        values = phi.double()(z.detach().clone()).detach().numpy()
        np.testing.assert_allclose(row.phi(z.detach().numpy()), values, atol=1e-14)


def test_weights_as_torch_stores_them_are_noticed_by_the_study():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    x = np.ones((4, 6))
    stored = [net[0].weight, net[2].weight]
    with pytest.raises(ValueError, match=r"\(8, 6\).*PyTorch stores \(out, in\): give W.T"):
        study.backpropagate(stored, x)
    with pytest.warns(UserWarning, match=r"weights\[1\]: PyTorch stores \(out, in\); give W.T"):
        study.backpropagate([stored[0].T, stored[1]], x)
    biases = [net[0].bias, net[2].bias]
    df = study.backpropagate([W.T for W in stored], x, "tanh", biases, cotangent=np.ones((4, 8)))
    net(torch.ones(4, 6)).sum().backward()
    np.testing.assert_allclose(10**df.log10_grad_norm, [norm(W.grad) for W in stored], rtol=1e-5)
    for given in (net, net.state_dict()):
        with pytest.raises(ValueError, match=r"weights = .*; study\.torch\.profile takes modules"):
            study.backpropagate(given, x)
    with pytest.raises(ValueError, match=r"inputs = 'a masked array'; allowed: an array without"):
        study.backpropagate([W.T for W in stored], np.ma.masked_array(x))


# --- Beyond the formats -------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "depth"), [(DOUBLE, 700), (torch.float32, 1000)])
def test_a_vanishing_chain_is_measured_below_the_range_of_floats(dtype, depth):
    rng = np.random.default_rng(5)
    weights = [rng.normal(0, 8**-0.5, (8, 8)) for _ in range(depth)]
    own, df = both("sigmoid", weights, rng.normal(size=(2, 8)), rng.normal(size=(2, 8)), dtype)
    atol = 1e-9 if dtype == DOUBLE else 1e-2
    np.testing.assert_allclose(df.log10_grad_norm, own.log10_grad_norm, rtol=0, atol=atol)
    assert df.log10_grad_norm[0] < -400
    assert df.status.tolist() == own.status.tolist()
    assert df.status[0] == "float64_underflow"
    assert (df.plain_grad_norm[0], df.plain_status[0]) == (0, "underflow")
    assert df.plain_status.iloc[-1] == "ok"


def test_an_exploding_chain_is_measured_above_the_range_of_float64():
    # The signal stays in the first unit, the gradient grows by 4 a layer in the second.
    weights = [np.diag([2.0, 4.0])] * 600
    own, df = both("tanh", weights, np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(df.log10_grad_norm, own.log10_grad_norm, rtol=0, atol=1e-9)
    assert df.log10_grad_norm[0] > 350
    assert df.status[0] == own.status[0] == "float64_overflow"
    assert not math.isfinite(df.plain_grad_norm[0])
    assert df.plain_status[0] == "overflow"


def conditioned(module, x):
    """One signal goes into every layer, so the graph is nowhere narrow but at the loss."""
    c = module.condition(x)
    for layer in module.layers:
        x = torch.tanh(layer(x) * 2.0**-6 + c)
    return x


def half_precision():
    """name -> module, input, what a plain pass makes of the first parameter, how far off it is."""
    vanishing, x = mlp(torch.float16, depth=30, phi=nn.Sigmoid)
    shared, _ = mlp(torch.float16, depth=24, phi=nn.Sigmoid)
    shared[4] = shared[0]  # on either side of a narrow place
    torch.manual_seed(4)
    exploding = nn.Sequential(*[nn.Linear(12, 12, bias=False) for _ in range(12)]).half()
    with torch.no_grad():
        for layer in exploding:
            layer.weight *= 10
    linear = nn.Linear(8, 8)
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
    wide = Made(conditioned, condition=linear, layers=layers).half()
    return {
        "vanishing": (vanishing, x, "underflow", 0.03),
        "shared": (shared, x, "underflow", 0.03),
        "nowhere narrow": (wide, torch.randn(3, 8).half(), "underflow", 0.05),
        "exploding": (exploding, (x * 2.0**-20), "overflow", 0.05),
    }


@pytest.mark.parametrize("name", ["vanishing", "shared", "nowhere narrow", "exploding"])
def test_what_half_precision_loses_is_measured(name):
    """The same weights in float64 know its size."""
    torch.manual_seed(3)
    net, x, word, error = half_precision()[name]
    loss = torch.sum if name == "exploding" else squares
    df = profile(net, x, lambda output: loss(output.float())).set_index("name")
    lost = df[df.plain_status == word]
    assert len(lost) >= 1
    assert name == "nowhere narrow" or lost.index[0] == "0.weight"
    for key, g in plain(copy.deepcopy(net).double(), x.double(), loss).items():
        assert df.log10_grad_norm[key] == pytest.approx(math.log10(norm(g)), abs=error), key


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_in_half_precision_show_their_own_norm(dtype):
    net, x = mlp(dtype)
    df = profile(net, x, squares).set_index("name")
    for key, g in plain(net, x, squares).items():
        assert df.plain_grad_norm[key] == float(g.norm())
        assert df["dtype"][key] == str(dtype).removeprefix("torch.")
        assert true_norm(df, key) == norm(g)


def test_autocast_around_the_call_counts():
    net, x = mlp(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        df = profile(net, x, lambda output: squares(output.float()))
        cost = squares(net(x).float())
    cost.backward()
    full = profile(net, x, squares)
    for i, p in enumerate(net.parameters()):
        assert df.plain_grad_norm[i] == float(p.grad.norm())
        assert df.log10_grad_norm[i] == pytest.approx(math.log10(norm(p.grad)), abs=1e-12)
        assert df.grad_norm_mantissa[i] != full.grad_norm_mantissa[i]
    assert set(df.dtype) == {"float32"}


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e6])
def test_a_backward_pass_that_is_not_linear_is_noticed(limit):
    def clipped(module, x):
        x = module.net[:4](x)
        x.register_hook(lambda g: g.clamp(-limit, limit))
        return module.net[4:](x)

    net, x = mlp(torch.float32)
    module = Made(clipped, net=net)
    with pytest.warns(UserWarning, match="not linear"):
        df = profile(module, x, squares).set_index("name")
    squares(module(x)).backward()
    for key, p in module.named_parameters():
        assert true_norm(df, key) == pytest.approx(norm(p.grad), rel=1e-6)
    assert set(df.plain_status) == {"ok"}


# --- Shared, frozen, unused, dead ----------------------------------------------------------------


def test_a_tied_parameter_has_one_row_and_all_its_uses():
    module, tokens, loss = cases()["gpt"]
    df = profile(module, tokens, loss).set_index("name")
    assert "lm_head.weight" not in df.index
    assert df.shared_names["wte.weight"] == "lm_head.weight"
    assert df.uses["wte.weight"] == 2
    assert (df.uses.drop("wte.weight") == 1).all()
    apart = GPT(tied=False).double()
    apart.load_state_dict(module.state_dict())
    single = profile(apart, tokens, loss).set_index("name")
    grads = plain(apart, tokens, loss)
    together = norm(grads["wte.weight"] + grads["lm_head.weight"])
    assert 10 ** df.log10_grad_norm["wte.weight"] == pytest.approx(together, rel=1e-12)
    assert single.log10_grad_norm["wte.weight"] != df.log10_grad_norm["wte.weight"]
    assert df.layer["wte.weight"] == 0
    assert single.layer["lm_head.weight"] == single.layer.max()


def test_a_penalty_counts_as_a_use():
    net, x = mlp()
    df = profile(net, x, lambda out: squares(out) + net[0].weight.square().sum())
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
    df = profile(net, x, squares).set_index("name")
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
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    root = Made(lambda module, x: (module.a.abs().sqrt() * 0 + module.b) * x, a=a, b=b)
    df = profile(root, torch.ones(2), squares)
    assert df.status.tolist() == ["nan", "ok"]
    assert df.plain_status.tolist() == ["overflow", "ok"]


def test_attention_is_followed_where_it_calls_no_module():
    module, x, loss = cases()["encoder"]
    df = profile(module.eval(), x, loss).set_index("name")
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
        df = profile(net, tokens, squares)
        expected = plain(net, tokens, squares)["0.weight"].to_dense()
        assert 10 ** df.log10_grad_norm[0] == pytest.approx(norm(expected), rel=1e-6)
        assert df.zero_share[0] == 0.5

    w = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    wave = Made(lambda module, x: (module.w * x).abs(), w=w)
    df = profile(wave, torch.ones(3), squares)
    squares(wave(torch.ones(3))).backward()
    assert df.plain_grad_norm[0] == pytest.approx(float(wave.w.grad.abs().square().sum().sqrt()))
    assert df.status[0] == "ok"


def test_quantised_and_empty_parameters_have_a_row():
    def adapted(module, x):
        return torch.cat([module.prompt, x]) @ (module.base.float() + module.adapter)

    for dtype in (torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn):
        base = nn.Parameter(torch.ones(4, 4).to(dtype), requires_grad=False)
        adapter, prompt = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(0, 4))
        net = Made(adapted, base=base, adapter=adapter, prompt=prompt)
        df = profile(net, torch.ones(2, 4), squares)
        assert df.status.tolist() == ["frozen", "ok", "dead"]
        assert df.log10_weight_norm.isna().tolist() == [True, False, False]
        assert np.isnan(df.zero_share[2])


# --- Inputs and losses ---------------------------------------------------------------------------


class Anything(nn.Module):
    """Takes tensors, None, flags, dicts, lists and packed sequences."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)

    def forward(self, a, b=None, scale=1.0, flag=False):
        if isinstance(a, PackedSequence):
            a = a.data
        elif isinstance(a, dict):
            a = a["a"]
        elif isinstance(a, list):
            a = torch.stack(a)
        z = scale * self.lin(a)
        return {"sum": (z if b is None else z + b,), "flag": flag}


def test_inputs_are_whatever_the_module_takes():
    net, a, b = Anything(), torch.ones(2, 3), torch.arange(3)
    given = [
        (a, b), [a, b], {"b": b, "a": a}, ((a,), {"b": b, "flag": True}), ({"a": a}, b),
        ([a[0], a[1]], b), (a, b, 1.0, True), (pack_sequence([a]), b),
        a, (a, None), (pack_sequence([a]),), pack_sequence([a]),
    ]  # fmt: skip
    frames = [profile(net, x, lambda output: squares(output["sum"][0])) for x in given]
    for i, df in enumerate(frames):
        columns = df.columns.drop("log10_input_norm" if i < 8 else [])
        pd.testing.assert_frame_equal(df[columns], frames[0 if i < 8 else 8][columns])
    assert not a.requires_grad
    assert a.grad_fn is None


def test_a_loss_may_take_derivatives_by_the_inputs():
    net, x = mlp(width=3)

    def loss(output, x):
        (slope,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return squares(slope) + squares(output)

    df = profile(net, x, loss)
    x.requires_grad_(True)
    outside = profile(net, x, lambda output: loss(output, x))
    pd.testing.assert_frame_equal(outside, df)
    assert x.grad is None
    made = 1.0 * x
    with pytest.raises(RuntimeError) as raised:  # no leaf: the module is given a copy
        profile(net, made, lambda output: loss(output, made))
    assert "Derivatives by the inputs need loss(output, inputs)" in raised.value.__notes__[0]
    loss(net(x), x).backward()
    grads = [0.0 if p.grad is None else norm(p.grad) for p in net.parameters()]
    np.testing.assert_allclose(10**df.log10_grad_norm, grads, rtol=1e-12)


def test_checkpointed_blocks_are_recomputed_without_being_counted_twice():
    def saving(module, x):
        for m in module.net:
            x = checkpoint(m, x, use_reentrant=False)
        return x

    net, x = mlp()
    expected = profile(net, x, squares)
    df = profile(Made(saving, net=net), x, squares)
    columns = ["log10_grad_norm", "log10_output_norm", "uses", "layer", "status"]
    pd.testing.assert_frame_equal(df[columns], expected[columns])


# --- Everything as it was found ------------------------------------------------------------------


def state(module):
    """All that must not change, as bytes and identities."""
    held = [*module.state_dict(keep_vars=True).values(), *(p.grad for p in module.parameters())]
    tensors = [(id(x), None if x is None else x.detach().numpy().tobytes()) for x in held]
    tables = [t for m in module.modules() for t in (m._forward_hooks, m._forward_pre_hooks)]
    tables += [p._backward_hooks or () for p in module.parameters()]
    drawn = (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: NPY002
    return (
        tensors,
        [*map(len, tables)],
        drawn,
        [(m.training, sorted(vars(m))) for m in module.modules()],
    )


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
    profile(module, inputs, loss)
    assert state(module) == before
    assert torch.equal(inputs, given)
    assert inputs.grad is None


@pytest.mark.parametrize("kind", ["max_norm", "clamped"])
def test_a_forward_pass_that_writes_parameters_leaves_them_as_they_were(kind):
    class Clamped(nn.Linear):
        def forward(self, x):
            with torch.no_grad():
                self.weight.clamp_(-0.01, 0.01)
            return super().forward(x)

    torch.manual_seed(5)
    net = nn.Embedding(9, 4, max_norm=1.0) if kind == "max_norm" else Clamped(3, 1)
    x = torch.arange(9) if kind == "max_norm" else torch.ones(2, 3)
    before = net.weight.detach().clone()
    df = profile(net, x, squares)
    assert torch.equal(before, net.weight)
    assert 10 ** df.log10_weight_norm[0] == pytest.approx(norm(before), rel=1e-6)
    net(x)
    assert not torch.equal(before, net.weight)  # the control: it does write


def fails(*_):
    raise RuntimeError("of its own")


def fails_on_the_way_back(output):
    output.register_hook(fails)
    return squares(output)


@pytest.mark.parametrize(
    ("hook", "loss"), [(fails, squares), (print, fails), (print, fails_on_the_way_back)]
)
def test_nothing_is_changed_by_an_exception(hook, loss):
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    module[3].register_forward_hook(hook)
    x = torch.randn(3, 4)
    before = state(module)
    with pytest.raises(RuntimeError, match="of its own"):
        profile(module, x, loss)
    assert state(module) == before


def test_hooks_on_a_graph_that_lives_on_are_removed():
    w = nn.Parameter(torch.ones(3))
    outside = (w * 2).square().sum()
    net, x = mlp(torch.float32)
    profile(net, x, lambda output: squares(output) + outside)
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

    profile(net, x, loss)
    gc.collect()
    assert seen[0]() is None


def test_it_works_where_gradients_are_switched_off():
    net, x = mlp()
    expected = profile(net, x, squares)
    with torch.no_grad():
        pd.testing.assert_frame_equal(profile(net, x, squares), expected)
    with torch.inference_mode():
        pd.testing.assert_frame_equal(profile(net, x, squares), expected)


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

    def threaded(module, x):
        x = module.net[:6](x)
        # Operations are numbered thread by thread, so these come out as the earlier ones.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(module.net[6:], x).result()

    df = profile(Made(threaded, net=net), x, squares)
    expected = profile(net, x, squares)
    np.testing.assert_allclose(df.log10_grad_norm, expected.log10_grad_norm, rtol=0, atol=1e-12)


# --- The boundary --------------------------------------------------------------------------------


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    SCRIPTED = torch.jit.script(nn.Linear(4, 2))
    COMPILED = torch.compile(nn.Linear(4, 2), backend="eager")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": torch.relu}, "module = .*allowed: a torch.nn.Module"),
        ({"module": nn.ReLU()}, "module = ReLU.*allowed: .*at least one parameter"),
        ({"module": nn.LazyLinear(3)}, "module = .*lazy.*weight.*allowed"),
        ({"module": nn.Linear(4, 2, device="meta")}, "module = .*meta device: weight'; allowed"),
        (
            {"module": nn.Sequential(SCRIPTED)},
            "module = .*ScriptModule.*before torch.jit",
        ),
        ({"module": COMPILED}, "module = .*compiled.*before torch.compile"),
        ({"module": nn.Linear(4, 2).requires_grad_(False)}, "module = 'all frozen'; allowed: a pa"),
        (
            {"inputs": torch.full((2, 4), math.nan)},
            r"loss\(output\) = nan.*from inputs that are fin",
        ),
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
        profile(**{**given, **change})


def test_an_infinite_forward_pass_names_where_it_began():
    net, x = mlp(torch.float16, phi=nn.Identity)
    with torch.no_grad():
        net[2].weight.fill_(6e4)
    with pytest.raises(ValueError, match=r"finite number; the first .* is that of 2 \(Linear\)"):
        profile(net, x, squares)


def test_every_column_has_a_meaning_and_survives_its_csv():
    module, inputs, loss = cases()["gpt"]
    module.h[0].requires_grad_(False)
    df = profile(module, inputs, loss)
    assert list(df.columns) == list(study.torch.COLUMNS)
    df = df.fillna({"activation": "", "shared_names": ""})
    types = records.schema(df)
    assert len(records.data_dictionary({"parameters": types}, study.torch.COLUMNS)) == len(types)
    again = records.Table.of(df).frame()
    pd.testing.assert_frame_equal(again, df, check_dtype=False, check_exact=True)


@pytest.mark.parametrize("look", [profile, watch])
def test_sharded_modules_are_named(look):
    net = nn.Linear(4, 2)
    net.__class__ = type("FullyShardedDataParallel", (nn.Linear,), {})
    with pytest.raises(ValueError, match=r"module = .*sharded.*allowed: a module before"):
        look(net, torch.ones(1, 4), squares)


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
