"""What a watch sees beside norms: totals, quantiles, updates, activations, alarms."""

import copy
import io
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nets import learner, mlp, norm, squares
from torch import nn

from study.torch import ACTIVITY_COLUMNS, coordinate_check, monitor, watch


def train(net, optimizer, x, steps=4, clip=None, **options):
    """The watch, and the total norms before clipping."""
    totals = []
    with watch(net, optimizer, **options) as watched:
        for _ in range(steps):
            optimizer.zero_grad()
            for part in x.split(3):  # accumulated
                squares(net(part)).backward()
            totals.append(float(nn.utils.clip_grad_norm_(net.parameters(), clip or math.inf)))
            optimizer.step()
    assert not watched.faults
    return watched, totals


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("every", [1, 3])
def test_the_total_norm_is_that_which_clipping_counts(clip, every):
    net, x, optimizer = learner()
    watched, totals = train(net, optimizer, x, steps=7, clip=clip, every=every)
    df = watched.frame()
    seen = df.groupby("step").log10_total_norm.first()
    np.testing.assert_allclose(10**seen, totals[::every], rtol=1e-5)
    used = df.groupby("step").plain_grad_norm.apply(lambda lengths: math.hypot(*lengths))
    expected = totals[::every] if clip is None else [clip] * len(used)
    np.testing.assert_allclose(used, expected, rtol=1e-4)


def test_gradients_that_stay_as_they_are_are_read_once(monkeypatch):
    counts = []
    read = monitor.quick_norms
    monkeypatch.setattr(monitor, "quick_norms", lambda xs: counts.append(len(xs)) or read(xs))
    net, x, optimizer = learner()
    with watch(net, optimizer) as watched:
        for written in (False, True):
            optimizer.zero_grad()
            squares(net(x)).backward()
            if written:
                net[0].weight.grad.mul_(1)
            optimizer.step()
    count = len(list(net.parameters()))
    assert counts == [count, 1 + count, count, 2 * count]
    assert not watched.faults


def test_gradients_written_to_without_a_trace_are_those_of_the_step():
    net, x, optimizer = learner()
    with watch(net, optimizer) as watched:
        squares(net(x)).backward()
        for p in net.parameters():
            p.grad.data.mul_(0.25)  # as clipping was written once
        optimizer.step()
    expected = [norm(p.grad) for p in net.parameters()]
    np.testing.assert_allclose(watched.frame().plain_grad_norm, expected, rtol=1e-5)


def test_backward_passes_of_different_parts_are_all_heard_of():
    """A mixture: no parameter has a part in every backward pass."""
    torch.manual_seed(0)
    net = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    totals = []
    with watch(net, optimizer) as watched:
        for parts in ([0, 1], [1], [2, 0], [0], [1, 1, 2], [2]):
            optimizer.zero_grad()
            for i in parts:
                squares(net[i](torch.randn(4, 3))).backward()
            totals.append(float(nn.utils.clip_grad_norm_(net.parameters(), 0.5)))
            optimizer.step()
    seen = 10 ** watched.frame().groupby("step").log10_total_norm.first()
    heard = np.isclose(seen, totals, rtol=1e-5)
    assert heard[3:].all()  # after the first that was missed: 0.5, as after clipping
    assert np.isclose(seen[~heard], 0.5, rtol=1e-4).all()


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_total_norm_is_over_the_loss_scale(is_wrapped):
    net, x, optimizer = learner()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    how = {"optimizer": optimizer, "scaler": scaler}
    if is_wrapped:  # as accelerate does it
        how = {"optimizer": SimpleNamespace(optimizer=optimizer, scaler=scaler)}
    with watch(net, **how) as watched:
        scaler.scale(squares(net(x))).backward()
        scaler.unscale_(optimizer)
        total = nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        scaler.step(optimizer)
    assert 10 ** watched.frame().log10_total_norm[0] == pytest.approx(float(total), rel=1e-5)


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize(("fused", "set_to_none"), [(False, True), (False, False), (True, True)])
@pytest.mark.parametrize("losses", [[1, math.inf, 1, math.inf, math.inf], [math.nan, 1, 1, 1, 1]])
def test_steps_that_a_scaler_skips_are_rows(losses, fused, set_to_none, is_told):
    net, x = mlp(torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    expected = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watch(net, optimizer, scaler=scaler if is_told else None) as watched:
            for size in losses:
                optimizer.zero_grad(set_to_none=set_to_none)
                for factor in (0.5, size):  # accumulated
                    scaler.scale(squares(net(x)) * factor).backward()
                expected.append(norm(net[0].weight.grad) / scaler.get_scale())
                scaler.step(optimizer)
                scaler.update()
    df = watched.frame().query("name == '0.weight'")
    assert df.step.tolist() == list(range(5))
    assert [word == "ok" for word in df.status] == [math.isfinite(size) for size in losses]
    assert not watched.alarms  # a scaler's search is no fault
    if is_told:
        np.testing.assert_allclose(10**df.log10_grad_norm, expected, rtol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_quantiles_are_order_statistics_of_the_entries(sparse):
    torch.manual_seed(0)
    net = nn.Embedding(50, 3, sparse=sparse)
    squares(net(torch.arange(7, 40))).backward()
    watched = watch(net, quantiles=[0.25, 0.5, 0.99, 1])
    watched.step()
    sizes = net.weight.grad.to_dense().abs().flatten().numpy()
    found = 10 ** watched.frame().filter(like="quantile").iloc[0]
    assert list(found.index) == [f"log10_quantile_{q}" for q in ("0.25", "0.5", "0.99", "1")]
    expected = np.quantile(sizes, [0.25, 0.5, 0.99, 1], method="inverted_cdf")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.iloc[-1] == pytest.approx(sizes.max())
    assert 10 ** watched.frame().log10_grad_norm[0] == pytest.approx(
        norm(net.weight.grad.to_dense())
    )


def sgd(history, w):
    return 0.1 * history[-1]


def momentum(history, w):
    return 0.1 * sum(0.9**i * g for i, g in enumerate(reversed(history)))


def adam(history, w, decay=0.0):
    t = len(history)
    m = sum(0.1 * 0.9**i * g for i, g in enumerate(reversed(history))) / (1 - 0.9**t)
    v = sum(0.001 * 0.999**i * g**2 for i, g in enumerate(reversed(history))) / (1 - 0.999**t)
    return 0.1 * m / (v**0.5 + 1e-8) + 0.1 * decay * w


def adamw(history, w):
    return adam(history, w, decay=0.01)


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), sgd),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), momentum),
        (lambda p: torch.optim.Adam(p, lr=0.1), adam),
        (lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01), adamw),
    ],
)
def test_the_update_ratio_is_what_the_optimiser_changed(make, law):
    net, x = mlp()
    optimizer = make(net.parameters())
    history, expected = [], []
    with watch(net, optimizer, updates=True) as watched:
        for _ in range(4):
            optimizer.zero_grad()
            squares(net(x)).backward()
            w = net[0].weight.detach().clone()
            history.append(net[0].weight.grad.clone())
            expected.append(norm(law(history, w)) / norm(w))
            optimizer.step()
    found = 10 ** watched.frame().query("name == '0.weight'").log10_update_ratio
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_closure_and_a_loop_without_the_optimiser_have_updates_where_they_can():
    net, x = mlp()
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        cost = squares(net(x))
        cost.backward()
        return cost

    before = net[0].weight.detach().clone()
    with watch(net, optimizer, updates=True) as watched:
        optimizer.step(closure)
    df = watched.frame().query("name == '0.weight'")
    ratio = norm(net[0].weight.detach() - before) / norm(before)
    assert len(df) > 1
    assert df.log10_update_ratio.notna().tolist() == [True] + [False] * (len(df) - 1)
    assert 10 ** df.log10_update_ratio.iloc[0] == pytest.approx(ratio)
    alone = watch(net, updates=True)
    alone.step()
    assert alone.frame().log10_update_ratio.isna().all()


def test_activations_are_described_module_by_module():
    net, x, optimizer = learner(0.0, phi=nn.ReLU)
    watched, _ = train(net, optimizer, x, steps=3, every=2, activations=True)
    with torch.no_grad():
        net(1e6 * x)  # an evaluation does not count
    df = watched.activations()
    assert list(df.columns) == list(ACTIVITY_COLUMNS)
    assert df.step.unique().tolist() == [0, 2]
    assert df.name.tolist()[:9] == [*map(str, range(8)), ""]
    z = x
    for i, layer in enumerate(net):
        z = layer(z).detach()
        row = df.query(f"name == '{i}' and step == 2").iloc[0]
        assert row.activation_mean == pytest.approx(float(z.mean()), rel=1e-4, abs=1e-6)
        assert row.activation_std == pytest.approx(float(z.std(correction=0)), rel=1e-4)
        assert row.activation_size == pytest.approx(float(z.abs().mean()), rel=1e-4)
        near = (z.abs() < 0.01 * z.square().mean().sqrt()).double().mean()
        assert row.near_zero_share == pytest.approx(float(near), abs=0.02)
    relu = df.query("name == '1' and step == 0").near_zero_share.item()
    assert 0.3 < relu < 0.7


def test_a_module_that_is_watched_can_be_copied_and_saved():
    net, x, optimizer = learner(0.1)
    file = io.BytesIO()
    with watch(net, optimizer, activations=True, log=lambda *_: None) as watched:
        again = copy.deepcopy(net)
        torch.save(net, file)
        file.seek(0)
        for module in (again, torch.load(file, weights_only=False)):
            squares(module(x)).backward()
        assert not watched._activity.taken()
        squares(net(x)).backward()
        optimizer.step()
    assert len(watched.activations()) == 9


def test_parameters_that_are_clipped_apart_have_their_total_before():
    net, x, optimizer = learner()
    totals = []
    with watch(net, optimizer) as watched:
        for _ in range(3):
            optimizer.zero_grad()
            squares(net(x)).backward()
            totals.append(float(nn.utils.get_total_norm([p.grad for p in net.parameters()])))
            nn.utils.clip_grad_norm_(net[0].parameters(), 0.1)
            optimizer.step()
    seen = 10 ** watched.frame().groupby("step").log10_total_norm.first()
    np.testing.assert_allclose(seen[1:], totals[1:], rtol=1e-5)


def test_the_coordinate_check_tells_a_parametrisation_that_grows_with_width():
    def network(power):
        def make(width):
            net = nn.Sequential(nn.Linear(8, width), nn.Linear(width, width, bias=False))
            nn.init.normal_(net[1].weight, std=width**-power)
            return net

        return make

    x = torch.randn(16, 8)
    state = torch.get_rng_state()
    slopes = {}
    for power in (0.5, 0.0):
        df = coordinate_check(network(power), [16, 64, 256], x, squares, torch.optim.SGD, steps=1)
        sizes = df.query("name == '1'").groupby("width").activation_size.mean()
        slopes[power] = np.polyfit(np.log(sizes.index), np.log(sizes), 1)[0]
    assert torch.equal(state, torch.get_rng_state())
    assert slopes[0.5] == pytest.approx(0, abs=0.1)
    assert slopes[0.0] == pytest.approx(0.5, abs=0.1)


def kinds(watched):
    return [(alarm.step, alarm.name, alarm.kind) for alarm in watched.alarms]


@pytest.mark.parametrize(
    ("values", "kind", "step", "words"),
    [
        ([1, 1, math.nan, math.nan], "nan", 2, "of b is not finite"),
        ([1, 1, math.inf], "nan", 2, "of b is not finite"),
        ([1.0] * 6 + [1e4] * 3, "explodes", 6, "of b explodes"),
        ([1, 1e-7, 1e-7], "vanishes", 1, "of b vanishes"),
        ([1, 0, 0, 0, 0], "dies", 3, "of b is zero"),
    ],
)
def test_a_layer_that_goes_wrong_is_named_once(values, kind, step, words):
    net = nn.ParameterDict({name: nn.Parameter(torch.ones(2, 2)) for name in "abc"})
    watched = watch(net)
    said = []
    for value in values:
        for name in "abc":
            net[name].grad = torch.full((2, 2), float(value if name == "b" else 1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            watched.step()
        said += [str(w.message) for w in caught]
    assert kinds(watched) == [(step, "b", kind)]
    assert len(said) == 1
    assert f"step {step}: the gradient {words}" in said[0]


def test_what_is_ordinary_raises_no_alarm():
    """Growth within bounds, a zero now and then, biases without a gradient, frozen parameters."""
    net = nn.ParameterDict({name: nn.Parameter(torch.ones(2, 2)) for name in "ab"})
    net["bias"] = nn.Parameter(torch.ones(2))
    net["frozen"] = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    watched = watch(net)
    for i in range(40):
        net["a"].grad = torch.full((2, 2), 1.3**i)
        net["b"].grad = torch.full((2, 2), float(i % 3 > 0)) * 1.3**i
        net["bias"].grad = torch.full((2,), 1e-9)
        watched.step()
    assert not watched.alarms


def test_numbers_go_to_a_logger():
    net, x, optimizer = learner(0.1, depth=2)
    got = []
    options = {"quantiles": [0.5], "updates": True, "activations": True}
    watched, totals = train(
        net, optimizer, x, steps=3, every=2, log=lambda *row: got.append(row), **options
    )
    assert [step for _, step in got] == [0, 2]
    values, _ = got[1]
    assert values["grad_norm/total"] == pytest.approx(totals[2], rel=1e-5)
    df = watched.frame().query("step == 2").set_index("name")
    for name, row in df.iterrows():
        assert values[f"grad_norm/{name}"] == pytest.approx(row.plain_grad_norm)
        assert values[f"update_ratio/{name}"] == pytest.approx(10**row.log10_update_ratio)
        assert values[f"grad_quantile_0.5/{name}"] == pytest.approx(10 ** row["log10_quantile_0.5"])
    assert {"activation_std/1", "near_zero_share/0"} <= set(values)
