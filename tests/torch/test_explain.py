"""Planted faults are named, healthy networks are left alone, and remedies bring what is said."""

import math

import pytest
import torch
from torch import nn

import study.torch
from study.cli.main import main
from tests.torch.nets import ResNet, squares
from tests.torch.test_initialise import spread

explain = study.torch.explain


def chain(phi, depth, width, sigma_w, dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=sigma_w / math.sqrt(width))
    net = nn.Sequential(*[m for layer in layers for m in (layer, phi())][:-1]).to(dtype)
    return net, torch.randn(8, width).to(dtype), squares


def one_bad():
    net, inputs, loss = chain(nn.ReLU, 12, 32, math.sqrt(2))
    with torch.no_grad():
        net[20].weight.mul_(1e-5)
    return net, inputs, loss


def dead():
    net, inputs, loss = chain(nn.ReLU, 6, 16, math.sqrt(2))
    net[4] = nn.Linear(16, 16).double()
    nn.init.constant_(net[4].bias, -1e3)
    return net, inputs, loss


def half():
    net, inputs, _ = chain(nn.ReLU, 6, 16, math.sqrt(2), torch.float16)
    return net, inputs, lambda output: output.float().square().mean() * 1e-9


def normalised():
    torch.manual_seed(0)
    blocks = [m for _ in range(40) for m in (nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU())]
    net = nn.Sequential(*blocks, nn.Linear(16, 16)).double()
    return net, torch.randn(16, 16, dtype=torch.float64), squares


PLANTED = {
    "sigmoid": (chain(nn.Sigmoid, 14, 16, 1.0), "activation", "every layer"),
    "relu_small": (chain(nn.ReLU, 16, 32, 0.3), "weights", "every layer"),
    "relu_large": (chain(nn.ReLU, 30, 32, 3.0), "weights", "every layer"),
    "one_bad": (one_bad(), "weights", "20.weight"),
    "dead": (dead(), "activation", "4.weight"),
    "half": (half(), "format", None),
    "width": (chain(lambda: nn.LeakyReLU(0.5), 40, 3, math.sqrt(1.6)), "width", "every layer"),
    "depth": (chain(nn.ReLU, 100, 64, 0.9 * math.sqrt(2)), "depth", "every layer"),
    "normalised": (normalised(), "normalisation", "every layer"),
}


LONG = {"depth", "normalised", "relu_large"}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow) if x in LONG else x for x in PLANTED]
)
def test_a_planted_fault_is_named_and_no_other(name):
    case, cause, where = PLANTED[name]
    kept = [p.clone() for p in case[0].parameters()]
    state = torch.get_rng_state()
    found = explain(*case)
    assert list(found.frame.cause.unique()) == [cause], str(found)
    assert where in (None, found.frame["where"][0])
    assert f"Cause: {cause}" in str(found)
    assert list(found.frame) == list(study.torch.EXPLAIN_COLUMNS)
    assert (found.frame.after < found.frame.before).all()
    assert all(torch.equal(p, q) for p, q in zip(case[0].parameters(), kept, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def healthy():
    layers = [m for _ in range(6) for m in (nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU())]
    images, rows = torch.randn(4, 1, 8, 8).double(), torch.randn(8, 16).double()
    return {
        "resnet": (ResNet().double(), images, squares),
        "layer_norm": (nn.Sequential(*layers).double(), rows, squares),
        "tanh": chain(nn.Tanh, 20, 64, 1.0),
        "relu": chain(nn.ReLU, 20, 64, math.sqrt(2)),
    }


@pytest.mark.parametrize("name", ["resnet", "layer_norm", "tanh", "relu"])
def test_of_a_healthy_network_nothing_is_to_be_mended(name):
    torch.manual_seed(0)
    found = explain(*healthy()[name])
    assert found.frame.empty
    assert "Nothing to mend" in str(found)


def test_the_expected_gain_is_what_the_remedy_brings():
    net, inputs, loss = chain(nn.Sigmoid, 14, 16, 1.0)
    frame = explain(net, inputs, loss).frame.set_index("remedy")
    scaled = frame.loc["scale per layer: study.torch.initialise"]
    assert scaled.before == pytest.approx(spread(net, inputs, loss), abs=1e-6)
    assert scaled.after < scaled.before - 5
    normed = frame[frame.index.str.startswith("normalisation")].iloc[0]
    layers = [
        m
        for layer in net
        for m in ([layer, nn.LayerNorm(16).double()] if isinstance(layer, nn.Linear) else [layer])
    ]
    assert normed.after == pytest.approx(spread(nn.Sequential(*layers[:-1]), inputs, loss), abs=0.1)
    study.torch.initialise(net, inputs, loss)
    assert scaled.after == pytest.approx(spread(net, inputs, loss), abs=1e-6)


def test_the_level_is_told_from_the_profile():
    assert "the level is at fault" in str(explain(*chain(nn.ReLU, 12, 8, 0.2)))
    assert "the profile is at fault" in str(explain(*chain(nn.Sigmoid, 8, 8, 1.0)))


def test_dead_units_and_lost_gradients_come_back_as_foretold():
    frame = explain(*PLANTED["dead"][0]).frame
    assert frame.before[0] == math.inf
    assert frame.after[0] < 3
    frame = explain(*PLANTED["half"][0]).frame
    assert (frame.before > 0).all()
    assert (frame.after == 0).all()
    assert len(frame) == 2


FACTORY = """
import torch
def small():
    torch.manual_seed(0)
    layers = [m for _ in range(12) for m in (torch.nn.Linear(8, 8), torch.nn.Sigmoid())]
    return torch.nn.Sequential(*layers), torch.randn(4, 8)
def wrong():
    return 3
"""


def test_the_command_explains_what_a_factory_makes(tmp_path, monkeypatch, capsys):
    (tmp_path / "planted_nets.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "planted_nets:small"]) == 0
    assert "Cause: activation" in capsys.readouterr().out
    for target in ("planted_nets:wrong", "planted_nets:none", "no_such_module:f", "planted_nets"):
        assert main(["explain", target]) == 2
        error = capsys.readouterr().err
        assert error.startswith("study: error:")
        assert error.count("\n") == 1
