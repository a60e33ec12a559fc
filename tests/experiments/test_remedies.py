"""Remedies: where a curve crosses, what theory expects, and verdicts both ways."""

import math

import numpy as np
import pandas as pd
import pytest
from verdicts import verdicts

from experiments import remedies
from experiments.remedies.catalogue import CAPS, clipped, expected_decay, reach

DECADE = 2 * math.log(10)


@pytest.mark.parametrize(
    ("remedy", "log_factor"),
    [
        ("relu, PyTorch default", math.log(6)),
        ("relu, Xavier", math.log(2)),
        ("relu, residual", math.log(2)),
        ("selu, LeCun", 0.0691296),
        ("sigmoid, LeCun", -math.log(0.05572)),
    ],
)
def test_expected_depths_in_closed_form(remedy, log_factor):
    """3 decades of the norm at a constant factor of the squared one; half-octaves interpolated."""
    assert remedies.expected_depth(remedy) == pytest.approx(3 * DECADE / log_factor, rel=0.06)


@pytest.mark.parametrize(
    ("remedy", "factor", "first"),
    [("tanh, LayerNorm", 1.17781, 0.46441), ("relu, LayerNorm", 1.0, 0.5)],
)
def test_the_first_normalisation_divides_by_the_inputs_spread(remedy, factor, first):
    decay = (9 * math.log(factor) + math.log(first)) / DECADE
    assert expected_decay(remedy, 10) == pytest.approx(decay, rel=1e-4)


def test_what_theory_never_loses():
    for remedy in ("relu, residual × 1/√L", "relu, residual × 0", "relu, LayerNorm", "tanh, LeCun"):
        assert remedies.expected_depth(remedy) == np.inf
        assert reach(remedy) == CAPS[remedies.GROUP[remedy]]
    he = remedies.expected_depth("relu, He")  # 5/2n a layer at width 256
    assert he == pytest.approx(3 * DECADE / 0.00982866, rel=0.01)
    assert remedies.expected_depth(remedies.CLIPPED) == remedies.expected_depth("sigmoid, LeCun")


def test_schedules_that_depend_on_depth_are_not_cut_short():
    for depth in (3, 700):
        decay = expected_decay("relu, residual × 1/√L", depth)
        assert decay == pytest.approx(depth * math.log1p(1 / depth) / DECADE, rel=1e-12)


def test_networks_decay_as_theory_says():
    tables = [remedies.measure("random", seed, [4, 6, 8]) for seed in range(3)]
    decays = pd.concat([table["decays"] for table in tables])
    median = decays[decays.depth == 8].groupby("remedy").log10_decay.median()
    for remedy in ("sigmoid, LeCun", "relu, Xavier", "relu, BatchNorm", "tanh, PyTorch default"):
        if remedy in median:
            expected = expected_decay(remedy, 8)
            assert median[remedy] * np.sign(expected) > 0 or remedy == "relu, BatchNorm"
            assert abs(abs(median[remedy]) - abs(expected)) < 0.25
            assert abs(abs(median[remedy]) - 2 * abs(expected)) > 0.25  # the control
    assert (decays[decays.remedy == "relu, residual × 0"].log10_decay.abs() < 1e-6).all()
    clips = pd.concat([table["clipping"] for table in tables])
    assert (clips.clip_factor < 1).all()  # it does clip
    assert clips.ratio_change.max() < 1e-12
    kept = pd.concat([table["remedies"] for table in tables])
    assert set(kept.remedy) == set(remedies.GROUP)
    assert kept[kept.remedy == "relu, residual × 0"].censored.all()
    assert not kept[kept.remedy == "sigmoid, PyTorch default"].censored.any()


def frames(rate, change=1e-16, off=1.0, on_images=1.0):
    """Networks that lose ``rate`` decades a layer, give or take, whatever the remedy."""
    rng = np.random.default_rng(0)
    decays, kept, clips = [], [], []
    for inputs in ("random", "digits"):
        for remedy in remedies.GROUP:
            for seed in range(12):
                own = rate * rng.uniform(0.99, 1.01) / (on_images if inputs == "digits" else 1)
                decays += [(inputs, remedy, d, seed, -own * d) for d in remedies.DEPTHS[:23]]
                expected = 20.0 if "residual" in remedy else np.inf
                depth = off * 20.0 * rng.uniform(0.99, 1.01)
                kept.append((inputs, remedy, remedies.GROUP[remedy], seed, depth, expected))
        clips += [(inputs, seed, change) for seed in range(12)]
    columns = ["inputs", "remedy", "depth", "seed", "log10_decay"]
    names = ["inputs", "remedy", "group", "seed", "depth_kept", "expected_depth"]
    return {
        "decays": pd.DataFrame(decays, columns=columns),
        "remedies": pd.DataFrame(kept, columns=names),
        "clipping": pd.DataFrame(clips, columns=["inputs", "seed", "ratio_change"]),
    }


def test_if_nothing_decays_the_sayings_are_supported():
    found = verdicts(remedies.experiment, frames(1e-9))
    assert found.pop("sigmoid vanishes at any weight scale") == "refuted"
    assert found.pop("images do not change the depth") == "inconclusive"  # nothing is lost
    assert set(found.values()) == {"supported"}


def test_if_everything_decays_they_are_refuted():
    found = verdicts(remedies.experiment, frames(0.2, change=1e-3, off=1.3, on_images=2.0))
    assert found.pop("sigmoid vanishes at any weight scale") == "supported"
    assert set(found.values()) == {"refuted"}
    alike = verdicts(remedies.experiment, frames(0.2))
    assert alike["images do not change the depth"] == "supported"


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_is_torchs(limit):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    gradients = [rng.normal(size=shape) for shape in ((3, 4), (4, 2))]
    parameters = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    for p, g in zip(parameters, clipped(gradients, limit), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-5)  # torch adds 1e-6 to the norm
