import copy
import math
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import study.torch  # noqa: E402
from tests.torch.nets import DOUBLE, ResNet, squares  # noqa: E402

initialise = study.torch.initialise
scales = sys.modules["study.torch.initialise"]._Scales
cotangent = sys.modules["study.torch.initialise"].random_cotangent
jacobian = sys.modules["study.torch.initialise"]._jacobian


def chain(phi, depth, width=12, seed=0, bias=True):
    torch.manual_seed(seed)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width, bias=bias), phi())]
    return nn.Sequential(*layers[:-1]).to(DOUBLE), torch.randn(16, width, dtype=DOUBLE)


def spread(net, inputs, loss):
    """Decades between the gradients of the matrices, by plain autograd in float64."""
    weights = matrices(net)
    norms = [g.norm().log10() for g in torch.autograd.grad(loss(net(inputs)), weights)]
    return float(max(norms) - min(norms))


def matrices(net):
    return [p for p in net.parameters() if p.dim() > 1]


class Wordless(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)

    def forward(self, x):
        return "no tensor"


class Squared(nn.Module):
    def forward(self, x):
        return x.relu() ** 2


def kernels():
    torch.manual_seed(0)
    layers = [m for _ in range(8) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(144, 3)).to(DOUBLE)
    return net, torch.randn(4, 4, 6, 6, dtype=DOUBLE)


def branches():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).to(DOUBLE)
    with torch.no_grad():
        net.layers[1].linear2.weight.mul_(30)
    return net, torch.randn(4, 5, 8, dtype=DOUBLE)


class Sentences(nn.Module):
    """Words and places, small as BERT has them, in one sum behind a norm."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.places = nn.Embedding(6, 8)
        layers = [nn.Linear(8, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 20, bias=False)]
        self.layers = nn.Sequential(nn.LayerNorm(8), *layers)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens):
        return self.layers(self.words(tokens) + self.places.weight)


def test_the_output_keeps_its_size_and_tells_inputs_apart_as_before():
    torch.manual_seed(1)
    net = Sentences().to(DOUBLE)
    with torch.no_grad():
        net.layers[1].weight.mul_(100)
        net.layers[3].weight.mul_(0.1)
    tokens = torch.randint(20, (12, 6))

    def sizes():
        output = net(tokens).detach()
        return torch.stack([output.norm(), (output - output.mean(0)).norm()])

    before = sizes()
    df = initialise(net, tokens)
    assert np.ptp(df.log10_grad_norm) < 0.5 * np.ptp(df.log10_grad_norm_before)
    torch.testing.assert_close(sizes(), before, rtol=0.25, atol=0)


@pytest.mark.parametrize(
    ("factor", "losses", "left"),
    [
        (30, [0.95, 0.95, 0.95, 0.89], 0.0),
        (30, [0.95, 0.95, 0.80, 0.89], 0.3),
        (30, [0.95, 0.95, 0.95, 0.91], 0.3),
        (30, [1.01, 1.03], 0.8),
        (30, [1.03, 0.95, 0.95, 0.95], 1.5),
        (1000, [1.03, 1.06, 1.01, 1.03], 0.6),  # none had passed: on to bolder ones
        (1000, [1.07, 1.06, 1.06, 1.06, 1.04, 1.06, 0.95], 0.2),  # the third costs least,
        (1000, [1.07, 1.06, 1.06, 1.04, 1.06, 1.06, 0.95], 1.8),  # or half of the second,
        (1000, [1.07, 1.06, 1.06, 1.06, 1.06, 1.06, 0.95], 3.1),  # which is too much
    ],
)
def test_levels_get_bolder_until_one_fails_its_trial(factor, losses, left, monkeypatch):
    """All scales free have to be a tenth faster; if no level passes a rise of 0.05 is allowed."""
    trials = iter([1.0, *losses])
    monkeypatch.setattr(scales, "learning", lambda _: next(trials, math.inf))
    net, inputs = normalised()
    with torch.no_grad():
        net[3].weight.mul_(factor)
    before = net(inputs).detach()
    unit = 0.05 / 0.03 / float(squares(before))
    df = initialise(net, inputs, lambda output: unit * squares(output))
    assert np.ptp(df.log10_grad_norm) == pytest.approx(left, abs=0.06)
    torch.testing.assert_close(net(inputs), before, rtol=0.03, atol=0)
    if left > 0.3:
        assert "learnt more slowly" in df.reason[1]


def normalised():
    torch.manual_seed(0)
    blocks = [m for _ in range(3) for m in (nn.Linear(8, 8), nn.LayerNorm(8, eps=0), nn.Tanh())]
    net = nn.Sequential(*blocks, nn.Linear(8, 2)).to(DOUBLE)
    for layer in net[::3]:
        nn.init.zeros_(layer.bias)
    return net, torch.randn(16, 8, dtype=DOUBLE)


def test_a_trial_is_a_few_steps_of_adam_on_noisy_copies_and_leaves_nothing():
    net, inputs = branches()
    weights = matrices(net)
    seen = []
    inputs = {"src": inputs, "mask": torch.zeros(5, 5, dtype=torch.bool)}
    hook = net.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["src"].detach()), with_kwargs=True
    )
    tried = scales(net, inputs, squares, weights)
    seen.clear()
    found = tried.learning()
    hook.remove()
    assert all(p.grad is None for p in net.parameters())
    assert len(seen) == 120
    noise = torch.stack(seen) - inputs["src"]
    assert torch.equal(noise[:40], noise[40:80])  # the same at each rate
    assert float(noise[:40].std() / inputs["src"].std()) == pytest.approx(1, abs=0.05)
    assert float(torch.corrcoef(noise[:40].flatten(1)).triu(1).abs().max()) < 0.4
    means = []
    for rate in (1e-3, 3e-3, 1e-2):
        net, _ = branches()
        optimizer = torch.optim.Adam(net.parameters(), rate)
        losses = []
        for x in seen[:40]:
            optimizer.zero_grad()
            cost = squares(net(x))
            cost.backward()
            optimizer.step()
            losses.append(cost.item())
        means.append(np.mean(losses))
    assert found == pytest.approx(min(means), rel=1e-9)
    assert all(torch.equal(p, q) for p, q in zip(weights, matrices(branches()[0]), strict=True))


@pytest.mark.parametrize(
    ("case", "found", "left"),
    [
        (chain(nn.Sigmoid, 20), 12, 1.5),
        (chain(nn.ReLU, 24), 6, 0.4),
        (chain(nn.Tanh, 24), 3, 1.0),
        (kernels(), 2, 0.4),
        (branches(), 1, 0.5),
    ],
    ids=["sigmoid", "relu", "tanh", "kernels", "branches"],
)
def test_gradients_are_brought_together_and_a_second_call_changes_nothing(case, found, left):
    net, inputs = case
    assert spread(net, inputs, cotangent) > found
    df = initialise(net, inputs)
    after = spread(net, inputs, cotangent)
    assert after < left
    assert np.ptp(df.log10_grad_norm) == pytest.approx(after, abs=1e-6)
    assert list(df) == list(study.torch.INITIALISE_COLUMNS)
    kept = [p.clone() for p in net.parameters()]
    again = initialise(net, inputs)
    assert (again.log10_scale == 0).all()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), kept, strict=True))


def test_weights_are_rescaled_and_nothing_else_is_touched():
    net = ResNet().to(DOUBLE)
    with torch.no_grad():
        net.head.weight.mul_(1e-3)
    inputs = torch.randn(4, 1, 8, 8, dtype=DOUBLE)
    kept = {name: x.clone() for name, x in net.state_dict().items()}
    grads = {name: torch.ones_like(p) for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        p.grad = grads[name]
    state = torch.get_rng_state()
    df = initialise(net, inputs, squares).set_index("name")
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
    assert all(p.grad is grads[name] for name, p in net.named_parameters())
    for name, x in net.state_dict().items():
        expected = kept[name].double() * 10 ** df.log10_scale.get(name, 0.0)
        torch.testing.assert_close(x.double(), expected, rtol=1e-9, atol=0)
    assert df.log10_scale.abs().max() > 0.1


def test_a_sigmoid_s_half_is_taken_out_of_the_sum():
    net, inputs = chain(nn.Sigmoid, 6)
    initialise(net, inputs)
    for layer in net[2:-1:2]:
        torch.testing.assert_close(layer.bias, -layer.weight.sum(1) / 2)


def test_the_level_of_a_flat_profile_is_mended():
    net, inputs = chain(nn.ReLU, 16, width=64, bias=False)
    with torch.no_grad():
        for layer in net[::2]:
            nn.init.orthogonal_(layer.weight).mul_(0.3)
    df = initialise(net, inputs, squares)
    assert np.ptp(df.log10_output_norm_before) > 8
    assert np.ptp(df.log10_output_norm) < 1
    assert df.log10_grad_norm_before.max() < -8
    assert df.log10_grad_norm.min() > -3


def test_it_is_said_what_scale_cannot_mend():
    dead, inputs = chain(nn.ReLU, 4)
    nn.init.zeros_(dead[-1].weight)
    reasons = initialise(dead, inputs, squares).reason
    assert reasons[:3].str.contains("zero times any scale is zero").all()

    torch.manual_seed(0)
    blocks = [m for _ in range(12) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())]
    normalised = nn.Sequential(*blocks, nn.Linear(16, 16)).to(DOUBLE)
    df = initialise(normalised, torch.randn(8, 16, dtype=DOUBLE))
    assert np.ptp(df.log10_grad_norm) < 0.4
    assert all("dC/dr, which differs by" in str(reason) for reason in df.reason[:12])

    powers = nn.Sequential(nn.Linear(6, 6), Squared(), nn.Linear(6, 6), Squared(), nn.Linear(6, 6))
    df = initialise(powers.to(DOUBLE), torch.randn(8, 6, dtype=DOUBLE), squares)
    assert np.ptp(df.log10_grad_norm) < 0.3 or df.reason.str.contains("power").any()


@pytest.mark.parametrize("band", [None, 0.5])
def test_reasons_are_read_off_responses_of_gradients_at_every_level(band):
    """Behind a normalisation the gradient goes with the inverse of the scale; the output stays."""
    net, inputs = normalised()
    found = scales(net, inputs, squares, matrices(net))
    found.band = band
    found.look()
    jacobian(found, found.originals(), np.zeros(4), found.output)
    expected = np.diag([-1.0, -1.0, -1.0])
    np.testing.assert_allclose(found.responses[:3, :3], expected, atol=1e-6)
    np.testing.assert_allclose(found.responses[4], [0, 0, 0, 1], atol=1e-6)


def test_weights_are_drawn_anew_only_when_asked():
    net, inputs = chain(nn.ReLU, 4)
    initialise(net, inputs, redraw=torch.Generator().manual_seed(1))
    for layer in net[::2]:
        product = layer.weight @ layer.weight.T
        torch.testing.assert_close(product, product[0, 0] * torch.eye(12, dtype=DOUBLE))


def test_a_gradient_below_the_range_of_float32_is_mended():
    torch.manual_seed(0)
    layers = [m for _ in range(44) for m in (nn.Linear(8, 8), nn.Sigmoid())]
    net, inputs = nn.Sequential(*layers), torch.randn(8, 8)
    df = initialise(net, inputs, squares)
    assert np.ptp(df.log10_grad_norm_before) > 30
    assert np.ptp(df.log10_grad_norm) < 5
    assert all(float(p.norm()) for p in torch.autograd.grad(squares(net(inputs)), net[0].weight))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module": nn.Linear(3, 3, device="meta")}, "module = .*on the meta device"),
        ({"module": "scripted"}, "module = .*a ScriptModule"),
        ({"module": nn.Linear(3, 3).requires_grad_(False)}, "module = .*all frozen"),
        ({"inputs": torch.full((2, 3), math.nan)}, "inputs that are finite"),
        ({"loss": lambda output: output}, "a real scalar tensor"),
        ({"module": Wordless(), "loss": None}, "module.*a tensor of real numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_bad_input_is_refused_in_one_line(change, said):
    if change.get("module") == "scripted":
        change = {"module": torch.jit.trace(nn.Linear(3, 3), torch.ones(2, 3))}
    case = {"module": nn.Linear(3, 3), "inputs": torch.ones(2, 3), "loss": squares} | change
    with pytest.raises(ValueError, match=said) as caught:
        initialise(**case)
    assert "\n" not in str(caught.value)


def test_a_loss_that_fails_on_the_way_leaves_the_module_as_it_was():
    net, inputs = chain(nn.Tanh, 12)
    kept = [p.clone() for p in net.parameters()]
    calls = []

    def loss(output):
        calls.append(1)
        if len(calls) == 9:
            raise RuntimeError("lost")
        return squares(output)

    with pytest.raises(RuntimeError, match="lost"):
        initialise(net, inputs, loss)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), kept, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("phi", [nn.Sigmoid, nn.ReLU, nn.Tanh, nn.GELU])
def test_gradients_lie_closer_together_than_after_anyinit(phi):
    anyinit = pytest.importorskip("anyinit")
    net, inputs = chain(phi, 30, 32)
    theirs = []
    for mode in ("analytic", "empirical"):
        other = copy.deepcopy(net)
        anyinit.initialize(other, mode, inputs, seed=0)
        theirs.append(spread(other, inputs, squares))
    initialise(net, inputs, squares)
    assert spread(net, inputs, squares) < min(theirs)
