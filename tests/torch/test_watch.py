"""Gradient norms along with a training loop, which is neither changed nor ended by it."""

import math
import warnings

import numpy as np
import pytest
import torch
from nets import DOUBLE, cases, norm, squares, true_norm
from torch import nn

from study.torch import WATCH_COLUMNS, activity, monitor, norms, watch


def test_a_gpt_is_watched_as_it_learns():
    module, tokens, loss = cases()["gpt"]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    hooks = len(optimizer._optimizer_step_pre_hooks)
    kept = []
    with watch(module, optimizer) as watched:
        for _ in range(9):
            optimizer.zero_grad()
            loss(module(tokens)).backward()
            kept += [(norm(p.grad), norm(p.detach())) for p in module.parameters()]
            nn.utils.clip_grad_norm_(module.parameters(), 1e9)
            optimizer.step()
    assert len(optimizer._optimizer_step_pre_hooks) == hooks
    df = watched.frame()
    names = [name for name, _ in module.named_parameters()]
    assert df.name.tolist() == names * 9
    assert df.step.tolist() == np.repeat(range(9), len(names)).tolist()
    gradients, weights = np.transpose(kept)
    found = np.ldexp(df.grad_norm_mantissa, df.grad_norm_exponent)
    np.testing.assert_allclose(found, gradients, rtol=1e-6)
    np.testing.assert_allclose(10**df.log10_weight_norm, weights, rtol=1e-6)
    np.testing.assert_allclose(df.plain_grad_norm, gradients, rtol=1e-6)
    assert set(df.status) == {"ok"}


@pytest.mark.parametrize("keep", [1, 2, 7, 50])
def test_memory_is_bounded_and_the_whole_run_is_covered(keep):
    layer = nn.Linear(1, 1, bias=False)
    watched = watch(layer, keep=keep)
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
    watched = watch(net)
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
    assert list(WATCH_COLUMNS) == list(watched.frame().columns)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE])
@pytest.mark.parametrize("size", [1e-4, 1e-25, 1e-38, 1.0, 1e25])
def test_watch_has_the_norm_of_gradients_of_any_size(dtype, size, monkeypatch):
    monkeypatch.setattr(norms, "PIECE", 1000)
    torch.manual_seed(11)
    net = nn.ParameterList([nn.Parameter(torch.ones(n, dtype=dtype)) for n in (3, 2999, 1000)])
    for p in net:
        p.grad = (size * torch.randn(p.shape, dtype=DOUBLE)).to(dtype)
    watched = watch(net)
    watched.step()
    df = watched.frame()
    for i, p in enumerate(net):
        assert true_norm(df, i) == pytest.approx(norm(p.grad), rel=1e-5, abs=0)


def test_the_format_may_change_meanwhile():
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.grad = torch.full((1, 4), 4e4)
    watched = watch(layer)
    watched.step()
    layer.half()  # the same parameter with other data, and a norm that it cannot hold
    watched.step()
    assert watched.frame().plain_grad_norm.tolist() == [8e4, math.inf]


def test_the_loss_scale_is_taken_out():
    layer = nn.Linear(3, 1, bias=False)
    watched = watch(layer)
    (1024 * layer(torch.ones(3)).sum()).backward()
    watched.step(scale=1024.0)
    df = watched.frame()
    assert true_norm(df, 0) == pytest.approx(3**0.5)
    assert df.plain_grad_norm[0] == pytest.approx(1024 * 3**0.5)


def test_an_empty_watch_has_an_empty_frame():
    assert len(watch(nn.Linear(2, 2)).frame()) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": nn.ReLU()}, "module = .*at least one parameter"),
        ({"optimizer": "adam"}, "optimizer = 'adam'; allowed: a torch.optim.Optimizer"),
        ({"keep": 0}, "keep = 0; allowed: an integer >= 1"),
        ({"every": 0}, "every = 0; allowed: an integer >= 1"),
        ({"quantiles": [0.5, 2]}, "quantiles = 2; allowed: a finite number from 1e-06 to 1"),
        ({"log": "wandb"}, "log = 'wandb'; allowed: a callable"),
    ],
)
def test_errors_of_watch(change, words):
    with pytest.raises(ValueError, match=words):
        watch(**{"module": nn.Linear(1, 1), **change})


def fails(*_, **__):
    raise RuntimeError("of its own")


def test_faults_are_said_once_and_kept():
    net = nn.Linear(1, 1)
    watched = watch(net)
    with pytest.warns(UserWarning, match=r"study\.torch\.watch: ValueError: scale = 0.*above 0"):
        watched.step(scale=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched.step(scale=-1.0)
        later = watch(net)
        later.step(scale=math.nan)  # first, where warnings are errors
    assert [step for step, _ in watched.faults] == [1, 2]
    assert len(later.faults) == 1
    assert len(watched.frame()) == 0


@pytest.mark.parametrize(
    "broken",
    ["nothing", "log", "quick_norms", "quantiles_of", "Layout.refresh", "Alarms.look", "has_norm",
     "Activity.taken", "Watch._keep", "Watch._read", "Watch._listen", "_statistics"],
)  # fmt: skip
def test_no_fault_ends_or_changes_a_training_run(broken, monkeypatch):
    """Each part fails in turn: all bits are those of a run that nobody watched."""
    results = []
    for watching in (False, True):
        torch.manual_seed(3)
        net, images, loss = cases()["resnet"]
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        if watching:
            options = {"quantiles": [0.5], "updates": True, "activations": True}
            watched = watch(net, optimizer, log=fails if broken == "log" else print, **options)
            name, _, part = broken.partition(".")
            owner = activity if name == "_statistics" else monitor
            if name not in ("log", "nothing"):
                target = (getattr(owner, name), part) if part else (owner, name)
                monkeypatch.setattr(*target, fails)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(3):
                optimizer.zero_grad()
                loss(net(images)).backward()
                optimizer.step()
        kept = [*net.state_dict().values(), torch.get_rng_state()]  # its dropout draws
        results.append([x.numpy().tobytes() for x in kept])
    assert results[0] == results[1]
    assert bool(watched.faults) == (broken != "nothing")
    assert all("of its own" in text for _, text in watched.faults)
    monkeypatch.undo()
    watched.close()
    watched.close()
    assert not net.head.weight._post_accumulate_grad_hooks
    assert not net._forward_hooks


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.LBFGS])
def test_each_call_of_a_closure_is_seen(make, named):
    net = nn.Linear(3, 1)
    x = torch.randn(8, 3)
    optimizer = make(net.parameters(), lr=0.1)
    expected = []

    def closure():
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        expected.append(norm(net.weight.grad))
        return loss

    with watch(net, optimizer) as watched:
        for _ in range(3):
            given = {"closure": closure} if named else {}
            assert optimizer.step(*([] if named else [closure]), **given) is not None
    df = watched.frame().query("name == 'weight'")
    np.testing.assert_allclose(df.plain_grad_norm, expected, rtol=1e-6)
    calls = len(expected) // 3
    assert df.step.tolist() == np.repeat(range(3), calls).tolist()
    assert df.call.tolist() == list(range(calls)) * 3
    assert calls == 1 or make is torch.optim.LBFGS


class Wrapped:
    """As accelerate and Lightning wrap an optimiser."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_a_wrapped_optimiser_is_looked_through():
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(net, Wrapped(Wrapped(optimizer))) as watched:
        optimizer.step()
    assert watched.steps == 1


def test_a_model_that_changes_is_followed():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    watched = watch(net)
    changes = [
        lambda: None, lambda: net[0].requires_grad_(False), net.double, net.half, net.float,
        lambda: net.__setitem__(2, nn.Linear(4, 1)), lambda: net.append(nn.Linear(1, 2)),
    ]  # fmt: skip
    expected = []
    for change in changes:
        change()
        net.zero_grad()
        x = torch.ones(5, 3, dtype=net[2].bias.dtype)
        squares(net(x).float()).backward()
        watched.step()
        expected += [math.nan if p.grad is None else norm(p.grad) for p in net.parameters()]
    df = watched.frame()
    np.testing.assert_allclose(df.plain_grad_norm, expected, rtol=1e-3)
    assert df.groupby("step").name.count().tolist() == [4] * 6 + [6]
    assert set(df[df.step > 0].query("name == '0.bias'").status) == {"frozen"}


def test_quantised_and_empty_parameters_are_watched():
    net = nn.ParameterDict({"empty": nn.Parameter(torch.ones(0, 3))})
    net["empty"].grad = torch.ones(0, 3)
    for dtype in (torch.int8, torch.bool, torch.float8_e4m3fn):
        net[str(dtype)[6:]] = nn.Parameter(torch.ones(3).to(dtype), requires_grad=False)
    net["meta"] = nn.Parameter(torch.ones(2, device="meta"))
    watched = watch(net)
    watched.step()
    df = watched.frame().set_index("name")
    assert not watched.faults
    assert df.status.to_dict() == {
        "empty": "zero", "int8": "frozen", "bool": "frozen", "float8_e4m3fn": "frozen",
        "meta": "none",
    }  # fmt: skip


@pytest.mark.parametrize("before", [True, False])
def test_gradients_are_those_before_clipping_if_the_step_is_told(before):
    """With the optimiser, its step is recorded with what it uses."""
    net = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    watched = watch(net, None if before else optimizer)
    net(torch.ones(3)).sum().backward()
    if before:
        watched.step()
    total = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    expected = float(total) if before else 1.0
    assert watched.frame().plain_grad_norm[0] == pytest.approx(expected, rel=1e-5)
