"""Recurrent cells at infinite width; that networks have these factors is a law of the table."""

import pytest

from study import theory
from study.theory.recurrent import gru_factor, lstm_factor, minimal_factor


@pytest.mark.parametrize("factor", [minimal_factor, gru_factor, lstm_factor])
def test_without_weights_only_the_gate_is_left(factor):
    assert factor(0.0, 0.7) == pytest.approx(theory.variance_map("sigmoid", 0.49, 1.0), rel=1e-9)


@pytest.mark.parametrize("factor", [minimal_factor, gru_factor, lstm_factor])
def test_bad_scales_are_named(factor):
    with pytest.raises(ValueError, match=r"sigma_v = 0\.0; allowed: "):
        factor(1.0, 0.0)
    with pytest.raises(ValueError, match=r"sigma_w = -1\.0; allowed: "):
        factor(-1.0)
