"""The equations cross-examined: errors as large as the error that was made, and phi' exchanged."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments.derivation import examination, witness
from experiments.derivation.witness import UNIT_ROUNDOFF
from study.core.activations import TABLE
from study.engines import explicit


def network(depth, width=8, batch=2, sigma_w=1.5):
    rng = np.random.default_rng(depth)
    weights = [sigma_w * rng.normal(size=(width, width)) / width**0.5 for _ in range(depth)]
    return weights, *rng.normal(size=(2, batch, width))


@pytest.mark.parametrize("name", TABLE)
def test_the_errors_are_within_what_rounding_allows(name):
    weights, x, y = network(4)
    found = examination.against_witnesses(weights, x, y, name)
    assert set(found) == set(examination.ERRORS)
    on = 8, 4, found["condition"]
    assert max(found["error_complex"], found["error_norm"]) < examination.rounding(*on)
    limit = examination.rounding_of_differences(*on, found["cost_over_gradient"])
    assert found["error_difference"] < limit


def test_a_wrong_equation_is_off_by_as_much_as_it_is_wrong(monkeypatch):
    """The negative control: equation (1) wrong in its ninth digit, in the last layer alone."""
    right = witness.equations

    def wrong(weights, x, y, activation):
        *gradients, last = right(weights, x, y, activation)
        return [*gradients, last * (1 + 1e-9)]

    monkeypatch.setattr(witness, "equations", wrong)
    found = examination.against_witnesses(*network(4), "tanh")
    assert found["error_complex"] == pytest.approx(1e-9, rel=1e-5)
    assert found["error_complex"] > 1000 * examination.rounding(8, 4, found["condition"])
    assert found["error_norm"] < examination.rounding(8, 4, found["condition"])


def test_the_condition_is_the_norm_of_the_change_over_that_of_the_weights():
    """A linear layer alone, cost without target: dC/dW = x' x W, as sensitive as W itself."""
    W, x = np.array([[3.0]]), np.array([[2.0]])
    found = examination.against_witnesses([W], x, 0 * x, "linear")
    key = examination.gaussian.key("move")
    assert found["condition"] == pytest.approx(
        abs(examination.gaussian.normal(key, 0, (1, 1)).item()), rel=1e-6
    )
    assert found["cost_over_gradient"] == pytest.approx(0.5 * 6.0**2 / 12.0, rel=1e-14)


def test_the_bounds_are_what_they_are_said_to_be():
    assert examination.rounding(12, 10, 1) == 64 * 10 * UNIT_ROUNDOFF
    assert examination.rounding(12, 10, 1e5) == 64 * 1e5 * UNIT_ROUNDOFF
    lost = examination.rounding_of_differences(12, 10, 1, 7.0) / examination.rounding(12, 10, 1)
    assert lost == pytest.approx(7 * math.cbrt(2.0**53), rel=1e-14)
    assert examination.rounding_of_differences(12, 10, 1, 0.1) == pytest.approx(
        64 * 10 * UNIT_ROUNDOFF ** (2 / 3), rel=1e-14
    )


def test_replacing_phi_prime_and_nothing_else_makes_one_backward_pass_another():
    weights, x, y = network(6)
    for name in TABLE:
        rows = pd.DataFrame(examination.with_slopes_exchanged(weights, x, y, name)).set_index(
            "code"
        )
        assert list(rows.index) == list(TABLE)
        assert (rows.layers_differing == 0).all()
        assert rows.log10_off[name] == 0
        others = rows.log10_off.drop([name])
        assert (others != 0).all()


def test_the_swap_would_notice_a_backward_pass_that_depends_on_more(monkeypatch):
    """The negative control: a backward pass that also looks at the activation's name."""
    plain = explicit.derivative

    def peeking(z, blocks):
        return plain(z, blocks) * (1 + 2.0**-50 * (blocks[0].row.name == "relu"))

    monkeypatch.setattr(explicit, "derivative", peeking)
    weights, x, y = network(3)
    rows = pd.DataFrame(examination.with_slopes_exchanged(weights, x, y, "sigmoid")).set_index(
        "code"
    )
    assert rows.layers_differing["relu"] == 3
    assert rows.layers_differing["tanh"] == 0
