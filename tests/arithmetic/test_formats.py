"""Number formats, bit for bit against torch, and plain backpropagation in them."""

import numpy as np
import pytest
import torch

import study
from study.arithmetic.formats import FORMATS
from study.arithmetic.rounded import Rounded, is_lost, printed_norm, rounded_layers
from study.core.backprop import backward, forward, weight_gradient
from study.engines.explicit import unit_cotangent
from study.sampling import gaussian

TORCH = {
    "float16": torch.float16,
    "float16_narrow": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def every_kind_of_float32():
    """Random bit patterns, and every neighbourhood of a tie, a subnormal and an overflow."""
    rng = np.random.default_rng(0)
    some = rng.integers(2**32, size=200_000, dtype=np.uint64).astype(np.uint32)
    upper = np.arange(0, 2**16, 7, dtype=np.uint32) << 16
    near = [upper | np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    half = np.arange(0, 2**16, 3, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (half + np.nextafter(half.astype(np.float16), np.float16(0)).astype(np.float32)) / 2
    return np.concatenate([some, *near, half.view(np.uint32), ties.view(np.uint32)]).view(
        np.float32
    )


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_rounding_is_torchs_bit_for_bit(name):
    with np.errstate(all="ignore"):
        x = every_kind_of_float32()
        ours = FORMATS[name].rounded(x)
    theirs = torch.from_numpy(x).to(TORCH[name]).to(torch.float32).numpy()
    number = ~np.isnan(x)
    assert number.sum() > 200_000
    np.testing.assert_array_equal(np.isnan(ours), ~number)
    np.testing.assert_array_equal(ours[number].view(np.uint32), theirs[number].view(np.uint32))


def test_cutting_off_is_told_from_rounding():
    """The negative control: bfloat16 by truncation is not what torch does."""
    with np.errstate(all="ignore"):
        x = every_kind_of_float32()
    x = x[np.isfinite(x)]
    cut = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    theirs = torch.from_numpy(x).to(torch.bfloat16).to(torch.float32).numpy()
    assert (cut != theirs).mean() > 0.2


def run(weights, x, activation, name, dr, kink=0.0):
    """z, dC/dz and dC/dW of every layer of a plain run."""
    number = FORMATS[name]
    layers = rounded_layers(list(weights), activation, number, kink)
    trace, _ = forward(layers, Rounded(x, number))
    steps = list(backward(trace, Rounded(dr, number)))[::-1]
    zs = [step.z.value for step in trace]
    return (
        zs,
        [step.delta.value for step in steps],
        [weight_gradient(step.r, step.delta) for step in steps],
    )


@pytest.mark.parametrize("name", FORMATS)
def test_the_range_is_the_formats(name):
    number, limits = FORMATS[name], torch.finfo(TORCH[name])
    assert number.largest == limits.max
    assert number.smallest == limits.smallest_normal * limits.eps
    with np.errstate(all="ignore"):
        x = number.rounded(np.array([number.smallest, number.smallest / 2, number.largest]))
        assert x.tolist() == [number.smallest, 0, number.largest]
        top = np.array([number.largest]).astype(x.dtype)
        assert np.isinf(number.rounded(top * x.dtype.type(1.01)))


@pytest.mark.parametrize(
    ("name", "activation", "units"),
    [(n, a, 40) for n in ("float32", "float64") for a in ("relu", "sigmoid", "tanh", "linear")]
    # torch on a CPU sums in float32, too, and rounds once; a sum's order may move its last bit.
    + [(n, "relu", 2) for n in ("float16", "bfloat16")],
)
def test_gradients_are_autograds(torch_phi, name, activation, units):
    rng = np.random.default_rng(2)
    weights = [rng.normal(0, n**-0.5, (n, m)) for n, m in ((40, 30), (30, 20), (20, 7))]
    x, dr = rng.normal(size=(6, 40)), rng.normal(size=(6, 7))
    _, _, ours = run(weights, x, activation, name, dr)
    W = [torch.tensor(w).to(TORCH[name]).requires_grad_() for w in weights]
    r = torch.tensor(x).to(TORCH[name])
    for w in W:
        r = torch_phi[activation](r @ w)
    theirs = torch.autograd.grad(r, W, torch.tensor(dr).to(TORCH[name]))
    for a, b in zip(ours, theirs, strict=True):
        b = b.to(torch.float64).numpy()
        tolerance = units * torch.finfo(TORCH[name]).eps * np.abs(b).max()
        np.testing.assert_allclose(a.value, b, rtol=0, atol=tolerance)
        assert units > 2 or (a.value == b).mean() > 0.9


@pytest.mark.parametrize("name", TORCH)
def test_the_printed_norm_is_torchs(name):
    number = FORMATS[name]
    limits = torch.finfo(TORCH[name])
    with np.errstate(all="ignore"):
        for size in (1.0, number.smallest * 4, limits.tiny, limits.tiny**0.5, limits.max / 2):
            dW = Rounded(np.array([[1.0, -2.0], [0.5, 0.0]]) * size, number)
            theirs = torch.from_numpy(dW.value).to(TORCH[name]).norm().item()
            np.testing.assert_allclose(printed_norm(dW), theirs, rtol=limits.eps)


def test_narrow_sums_lose_what_wide_sums_keep():
    ones = np.ones((1, 4097))
    wide, narrow = FORMATS["float16"], FORMATS["float16_narrow"]
    assert wide.matmul(wide.rounded(ones), wide.rounded(ones.T)).item() == 4096  # 4097 to nearest
    assert narrow.matmul(narrow.rounded(ones), narrow.rounded(ones.T)).item() == 2048  # 2048 + 1


@pytest.mark.parametrize(
    ("dW", "lost"),
    [([[0, 0]], True), ([[0, 1e-300]], False), ([[1, np.inf]], True), ([[0, np.nan]], True)],
)
def test_a_gradient_is_lost_when_nothing_or_too_much_is_left(dW, lost):
    assert is_lost(Rounded(np.array(dW), FORMATS["float64"])) is lost


@pytest.mark.parametrize(("activation", "sigma"), [("relu", 2**0.5), ("sigmoid", 4), ("tanh", 1.0)])
def test_in_range_it_is_the_scaled_engine(activation, sigma):
    """On the weights, input and cotangent of `study.profile`."""
    depth, width, seed = 12, 32, 3
    key = gaussian.key(seed, "weights")
    weights = [sigma / width**0.5 * gaussian.normal(key, k, (width, width)) for k in range(depth)]
    x = gaussian.normal(gaussian.key(seed, "inputs"), 0, (1, width))
    dr = unit_cotangent(gaussian.key(seed, "cotangent"), (1, width), np.float64)
    _, _, plain = run(weights, x, activation, "float64", dr)
    net = study.Network(activation, depth, width, sigma, kink=0.0)
    true = study.profile(net, [seed], engine="dense")
    norms = [printed_norm(dW) for dW in plain]
    np.testing.assert_allclose(np.log10(norms), true.log10_grad_norm, atol=1e-12)
    assert not any(map(is_lost, plain))


@pytest.mark.parametrize("name", FORMATS)
def test_above_a_dead_layer_kink_one_is_a_linear_network_and_kink_zero_is_dead(name):
    rng = np.random.default_rng(5)
    weights = [rng.normal(0, 2**0.5 * 8**-0.5, (8, 8)) for _ in range(6)]
    weights[2] = -np.abs(weights[2])
    x, dr = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    zs, zeros, _ = run(weights, x, "relu", name, dr)
    _, ones, gradients = run(weights, x, "relu", name, dr, kink=1.0)
    _, lines, _ = run(weights, x, "linear", name, dr)
    assert not any(z.any() for z in zs[3:])
    for k, (zero, one, line) in enumerate(zip(zeros, ones, lines, strict=True)):
        assert not zero.any()
        np.testing.assert_array_equal(one, line if k > 2 else 0 * line)
        assert not gradients[k].value.any()  # a weight learns nothing in either case


def test_every_format_is_compared_with_torchs():
    assert set(FORMATS) == set(TORCH)
