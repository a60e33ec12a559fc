"""Bad input is refused by name, value and what is allowed."""

import numpy as np
import pytest

import study
from study.tools import checks

GOOD = {"activation": "relu", "depth": 3, "width": 4, "sigma_w": 1.0}


def cases(of_field):
    """Pairs of a field and a value that it must not have."""
    return [(field, value) for field, values in of_field.items() for value in values]


BAD_NETWORK = {
    "activation": ["rleu", None, ["relu"]],
    "depth": [0, -1, 2.5, True, 10**9],
    "width": [0, "4", None],
    "sigma_w": [-1.0, np.nan, np.inf, "1", True, 1e-10, 1e7],
    "sigma_b": [1e-300, None, -0.1],
    "weights": ["cauchy", None],
    "dtype": ["float16", np.float64],
    "kink": [1.5, np.nan, True],
}


@pytest.mark.parametrize(("field", "value"), cases(BAD_NETWORK))
def test_network_names_what_is_wrong(field, value):
    with pytest.raises(ValueError, match=rf"{field} = .*allowed: ") as error:
        study.Network(**{**GOOD, field: value})
    assert f"{field} = {value!r}; " in str(error.value)


BAD_PROFILE = {
    "nets": [[], "relu", 5, None, [study.Network(**GOOD), "relu"]],
    "seeds": [[], [0, 0], [-1], 3, "01", [True], [0.5], [2**64], range(10**13), range(10**30)],
    "batch": [True, 1.5, 0],
    "engine": [None, "fast"],
    "inputs": [[[1j] * 4], [[1.0], [1.0, 2.0]], np.ones((0, 4)), [[np.nan] * 4], [1.0]],
    "targets": [[[np.inf]], [[1.0], [2.0]], [[1.0] * 5]],
}


@pytest.mark.parametrize(("field", "value"), cases(BAD_PROFILE))
def test_profile_names_what_is_wrong(field, value):
    call = {"nets": study.Network(**GOOD), "seeds": [0], field: value}
    if field == "targets":
        call["inputs"] = [[1.0] * 4]
    with pytest.raises(ValueError, match=rf"{field}.*allowed: "):
        study.profile(**call)


def test_targets_need_inputs():
    with pytest.raises(ValueError, match=r"targets.*allowed: "):
        study.profile(study.Network(**GOOD), [0], targets=[[1.0]])


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
