"""Gradients at two inputs at finite width: against networks, and where the answer is known."""

import numpy as np
import pytest

from experiments.laws.blocks import overlaps
from study.theory.blocks import shattering
from study.theory.two_inputs import shattering_offset


def test_one_layer_has_no_offset():
    """The gradient meets one mask, of pre-activations that no other layer has seen."""
    for c_0 in (-0.5, 0.0, 0.9):
        assert shattering_offset(1, c_0) == pytest.approx(0, abs=1e-12)


def test_networks_of_finite_width_have_it():
    n, depth = 48, 4
    found = overlaps(depth, coins=False)(n, range(20_000))[:, 1]
    error = n * found.std() / len(found) ** 0.5
    excess = n * (found.mean() - shattering(depth).covariance[-1])
    offset = shattering_offset(depth)
    assert error < 0.1
    assert abs(excess - offset) < 4 * error
    assert excess > 4 * error  # the control: mean field alone


def test_inputs_that_are_alike_share_all_of_the_gradient():
    """E ||g||^2 = 1 at any width, so that nothing is added."""
    alike = shattering_offset(10, 0.99999)
    assert abs(alike) < 0.2 < shattering_offset(10, 0.5)
    assert np.all(np.diff([shattering_offset(depth) for depth in (2, 8, 32)]) > 0)
