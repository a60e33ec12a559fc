"""Bad input is refused by name, value and what is allowed."""

import numpy as np
import pytest

import study

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
        ("sigma_w", -1.0),
        ("sigma_w", np.nan),
        ("sigma_w", np.inf),
        ("sigma_w", "1"),
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
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"nets": []}, "nets"),
        ({"nets": "relu"}, "nets"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": 3}, "seeds"),
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


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"weights": []}, "weights"),
        ({"weights": [np.eye(3), np.eye(4)]}, r"weights\[1\]"),
        ({"weights": [np.full((3, 3), np.nan)]}, r"weights\[0\]"),
        ({"weights": [np.full((3, 3), np.inf)]}, r"weights\[0\]"),
        ({"weights": [np.ones(3)]}, r"weights\[0\]"),
        ({"weights": [np.ones((3, 0))]}, r"weights\[0\]"),
        ({"weights": [1j * np.eye(3)]}, r"weights\[0\]"),
        ({"inputs": [[1.0, 2.0]]}, r"weights\[0\]"),
        ({"inputs": [[1.0, np.inf, 2.0]]}, "inputs"),
        ({"inputs": np.ones((0, 3))}, "inputs"),
        ({"activation": "nope"}, "activation"),
        ({"activation": ["relu", "relu"]}, "activation"),
        ({"biases": [np.ones(2)]}, r"biases\[0\]"),
        ({"biases": []}, "biases"),
        ({"targets": np.ones((1, 2))}, "targets"),
        ({"cotangent": [[np.nan] * 3]}, "cotangent"),
        ({"targets": np.ones((1, 3)), "cotangent": np.ones((1, 3))}, "cotangent"),
        ({"kink": 2}, "kink"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_backpropagate_names_what_is_wrong(arguments, field):
    call = {"weights": [np.eye(3)], "inputs": [[1.0, 2.0, 3.0]], **arguments}
    with pytest.raises(ValueError, match=rf"{field}.*allowed: "):
        study.backpropagate(**call)


def test_what_does_not_fit_memory_is_refused_before_work():
    with pytest.raises(ValueError, match="allowed: "):
        study.profile(study.Network("relu", 1_000_000, 1_000_000), [0], engine="dense")
