"""Transformer blocks against torch's modules on shared weights, and against balls of many bits."""

from itertools import chain

import numpy as np
import pytest
from flint import arb
from numpy.testing import assert_allclose
from witness_arb import bits

from study.core.backprop import backward, forward, weight_gradient
from study.engines.attention import Attention, Mix
from study.engines.transformer import MetNorm, Transformer, Weights, gradient_norms, met
from study.sampling import gaussian

torch = pytest.importorskip("torch")
bridge = pytest.importorskip("study.torch")
TOKENS, WIDTH = 5, 12


def module(blocks, heads, norm, activation):
    """torch's encoder without biases and epsilon, in float64, its gains random, too."""
    torch.manual_seed(blocks)
    layer = torch.nn.TransformerEncoderLayer(
        *(WIDTH, heads, 4 * WIDTH),
        **{"dropout": 0.0, "layer_norm_eps": 0.0, "bias": False, "dtype": torch.double},
        **{"activation": activation, "batch_first": True, "norm_first": norm == "pre"},
    )
    end = torch.nn.LayerNorm(WIDTH, 0.0, bias=False, dtype=torch.double) if norm == "pre" else None
    encoder = torch.nn.TransformerEncoder(layer, blocks, end, enable_nested_tensor=False)
    for p in encoder.parameters():
        torch.nn.init.normal_(p, 1.0 if p.ndim == 1 else 0.0, 0.3)
    return encoder


def weights_of(layer):
    """In the study's order, (in, out); a network alone."""
    matrices = (
        *(layer.self_attn.in_proj_weight, layer.self_attn.out_proj.weight),
        *(layer.linear1.weight, layer.linear2.weight),
    )
    return Weights(*(p.detach().numpy().T for p in matrices))


def with_gains(layers, gains):
    for layer, gain in zip([x for x in met(layers) if isinstance(x, MetNorm)], gains, strict=True):
        layer.gain = gain.detach().numpy()
    return layers


def our_gradients(net, encoder, x, cotangent):
    """dC/dp of every parameter, in torch's order of names."""
    blocks = [
        with_gains(net.block(weights_of(layer)), (layer.norm1.weight, layer.norm2.weight))
        for layer in encoder.layers
    ]
    end = with_gains(net.end(), (encoder.norm.weight,)) if encoder.norm else []
    trace, out = forward([*chain(*blocks), *end], x)
    list(backward(trace, cotangent))
    found = {}
    names = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight")
    for k, layers in enumerate(blocks):
        matrices = [layer for layer in met(layers) if not isinstance(layer, MetNorm)]
        gains = [layer for layer in met(layers) if isinstance(layer, MetNorm)]
        for name, layer in zip((*names, "linear2.weight"), matrices, strict=True):
            found[f"layers.{k}.{name}"] = weight_gradient(*layer.met).T
        for name, layer in zip(("norm1.weight", "norm2.weight"), gains, strict=True):
            found[f"layers.{k}.{name}"] = layer.gradient
    if end:
        found["norm.weight"] = end[0].gradient
    return out, found


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(("blocks", "heads"), [(2, 1), (2, 4), (12, 4)])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_gradients_of_every_parameter_are_those_of_torch(norm, blocks, heads, activation):
    encoder = module(blocks, heads, norm, activation)
    net = Transformer(blocks=blocks, width=WIDTH, heads=heads, norm=norm, activation=activation)
    rng = np.random.default_rng(blocks)
    x, cotangent = rng.normal(size=(2, TOKENS, WIDTH))
    theirs = encoder(torch.tensor(x)[None])
    theirs.backward(torch.tensor(cotangent)[None])
    out, ours = our_gradients(net, encoder, x, cotangent)
    assert_allclose(out, theirs[0].detach().numpy(), rtol=1e-10, atol=1e-11)
    exact = {name: p.grad.numpy() for name, p in encoder.named_parameters()}
    assert ours.keys() == exact.keys()
    for name, grad in exact.items():
        assert_allclose(ours[name], grad, rtol=1e-10, atol=1e-10 * np.abs(grad).max())


def squares(frame):
    """log10 of squared norms, queries, keys and values together as torch packs them."""
    parts = frame.assign(
        square=10 ** (2 * frame.log10_grad_norm),
        name=frame.matrix.replace(["query", "key", "value"], "self_attn.in_proj_weight").replace(
            {"output": "self_attn.out_proj.weight", "hidden": "linear1.weight"}
            | {"top": "linear2.weight"}
        ),
    )
    names = "layers." + parts.layer.astype(str) + "." + parts.name
    return np.log10(parts.square.groupby(names).sum()) / 2


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_norms_are_those_that_the_bridge_gives_of_the_module(norm):
    encoder = module(12, 4, norm, "gelu")
    for name, p in encoder.named_parameters():
        if "norm" in name:
            torch.nn.init.ones_(p)
    x, cotangent = np.random.default_rng(1).normal(size=(2, 1, TOKENS, WIDTH))
    target = torch.tensor(cotangent)
    theirs = bridge.profile(encoder, torch.tensor(x), lambda output: (output * target).sum())
    theirs = theirs[~theirs.name.str.contains("norm")].set_index("name").log10_grad_norm
    net = Transformer(blocks=12, width=WIDTH, heads=4, norm=norm, activation="gelu")
    stacked = [Weights(*(W[None] for W in weights_of(layer))) for layer in encoder.layers]
    ours = gradient_norms(net, stacked.__getitem__, x, cotangent, range(12))
    assert_allclose(squares(ours)[theirs.index], theirs, rtol=0, atol=1e-10)


def shaped(r, mix):
    q, k, v = r.split(4, dim=-1)
    A = torch.softmax(0.7 * q @ k.T, dim=-1)
    return (mix.identity * torch.eye(len(r)) + mix.attention * A - mix.centre / len(r)) @ v


@pytest.mark.parametrize("mix", [Mix(), Mix(1.0, 0.5, 0.4), Mix(0.0, -2.0, 0.0)])
def test_shaped_attention_is_differentiated(mix):
    r, cotangent = np.random.default_rng(2).normal(size=(2, 6, 12))
    cotangent = cotangent[:, :4]
    (step,), out = forward([Attention(1, 0.7, mix)], r)
    (back,) = backward([step], cotangent)
    exact = torch.autograd.functional.vjp(
        lambda r: shaped(r, mix), torch.tensor(r), torch.tensor(cotangent)
    )
    assert_allclose(out, exact[0].numpy(), rtol=1e-12, atol=1e-13)
    assert_allclose(back.dr, exact[1].numpy(), rtol=1e-10, atol=1e-12)


BITS = 20_000


def balls(x):
    return np.vectorize(arb, otypes=[object])(x)


def log10_size(x):
    return float((sum((v * v for v in x.ravel()), arb(0))).log() / (2 * arb(10).log()))


def test_collapse_against_balls_of_many_bits():
    """Float64 keeps what tells tokens apart down to its rounding, and says where it is lost."""
    rng = np.random.default_rng(5)
    x, cotangent = rng.normal(size=(2, 1, 3, 4))
    weights = [Weights(*(rng.normal(size=(1, 4, n)) / 2 for n in (12, 4))) for _ in range(9)]
    net = Transformer(blocks=9, width=4, heads=2, norm="none", residual=False, mlp=False)
    frame = gradient_norms(net, weights.__getitem__, x, cotangent, range(9))
    with bits(BITS):
        exact = [Weights(*(balls(W[0]) for W in w[:2])) for w in weights]
        blocks = [net.block(w) for w in exact]
        trace, _ = forward(chain(*blocks), balls(x[0]))
        list(backward(trace, balls(cotangent[0])))
        apart, query = [], []
        for layers in blocks:
            r, delta = next(met(layers)).met
            apart.append(log10_size(r - r.mean(axis=0)) - log10_size(r))
            query.append(log10_size(weight_gradient(r, delta[:, :4])))
    ours = frame[frame.matrix == "query"]
    kept = (ours.status != "rounding").to_numpy()
    assert kept.tolist() == [True] * 4 + [False] * 5
    assert_allclose(ours.log10_difference[kept], np.array(apart)[kept], atol=0.02)
    assert_allclose(ours.log10_grad_norm[kept], np.array(query)[kept], atol=0.04)
    assert min(query) < -2000


def drawn_norms(net, cotangent, tokens=TOKENS):
    x = np.random.default_rng(4).normal(size=(2, tokens, net.width))
    u = np.broadcast_to(cotangent, x.shape)
    return gradient_norms(net, lambda k: net.drawn(gaussian.key(1), k, 2), x, u, range(net.blocks))


def test_gradients_beyond_the_float_range_are_measured():
    net = Transformer(blocks=3, width=WIDTH)
    plain, tiny = (drawn_norms(net, size) for size in (1.0, 2.0**-1050))
    shift = tiny.log10_grad_norm - plain.log10_grad_norm
    assert_allclose(shift, -1050 * np.log10(2), rtol=1e-12)
    assert set(tiny.status) == {"float64_underflow"}


def test_uniform_attention_gives_queries_and_keys_a_true_zero():
    frame = drawn_norms(Transformer(blocks=3, width=WIDTH, logits=0.0), np.ones(WIDTH))
    is_dead = frame.matrix.isin(["query", "key"])
    assert set(frame.status[is_dead]) == {"dead"}
    assert set(frame.status[~is_dead]) == {"ok"}


def test_matrices_known_by_their_action_have_the_law_of_formed_ones():
    """Means over networks of log10 norms, with queries, keys and all."""
    rng = np.random.default_rng(0)
    net = Transformer(blocks=3, width=16, heads=2, norm="post")
    count = 300
    x, u = rng.normal(size=(2, count, TOKENS, 16))

    def formed(k):
        sizes = [(16, 48, 1), (16, 16, 1), (16, 64, 1), (64, 16, 2**0.5)]
        return Weights(*(rng.normal(size=(count, n, m)) * s / n**0.5 for n, m, s in sizes))

    def drawn(k):
        return net.drawn(gaussian.key(2), k, count)

    names = ["layer", "matrix"]
    norms = [gradient_norms(net, w, x, u, range(3)).groupby(names) for w in (formed, drawn)]
    means = [n.log10_grad_norm.mean() for n in norms]
    errors = [n.log10_grad_norm.sem() for n in norms]
    score = (means[0] - means[1]) / np.hypot(*errors)
    assert score.abs().max() < 4
    assert max(errors[0].max(), errors[1].max()) < 0.05


@pytest.mark.parametrize("wrong", [{"blocks": 0}, {"norm": "middle"}, {"width": 10}, {"heads": 0}])
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Transformer(**{"blocks": 1} | wrong)


def test_signals_that_leave_the_range_are_refused():
    net = Transformer(blocks=40, width=WIDTH, norm="none", residual=False, mlp=False, branch=1e-5)
    with pytest.raises(ValueError, match="block 29"):
        drawn_norms(net, 1.0)
