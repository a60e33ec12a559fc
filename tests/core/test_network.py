"""Bad input is refused by name, value and what is allowed."""

import numpy as np
import pytest

import study
from study.tools import checks

GOOD = {"activation": "relu", "depth": 3, "width": 4, "sigma_w": 1.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", "rleu"),
        ("activation", None),
        ("depth", 0),
        ("depth", -1),
        ("depth", 2.5),
        ("depth", True),
        ("width", 0),
        ("width", "4"),
        ("width", None),
        ("depth", 10**9),
        ("activation", ["relu"]),
        ("weights", None),
        ("dtype", np.float64),
        ("kink", True),
        ("sigma_w", -1.0),
        ("sigma_w", np.nan),
        ("sigma_w", np.inf),
        ("sigma_w", "1"),
        ("sigma_w", True),
        ("sigma_w", 1e-10),
        ("sigma_w", 1e7),
        ("sigma_b", 1e-300),
        ("sigma_b", None),
        ("sigma_b", -0.1),
        ("weights", "cauchy"),
        ("dtype", "float16"),
        ("kink", 1.5),
        ("kink", np.nan),
    ],
)
def test_network_names_what_is_wrong(field, value):
    with pytest.raises(ValueError, match=rf"{field} = .*allowed: ") as error:
        study.Network(**{**GOOD, field: value})
    assert f"{field} = {value!r}; " in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"nets": []}, "nets"),
        ({"nets": "relu"}, "nets"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": 3}, "seeds"),
        ({"seeds": "01"}, "seeds"),
        ({"seeds": [True]}, "seeds"),
        ({"seeds": [0.5]}, "seeds"),
        ({"seeds": [2**64]}, "seeds"),
        ({"nets": 5}, "nets"),
        ({"nets": None}, "nets"),
        ({"nets": [study.Network(**GOOD), "relu"]}, "nets"),
        ({"batch": True}, "batch"),
        ({"batch": 1.5}, "batch"),
        ({"engine": None}, "engine"),
        ({"inputs": [[1j] * 4]}, "inputs"),
        ({"inputs": [[1.0], [1.0, 2.0]]}, "inputs"),
        ({"inputs": np.ones((0, 4))}, "inputs"),
        ({"inputs": [[1.0] * 4], "targets": [[np.inf]]}, "targets"),
        ({"inputs": [[1.0] * 4], "targets": [[1.0], [2.0]]}, "targets"),
        ({"batch": 0}, "batch"),
        ({"engine": "fast"}, "engine"),
        ({"inputs": [[np.nan] * 4]}, "inputs"),
        ({"inputs": [1.0]}, "inputs"),
        ({"targets": [[1.0]]}, "targets"),
        ({"inputs": [[1.0] * 4], "targets": [[1.0] * 5]}, "targets"),
    ],
)
def test_profile_names_what_is_wrong(arguments, field):
    call = {"nets": study.Network(**GOOD), "seeds": [0], **arguments}
    with pytest.raises(ValueError, match=rf"{field}.*allowed: "):
        study.profile(**call)


def test_a_scale_of_zero_is_allowed_and_makes_a_true_zero():
    df = study.profile(study.Network("relu", 3, 4, 0.0), [0], engine="dense")
    assert (df.status == "dead").all()
    assert np.isneginf(df.log10_weight_norm).all()


def test_numbers_of_numpy_are_numbers():
    net = study.Network("relu", np.int64(3), np.int32(4), np.float32(0.5), kink=0)
    assert (net.depth, net.width, net.sigma_w, net.kink) == (3, 4, 0.5, 0.0)
    assert {type(value) for value in net.fields().values()} == {str, int, float}


@pytest.mark.parametrize("engine", ["auto", "dense"])
@pytest.mark.parametrize("width", [10**10, 10**30])
def test_what_does_not_fit_memory_is_refused_before_work(width, engine):
    net = study.Network("relu", 1000, width)
    message = rf"depth = 1000, width = {width}, .*GiB needed; allowed: .* GiB, the memory available"
    with pytest.raises(ValueError, match=message):
        study.profile(net, [0], engine=engine)


def test_memory_is_checked_against_what_is_there(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda: 2**20)
    checks.check_memory(2**20, depth=3)
    with pytest.raises(ValueError, match=r"depth = 3: .*GiB needed; allowed: 0.000977 GiB"):
        checks.check_memory(2**20 + 1, depth=3)
    with pytest.raises(ValueError, match="batch = 100000"):
        study.profile(study.Network(**GOOD), [0], batch=100_000, engine="dense")


def test_the_memory_of_this_machine_is_known():
    assert 2**26 < checks.available_memory() < 2**50
