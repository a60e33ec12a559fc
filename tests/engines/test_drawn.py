"""A matrix that is drawn as it is met: the identities and the law of one that is written down."""

import numpy as np
import pytest

from study.core.backprop import backward, forward
from study.core.blocks import BATCH, Dense, Linear, Normalised, Residual
from study.engines.drawn import Drawn
from study.sampling import gaussian

KEY = gaussian.key(0, "drawn")


@pytest.mark.parametrize("batch", [1, 3, 12])
def test_both_ways_are_of_one_matrix(batch):
    """<delta, r W> = <delta W', r> for all pairs, also where the batch is larger than the width."""
    rng = np.random.default_rng(batch)
    r = rng.normal(size=(4, batch, 8))
    delta = rng.normal(size=(4, batch, 10))
    W = Drawn(KEY, 1, (4, 8, 10), scale=3.0)
    np.testing.assert_allclose(delta @ (r @ W).mT, (delta @ W.mT) @ r.mT, rtol=1e-9, atol=1e-9)


def test_the_law_is_that_of_written_matrices():
    """Mean and spread of ln of a gradient's growth, through blocks of all kinds."""
    n, count = 12, 1500
    growth = {}
    for kind in ("drawn", "written"):

        def matrix(k, kind=kind):
            if kind == "drawn":
                return Drawn(KEY, k, (count, n, n))
            return gaussian.normal(KEY, 100 + k, (count, n, n)) / n**0.5

        r, dr = gaussian.normal(KEY, 50, (2, count, 5, n))
        layers = [
            Dense(matrix(2), "tanh"),
            Normalised(matrix(3), "relu", BATCH),
            Residual([Dense(matrix(4), "relu"), Linear(matrix(5))]),
        ]
        trace, _ = forward(layers, r)
        *_, last = backward(trace, dr)
        growth[kind] = np.log(np.sum(last.dr**2, axis=(1, 2)) / np.sum(dr**2, axis=(1, 2)))
    drawn, written = growth["drawn"], growth["written"]
    error = (drawn.var() + written.var()) ** 0.5 / count**0.5
    assert abs(drawn.mean() - written.mean()) < 4 * error < 0.2
    assert abs(np.log(drawn.var() / written.var())) < 4 * 2 / count**0.5
